// What goes wrong while LibTorch is fetched and unpacked. System errors keep the codes of errors.ts (details.reason
// ENOSPC, EACCES, ...), so that they read the same in every part of the package.

import { LpldError, toLpldError } from './errors.ts';

/** Sorts anything thrown while installing; what is neither ours, the system's nor an abort is what `otherwise` makes of it. */
export function toInstallError(thrown: unknown, otherwise: (problem: string) => LpldError): LpldError {
  const e = toLpldError(thrown);
  return e.code === 'E_INTERNAL' && !(thrown instanceof LpldError) ? otherwise(e.message) : e;
}

/** Too little room on the disk of `path`; bytes where they are known. */
export function noSpace(path: string, needed: number | null, free: number | null): LpldError {
  const mb = (bytes: number): string => `${Math.ceil(bytes / 1e6)} MB`;
  const facts = needed === null || free === null ? '' : `: ${mb(needed)} needed, ${mb(free)} free`;
  return new LpldError(
    'E_DEVICE',
    `no space left for LibTorch in ${path}${facts}\nfree some space, or set XDG_CACHE_HOME to a larger disk`,
    { reason: 'ENOSPC', path, needed, free },
  );
}
