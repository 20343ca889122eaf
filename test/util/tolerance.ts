// How near is near enough, by dtype of the body under test, in one place. Differences are measured against the largest
// wanted value of the tensor: an element may be a small difference of large ones. A case that needs more says why on
// its own line; a wider tolerance is a finding.

import { expect } from 'vitest';

/** Largest |got - wanted| / max |wanted|. `loop`: losses after many float32 steps; `literal`: values printed with 8 digits. */
export const TOLERANCE = { F64: 1e-10, F32: 3e-6, loop: 1e-4, literal: 1e-6, gradient: 1e-6 } as const;

/** Compares element by element and names the worst one; `note` (a golden's provenance) ends the message. */
export function expectClose(
  name: string,
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: number,
  note = '',
): void {
  expect(got.length, `${name}: number of elements. ${note}`).toBe(wanted.length);
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) scale = Math.max(scale, Math.abs(wanted[i]!));
  let worst = 0;
  let at = 0;
  for (let i = 0; i < wanted.length; i++) {
    const off = Math.abs(got[i]! - wanted[i]!);
    if (Number.isNaN(off)) throw new Error(`${name}: element ${i} is ${got[i]}, wanted ${wanted[i]}. ${note}`);
    if (off > worst) {
      worst = off;
      at = i;
    }
  }
  const limit = tolerance * (scale || 1);
  const message = `${name}: element ${at} of ${wanted.length} is ${got[at]}, wanted ${wanted[at]} (off by ${worst}). ${note}`;
  expect(worst, message).toBeLessThanOrEqual(limit);
}

/** |got - wanted|_2 / |wanted|_2: for images under Adam, where one pixel whose gradients cancel may amplify rounding. */
export function expectCloseInNorm(
  name: string,
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: number,
  note = '',
): void {
  expect(got.length, `${name}: number of elements. ${note}`).toBe(wanted.length);
  let off = 0;
  let size = 0;
  for (let i = 0; i < wanted.length; i++) {
    off += (got[i]! - wanted[i]!) ** 2;
    size += wanted[i]! ** 2;
  }
  expect(Math.sqrt(off / size), `${name}: relative distance. ${note}`).toBeLessThanOrEqual(tolerance);
}

/** Each element within `tolerance` of its own size: for losses of a trajectory, compared one by one. */
export function expectEachClose(
  name: string,
  got: ArrayLike<number>,
  wanted: ArrayLike<number>,
  tolerance: number,
  note = '',
): void {
  expect(got.length, `${name}: number of elements. ${note}`).toBe(wanted.length);
  for (let i = 0; i < wanted.length; i++) {
    const off = Math.abs(got[i]! - wanted[i]!) / Math.abs(wanted[i]!);
    expect(off, `${name}[${i}] is ${got[i]}, wanted ${wanted[i]}. ${note}`).toBeLessThanOrEqual(tolerance);
  }
}

/** No byte may differ; says how many do and where the first one is. */
export function expectSameBytes(name: string, got: Uint8Array, wanted: Uint8Array, note = ''): void {
  expect(got.length, `${name}: number of bytes. ${note}`).toBe(wanted.length);
  let differing = 0;
  let first = -1;
  for (let i = 0; i < wanted.length; i++) {
    if (got[i] === wanted[i]) continue;
    if (first < 0) first = i;
    differing++;
  }
  const where = first < 0 ? '' : `, first at ${first}: ${got[first]} instead of ${wanted[first]}`;
  expect(differing, `${name}: ${differing} of ${wanted.length} bytes differ${where}. ${note}`).toBe(0);
}
