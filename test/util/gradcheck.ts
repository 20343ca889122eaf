// Central differences in float64: what an analytic gradient is compared with. The function under test must be smooth at
// x within +-eps in every coordinate.

import { expectClose } from './tolerance.ts';

/**
 * Derivatives of f at x by (f(x + eps) - f(x - eps)) / 2 eps.
 *
 * @param at - indices of x to differentiate
 * @returns one derivative per index
 */
export function differences(
  f: (x: Float64Array) => number,
  x: Float64Array,
  at: readonly number[],
  eps = 1e-6,
): Float64Array {
  const probe = Float64Array.from(x);
  return Float64Array.from(at, (i) => {
    probe[i] = x[i]! + eps;
    const above = f(probe);
    probe[i] = x[i]! - eps;
    const below = f(probe);
    probe[i] = x[i]!;
    return (above - below) / (2 * eps);
  });
}

/** About `count` indices spread over [0, size), the first and the last among them. */
export function spread(size: number, count: number): number[] {
  const n = Math.min(size, count);
  return Array.from({ length: n }, (_, i) => (n === 1 ? 0 : Math.round((i * (size - 1)) / (n - 1))));
}

/** Expects gradient[i] to equal the central difference of f at about `count` coordinates; tolerance relative to the largest. */
export function expectGradient(
  name: string,
  f: (x: Float64Array) => number,
  x: Float64Array,
  gradient: ArrayLike<number>,
  { count = 24, eps = 1e-6, tolerance = 1e-7 } = {},
): void {
  const at = spread(x.length, count);
  const analytic = at.map((i) => gradient[i]!);
  expectClose(`${name}: gradient against central differences`, analytic, differences(f, x, at, eps), tolerance);
}
