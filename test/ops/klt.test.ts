// The klt codec against a decoder and quantiser written from docs/label-format.md in float64; its target, its dither, and
// that a record, its bytes and its basis depend on nothing but themselves.

import { describe, expect, test } from 'vitest';
import type { CodingSpec, EncodedLabels } from '../../src/native.ts';
import { arrayOf } from '../../src/tensor.ts';
import { centre, decodeStream, dither, inSteps, quantise, readBasis, reconstruct } from '../reference/klt.ts';
import { codecNeeds, codingSpec, decode, encode, fitBasis, logitsOnly, type RowsOptions } from '../util/codes.ts';
import { someLogits } from '../util/klt.ts';
import { rowsOf, symmetric, values } from '../util/tensors.ts';
import { expectClose } from '../util/tolerance.ts';

const SEED = 0x0123456789abcdefn;

interface Fitted {
  readonly spec: CodingSpec;
  readonly labels: EncodedLabels;
  readonly logits: Float64Array;
  readonly blobs: readonly Uint8Array[];
}

/** Fits a codec to the rows, and encodes the same rows. */
async function fitted(
  codec: string,
  rows: number,
  K: number,
  o: RowsOptions & { threads?: number } = {},
): Promise<Fitted> {
  const logits = someLogits(rows, K, 1);
  const plain = { ...codingSpec(codec, rows, K, { seed: SEED, ...o }), threads: o.threads ?? 1 };
  const answers = logitsOnly([rows, K], logits);
  const spec = { ...plain, basis: await fitBasis(plain, answers) };
  const labels = await encode(spec, answers);
  const data = arrayOf(labels.blobs!.data, 'U8');
  const offset = Array.from(arrayOf(labels.blobs!.offset, 'I64'), Number);
  const blobs = offset.slice(1).map((end, i) => data.slice(offset[i], end));
  return { spec, labels, logits, blobs };
}

const sum = (list: Iterable<number>): number => [...list].reduce((a, b) => a + b, 0);
const mse = (got: ArrayLike<number>, wanted: readonly Float64Array[]): number =>
  sum(wanted.map((row, i) => sum(row.map((x, k) => (x - got[i * row.length + k]!) ** 2)))) / got.length;

describe('against the reference', () => {
  test.each([
    ['klt:2', 12],
    ['klt:6', 12],
    ['klt:mse=0.0001', 12], // symbols with low bits of their own
    ['klt:1', 2],
  ])('%s of %i classes: the stream holds the quantised coefficients, and decodes to them', async (codec, K) => {
    const lengths = [40, 1, 59];
    const index = Array.from({ length: 100 }, (_, i) => (i * 37) % 101);
    const { spec, logits, labels, blobs } = await fitted(codec, 100, K, { lengths, recordIds: [3, 70, 900], index });
    const basis = readBasis(spec.basis);
    const got = values(await decode(spec, labels));
    let row = 0;
    for (const [r, n] of lengths.entries()) {
      const u = dither(SEED, index.slice(row, row + n), [3, 70, 900][r]!, basis.models.length);
      const t = inSteps(basis, centre(rowsOf(logits, K, row, row + n), K));
      const q = quantise(t, u);
      expect(decodeStream(basis.models, blobs[r]!, u)).toEqual(q);
      const wanted = reconstruct(basis, q, u, n).flatMap((x) => [...x]);
      expectClose(`${codec} record ${r}`, rowsOf(got, K, row, row + n), wanted, 1e-6);
      row += n;
    }
    if (codec.includes('mse')) expect(basis.models.some((model) => model!.shift > 0)).toBe(true);
  });

  test('the basis: orthonormal eigenvectors of the covariance, strongest first, largest entry positive', async () => {
    const K = 12;
    const { spec, logits } = await fitted('klt:mse=0.01', 300, K);
    const { vectors, mean } = readBasis(spec.basis);
    const rows = centre(logits, K).map((row) => row.map((x, k) => x - mean[k]!));
    const powers = vectors.map((v) => sum(rows.map((row) => sum(row.map((x, k) => x * v[k]!)) ** 2)) / rows.length);
    vectors.forEach((v, j) => {
      for (let i = 0; i <= j; i++) {
        expect(sum(v.map((x, k) => x * vectors[i]![k]!))).toBeCloseTo(i === j ? 1 : 0, 3);
        const cross = sum(
          rows.map((row) => sum(row.map((x, k) => x * v[k]!)) * sum(row.map((x, k) => x * vectors[i]![k]!))),
        );
        if (i < j) expect(Math.abs(cross) / rows.length / Math.sqrt(powers[i]! * powers[j]!)).toBeLessThan(0.02);
      }
      expect(Math.max(...v)).toBe(Math.max(...v.map(Math.abs)));
      if (j > 0) expect(powers[j]!).toBeLessThanOrEqual(powers[j - 1]! * 1.001);
    });
    expect(vectors.length).toBe(K - 1);
  });
});

describe('the target', () => {
  test.each([3, 1, 0.3, 0.03, 0.001])('klt:mse=%f: the sample decodes with that error, within 5 %%', async (asked) => {
    const { spec, labels, logits } = await fitted(`klt:mse=${asked}`, 2000, 12, { lengths: new Array(40).fill(50) });
    const got = mse(values(await decode(spec, labels)), centre(logits, 12));
    expect(got / asked).toBeGreaterThan(0.95);
    expect(got / asked).toBeLessThan(1.05);
  });

  test.each([1, 2, 4, 8, 16])('klt:%i: the sample takes so many bytes a row, within 3 %%', async (asked) => {
    const { labels } = await fitted(`klt:${asked}`, 2000, 12, { lengths: new Array(40).fill(50) });
    const got = labels.blobs!.data.shape[0]! / 2000;
    expect(got / asked).toBeGreaterThan(0.97);
    expect(got / asked).toBeLessThan(1.03);
  });

  test('more bytes, less error', async () => {
    const errors: number[] = [];
    for (const asked of [0.5, 1, 2, 4, 8]) {
      const { spec, labels, logits } = await fitted(`klt:${asked}`, 1000, 12, { lengths: new Array(20).fill(50) });
      errors.push(mse(values(await decode(spec, labels)), centre(logits, 12)));
    }
    expect(errors).toEqual([...errors].sort((a, b) => b - a));
  });
});

describe('bytes within 2 % and a twentieth of a bit a row of the entropy', () => {
  /** Draws of a mixture [share, mean, deviation], and the mean -log2 of its density there. */
  const sampled = (parts: readonly (readonly [number, number, number])[], rows: number) => {
    const list = parts.flatMap(([share, mean, deviation]) => {
      const n = Math.round(share * rows);
      const u = symmetric([2 * n], 900 + mean).map((x) => (x + 1) / 2);
      return Array.from({ length: n }, (_, i) => {
        const size = Math.sqrt(-2 * Math.log(Math.max(1e-12, u[2 * i]!)));
        return Math.fround(mean + deviation * size * Math.cos(2 * Math.PI * u[2 * i + 1]!));
      });
    });
    const bell = (x: number, deviation: number) =>
      Math.exp(-(x * x) / 2 / deviation ** 2) / deviation / Math.sqrt(2 * Math.PI);
    const bits = list.map((x) => -Math.log2(sum(parts.map(([share, mean, s]) => share * bell(x - mean, s)))));
    return { list, bits: sum(bits) / list.length };
  };

  test.each([
    ['one Gaussian', [[1, 0, 3]]],
    [
      'two clusters',
      [
        [0.3, -7, 1],
        [0.7, 3, 0.5],
      ],
    ],
    [
      'three clusters',
      [
        [0.2, -9, 0.6],
        [0.5, 0, 0.6],
        [0.3, 6, 0.6],
      ],
    ],
    [
      'a peak with wide tails',
      [
        [0.8, 0, 0.5],
        [0.2, 0, 4],
      ],
    ],
  ] as const)('%s', async (_what, parts) => {
    const { list, bits } = sampled(parts, 4000);
    const logits = Float64Array.from(list.flatMap((x) => [x, -x])); // one coefficient, sqrt(2) as large
    const plain = codingSpec('klt:mse=0.001', list.length, 2, { seed: SEED });
    const answers = logitsOnly([list.length, 2], logits);
    const basis = await fitBasis(plain, answers);
    const labels = await encode({ ...plain, basis }, answers);
    const step = values(basis.step!)[0]! / Math.SQRT2;
    const spent = (8 * labels.blobs!.data.shape[0]!) / list.length;
    const entropy = bits - Math.log2(step);
    expect(basis.model!.shape[0]).toBeGreaterThanOrEqual(parts.length);
    expect(spent).toBeGreaterThan(entropy - 0.1);
    expect(spent).toBeLessThan(1.02 * entropy + 0.05);
  });
});

test('the error is uniform over a step, tells nothing of the coefficient, and is another one in another view', async () => {
  const [rows, K] = [2000, 12];
  const first = await fitted('klt:6', rows, K, { recordIds: [5] });
  const basis = readBasis(first.spec.basis);
  const t = inSteps(basis, centre(first.logits, K));
  const errorsOf = async (id: number): Promise<number[][]> => {
    const own = codingSpec('klt:6', rows, K, { seed: SEED, recordIds: [id] });
    const labels = await encode({ ...own, basis: first.spec.basis }, logitsOnly([rows, K], first.logits));
    const u = dither(SEED, [...Array(rows).keys()], id, t.length);
    const q = decodeStream(basis.models, arrayOf(labels.blobs!.data, 'U8'), u);
    return q.map((c, j) => c.map((x, i) => x + 0.5 - u[j]![i]! * 2 ** -24 - t[j]![i]!));
  };
  const [one, other] = [await errorsOf(5), await errorsOf(6)];
  const n = rows * basis.models.length;
  const flat = one.flat();
  const bound = 4 / Math.sqrt(n); // four standard deviations of a correlation of independent values
  expect(basis.models.length).toBeGreaterThan(3);
  expect(Math.abs(sum(flat) / n)).toBeLessThan(bound * Math.sqrt(1 / 12));
  expect(sum(flat.map((e) => e * e)) / n).toBeCloseTo(1 / 12, 2);
  const sorted = flat.toSorted((a, b) => a - b);
  const distance = Math.max(...sorted.map((e, i) => Math.abs(e + 0.5 - i / n)));
  expect(distance).toBeLessThan(1.95 / Math.sqrt(n)); // Kolmogorov-Smirnov, 0.1 %
  const correlation = (a: readonly number[], b: readonly number[]): number =>
    sum(a.map((x, i) => x * b[i]!)) / Math.sqrt(sum(a.map((x) => x * x)) * sum(b.map((x) => x * x)));
  expect(Math.abs(correlation(flat, t.flat()))).toBeLessThan(bound);
  expect(Math.abs(correlation(flat, other.flat()))).toBeLessThan(bound);
});

describe('a record', () => {
  const lengths = [30, 20, 50];
  const index = Array.from({ length: 100 }, (_, i) => 99 - i);

  test('has the same bytes and the same rows whatever stands around it', async () => {
    const { spec, logits, labels, blobs } = await fitted('klt:4', 100, 12, { lengths, index, recordIds: [4, 8, 15] });
    const all = values(await decode(spec, labels));
    const alone = {
      ...codingSpec('klt:4', 20, 12, { index: index.slice(30, 50), recordIds: [8], seed: SEED }),
      basis: spec.basis,
    };
    const own = await encode(alone, logitsOnly([20, 12], rowsOf(logits, 12, 30, 50)));
    expect(arrayOf(own.blobs!.data, 'U8')).toEqual(blobs[1]);
    expect(values(await decode(alone, own))).toEqual(rowsOf(all, 12, 30, 50).slice());
  });

  test('basis, bytes and rows are equal with one thread and with two', async () => {
    const [one, two] = [await fitted('klt:4', 300, 40, { threads: 1 }), await fitted('klt:4', 300, 40, { threads: 2 })];
    expect(two.spec.basis).toEqual(one.spec.basis);
    expect(two.labels).toEqual(one.labels);
    expectClose('rows', values(await decode(two.spec, one.labels)), values(await decode(one.spec, one.labels)), 1e-6);
  });
});

describe('samples that teach little', () => {
  test.each([
    ['one row', 1, 3, 1e-12],
    ['one class', 5, 1, 0],
    ['two rows of many classes', 2, 50, 1e-6], // one direction, of halves
    ['fewer rows than classes', 20, 64, 0.02], // of 19 directions the strong ones
  ])('%s: rows come back with at most a share of their power missing', async (_what, rows, K, share) => {
    const { spec, labels, logits } = await fitted('klt:24', rows, K);
    const decoded = await decode(spec, labels);
    expect(decoded.shape).toEqual([rows, K]);
    const wanted = centre(logits, K);
    expect(mse(values(decoded), wanted)).toBeLessThanOrEqual(share * mse(new Float64Array(rows * K), wanted));
  });

  test('a target past what float32 logits hold ends there', async () => {
    const { labels } = await fitted('klt:100', 200, 12);
    expect(labels.blobs!.data.shape[0]! / 200).toBeLessThan(30);
  });

  test.each([
    ['klt:24', [1, 2, 6]],
    ['klt:24', [0.1, 0.2, 0.7]], // their mean is no float32: what rounding it leaves is no signal
    ['klt:24', [0.1, 0.25, 3.7, -8.3, 1000.1]],
    ['klt:mse=0.000001', [0.1, 0.2, 0.7]],
  ])('%s of equal answers %j: nothing is kept, the mean is all there is', async (codec, row) => {
    const [rows, K] = [40, row.length];
    const all = Float64Array.from({ length: rows * K }, (_, at) => Math.fround(row[at % K]!));
    const spec = codingSpec(codec, rows, K);
    const basis = await fitBasis(spec, logitsOnly([rows, K], all));
    expect(basis.model!.shape).toEqual([0, 3]);
    const labels = await encode({ ...spec, basis }, logitsOnly([rows, K], all));
    expect(labels.blobs!.data.shape).toEqual([0]);
    const wanted = centre(all, K).flatMap((x) => [...x]);
    expectClose('rows', values(await decode({ ...spec, basis }, labels)), wanted, 1e-6);
  });

  test('answers that differ by an offset alone are equal ones', async () => {
    const spec = codingSpec('klt:24', 3, 3);
    const answers = logitsOnly([3, 3], [1, 2, 6, 2, 3, 7, -4, -3, 1]);
    const basis = await fitBasis(spec, answers);
    const labels = await encode({ ...spec, basis }, answers);
    expect(labels.blobs!.data.shape).toEqual([0]);
    expect([...values(await decode({ ...spec, basis }, labels))]).toEqual([-2, -1, 3, -2, -1, 3, -2, -1, 3]);
  });

  test('10,450 classes: a basis of the rows, in seconds', async () => {
    const { spec, labels, logits } = await fitted('klt:mse=0.1', 48, 10450);
    expect(spec.basis.vectors!.shape[1]).toBe(10450);
    const got = mse(values(await decode(spec, labels)), centre(logits, 10450));
    expect(got).toBeGreaterThan(0.09);
    expect(got).toBeLessThan(0.11);
  });
});

test.each(['klt', 'klt:', 'klt:0', 'klt:-3', 'klt:1e400', 'klt:24B', 'klt:nan', 'klt:mse', 'klt:mse=', 'klt:mse=x'])(
  '%s is refused and the forms are named',
  (name) => {
    expect(() => codecNeeds(name)).toThrow(
      expect.objectContaining({
        code: 'E_CONFIG',
        message: expect.stringContaining('klt:BYTES (per row) or klt:mse=ERROR'),
      }),
    );
  },
);
