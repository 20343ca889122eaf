// Data and hand-made bases for tests of the klt codecs.

import { type TensorMap, type TensorView, tensor } from '../../src/tensor.ts';
import { halfBits } from '../reference/half.ts';
import type { Gaussians } from '../reference/klt.ts';
import { f32, symmetric, u8 } from './tensors.ts';

const f16 = (shape: readonly number[], values: ArrayLike<number>): TensorView =>
  tensor('F16', shape, Uint16Array.from(values, halfBits));

/** Logits [rows, K] of a few strong directions and a little of everything, each row with an offset of its own. */
export function someLogits(rows: number, K: number, object: number, rank = 4): Float64Array {
  const loads = symmetric([rows, rank], object);
  const directions = symmetric([rank, K], object + 1000);
  const noise = symmetric([rows, K], object + 2000, 0.5);
  return noise.map((x, at) => {
    const [i, k] = [Math.floor(at / K), at % K];
    let sum = x + i / rows;
    for (let r = 0; r < rank; r++) sum += (12 / (r + 1)) * loads[i * rank + r]! * directions[r * K + k]!;
    return Math.fround(sum);
  });
}

/** A Gaussian's width byte: cells of `mantissa` 2^exponent 2^-24ths of a step (8 to 15, 14 to 41). */
export const widthByte = (mantissa: number, exponent: number): number => 8 * (exponent - 14) + mantissa - 8;

/** One Gaussian around 0, of a deviation of about `steps`. */
export function around0(steps: number): Gaussians {
  const exponent = Math.floor(Math.log2(steps * 2 ** 21)) - 3;
  return [[0, widthByte(Math.min(15, Math.round(steps * 2 ** (21 - exponent))), exponent), 128]];
}

/**
 * A basis whose coefficient j is the logit of class j less its row's mean: step 1, mean 0, K = m + 1. The logits
 * (q_0, .., q_m-1, minus their sum) have the coefficients q.
 */
export function plainBasis(models: readonly Gaussians[]): TensorMap {
  const [m, K] = [models.length, models.length + 1];
  const rows = models.flat();
  return {
    mean: f32([K], new Float32Array(K)),
    vectors: f16(
      [m, K],
      Float64Array.from({ length: m * K }, (_, at) => (at % K === Math.floor(at / K) ? 1 : 0)),
    ),
    step: f32([1], [1]),
    model: u8([rows.length, 3], rows.flat()),
  };
}
