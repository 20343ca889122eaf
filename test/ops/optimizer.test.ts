// Optimizer steps: SGD and AdamW against torch.optim, the pixel optimizer against section 12 of lpld-sre2l-cda.

import { describe, expect, test } from 'vitest';
import type { TensorMap } from '../../src/tensor.ts';
import { adamwStep, pixelAdam, sgdStep } from '../reference/optimizer.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { ops } from '../util/native.ts';
import { f32, f64, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const file = golden('optimizers');
const LR = file.info.lr as number[];
const RULES = {
  sgd: { momentum: 0.9, beta1: 0, beta2: 0, eps: 0, weightDecay: 0.01 },
  'sgd-plain': { momentum: 0, beta1: 0, beta2: 0, eps: 0, weightDecay: 0 },
  adamw: { momentum: 0, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.05 },
  'adamw-plain': { momentum: 0, beta1: 0.5, beta2: 0.9, eps: 1e-3, weightDecay: 0 },
};
const names = Object.keys(RULES) as (keyof typeof RULES)[];
const grad = (step: number): Float64Array => symmetric([5, 7], 151 + step, 0.1);

describe.each(names)('%s, six steps', (name) => {
  const rule = RULES[name];
  const kind = name.startsWith('sgd') ? 'sgd' : 'adamw';

  test('the reference equals torch.optim', () => {
    const p = symmetric([5, 7], 150);
    const m = new Float64Array(35);
    const v = new Float64Array(35);
    LR.forEach((lr, i) => {
      if (kind === 'sgd') sgdStep(p, m, grad(i), i + 1, { ...rule, lr });
      else adamwStep(p, m, v, grad(i), i + 1, { ...rule, lr });
      expectClose(`step ${i}`, p, values(goldenTensor(file, `${name}.${i}`)), TOLERANCE.F64, file.provenance);
    });
  });

  test.each([
    ['float64', f64, TOLERANCE.F64],
    ['float32', f32, TOLERANCE.F32],
  ] as const)('native equals torch.optim in %s, carrying its state from step to step', (_name, make, tolerance) => {
    let parameter = make([5, 7], symmetric([5, 7], 150));
    let state: TensorMap = {};
    LR.forEach((lr, i) => {
      const next = ops().optimizerStep(kind, parameter, state, make([5, 7], grad(i)), { ...rule, lr, step: i + 1 });
      ({ parameter, state } = next);
      expectClose(
        `step ${i}`,
        values(parameter),
        values(goldenTensor(file, `${name}.${i}`)),
        tolerance,
        file.provenance,
      );
    });
  });

  test('the arguments are left as they were', () => {
    const parameter = f64([5, 7], symmetric([5, 7], 150));
    const first = ops().optimizerStep(kind, parameter, {}, f64([5, 7], grad(0)), { ...rule, lr: 0.1, step: 1 });
    expect(values(parameter)).toEqual(symmetric([5, 7], 150));
    const before = Object.fromEntries(Object.entries(first.state).map(([k, t]) => [k, values(t)]));
    ops().optimizerStep(kind, first.parameter, first.state, f64([5, 7], grad(1)), { ...rule, lr: 0.1, step: 2 });
    for (const [k, t] of Object.entries(first.state)) expect(values(t)).toEqual(before[k]);
  });
});

describe('pixelAdam', () => {
  const wide = [-1e9, 1e9];

  test('golden vector: lr .25, betas .5 and .9, three gradients', () => {
    const gradients = [
      [0.1, -0.2],
      [0.05, 0.3],
      [-0.4, 0.1],
    ];
    const after = [
      [0.75, -1.75],
      [0.53577179, -1.87944055],
      [0.73519862, -2.0133338],
    ];
    let x = f32([1, 2, 1, 1], [1, -2]);
    let m = f32([1, 2, 1, 1], [0, 0]);
    let v = f32([1, 2, 1, 1], [0, 0]);
    const ref = { x: Float64Array.of(1, -2), m: new Float64Array(2), v: new Float64Array(2) };
    const rule = { lr: 0.25, beta1: 0.5, beta2: 0.9, eps: 1e-8 };
    const [low, high] = wide.map((b) => Float64Array.of(b, b)) as [Float64Array, Float64Array];
    gradients.forEach((g, i) => {
      pixelAdam(ref.x, ref.m, ref.v, Float64Array.from(g), i + 1, rule, 1, low, high);
      expectClose(`reference ${i}`, ref.x, after[i]!, TOLERANCE.literal);
      const step = [i + 1, 0.25, 0.5, 0.9, 1e-8] as const;
      ({ x, m, v } = ops().pixelAdam(x, m, v, f32([1, 2, 1, 1], g), ...step, f32([2], low), f32([2], high)));
      expectClose(`native ${i}`, values(x), after[i]!, TOLERANCE.literal);
    });
  });

  test('equals the reference over ten steps with a clamp per channel, which leaves the moments alone', () => {
    const shape = [3, 2, 4, 5];
    const low = Float64Array.of(-0.25, -1);
    const high = Float64Array.of(0.5, 0.125);
    const ref = { x: symmetric(shape, 160, 2), m: new Float64Array(120), v: new Float64Array(120) };
    let [x, m, v] = [f64(shape, ref.x), f64(shape, ref.m), f64(shape, ref.v)];
    for (let step = 1; step <= 10; step++) {
      const g = symmetric(shape, 160 + step, 0.01);
      const rule = { lr: 0.1 / step, beta1: 0.5, beta2: 0.9, eps: 1e-8 };
      pixelAdam(ref.x, ref.m, ref.v, g, step, rule, 20, low, high);
      const numbers = [step, rule.lr, rule.beta1, rule.beta2, rule.eps] as const;
      ({ x, m, v } = ops().pixelAdam(x, m, v, f64(shape, g), ...numbers, f64([2], low), f64([2], high)));
      expectClose(`x after ${step}`, values(x), ref.x, TOLERANCE.F64);
      expectClose(`m after ${step}`, values(m), ref.m, TOLERANCE.F64);
      expectClose(`v after ${step}`, values(v), ref.v, TOLERANCE.F64);
    }
    values(x).forEach((p, i) => {
      const c = Math.floor(i / 20) % 2;
      expect(p >= low[c]! && p <= high[c]!).toBe(true);
    });
  });

  test('a pixel that never had a gradient does not move, and the arguments are left as they were', () => {
    const x = f32([1, 1, 1, 3], [0.5, -0.25, 0.125]);
    const m = f32([1, 1, 1, 3], [0, 0, 0]);
    const v = f32([1, 1, 1, 3], [0, 0, 0]);
    const g = f32([1, 1, 1, 3], [0, 1, 0]);
    const out = ops().pixelAdam(x, m, v, g, 1, 0.1, 0.5, 0.9, 1e-8, f32([1], [-9]), f32([1], [9]));
    expect([values(out.x)[0], values(out.x)[2]]).toEqual([0.5, 0.125]);
    expect([...values(x), ...values(m), ...values(v)]).toEqual([0.5, -0.25, 0.125, 0, 0, 0, 0, 0, 0]);
  });
});
