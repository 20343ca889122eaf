// unshuffledConv: the stride-2 convolution over 2 x 2 blocks against the plain sums, both ways, in float64, float32 and
// bfloat16, for the kernels whose padding is odd and even; and that a network's synthesis goes through it unchanged.

import { describe, expect, test } from 'vitest';
import { toBfloat } from '../reference/bfloat.ts';
import { outputShape, type StridedConv, stridedConv, stridedConvBackward } from '../reference/unshuffled-conv.ts';
import { ops } from '../util/native.ts';
import { bf16, doubles, type Make } from '../util/norm-act.ts';
import { f32, f64, symmetric } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const CASES = [
  { shape: [2, 3, 16, 16], kernel: [8, 7], biased: false }, // ResNet's stem
  { shape: [1, 1, 10, 6], kernel: [3, 3], biased: true },
  { shape: [2, 4, 6, 12], kernel: [5, 5], biased: false },
  { shape: [1, 2, 2, 4], kernel: [2, 9], biased: true }, // a kernel larger than the image
] as const;

const coarse = (shape: readonly number[], object: number): Float64Array => symmetric(shape, object, 1).map(toBfloat);

describe.each(CASES)('%o', ({ shape, kernel, biased }) => {
  const [outputs, k] = kernel;
  const weightShape = [outputs, shape[1], k, k];
  const of: StridedConv = { shape, kernel, weight: coarse(weightShape, 6000 + k) };
  const out = outputShape(of);
  const x = coarse(shape, 6100 + k);
  const grad = coarse(out, 6200 + k);
  const bias = biased ? coarse([outputs], 6300 + k) : null;
  const y = stridedConv(of, x, bias);
  const dx = stridedConvBackward(of, grad);
  const run = (make: Make) =>
    ops().unshuffledConv(
      make([...shape], x),
      make(weightShape, of.weight),
      bias === null ? null : make([outputs], bias),
      (k - 1) / 2,
      make(out, grad),
    );

  test.each([
    ['float64', f64, TOLERANCE.F64],
    ['float32', f32, TOLERANCE.F32],
    ['bfloat16', bf16, 2 ** -7],
  ] as const)('%s', (_, make, tolerance) => {
    const answer = run(make);
    expect(answer.y.shape).toEqual(out);
    expect(answer.dx.shape).toEqual([...shape]);
    expectClose('y', doubles(answer.y), y, tolerance);
    expectClose('dx', doubles(answer.dx), dx, tolerance);
  });
});

test.each([
  ['an odd side', [1, 3, 7, 8], [2, 3, 3, 3], 1],
  ['five channels', [1, 5, 8, 8], [2, 5, 3, 3], 1],
  ['an even kernel', [1, 3, 8, 8], [2, 3, 4, 4], 1],
  ['other padding', [1, 3, 8, 8], [2, 3, 3, 3], 0],
] as const)('%s is refused', (_, shape, weight, padding) => {
  const zeros = (s: readonly number[]) => f32([...s], new Float64Array(s.reduce((n, d) => n * d, 1)));
  expect(() => ops().unshuffledConv(zeros(shape), zeros(weight), null, padding, zeros([1, 2, 4, 4]))).toThrow(
    /unshuffled_conv: expected even sides/,
  );
});
