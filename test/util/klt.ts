// Data and hand-made bases for tests of the klt codecs.

import { type TensorMap, type TensorView, tensor } from '../../src/tensor.ts';
import { halfBits } from '../reference/half.ts';
import type { Table } from '../reference/klt.ts';
import { f32, i32, symmetric } from './tensors.ts';

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

/** Four equal tables: what the frequencies leave of 4096 is the escape's. */
export function flatTable(first: number, frequency: readonly number[], shift = 0): Table {
  const rest = 4096 - frequency.reduce((sum, f) => sum + f, 0);
  return { first, count: frequency.length, shift, frequency: new Array(4).fill([...frequency, rest]) };
}

/**
 * A basis whose coefficient j is the logit of class j less its row's mean: step 1, mean 0, K = m + 1. The logits
 * (q_0, .., q_m-1, minus their sum) have the coefficients q.
 */
export function plainBasis(tables: readonly Table[]): TensorMap {
  const [m, K] = [tables.length, tables.length + 1];
  const all = tables.flatMap(({ frequency }) => frequency.flat());
  return {
    mean: f32([K], new Float32Array(K)),
    vectors: f16(
      [m, K],
      Float64Array.from({ length: m * K }, (_, at) => (at % K === Math.floor(at / K) ? 1 : 0)),
    ),
    step: f32([1], [1]),
    coefficient: i32(
      [m, 3],
      tables.flatMap(({ first, count, shift }) => [first, count, shift]),
    ),
    frequency: tensor('I16', [all.length], Int16Array.from(all)),
  };
}
