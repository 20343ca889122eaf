// The cases of test/ops/norm-act.test.ts: shapes, seeded inputs, the call through the door and what it must equal.

import { expect } from 'vitest';
import type { NativeOps } from '../../src/native.ts';
import { arrayOf, type TensorView, tensor } from '../../src/tensor.ts';
import { bfloatBits, bfloatValue, toBfloat } from '../reference/bfloat.ts';
import type { NormActCase, NormActResult } from '../reference/norm-act.ts';
import { ops } from './native.ts';
import { f32, f64, positive, symmetric, values } from './tensors.ts';
import { expectClose, TOLERANCE } from './tolerance.ts';

export type Make = typeof f32;
export const bf16: Make = (shape, of) => tensor('BF16', shape, Uint16Array.from(of, bfloatBits));
/** The elements of a float tensor, bfloat16 too. */
export const doubles = (view: TensorView): Float64Array =>
  view.dtype === 'BF16' ? Float64Array.from(arrayOf(view, 'BF16'), bfloatValue) : values(view);

/** A case with its shape [N, C, H, W] and the `center` that the formula does not know. */
export interface Case extends NormActCase {
  readonly shape: readonly number[];
  readonly center: Float64Array; // [C]
}

/** Seeded inputs; those of the shape of x are exact in bfloat16, so that every dtype computes the same problem. */
export function caseOf(shape: readonly number[], groups: number, relu: boolean, residual: boolean): Case {
  const [images, channels, height, width] = shape as [number, number, number, number];
  const object = 1000 * channels + 10 * groups;
  const coarse = (k: number): Float64Array => symmetric(shape, object + k, 2).map(toBfloat);
  return {
    shape,
    images,
    channels,
    area: height * width,
    groups,
    relu,
    scale: positive([channels], object).map((v, c) => (c % 3 === 2 ? -v : v)), // an affine weight may be negative
    shift: symmetric([channels], object + 1),
    center: symmetric([channels], object + 2),
    x: coarse(3),
    residual: residual ? coarse(4) : null,
    gradY: coarse(5),
    gradMean: symmetric([groups, channels], object + 6, 9),
    gradVariance: symmetric([groups, channels], object + 7, 9),
  };
}

export type Out = ReturnType<NativeOps['normAct']>;

/** normAct through the door, all inputs of the shape of x made by `make`. */
export function run(make: Make, of: Case, residualAs = make): Out {
  const { shape, channels, groups, relu } = of;
  const row = (v: Float64Array): TensorView => f32([channels], v);
  return ops().normAct(
    make(shape, of.x),
    of.residual === null ? null : residualAs(shape, of.residual),
    { scale: row(of.scale), shift: row(of.shift), center: row(of.center), relu, groups },
    {
      y: f64(shape, of.gradY),
      mean: f64([groups, channels], of.gradMean),
      variance: f64([groups, channels], of.gradVariance),
    },
  );
}

const FURTHEST = 3; // |x - center| in caseOf: x in [-2, 2), center in [-1, 1)
export interface Tolerances {
  readonly wide: number; // of what has the shape and dtype of x, relative to the largest
  readonly moments: number; // of mean and variance, relative to FURTHEST
}

/** Names, dtypes, shapes and numbers; the residual's gradient is a copy of a bfloat16 number and so exact. */
export function expectLike(
  out: Out,
  of: Case,
  dtype: TensorView['dtype'],
  wanted: NormActResult,
  tolerance: Tolerances,
): void {
  expect([out.y.dtype, out.y.shape, out.dx.dtype, out.dx.shape]).toEqual([dtype, of.shape, dtype, of.shape]);
  expectClose('y', doubles(out.y), wanted.y, tolerance.wide);
  expectClose('dx', doubles(out.dx), wanted.dx, tolerance.wide);
  expect(out.dResidual !== undefined).toBe(of.residual !== null);
  if (out.dResidual) expectClose('dResidual', doubles(out.dResidual), wanted.dResidual, 0);
  if (of.groups === 0) {
    expect(Object.keys(out).filter((name) => name === 'mean' || name === 'variance')).toEqual([]);
    return;
  }
  for (const name of ['mean', 'variance'] as const) {
    const moments = out[name]!;
    expect([moments.dtype, moments.shape]).toEqual(['F64', [of.groups, of.channels]]);
    // sums of numbers that nearly cancel: what they may be off by is a share of the numbers, not of the sum
    const off = wanted[name].map((v, i) => values(moments)[i]! - v);
    expect(Math.max(...off.map(Math.abs)), name).toBeLessThanOrEqual(tolerance.moments * FURTHEST);
  }
}

export const DTYPES: readonly (readonly [TensorView['dtype'], Make, Tolerances])[] = [
  ['F64', f64, { wide: TOLERANCE.F64, moments: TOLERANCE.F64 }],
  ['F32', f32, { wide: TOLERANCE.F32, moments: TOLERANCE.F32 }],
  ['BF16', bf16, { wide: 2 ** -7, moments: TOLERANCE.F32 }],
];

/** [N, C, H, W] and groups; 64 pixels are summed at a time: less, exactly, one more, several and a rest. */
const SHAPES: readonly (readonly [shape: readonly number[], groups: number])[] = [
  [[1, 1, 1, 1], 1],
  [[2, 3, 9, 11], 0],
  [[2, 3, 9, 11], 1],
  [[4, 5, 8, 8], 2],
  [[6, 17, 7, 13], 3],
  [[2, 17, 3, 5], 2],
  [[1, 64, 5, 13], 1],
  [[3, 64, 12, 11], 3],
  [[5, 1, 13, 10], 1],
];
export const CASES = SHAPES.flatMap(([shape, groups]) =>
  [false, true].flatMap((relu) => [false, true].map((residual) => caseOf(shape, groups, relu, residual))),
).map((of) => {
  const tail = `${of.relu ? ', ReLU' : ''}${of.residual ? ', residual' : ''}`;
  return [`[${of.shape}], ${of.groups} groups${tail}`, of] as const;
});
