// The delta codec: what is predicted from whole images, in float64; that it pays where views are mixes of them; its basis.

import { describe, expect, test } from 'vitest';
import { arrayOf, type TensorMap } from '../../src/tensor.ts';
import { halfBits, halfValue } from '../reference/half.ts';
import { centre, decodeStream, dither, inSteps, quantise, readBasis, readGain, reconstruct } from '../reference/klt.ts';
import { codecNeeds, codingSpec, decode, encode, fitBasis, logitsOnly } from '../util/codes.ts';
import { dice, mutate } from '../util/hostile.ts';
import { someLogits } from '../util/klt.ts';
import { f32, i32, rowsOf, symmetric, values } from '../util/tensors.ts';
import { expectClose } from '../util/tolerance.ts';

const [IMAGES, ROWS, BATCH, K] = [40, 800, 20, 10];
const whole = someLogits(IMAGES, K, 50);
const roll = dice(3);
const records = ROWS / BATCH;
const index = Array.from({ length: records }, (_, r) =>
  Array.from({ length: BATCH }, (_, i) => (i * 7 + r * 11) % IMAGES),
).flat();
const shares = Array.from({ length: records }, (_, r) => (r % 5 === 0 ? 1 : Math.fround(roll(1000) / 1000)));
const lambda = Array.from({ length: ROWS }, (_, row) => shares[Math.floor(row / BATCH)]!);
const mixIndex = Array.from({ length: ROWS }, (_, row) => (lambda[row] === 1 ? row % BATCH : (row + 3) % BATCH));
const partner = mixIndex.map((at, row) => index[Math.floor(row / BATCH) * BATCH + at]!);
const noise = symmetric([ROWS, K], 77, 1.5);
/** A view: 0.9 of the mix of the whole answers, and something of its own. */
const views = noise.map((x, at) => {
  const [row, k] = [Math.floor(at / K), at % K];
  const mixed = lambda[row]! * whole[index[row]! * K + k]! + (1 - lambda[row]!) * whole[partner[row]! * K + k]!;
  return Math.fround(0.9 * mixed + x);
});

const answers = logitsOnly([ROWS, K], views);
const plain = (codec: string) =>
  codingSpec(codec, ROWS, K, { lengths: new Array(records).fill(BATCH), index, mixIndex, lambda, seed: 9n });
async function coded(codec: string, rows = answers, images = whole) {
  const basis = await fitBasis(plain(codec), rows, { whole: logitsOnly([IMAGES, K], images) });
  const spec = { ...plain(codec), basis };
  const labels = await encode(spec, rows);
  return { spec, labels, got: values(await decode(spec, labels)), bytes: labels.blobs!.data.shape[0]! / ROWS };
}
const power = (rows: readonly Float64Array[]): number =>
  rows.reduce((sum, row) => sum + row.reduce((s, x) => s + x * x, 0), 0) / rows.length / K;
const less = (a: readonly Float64Array[], b: readonly Float64Array[]) =>
  a.map((row, i) => row.map((x, k) => x - b[i]![k]!));

/** The whole images as the basis holds them less their mean, and what is predicted of every row, in doubles. */
function predicted(tensors: TensorMap): Float64Array[] {
  const base = readBasis(tensors, 'base.');
  const images = Array.from({ length: IMAGES }, (_, i) => i);
  const u = dither(0n, images, 0xffffffff, base.models.length);
  const q = decodeStream(base.models, arrayOf(tensors['base.blob']!, 'U8'), u);
  const rows = centre(whole, K);
  const mean = rows[0]!.map((_, k) => rows.reduce((sum, row) => sum + row[k]!, 0) / IMAGES);
  expect(q).toEqual(quantise(inSteps({ ...base, mean }, rows), u));
  const parts = reconstruct(base, q, u, IMAGES, false);
  const gain = readGain(tensors);
  return index.map((image, row) => {
    const alone = partner[row] === image;
    const bin = alone ? 16 : Math.min(15, Math.floor(16 * lambda[row]!));
    return parts[image]!.map((x, k) => gain[2 * bin]! * x + gain[2 * bin + 1]! * parts[partner[row]!]![k]!);
  });
}

test('wants the sample and the whole images', () => {
  expect(codecNeeds('delta:24')).toEqual({ sample: true, whole: true, features: false });
});

test('streams hold the quantised difference from the prediction, and rows decode to their sum', async () => {
  const { spec, labels, got } = await coded('delta:4');
  const basis = readBasis(spec.basis);
  const guess = predicted(spec.basis);
  const rest = less(centre(views, K), guess);
  const offset = Array.from(arrayOf(labels.blobs!.offset, 'I64'), Number);
  for (const r of [0, 1, records - 1]) {
    const [a, b] = [r * BATCH, (r + 1) * BATCH];
    const u = dither(9n, index.slice(a, b), r, basis.models.length);
    const q = decodeStream(basis.models, arrayOf(labels.blobs!.data, 'U8').slice(offset[r], offset[r + 1]), u);
    expect(q).toEqual(quantise(inSteps(basis, rest.slice(a, b)), u));
    const wanted = reconstruct(basis, q, u, BATCH).flatMap((row, i) => [...row.map((x, k) => x + guess[a + i]![k]!)]);
    expectClose(`record ${r}`, rowsOf(got, K, a, b), wanted, 1e-6);
  }
});

test('the gains find the mix, and the prediction explains the views', async () => {
  const { spec } = await coded('delta:mse=0.05');
  const gain = readGain(spec.basis);
  expect(gain[32]).toBeCloseTo(0.9, 1);
  expect(gain[33]).toBe(0);
  for (const bin of [4, 8, 12]) {
    const share = (bin + 0.5) / 16;
    expect(Math.abs(gain[2 * bin]! - 0.9 * share)).toBeLessThan(0.1);
    expect(Math.abs(gain[2 * bin + 1]! - 0.9 * (1 - share))).toBeLessThan(0.1);
  }
  const rows = centre(views, K);
  const rest = less(rows, predicted(spec.basis));
  expect(1 - power(rest) / power(rows)).toBeGreaterThan(0.7);
});

test.each([0.5, 0.1])('at mse %f it meets the error as klt does, with fewer bytes', async (mse) => {
  const [delta, klt] = [await coded(`delta:mse=${mse}`), await coded(`klt:mse=${mse}`)];
  for (const { got } of [delta, klt]) {
    const error = power(less(centre(views, K), centre(got, K)));
    expect(error / mse).toBeGreaterThan(0.93);
    expect(error / mse).toBeLessThan(1.07);
  }
  expect(delta.bytes).toBeLessThan(0.85 * klt.bytes);
});

describe('where no coefficient of the views is kept', () => {
  const LEAST = 0.7; // the largest eigenvalue of noise of +-1.5, centred: 0.75 and what the sample adds
  /** theta of the whole images: a sixth of what was asked of the views. */
  const baseTheta = (basis: TensorMap): number => values(basis.step!)[1]! ** 2 / 12;

  test.each([
    'delta:0.201', // a record's state takes 0.2 bytes of every row
    'delta:mse=0.9',
    'delta:mse=1.5',
  ])('%s: records are empty, and the whole images no finer than was asked', async (codec) => {
    const { spec, labels, got } = await coded(codec);
    const asked = Number(codec.split('=')[1] ?? 0);
    expect(spec.basis.model!.shape).toEqual([0, 3]);
    expect(labels.blobs!.data.shape).toEqual([0]);
    expect(spec.basis['base.model']!.shape[0]).toBeGreaterThan(0);
    expect(baseTheta(spec.basis)).toBeGreaterThan(Math.max(LEAST, 0.999 * asked) / 6);
    const mean = values(spec.basis.mean!);
    const wanted = predicted(spec.basis).flatMap((row) => [...row.map((x, k) => x + mean[k]!)]);
    expectClose('rows', got, wanted, 1e-6);
    if (asked > 0) expect(power(less(centre(views, K), centre(got, K)))).toBeLessThan(1.02 * asked);
  });

  test.each([0.68, 0.7, 0.75])(
    'mse %f, a hair above their own noise of 0.67: whole images hardly finer',
    async (mse) => {
      const { spec, got } = await coded(`delta:mse=${mse}`);
      expect(baseTheta(spec.basis)).toBeGreaterThan((0.5 * LEAST) / 6);
      expect(power(less(centre(views, K), centre(got, K)))).toBeLessThan(1.02 * mse);
    },
  );

  test('views that are their images: the error asked for is spent on the whole images', async () => {
    const own = Float64Array.from({ length: ROWS * K }, (_, at) => whole[index[Math.floor(at / K)]! * K + (at % K)]!);
    const alone = { lengths: new Array(records).fill(BATCH), index, seed: 9n };
    for (const mse of [1, 0.1]) {
      const bare = codingSpec(`delta:mse=${mse}`, ROWS, K, alone);
      const basis = await fitBasis(bare, logitsOnly([ROWS, K], own), { whole: logitsOnly([IMAGES, K], whole) });
      const labels = await encode({ ...bare, basis }, logitsOnly([ROWS, K], own));
      expect(labels.blobs!.data.shape).toEqual([0]);
      expect(baseTheta(basis) / mse).toBeCloseTo(1 / 6, 3);
      const got = values(await decode({ ...bare, basis }, labels));
      expect(power(less(centre(own, K), centre(got, K)))).toBeLessThan(mse);
    }
  });

  test.each(['delta:4', 'delta:60'])(
    '%s of views that are their images: whole images as fine as halves',
    async (codec) => {
      const own = Float64Array.from({ length: ROWS * K }, (_, at) => whole[index[Math.floor(at / K)]! * K + (at % K)]!);
      const bare = codingSpec(codec, ROWS, K, { lengths: new Array(records).fill(BATCH), index, seed: 9n });
      const basis = await fitBasis(bare, logitsOnly([ROWS, K], own), { whole: logitsOnly([IMAGES, K], whole) });
      const labels = await encode({ ...bare, basis }, logitsOnly([ROWS, K], own));
      expect(labels.blobs!.data.shape[0]! / ROWS).toBeLessThan(2); // what the rounding of vectors to halves leaves
      expect(basis['base.blob']!.shape[0]! / IMAGES).toBeLessThan(2 * K); // as bytes of halves
      const wanted = centre(own, K);
      const halved = own.map((x) => halfValue(halfBits(x)));
      const error = power(less(wanted, centre(values(await decode({ ...bare, basis }, labels)), K)));
      expect(error / power(less(wanted, centre(halved, K)))).toBeGreaterThan(0.2);
      expect(error / power(less(wanted, centre(halved, K)))).toBeLessThan(2);
    },
  );

  test.each(['delta:24', 'delta:mse=0.001'])('%s of equal answers: the mean is all there is', async (codec) => {
    const row = symmetric([K], 78, 9); // no float32 is their mean
    const equal = (rows: number) => Float64Array.from({ length: rows * K }, (_, at) => row[at % K]!);
    const { spec, labels, got } = await coded(codec, logitsOnly([ROWS, K], equal(ROWS)), equal(IMAGES));
    for (const part of ['', 'base.']) expect(spec.basis[`${part}model`]!.shape, part).toEqual([0, 3]);
    expect([labels.blobs!.data.shape, spec.basis['base.blob']!.shape]).toEqual([[0], [0]]);
    const wanted = centre(equal(ROWS), K).flatMap((x) => [...x]);
    expectClose('rows', got, wanted, 1e-6);
  });
});

test('a record decodes alone, to the same rows', async () => {
  const { spec, labels, got } = await coded('delta:4');
  const [a, b] = [3 * BATCH, 4 * BATCH];
  const offset = Array.from(arrayOf(labels.blobs!.offset, 'I64'), Number);
  const bytes = arrayOf(labels.blobs!.data, 'U8').slice(offset[3], offset[4]);
  const own = { lengths: [BATCH], recordIds: [3], seed: 9n, lambda: lambda.slice(a, b) };
  const alone = codingSpec('delta:4', BATCH, K, { ...own, index: index.slice(a, b), mixIndex: mixIndex.slice(a, b) });
  const again = await encode({ ...alone, basis: spec.basis }, logitsOnly([BATCH, K], views.slice(a * K, b * K)));
  expect(arrayOf(again.blobs!.data, 'U8')).toEqual(bytes);
  expect(values(await decode({ ...alone, basis: spec.basis }, again))).toEqual(rowsOf(got, K, a, b).slice());
});

test.each([
  ['many rows', 40_000, 10], // sums past 32,768 numbers are cut among threads
  ['many classes', 600, 300],
])('a basis fitted to %s is equal bit for bit with one thread and with two', async (_, rows, K) => {
  const images = 100;
  const at = Array.from({ length: rows }, (_, row) => (row * 7) % images);
  const codec = codingSpec('delta:6', rows, K, {
    lengths: new Array(rows / BATCH).fill(BATCH),
    index: at,
    mixIndex: Array.from({ length: rows }, (_, row) => (row + 3) % BATCH),
    lambda: Array.from({ length: rows }, (_, row) => Math.fround(((row % 997) + 0.5) / 997)),
    seed: 9n,
  });
  const [sample, all] = [
    logitsOnly([rows, K], someLogits(rows, K, 51)),
    logitsOnly([images, K], someLogits(images, K, 52)),
  ];
  const fitted = (threads: number) => fitBasis({ ...codec, threads }, sample, { whole: all });
  const [one, two] = [await fitted(1), await fitted(2)];
  for (const name of Object.keys(one)) expect(two[name], name).toEqual(one[name]);
});

describe('refusals', () => {
  test('images past those of the basis', async () => {
    const { spec } = await coded('delta:4');
    const other = { ...codingSpec('delta:4', 1, K, { index: [IMAGES] }), basis: spec.basis };
    await expect(encode(other, logitsOnly([1, K], views.slice(0, K)))).rejects.toMatchObject({
      code: 'E_MISMATCH',
      message: expect.stringContaining(`images below ${IMAGES}`),
    });
  });

  test('a negative image, and a share that is no number, read no other memory', async () => {
    const { spec } = await coded('delta:4');
    const [row, other] = [logitsOnly([1, K], views.slice(0, K)), { ...codingSpec('delta:4', 1, K), basis: spec.basis }];
    const negative = { ...other, recipes: { ...other.recipes, index: i32([1], [-1]) } };
    await expect(encode(negative, row)).rejects.toMatchObject({ code: 'E_MISMATCH' });
    for (const share of [Number.NaN, -1, 2, Number.POSITIVE_INFINITY]) {
      const two = codingSpec('delta:4', 2, K, { lambda: [share, share], mixIndex: [1, 0] });
      const labels = await encode({ ...two, basis: spec.basis }, logitsOnly([2, K], views.slice(0, 2 * K)));
      expect(values(await decode({ ...two, basis: spec.basis }, labels)).every(Number.isFinite)).toBe(true);
    }
  });

  test('five hundred damaged bases: E_MISMATCH, E_DATA or finite numbers', async () => {
    const { spec, labels } = await coded('delta:4');
    const names = Object.keys(spec.basis);
    const seen = new Set<string>();
    for (let i = 0; i < 500; i++) {
      const name = names[roll(names.length)]!;
      const view = spec.basis[name]!;
      const data = mutate(view.data, roll).slice(0, view.data.length);
      const whole = Uint8Array.from({ length: view.data.length }, (_, at) => data[at] ?? 0);
      const work = decode({ ...spec, basis: { ...spec.basis, [name]: { ...view, data: whole } } }, labels);
      const code = await work.then(
        (got) => (values(got).every(Number.isFinite) ? 'ok' : 'not finite'),
        (thrown) => (thrown as { code: string }).code,
      );
      seen.add(code);
    }
    expect([...seen].sort()).toEqual(['E_DATA', 'E_MISMATCH', 'ok']); // each of them, and nothing else
  });

  test.each([-1, 1 << 29])('%i whole images', async (images) => {
    const { spec, labels } = await coded('delta:4');
    const basis = { ...spec.basis, 'base.images': i32([1], [images]) };
    await expect(decode({ ...spec, basis }, labels)).rejects.toMatchObject({ code: 'E_MISMATCH' });
  });

  test('gains of another shape', async () => {
    const { spec, labels } = await coded('delta:4');
    const basis = { ...spec.basis, gain: f32([16, 2], new Float32Array(32)) };
    await expect(decode({ ...spec, basis }, labels)).rejects.toMatchObject({ code: 'E_MISMATCH' });
  });
});
