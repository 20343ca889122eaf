// convNormAct: the norm folded into the convolution against both one after the other, in float32 and bfloat16;
// that a network with a weight that is no number says so, although oneDNN's ReLU makes 0 of NaN; the refusal.

import { describe, expect, test } from 'vitest';
import { toBfloat } from '../reference/bfloat.ts';
import { type ConvNormActCase, convNormAct, sideOf } from '../reference/conv-norm-act.ts';
import { MODEL, openModel } from '../util/jobs.ts';
import { ops } from '../util/native.ts';
import { bf16, doubles, type Make } from '../util/norm-act.ts';
import { f32, f64, positive, symmetric, values } from '../util/tensors.ts';
import { expectClose, expectCloseInNorm, TOLERANCE } from '../util/tolerance.ts';

const CASES = [
  { shape: [2, 3, 9], kernel: [8, 7], stride: 2, padding: 3, relu: true, added: false }, // a stem
  { shape: [3, 16, 6], kernel: [16, 3], stride: 1, padding: 1, relu: true, added: true },
  { shape: [1, 16, 7], kernel: [33, 3], stride: 2, padding: 1, relu: true, added: false },
  { shape: [2, 17, 5], kernel: [4, 1], stride: 2, padding: 0, relu: false, added: false }, // a projection
  { shape: [2, 5, 4], kernel: [6, 1], stride: 1, padding: 0, relu: false, added: true },
] as const;
/** Not of one rounding: one pixel, whose residual is added apart, and a convolution by Winograd's filtering where that serves
 * (F(4x4) in float32). */
const COARSER = [
  { shape: [3, 16, 1], kernel: [16, 3], stride: 1, padding: 1, relu: true, added: true },
  { shape: [2, 64, 6], kernel: [64, 3], stride: 1, padding: 1, relu: true, added: true },
] as const;

/** Seeded inputs, exact in bfloat16 where it holds them. */
function caseOf(of: (typeof CASES | typeof COARSER)[number]): ConvNormActCase {
  const [outputs, k] = of.kernel;
  const object = 5000 + 10 * outputs;
  const coarse = (shape: readonly number[], i: number) => symmetric(shape, object + i, 2).map(toBfloat);
  const made = {
    ...{ shape: of.shape, kernel: of.kernel, stride: of.stride, padding: of.padding, relu: of.relu },
    x: coarse([of.shape[0], of.shape[1], of.shape[2], of.shape[2]], 0),
    weight: coarse([outputs, of.shape[1], k, k], 1),
    bias: symmetric([outputs], object + 2),
    scale: positive([outputs], object + 3).map((v, c) => (c % 3 === 2 ? -v : v)),
    shift: symmetric([outputs], object + 4),
  };
  const side = sideOf(made);
  return { ...made, residual: of.added ? coarse([of.shape[0], outputs, side, side], 5) : null };
}

function run(make: Make, of: ConvNormActCase): Float64Array {
  const [images, channels, size] = of.shape;
  const [outputs, k] = of.kernel;
  const side = sideOf(of);
  const row = (v: Float64Array) => f32([outputs], v);
  const { stride, padding, relu } = of;
  const y = ops().convNormAct(
    make([images, channels, size, size], of.x),
    of.residual === null ? null : make([images, outputs, side, side], of.residual),
    {
      ...{ weight: f32([outputs, channels, k, k], of.weight), bias: row(of.bias) },
      ...{ scale: row(of.scale), shift: row(of.shift), stride, padding, relu },
    },
  );
  expect(y.shape).toEqual([images, outputs, side, side]);
  return doubles(y);
}

describe.each(CASES)('%o', (of) => {
  const made = caseOf(of);
  const wanted = convNormAct(made);

  test('float32 equals convolution, norm, residual and ReLU one after the other', () => {
    expectClose('y', run(f32, made), wanted, TOLERANCE.F32);
  });

  test('bfloat16: the folded weights are rounded once, and the answer once', () => {
    const [outputs] = made.kernel;
    const each = made.weight.length / outputs;
    const weight = made.weight.map((v, i) => {
      const scale = made.scale[Math.floor(i / each)]!;
      return toBfloat(Math.fround(Math.fround(v) * Math.fround(scale))) / scale;
    });
    const shift = made.shift.map((v, o) => toBfloat(made.bias[o]! * made.scale[o]! + v));
    const rounded = convNormAct({ ...made, weight, bias: new Float64Array(outputs), shift });
    const got = run(bf16, made);
    const largest = Math.max(...rounded.map(Math.abs));
    for (const [i, value] of got.entries())
      expect(Math.abs(value - rounded[i]!)).toBeLessThan(2 ** -8 * Math.max(Math.abs(rounded[i]!), 0.05 * largest));
  });
});

describe.each(COARSER)('%o', (of) => {
  const made = caseOf(of);
  test.each([
    ['float32', f32, TOLERANCE.F32],
    ['bfloat16', bf16, 2 ** -7],
  ] as const)('%s', (_, make, tolerance) => {
    expectCloseInNorm('y', run(make, made), convNormAct(made), tolerance);
  });
});

test('float64 is refused', () => {
  expect(() => run(f64, caseOf(CASES[0]))).toThrow('expected a tensor that oneDNN computes on, received ');
});

const PIXELS = [2, MODEL.inChannels, MODEL.inputSize, MODEL.inputSize];

test.each([
  ['fp32', 'features.0.conv.weight', Number.NaN],
  ['bf16', 'features.0.conv.weight', Number.NaN],
  ['fp32', 'features.0.norm.running_var', Number.NaN],
  ['bf16', 'features.0.norm.bias', Number.NaN],
] as const)('%s: %s with %d is seen in every answer', (precision, name, value) => {
  const model = openModel();
  const x = f32(PIXELS, symmetric(PIXELS, 901));
  expect(values(ops().forward(model, x, precision)).every(Number.isFinite)).toBe(true);
  const state = model.stateDict();
  const weights = values(state[name]!);
  weights[0] = value;
  model.loadStateDict({ ...state, [name]: f32(state[name]!.shape, weights) });
  expect(values(ops().forward(model, x, precision)).some(Number.isFinite)).toBe(false);
});
