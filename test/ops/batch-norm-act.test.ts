// batchNormAct: the fused float32 and bfloat16 bodies and the one of ATen's ops (float64) against the formula, with all
// gradients and the running numbers; central differences; large means; NaN; refusals. That the number of threads moves no bit is
// in norm-act.test.ts.

import { describe, expect, test } from 'vitest';
import type { TensorView } from '../../src/tensor.ts';
import { type BatchNormActCase, batchNormAct } from '../reference/batch-norm-act.ts';
import { toBfloat } from '../reference/bfloat.ts';
import { expectGradient } from '../util/gradcheck.ts';
import { ops } from '../util/native.ts';
import { bf16, doubles, type Make } from '../util/norm-act.ts';
import { f32, f64, positive, symmetric, values } from '../util/tensors.ts';
import { expectClose, expectCloseInNorm, TOLERANCE } from '../util/tolerance.ts';

interface Case extends BatchNormActCase {
  readonly shape: readonly number[];
}

function caseOf(shape: readonly number[], relu: boolean, residual: boolean): Case {
  const [images, channels, height, width] = shape as [number, number, number, number];
  const coarse = (k: number): Float64Array => symmetric(shape, 8000 + channels + k, 2).map(toBfloat);
  const row = (k: number) => symmetric([channels], 8100 + channels + k).map(Math.fround);
  return {
    ...{ shape, images, channels, area: height * width, relu, momentum: 0.1, eps: 1e-5 },
    weight: row(0),
    bias: row(1),
    runningMean: row(2),
    runningVar: positive([channels], 8200).map(Math.fround),
    x: coarse(1000),
    residual: residual ? coarse(2000) : null,
    grad: coarse(3000),
  };
}

function run(make: Make, of: Case) {
  const row = (v: Float64Array): TensorView => f32([of.channels], v);
  return ops().batchNormAct(
    make(of.shape, of.x),
    of.residual === null ? null : make(of.shape, of.residual),
    {
      ...{ weight: row(of.weight), bias: row(of.bias), momentum: of.momentum, eps: of.eps, relu: of.relu },
      ...{ runningMean: row(of.runningMean), runningVar: row(of.runningVar) },
    },
    make(of.shape, of.grad),
  );
}

/** 64 pixels are summed at a time: less, exactly, one more, several and a rest; channels that fill vectors and do not. */
const SHAPES = [
  [2, 3, 1, 1],
  [3, 17, 7, 13],
  [2, 64, 8, 8],
  [1, 5, 5, 13],
  [5, 32, 12, 11],
];
const CASES = SHAPES.flatMap((shape) =>
  [false, true].flatMap((relu) => [false, true].map((residual) => caseOf(shape, relu, residual))),
).map((of) => [`[${of.shape}]${of.relu ? ', ReLU' : ''}${of.residual ? ', residual' : ''}`, of] as const);

describe.each(CASES)('%s', (_, of) => {
  const wanted = batchNormAct(of);
  test.each([
    ['F64', f64, TOLERANCE.F32],
    ['F32', f32, 4 * TOLERANCE.F32],
    ['BF16', bf16, 2 ** -7],
  ] as const)('%s equals the formula', (dtype, make, tolerance) => {
    const out = run(make, of);
    expect([out.y.dtype, out.dx.dtype, out.dWeight.dtype]).toEqual([dtype, dtype, 'F32']);
    for (const name of ['y', 'dx', 'dResidual'] as const)
      if (out[name] !== undefined) expectCloseInNorm(name, doubles(out[name]), wanted[name]!, tolerance);
    expect(out.dResidual !== undefined).toBe(of.residual !== null);
    if (out.dResidual && dtype === 'F32') expectClose('dResidual', doubles(out.dResidual), wanted.dResidual!, 0);
    // Of bfloat16 only x, y and what is like them is rounded; sums see the ReLU of a rounded y, which has the same sign.
    for (const name of ['dWeight', 'dBias', 'runningMean', 'runningVar'] as const)
      expectClose(name, values(out[name]), wanted[name]!, 4 * TOLERANCE.F32);
  });
});

test('the float64 body: central differences of x and residual', () => {
  const of = caseOf([3, 4, 3, 5], true, true);
  const loss = (change: Partial<Case>): number =>
    values(run(f64, { ...of, ...change }).y).reduce((sum, v, i) => sum + v * of.grad[i]!, 0);
  const out = run(f64, of);
  expectGradient('x', (x) => loss({ x }), of.x, values(out.dx));
  expectGradient('residual', (residual) => loss({ residual }), of.residual!, values(out.dResidual!));
});

test('a mean 1000 times the spread costs no digits of the moments', () => {
  const of = caseOf([4, 5, 9, 11], false, false);
  const far = { ...of, x: of.x.map((v) => Math.fround(1000 + v)), bias: of.bias.map(() => 0) };
  const [out, wanted] = [run(f32, far), batchNormAct(far)];
  expectClose('runningMean', values(out.runningMean), wanted.runningMean!, 1e-6);
  expectClose('runningVar', values(out.runningVar), wanted.runningVar!, 1e-5);
  expectCloseInNorm('dx', values(out.dx), wanted.dx!, 1e-4);
});

test.each([f32, bf16])('NaN and infinities of x are seen, in their channel only (%#)', (make) => {
  const of = caseOf([2, 3, 4, 4], true, false);
  for (const bad of [Number.NaN, Number.POSITIVE_INFINITY]) {
    const x = of.x.slice();
    x[3] = bad;
    const y = doubles(run(make, { ...of, x }).y);
    expect(y.subarray(0, 16).every(Number.isNaN)).toBe(true);
    expect(y.subarray(16, 48).every(Number.isFinite)).toBe(true);
  }
});

test('rows of another length and a residual of another shape or dtype: refused', () => {
  const refusal = /batch_norm_act: expected x \[B, C, H, W\], float rows \[C\] and residual like x/;
  const row = (n: number) => f32([n], new Float64Array(n));
  const rows = { weight: row(3), bias: row(3), runningMean: row(3), runningVar: row(3) };
  const spec = { ...rows, momentum: 0.1, eps: 1e-5, relu: false };
  const x = f32([1, 3, 2, 2], new Float64Array(12));
  for (const name of Object.keys(rows))
    expect(() => ops().batchNormAct(x, null, { ...spec, [name]: row(2) }, x)).toThrow(refusal);
  expect(() => ops().batchNormAct(x, f32([1, 3, 4, 1], new Float64Array(12)), spec, x)).toThrow(refusal);
  expect(() => ops().batchNormAct(x, bf16([1, 3, 2, 2], new Float64Array(12)), spec, x)).toThrow(refusal);
});

test.each([f64, f32, bf16])('one value of each channel has no variance to learn from: E_CONFIG (%#)', (make) => {
  const of = caseOf([1, 3, 1, 1], false, false);
  expect(() => run(make, of)).toThrow(
    expect.objectContaining({
      code: 'E_CONFIG',
      message: expect.stringMatching(
        /^expected several values of each channel for a BatchNorm that learns but received 1 /,
      ),
    }),
  );
});
