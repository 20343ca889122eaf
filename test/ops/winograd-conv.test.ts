// winogradConv: both tile sizes against the plain sums in float64, both ways, over sides that tiles fit and do not fit; the
// residual, bias and ReLU of its tail; bfloat16 against its own rounding; what it refuses.

import { describe, expect, test } from 'vitest';
import { toBfloat } from '../reference/bfloat.ts';
import { type Conv3, conv3, conv3Backward, conv3WeightBackward } from '../reference/conv3.ts';
import { native, ops } from '../util/native.ts';
import { bf16, doubles, type Make } from '../util/norm-act.ts';
import { f32, f64, symmetric, values } from '../util/tensors.ts';
import { expectClose, expectCloseInNorm, expectSameBytes, TOLERANCE } from '../util/tolerance.ts';

const PLAIN = { tile: 2, bias: null, residual: null, relu: false, learns: false } as const;
const OUTPUTS = 128; // two blocks of a matrix product
const { cpu: CPU } = native().info();

const CASES = [
  { shape: [2, 64, 8, 8], biased: false }, // tiles of 2 and 4 fit
  { shape: [1, 64, 7, 5], biased: true }, // neither does
  { shape: [1, 128, 1, 3], biased: true }, // smaller than a tile
  { shape: [3, 64, 6, 14], biased: false }, // 4 does not; several parts on several threads
  { shape: [1, 64, 2, 257], biased: false }, // rows of more tiles than are taken at a time
] as const;

/** Whether LibTorch multiplies blocks of the dtype on this CPU: where it does not, nothing uses the op. */
function multiplies(make: Make): boolean {
  try {
    const zeros = (shape: number[]) => new Float64Array(shape.reduce((n, d) => n * d, 1));
    const weight = f32([64, 64, 3, 3], zeros([64, 64, 3, 3]));
    ops().winogradConv(make([1, 64, 2, 2], zeros([256])), weight, PLAIN, null);
    return true;
  } catch (error) {
    if (!String(error).includes('that multiply blocks of')) throw error;
    return false;
  }
}
const MAKES = [f32, bf16].filter(multiplies);
/** The gradient to a weight has instructions of its own, which fewer CPUs know than those that multiply blocks. */
const LEARNS = MAKES.filter((make) => (make === f32 ? CPU.avx512 : CPU.avx512Bf16));
const WAYS = MAKES.flatMap((make) =>
  (make === f32 ? ([2, 4] as const) : ([2] as const)).map((tile) => ({ make, tile })),
);

const coarse = (shape: readonly number[], object: number): Float64Array => symmetric(shape, object, 1).map(toBfloat);

interface Made extends Conv3 {
  readonly x: Float64Array;
  readonly bias: Float64Array | null;
  readonly grad: Float64Array;
  readonly out: readonly [number, number, number, number];
}

function made({ shape, biased }: (typeof CASES)[number]): Made {
  const [images, channels, height, width] = shape;
  const out = [images, OUTPUTS, height, width] as const;
  return {
    ...{ shape, outputs: OUTPUTS, weight: coarse([OUTPUTS, channels, 3, 3], 6500 + height), out },
    x: coarse(shape, 6600 + height),
    bias: biased ? coarse([OUTPUTS], 6700) : null,
    grad: coarse(out, 6800 + height),
  };
}

function run(make: Make, of: Made, tile: 2 | 4): { y: Float64Array; dx: Float64Array } {
  const weight = f32([OUTPUTS, of.shape[1], 3, 3], of.weight);
  const bias = of.bias === null ? null : f32([OUTPUTS], of.bias);
  const answer = ops().winogradConv(
    make([...of.shape], of.x),
    weight,
    { ...PLAIN, tile, bias },
    make([...of.out], of.grad),
  );
  expect(answer.y.shape).toEqual(of.out);
  expect(answer.dx!.shape).toEqual(of.shape);
  return { y: doubles(answer.y), dx: doubles(answer.dx!) };
}

describe.each(CASES)('%o', (given) => {
  const of = made(given);
  const y = conv3(of, of.x, of.bias);
  const dx = conv3Backward(of, of.grad);

  test.each([
    [2, TOLERANCE.F32],
    [4, 5 * TOLERANCE.F32], // its factors reach 8 and 24
  ] as const)('float32, tiles of %d', (tile, tolerance) => {
    const answer = run(f32, of, tile);
    expectClose('y', answer.y, y, tolerance);
    expectClose('dx', answer.dx, dx, tolerance);
  });

  test.skipIf(!MAKES.includes(bf16))('bfloat16: within 2^-7 of the whole', () => {
    const answer = run(bf16, of, 2);
    expectCloseInNorm('y', answer.y, y, 2 ** -7);
    expectCloseInNorm('dx', answer.dx, dx, 2 ** -7);
  });

  test.each(LEARNS)('a convolution that learns: the gradients of weight and bias (%#)', (make) => {
    const tolerance = make === f32 ? TOLERANCE.F32 : 2 ** -7;
    const bias = of.bias === null ? null : f32([OUTPUTS], of.bias);
    const answer = ops().winogradConv(
      make([...of.shape], of.x),
      f32([OUTPUTS, of.shape[1], 3, 3], of.weight),
      { ...PLAIN, bias, learns: true },
      make([...of.out], of.grad),
    );
    const wanted = conv3WeightBackward(of, of.x, of.grad);
    expectCloseInNorm('dx', doubles(answer.dx!), dx, tolerance);
    expectCloseInNorm('dWeight', doubles(answer.dWeight!), wanted.weight, tolerance);
    if (of.bias === null) expect(answer.dBias).toBeUndefined();
    else expectCloseInNorm('dBias', doubles(answer.dBias!), wanted.bias, tolerance);
  });

  test.each(WAYS)('bias, residual and ReLU (%#)', ({ make, tile }) => {
    const residual = coarse(of.out, 6900);
    const { y: got } = ops().winogradConv(
      make([...of.shape], of.x),
      f32([OUTPUTS, of.shape[1], 3, 3], of.weight),
      {
        ...{ ...PLAIN, tile, relu: true, bias: f32([OUTPUTS], coarse([OUTPUTS], 6700)) },
        residual: make([...of.out], residual),
      },
      null,
    );
    const wanted = conv3(of, of.x, coarse([OUTPUTS], 6700)).map((v, i) => Math.max(0, v + residual[i]!));
    expectCloseInNorm('y', doubles(got), wanted, make === f32 ? TOLERANCE.F32 : 2 ** -7);
    expect(Math.min(...doubles(got))).toBe(0);
  });
});

test.each(WAYS)('an image has the same answer in any batch, bit for bit (%#)', ({ make, tile }) => {
  const [images, size] = [40, 14]; // more tiles than one part for each of several threads
  const x = coarse([images, 64, size, size], 7000);
  const weight = f32([64, 64, 3, 3], coarse([64, 64, 3, 3], 7001));
  const of = (from: number, count: number) => {
    const each = 64 * size * size;
    const part = make([count, 64, size, size], x.subarray(from * each, (from + count) * each));
    return ops().winogradConv(part, weight, { ...PLAIN, tile }, null).y.data;
  };
  const whole = of(0, images);
  const each = whole.length / images;
  for (const image of [0, 17, 39])
    expectSameBytes(`image ${image}`, of(image, 1), whole.subarray(image * each, (image + 1) * each));
  expectSameBytes('again', of(0, images), whole);
});

/** Of the gradient to the weight: one part in two slices; three parts; two in two slices; one in three, as 3 does not divide 5. */
const TIMED = [
  { channels: 64, size: 9, threads: 2 },
  { channels: 192, size: 21, threads: 3 },
  { channels: 128, size: 21, threads: 5 },
  { channels: 320, size: 9, threads: 3 },
];
const OPS = ['conv3', 'conv3Weight', 'batchNormAct'] as const;
test.each(MAKES.flatMap((make) => OPS.flatMap((op) => TIMED.map((given) => ({ op, make, ...given })))))(
  '$op, timed, is the same problem with ours and without: $channels channels, $size px, $threads threads (%#)',
  async ({ op, make, ...given }) => {
    const dtype = make === f32 ? 'F32' : 'BF16';
    const sizes = { groups: 1, imagesPerGroup: 2, ...given, graph: false, runs: 1, rounds: 1 };
    const timed = (kernels: boolean) =>
      native().timeOp({ op, dtype, device: 'cpu', ...sizes, kernels }, () => {}).promise;
    const [ours, aten] = [await timed(true), await timed(false)];
    expectClose('norms', values(ours.norms), values(aten.norms), make === f32 ? 1e-5 : 1e-3);
  },
);

test.skipIf(!LEARNS.includes(f32))(
  'a gradient to the weight over 12,288 tiles: equal numbers add up to their count',
  () => {
    const [images, size] = [12, 64];
    const [a, b] = [Math.fround(1 / 3), Math.fround(0.1)];
    const like = (value: number) =>
      f32([images, 64, size, size], new Float64Array(images * 64 * size * size).fill(value));
    const weight = f32([64, 64, 3, 3], new Float64Array(64 * 64 * 9));
    const { dWeight } = ops().winogradConv(like(a), weight, { ...PLAIN, learns: true }, like(b));
    const off = values(dWeight!).map((sum, i) => {
      const [y, x] = [Math.floor((i % 9) / 3), i % 3];
      const seen = (tap: number) => (tap === 1 ? size : size - 1); // pixels that the tap does not see outside the image
      return Math.abs(sum / (a * b * images * seen(y) * seen(x)) - 1);
    });
    expect(Math.max(...off)).toBeLessThan(5e-6); // added one by one: 7e-5
  },
);

test.each(WAYS)(
  'NaN and infinities make no number of what reads them, in their own image only (%#)',
  ({ make, tile }) => {
    const shape = [3, 64, 4, 4];
    const x = coarse(shape, 7100);
    x[5] = Number.NaN; // image 0, pixel (1, 1)
    x[64 * 16 + 3 * 16 + 10] = Number.POSITIVE_INFINITY; // image 1, pixel (2, 2)
    const weight = f32([64, 64, 3, 3], coarse([64, 64, 3, 3], 7101));
    const y = doubles(ops().winogradConv(make(shape, x), weight, { ...PLAIN, tile }, null).y);
    const of = (image: number, pixel: number) => y[image * 64 * 16 + pixel]!;
    for (const pixel of [0, 1, 2, 4, 5, 6, 8, 9, 10]) expect(of(0, pixel), `pixel ${pixel}`).toBeNaN();
    for (const pixel of [5, 6, 7, 9, 10, 11, 13, 14, 15])
      expect(Number.isFinite(of(1, pixel)), `pixel ${pixel} is ${of(1, pixel)}`).toBe(false);
    expect(y.subarray(2 * 64 * 16).every(Number.isFinite)).toBe(true);
    const clipped = doubles(ops().winogradConv(make(shape, x), weight, { ...PLAIN, tile, relu: true }, null).y);
    expect(clipped[5]).toBeNaN();
  },
);

test.each(MAKES)('every NaN of a weight or a bias is seen (%#)', (make) => {
  const bits = (shape: number[], word: number) => {
    const zeros = f32(shape, new Float64Array(shape.reduce((n, d) => n * d, 1)));
    new DataView(zeros.data.buffer, zeros.data.byteOffset).setUint32(0, word, true);
    return zeros;
  };
  const x = make([1, 64, 2, 2], coarse([1, 64, 2, 2], 7110));
  for (const word of [0xffffffff, 0x7fffffff, 0x7f800001]) {
    const weighted = ops().winogradConv(x, bits([64, 64, 3, 3], word), PLAIN, null).y;
    expect(doubles(weighted).some(Number.isNaN), `weight ${word.toString(16)}`).toBe(true);
    const biased = ops().winogradConv(x, bits([64, 64, 3, 3], 0), { ...PLAIN, bias: bits([64], word) }, null).y;
    expect(doubles(biased).some(Number.isNaN), `bias ${word.toString(16)}`).toBe(true);
  }
});

const zeros = (shape: readonly number[]) => f32([...shape], new Float64Array(shape.reduce((n, d) => n * d, 1)));
test.each([
  ['32 outputs', [32, 64, 3, 3], PLAIN],
  ['16 channels', [64, 16, 3, 3], PLAIN],
  ['a kernel of 5', [64, 64, 5, 5], PLAIN],
  ['tiles of 3', [64, 64, 3, 3], { ...PLAIN, tile: 3 as 2 }],
] as const)('%s: refused', (_, weight, tail) => {
  expect(() => ops().winogradConv(zeros([1, 64, 4, 4]), zeros(weight), tail, null)).toThrow(
    /winograd_weights: expected float \[O, C, 3, 3\]/,
  );
});
test('tiles of 4 in bfloat16, float64 and another number of channels: refused', () => {
  const weight = zeros([64, 64, 3, 3]);
  const x = new Float64Array(1024);
  const convolve = (make: Make, channels: number, tile: 2 | 4) =>
    ops().winogradConv(make([1, channels, 4, 4], x.subarray(0, channels * 16)), weight, { ...PLAIN, tile }, null);
  expect(() => convolve(bf16, 64, 4)).toThrow(/tile 2, or 4 in float/);
  expect(() => convolve(f64, 64, 2)).toThrow(/winograd_weights: expected float/);
  expect(() => convolve(f32, 32, 2)).toThrow(/winograd_conv: expected x \[B, 64, H, W\]/);
});
