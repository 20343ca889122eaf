// The BN-matching loss: golden vector of lpld-sre2l-cda section 12, PyTorch autograd, the formula, finite differences.

import { describe, expect, test } from 'vitest';
import { bnMatch } from '../reference/bn-match.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { expectGradient } from '../util/gradcheck.ts';
import { ops } from '../util/native.ts';
import { f32, f64, positive, rowsOf, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const WAVE = Float64Array.from({ length: 96 }, (_, k) => Math.sin(0.1 * k)); // [2, 3, 4, 4]
const MEAN = [0.1, 0.2, 0.3];
const VAR = [1, 0.5, 0.25];
const LOSS = 1.28642297;
const FIRST = [-0.00480132, -0.0094797, -0.01411133, -0.01864994]; // gradient [0, 0, 0, :]
const LAST = [-0.01320523, -0.01513745, -0.01709408, -0.01905555]; // gradient [1, 2, 3, :]
const PRINTED = 5e-9 / 0.0047; // half a unit of the eighth decimal, relative to the smallest printed gradient

const run = (make: typeof f64, x: Float64Array, shape: number[], groups: number, mean: number[], v: number[]) => {
  const channels = shape[1]!;
  const out = ops().bnMatch(make(shape, x), groups, make([groups, channels], mean), make([groups, channels], v));
  return { loss: values(out.loss), dx: values(out.dx) };
};

describe('golden vector', () => {
  test('of the reference', () => {
    const r = bnMatch(WAVE, 2, 3, 16, Float64Array.from(MEAN), Float64Array.from(VAR));
    expectClose('mean', r.mean, [0.00556135, 0.66102517, -0.04416466], TOLERANCE.literal);
    expectClose('variance', r.variance, [0.47259554, 0.09034576, 0.47091612], TOLERANCE.literal);
    expectClose('loss', [r.loss], [LOSS], TOLERANCE.literal);
    expectClose('gradient', [...r.dx.slice(0, 4), ...r.dx.slice(-4)], [...FIRST, ...LAST], TOLERANCE.literal);
  });

  test.each([
    ['float64', f64],
    ['float32', f32],
  ] as const)('of the native op in %s', (_name, make) => {
    const { loss, dx } = run(make, WAVE, [2, 3, 4, 4], 1, MEAN, VAR);
    expectClose('loss', loss, [LOSS], TOLERANCE.literal);
    expectClose('gradient', [...dx.slice(0, 4), ...dx.slice(-4)], [...FIRST, ...LAST], PRINTED);
  });
});

describe('three groups of two images', () => {
  const file = golden('gradients');
  const shape = [6, 5, 3, 4];
  const x = symmetric(shape, 120);
  const mean = symmetric([3, 5], 121);
  const variance = positive([3, 5], 122);
  const per = 2 * 5 * 12;
  const reference = [0, 1, 2].map((g) =>
    bnMatch(rowsOf(x, per, g, g + 1), 2, 5, 12, rowsOf(mean, 5, g, g + 1), rowsOf(variance, 5, g, g + 1)),
  );

  test('the reference equals PyTorch', () => {
    const losses = reference.map((r) => r.loss);
    expectClose('loss', losses, values(goldenTensor(file, 'bn.loss')), TOLERANCE.F64, file.provenance);
    const dx = reference.flatMap((r) => [...r.dx]);
    expectClose('dx', dx, values(goldenTensor(file, 'bn.dx')), TOLERANCE.F64, file.provenance);
  });

  test.each([
    ['float64', f64, TOLERANCE.F64],
    ['float32', f32, TOLERANCE.F32],
  ] as const)('native equals the reference in %s', (_name, make, tolerance) => {
    const got = run(make, x, shape, 3, [...mean], [...variance]);
    expectClose(
      'loss',
      got.loss,
      reference.map((r) => r.loss),
      tolerance,
    );
    expectClose(
      'dx',
      got.dx,
      reference.flatMap((r) => [...r.dx]),
      tolerance,
    );
  });

  test('the native gradient equals central differences of the native loss', () => {
    const { dx } = run(f64, x, shape, 3, [...mean], [...variance]);
    const total = (v: Float64Array): number =>
      run(f64, v, shape, 3, [...mean], [...variance]).loss.reduce((a, b) => a + b, 0);
    expectGradient('bnMatch', total, x, dx);
  });

  test('a group does not see the others', () => {
    const changed = Float64Array.from(x, (v, i) => (i >= per ? -3 * v : v));
    const got = run(f64, changed, shape, 3, [...mean], [...variance]);
    expectClose('loss of group 0', got.loss.slice(0, 1), [reference[0]!.loss], 1e-14);
  });
});

describe('edges', () => {
  test('a zero norm has gradient zero, not NaN', () => {
    const x = Float64Array.of(-1, 1, -1, 1); // [1, 1, 2, 2]: mean 0, variance 1
    const exact = run(f64, x, [1, 1, 2, 2], 1, [0], [1]);
    expect([...exact.loss, ...exact.dx]).toEqual([0, 0, 0, 0, 0]);
    const meanOnly = run(f64, x, [1, 1, 2, 2], 1, [0.5], [1]);
    expectClose('mean term alone', [...meanOnly.loss, ...meanOnly.dx], [0.5, -0.25, -0.25, -0.25, -0.25], 1e-12);
  });

  test('float32 statistics survive a mean 1000 times the spread', () => {
    const x = Float64Array.from(symmetric([4, 3, 5, 5], 123), (v) => Math.fround(1000 + v));
    const wanted = bnMatch(x, 4, 3, 25, Float64Array.of(1000, 1000, 1000), Float64Array.of(0.1, 0.1, 0.1));
    const got = run(f32, x, [4, 3, 5, 5], 1, [1000, 1000, 1000], [0.1, 0.1, 0.1]);
    expectClose('loss', got.loss, [wanted.loss], 1e-3); // float32 holds 1000 + v to 6e-5
  });

  test.each([
    ['a batch that is no multiple of the groups', [5, 5, 3, 4], 3],
    ['a rank other than four', [6, 5, 12], 3],
  ])('refuses %s', (_what, shape, groups) => {
    const size = shape.reduce((a, b) => a * b, 1);
    expect(() => run(f64, new Float64Array(size), shape, groups, Array(15).fill(0), Array(15).fill(1))).toThrow(
      expect.objectContaining({ code: 'E_INTERNAL' }),
    );
  });

  test('refuses targets of another channel count', () => {
    const x = f64([2, 3, 4, 4], WAVE);
    expect(() => ops().bnMatch(x, 1, f64([1, 4], [0, 0, 0, 0]), f64([1, 4], [1, 1, 1, 1]))).toThrow(
      expect.objectContaining({ code: 'E_INTERNAL' }),
    );
  });
});
