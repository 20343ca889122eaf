// Draws mixup's weight, Beta(0.8, 0.8), through a table of its inverse distribution function: one table look-up a word.
// Invariant: entries are whole multiples of 2^-24, so a weight is exact in float32 on every machine. The entries lie so
// far from a rounding boundary (9e-4 of a step; doubles err by less than 1e-7) that any correct double arithmetic makes
// this table; its conformance values are in docs/streams.md, and test/mixup.test.ts makes it again in 40 digits.
// Source: methods 4.3 (lambda ~ Beta(.8, .8)); arXiv 1710.09412.

import { Purpose, type Seed, words } from './rng.ts';

const SHAPE = 0.8; // of the symmetric Beta distribution
const ENTRIES = 4096;
const SCALE = 2 ** 24;

/** B(x; a, a), the incomplete beta function by its series in x: positive terms that fall as 2^-n for x <= 1/2. */
function incompleteBeta(x: number): number {
  let [sum, coefficient] = [0, 1]; // coefficient (1 - a)_n / n! x^n
  for (let n = 0; n < 64; n++) {
    sum += coefficient / (SHAPE + n);
    coefficient *= ((1 - SHAPE + n) / (n + 1)) * x;
  }
  return x ** SHAPE * sum;
}

let table: Int32Array | null = null;

/**
 * The inverse distribution function of Beta(0.8, 0.8) at the middles of 4096 equal steps, in units of 2^-24.
 *
 * @returns I32 [4096], rising; entry 4095 - i is 2^24 - entry i, as the distribution is symmetric
 */
export function mixupTable(): Int32Array {
  if (table !== null) return table;
  const out = new Int32Array(ENTRIES);
  const whole = 2 * incompleteBeta(0.5); // B(a, a)
  let x = 0;
  for (let i = 0; i < ENTRIES / 2; i++) {
    const target = ((i + 0.5) / ENTRIES) * whole;
    if (i === 0) x = (target * SHAPE) ** (1 / SHAPE); // the series' first term
    // Newton: the function is concave below 1/2, so that steps from the previous root rise to the next one
    for (let step = 0; step < 6; step++) x -= (incompleteBeta(x) - target) * (x * (1 - x)) ** (1 - SHAPE);
    out[i] = Math.round(x * SCALE);
    out[ENTRIES - 1 - i] = SCALE - out[i]!;
  }
  table = out;
  return out;
}

/**
 * Draws the weight of the own image of one batch (Philox purpose 9): entry floor(w0 / 2^20) of the table.
 *
 * @returns lambda in (0, 1), exact in float32
 */
export function drawMixup(seed: Seed, batch: number, epoch: number): number {
  return mixupTable()[words(seed, Purpose.mixShare, batch, epoch, 0)[0]! >>> 20]! / SCALE;
}
