// The one error class of the package. Seven codes, sorted by who has to act; native/core/error.h has the same seven.

export type ErrorCode =
  | 'E_CONFIG' // the user's command or config
  | 'E_DATA' // the files
  | 'E_MISMATCH' // two good things that do not belong together
  | 'E_DEVICE' // the machine: no LibTorch, no compiler, no CUDA, no memory, no space, no permission, no network
  | 'E_DIVERGED' // the hyperparameters: a loss stopped being finite
  | 'E_CANCELLED' // nobody: AbortSignal or Ctrl-C; what was done so far is kept
  | 'E_INTERNAL'; // us

/** Process exit code of each error code. SIGINT is 130 (E_CANCELLED), SIGTERM 143. */
export const EXIT_CODES: Record<ErrorCode, number> = {
  E_CONFIG: 2,
  E_DATA: 3,
  E_MISMATCH: 3,
  E_DEVICE: 4,
  E_DIVERGED: 5,
  E_CANCELLED: 130,
  E_INTERNAL: 1,
};

export type ErrorDetails = Readonly<Record<string, unknown>>;

/**
 * Every failure of this package, native or not.
 * `code` says who has to act, `details` holds the machine-readable facts (path, key, bytes, reason).
 */
export class LpldError extends Error {
  override readonly name = 'LpldError';
  readonly code: ErrorCode;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause });
    this.code = code;
    this.details = details;
  }
}

/**
 * The message form of every refusal: `expected <what> for <name> but received <value>`.
 * A second line, where there is one, says what to do. A `received` of undefined reads `nothing`.
 */
export function expected(what: string, name: string, received: unknown, advice?: string): string {
  const isJson = typeof received === 'string' || Array.isArray(received);
  const shown = isJson ? JSON.stringify(received) : received === undefined ? 'nothing' : String(received);
  const line = `expected ${what} for ${name} but received ${shown.length > 200 ? `${shown.slice(0, 200)}...` : shown}`;
  return advice === undefined ? line : `${line}\n${advice}`;
}

const CODES = new Set<string>(Object.keys(EXIT_CODES));

/**
 * Turns anything thrown into an LpldError. Native errors carry `code` (and `details`) but are plain objects of
 * whatever realm loaded the addon, so they are recognised by shape, never by instanceof. System errors that the
 * user can mend (no space, no permission, missing file) get the code of who has to act.
 */
export function toLpldError(thrown: unknown): LpldError {
  if (thrown instanceof LpldError) return thrown;
  const e = thrown as { code?: unknown; message?: unknown; details?: unknown; path?: unknown; name?: unknown };
  const message = typeof e?.message === 'string' ? e.message : String(thrown);
  if (typeof e?.code === 'string') {
    if (CODES.has(e.code))
      return new LpldError(e.code as ErrorCode, message, (e.details as ErrorDetails) ?? {}, thrown);
    const path = typeof e.path === 'string' ? { path: e.path } : {};
    if (['ENOSPC', 'EACCES', 'EPERM', 'EROFS', 'EDQUOT', 'EMFILE', 'EFBIG', 'EIO', 'ENAMETOOLONG'].includes(e.code))
      return new LpldError('E_DEVICE', message, { reason: e.code, ...path }, thrown);
    if (['ENOENT', 'ENOTDIR', 'EISDIR'].includes(e.code))
      return new LpldError('E_DATA', message, { reason: e.code, ...path }, thrown);
  }
  if (thrown instanceof RangeError && /allocation failed/.test(message))
    // V8: no memory for a typed array
    return new LpldError('E_DEVICE', message, { reason: 'memory' }, thrown);
  if (e?.name === 'AbortError') return new LpldError('E_CANCELLED', message, {}, thrown);
  return new LpldError('E_INTERNAL', message, {}, thrown);
}
