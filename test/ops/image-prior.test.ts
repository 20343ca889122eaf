// The optional priors of synthesis: TV as four Frobenius norms per group, mean image norm; PyTorch, finite differences.

import { describe, expect, test } from 'vitest';
import { imagePrior } from '../reference/image-prior.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { expectGradient } from '../util/gradcheck.ts';
import { ops } from '../util/native.ts';
import { f32, f64, rowsOf, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const file = golden('gradients');
const SHAPE = [6, 3, 5, 7];
const x = symmetric(SHAPE, 140);
const PER_GROUP = 3 * 3 * 35;
const reference = [0, 1].map((g) => imagePrior(rowsOf(x, PER_GROUP, g, g + 1), 3, 3, 5, 7));
const wanted = (key: string): Float64Array => values(goldenTensor(file, `prior.${key}`));

test('the reference equals PyTorch', () => {
  expectClose(
    'tv',
    reference.map((r) => r.tv),
    wanted('tv'),
    TOLERANCE.F64,
    file.provenance,
  );
  expectClose(
    'l2',
    reference.map((r) => r.l2),
    wanted('l2'),
    TOLERANCE.F64,
    file.provenance,
  );
  expectClose(
    'dTv',
    reference.flatMap((r) => [...r.dTv]),
    wanted('dtv'),
    TOLERANCE.F64,
    file.provenance,
  );
  expectClose(
    'dL2',
    reference.flatMap((r) => [...r.dL2]),
    wanted('dl2'),
    TOLERANCE.F64,
    file.provenance,
  );
});

describe.each([
  ['float64', f64, TOLERANCE.F64],
  ['float32', f32, TOLERANCE.F32],
] as const)('native in %s', (_name, make, tolerance) => {
  test('equals PyTorch per group', () => {
    const got = ops().imagePrior(make(SHAPE, x), 2);
    expect([got.tv.shape, got.l2.shape, got.dTv.shape, got.dL2.shape]).toEqual([[2], [2], SHAPE, SHAPE]);
    expectClose('tv', values(got.tv), wanted('tv'), tolerance, file.provenance);
    expectClose('l2', values(got.l2), wanted('l2'), tolerance, file.provenance);
    expectClose('dTv', values(got.dTv), wanted('dtv'), tolerance, file.provenance);
    expectClose('dL2', values(got.dL2), wanted('dl2'), tolerance, file.provenance);
  });
});

test('both gradients equal central differences', () => {
  const got = ops().imagePrior(f64(SHAPE, x), 2);
  const total =
    (part: 'tv' | 'l2') =>
    (v: Float64Array): number =>
      values(ops().imagePrior(f64(SHAPE, v), 2)[part]).reduce((a, b) => a + b, 0);
  expectGradient('tv', total('tv'), x, values(got.dTv));
  expectGradient('l2', total('l2'), x, values(got.dL2));
});

test('a constant image has no TV, and its gradient is zero, not NaN', () => {
  const got = ops().imagePrior(f64([1, 1, 4, 4], new Float64Array(16).fill(3)), 1);
  expect([...values(got.tv), ...values(got.dTv)].every((v) => v === 0)).toBe(true);
  expectClose('l2', values(got.l2), [12], 1e-14);
});

test('an all-zero image has norm and gradient zero', () => {
  const got = ops().imagePrior(f64([1, 1, 4, 4], new Float64Array(16)), 1);
  expect([...values(got.l2), ...values(got.dL2)].every((v) => v === 0)).toBe(true);
});

test('refuses a batch that is no multiple of the groups', () => {
  expect(() => ops().imagePrior(f64(SHAPE, x), 4)).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }));
});
