// What klt and delta owe whatever the logits are: rows that come back finite, within the error asked for or as near as
// float32 allows, from records decoded in any order and by several jobs at once; against the decode of
// docs/label-format.md in float64, for vectors in bytes and in halves.

import { describe, expect, test } from 'vitest';
import type { CodingSpec, EncodedLabels } from '../../src/native.ts';
import { arrayOf } from '../../src/tensor.ts';
import { centre, decodeStream, dither, readBasis, readGain, reconstruct } from '../reference/klt.ts';
import { codingSpec, decode, encode, fitBasis, logitsOnly } from '../util/codes.ts';
import { dice } from '../util/hostile.ts';
import { someLogits } from '../util/klt.ts';
import { i64, rowsOf, symmetric, u8, values } from '../util/tensors.ts';
import { expectClose } from '../util/tolerance.ts';

const SEED = 77n;
const [IMAGES, BATCH, RECORDS] = [12, 8, 9];
const ROWS = BATCH * RECORDS;

/** Recipes of records: images again and again, every third record unmixed. */
const index = Array.from({ length: ROWS }, (_, row) => (row * 5 + Math.floor(row / BATCH)) % IMAGES);
const lambda = Array.from({ length: ROWS }, (_, row) =>
  Math.floor(row / BATCH) % 3 === 0 ? 1 : Math.fround(((row * 37) % 100) / 100),
);
const mixIndex = lambda.map((share, row) => (share === 1 ? row % BATCH : (row + 3) % BATCH));
const recordIds = Array.from({ length: RECORDS }, (_, r) => 4 * r + 1);

interface Case {
  readonly spec: CodingSpec;
  readonly labels: EncodedLabels;
  readonly logits: ArrayLike<number>;
  readonly K: number;
}

async function coded(codec: string, K: number, logits: ArrayLike<number>, whole: ArrayLike<number>): Promise<Case> {
  const lengths = new Array<number>(RECORDS).fill(BATCH);
  const plain = codingSpec(codec, ROWS, K, { lengths, recordIds, index, mixIndex, lambda, seed: SEED });
  const answers = logitsOnly([ROWS, K], logits);
  const spec = { ...plain, basis: await fitBasis(plain, answers, { whole: logitsOnly([IMAGES, K], whole) }) };
  return { spec, labels: await encode(spec, answers), logits, K };
}

/** The spec and bytes of some of the records, in the order given. */
function picked({ spec, labels, K }: Case, records: readonly number[]) {
  const rows = records.flatMap((r) => Array.from({ length: BATCH }, (_, i) => r * BATCH + i));
  const own = codingSpec(spec.codec, rows.length, K, {
    lengths: records.map(() => BATCH),
    recordIds: records.map((r) => recordIds[r]!),
    index: rows.map((row) => index[row]!),
    mixIndex: rows.map((row) => mixIndex[row]!),
    lambda: rows.map((row) => lambda[row]!),
    seed: SEED,
  });
  const [data, offset] = [arrayOf(labels.blobs!.data, 'U8'), Array.from(arrayOf(labels.blobs!.offset, 'I64'), Number)];
  const parts = records.map((r) => data.slice(offset[r], offset[r + 1]));
  const ends = [0];
  for (const part of parts) ends.push(ends.at(-1)! + part.length);
  const blobs = {
    data: u8(
      [ends.at(-1)!],
      parts.flatMap((part) => [...part]),
    ),
    offset: i64([ends.length], ends),
  };
  return { spec: { ...own, basis: spec.basis }, labels: { tensors: {}, blobs } };
}

const scaled = (rows: ArrayLike<number>, scale: number, shift = 0): Float64Array =>
  Float64Array.from(rows, (x) => Math.fround(scale * x + shift));
const heavy = (rows: number, K: number, object: number): Float64Array =>
  symmetric([rows, K], object).map((x) => Math.fround(x / (1.001 - Math.abs(x))));
const CASES: Readonly<Record<string, readonly [number, (rows: number, object: number) => Float64Array]>> = {
  ordinary: [12, (rows, object) => someLogits(rows, 12, object)],
  'with long tails': [12, (rows, object) => heavy(rows, 12, object)],
  huge: [12, (rows, object) => scaled(someLogits(rows, 12, object), 1e9)],
  tiny: [12, (rows, object) => scaled(someLogits(rows, 12, object), 1e-18)],
  'on a large offset': [12, (rows, object) => scaled(someLogits(rows, 12, object), 1, 5e4)],
  constant: [12, (rows) => new Float64Array(12 * rows).fill(3)],
  'equal rows': [5, (rows) => Float64Array.from({ length: 5 * rows }, (_, at) => (at % 5) ** 2)],
  'of one class': [1, (rows, object) => symmetric([rows, 1], object, 9)],
  'of two classes': [2, (rows, object) => someLogits(rows, 2, object)],
  'of more classes than rows': [200, (rows, object) => someLogits(rows, 200, object)],
  'nearly all zero': [12, (rows, object) => someLogits(rows, 12, object).map((x, at) => (at % 97 === 0 ? x : 0))],
};

describe.each(['klt:0.7', 'klt:6', 'klt:60', 'delta:0.7', 'delta:6', 'delta:60'])('%s', (codec) => {
  test.each(Object.keys(CASES))('logits %s: finite, and no worse than no label at all', async (name) => {
    const [K, make] = CASES[name]!;
    const made = await coded(codec, K, make(ROWS, 5), make(IMAGES, 6));
    const got = values(await decode(made.spec, made.labels));
    expect(got.every(Number.isFinite)).toBe(true);
    const rows = centre(Float64Array.from(made.logits), K);
    const mean = rows[0]!.map((_, k) => rows.reduce((sum, row) => sum + row[k]!, 0) / ROWS);
    const off = (row: Float64Array, k: number, x: number) => (row[k]! - x) ** 2;
    const error = rows.reduce((sum, row, i) => sum + row.reduce((s, _, k) => s + off(row, k, got[i * K + k]!), 0), 0);
    const spread = rows.reduce((sum, row) => sum + row.reduce((s, _, k) => s + off(row, k, mean[k]!), 0), 0);
    const power = rows.reduce((sum, row) => sum + row.reduce((s, x) => s + x * x, 0), 0);
    expect(error).toBeLessThanOrEqual(1.05 * spread + 1e-9 * power); // the second: rounding of float32, and of what is kept
  });

  test('records in any order, alone, and in five jobs at once are those of one job in order', async () => {
    const made = await coded(codec, 12, someLogits(ROWS, 12, 5), someLogits(IMAGES, 12, 6));
    const all = values(await decode(made.spec, made.labels));
    const roll = dice(31);
    const orders = [[...recordIds.keys()].reverse(), [4], [0, 0, 7, 0]];
    while (orders.length < 5) orders.push(Array.from({ length: RECORDS }, () => roll(RECORDS)));
    const jobs = orders.map(async (order) => {
      const { spec, labels } = picked(made, order);
      return { order, got: values(await decode(spec, labels)) };
    });
    for (const { order, got } of await Promise.all(jobs))
      for (const [at, r] of order.entries())
        expect(rowsOf(got, 12, at * BATCH, (at + 1) * BATCH)).toEqual(rowsOf(all, 12, r * BATCH, (r + 1) * BATCH));
  });
});

test('jobs of two stores in turns: neither sees what the other kept', async () => {
  const one = await coded('delta:4', 12, someLogits(ROWS, 12, 5), someLogits(IMAGES, 12, 6));
  const other = await coded('delta:4', 12, someLogits(ROWS, 12, 8), someLogits(IMAGES, 12, 9));
  const wanted = [values(await decode(one.spec, one.labels)), values(await decode(other.spec, other.labels))];
  const turns = Array.from({ length: 12 }, (_, i) => (i % 3 === 0 ? other : one));
  const got = await Promise.all(turns.map(async (made) => values(await decode(made.spec, made.labels))));
  for (const [i, rows] of got.entries()) expect(rows).toEqual(wanted[i % 3 === 0 ? 1 : 0]);
});

describe('vectors', () => {
  test.each([
    ['klt:2', 'I8'],
    ['klt:mse=0.0001', 'F16'],
    ['delta:2', 'I8'],
    ['delta:mse=0.0001', 'F16'],
  ] as const)('%s stores them as %s, and decodes to the reference', async (codec, dtype) => {
    const K = 12;
    const made = await coded(codec, K, someLogits(ROWS, K, 5), someLogits(IMAGES, K, 6));
    expect(made.spec.basis.vectors!.dtype).toBe(dtype);
    const got = values(await decode(made.spec, made.labels));
    const basis = readBasis(made.spec.basis);
    const base = codec.startsWith('delta') ? readBasis(made.spec.basis, 'base.') : null;
    const images = Array.from({ length: IMAGES }, (_, i) => i);
    const bu = base === null ? [] : dither(0n, images, 0xffffffff, base.models.length);
    const parts =
      base === null
        ? null
        : reconstruct(
            base,
            decodeStream(base.models, arrayOf(made.spec.basis['base.blob']!, 'U8'), bu),
            bu,
            IMAGES,
            false,
          );
    const offset = Array.from(arrayOf(made.labels.blobs!.offset, 'I64'), Number);
    for (let r = 0; r < RECORDS; r++) {
      const [a, b] = [r * BATCH, (r + 1) * BATCH];
      const u = dither(SEED, index.slice(a, b), recordIds[r]!, basis.models.length);
      const bytes = arrayOf(made.labels.blobs!.data, 'U8').slice(offset[r], offset[r + 1]);
      const rows = reconstruct(basis, decodeStream(basis.models, bytes, u), u, BATCH);
      const wanted = rows.flatMap((row, i) => {
        const [own, partner] = [index[a + i]!, index[a + mixIndex[a + i]!]!];
        const bin = own === partner ? 16 : Math.min(15, Math.floor(16 * lambda[a + i]!));
        const gain = parts === null ? [0, 0] : readGain(made.spec.basis).slice(2 * bin, 2 * bin + 2);
        return [
          ...row.map((x, k) => x + (parts === null ? 0 : gain[0]! * parts[own]![k]! + gain[1]! * parts[partner]![k]!)),
        ];
      });
      expectClose(`${codec} record ${r}`, rowsOf(got, K, a, b), wanted, 1e-6);
    }
  });

  test('bytes cost less than a percent of error against halves', async () => {
    const K = 40;
    const logits = someLogits(ROWS, K, 5);
    const { spec, labels } = await coded('klt:mse=0.2', K, logits, someLogits(IMAGES, K, 6));
    expect(spec.basis.vectors!.dtype).toBe('I8');
    const rows = centre(Float64Array.from(logits), K);
    const got = values(await decode(spec, labels));
    const mse = rows.reduce((sum, row, i) => sum + row.reduce((s, x, k) => s + (x - got[i * K + k]!) ** 2, 0), 0);
    expect(mse / got.length / 0.2).toBeLessThan(1.08); // of 72 rows: what the dice leave, and half a percent
  });
});
