// The streams of the klt codecs: any whole numbers through any tables and back, and what damaged streams and bases do.
// Numbers reach the coder through a basis whose coefficients are the logits (plainBasis).

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { arrayOf, type TensorMap, tensor } from '../../src/tensor.ts';
import { decodeStream, dither, type Table } from '../reference/klt.ts';
import { codingSpec, decode, encode, fitBasis, logitsOnly } from '../util/codes.ts';
import { dice, mutate } from '../util/hostile.ts';
import { flatTable, plainBasis, someLogits } from '../util/klt.ts';
import { i64, values } from '../util/tensors.ts';

const rowsOfNumbers = (q: readonly (readonly number[])[]): Float64Array => {
  const rows = q[0]!.length;
  return Float64Array.from({ length: rows * (q.length + 1) }, (_, at) => {
    const [i, j] = [Math.floor(at / (q.length + 1)), at % (q.length + 1)];
    return j < q.length ? q[j]![i]! : -q.reduce((sum, c) => sum + c[i]!, 0);
  });
};

/** Codes q [m][n] with the tables; the bytes, and q as the addon and the reference decode them. */
async function through(tables: readonly Table[], q: readonly (readonly number[])[]) {
  const [m, n] = [q.length, q[0]!.length];
  const spec = { ...codingSpec('klt:24', n, m + 1), basis: plainBasis(tables) };
  const labels = await encode(spec, logitsOnly([n, m + 1], rowsOfNumbers(q)));
  const bytes = arrayOf(labels.blobs!.data, 'U8');
  const u = dither(
    0n,
    Array.from({ length: n }, (_, i) => i),
    0,
    m,
  );
  const got = values(await decode(spec, labels));
  const native = q.map((c, j) => c.map((_, i) => Math.round(got[i * (m + 1) + j]! - 0.5 + u[j]![i]! * 2 ** -24)));
  return { bytes, reference: decodeStream(tables, bytes, u), native };
}

/** Random frequencies of count + 1 symbols. */
function frequencies(count: number, roll: (n: number) => number): number[] {
  const cuts = new Set<number>();
  while (cuts.size < count) cuts.add(1 + roll(roll(2) ? 4095 : Math.min(4095, 2 * count)));
  const at = [0, ...[...cuts].sort((a, b) => a - b), 4096];
  return at.slice(1).map((end, i) => end - at[i]!);
}

describe('round trip', () => {
  test('two hundred random tables and streams, escapes and low bits among them', async () => {
    const roll = dice(7);
    for (let trial = 0; trial < 200; trial++) {
      const m = 1 + roll(5);
      const n = 1 + roll(40);
      const tables = Array.from({ length: m }, (): Table => {
        const count = 1 + roll(trial % 2 ? 255 : 4);
        const table = { first: roll(2001) - 1000, count, shift: roll(3) ? 0 : roll(11) };
        return { ...table, frequency: Array.from({ length: 4 }, () => frequencies(count, roll)) };
      });
      const wild = 2 ** (1 + roll(21)); // float32 logits hold integers up to 2^24 exactly, and their sum with it
      const q = tables.map(({ first, count, shift }) =>
        Array.from({ length: n }, () =>
          roll(4) ? (first + roll(count)) * 2 ** shift + roll(2 ** shift) : roll(2 * wild) - wild,
        ),
      );
      const { reference, native } = await through(tables, q);
      expect(reference, `trial ${trial}`).toEqual(q);
      expect(native, `trial ${trial}`).toEqual(q);
    }
  });

  test('an alphabet of one symbol that always comes costs next to nothing', async () => {
    const { bytes, reference } = await through([flatTable(7, [4095])], [new Array(500).fill(7)]);
    expect(reference[0]).toEqual(new Array(500).fill(7));
    expect(bytes.length).toBe(4);
  });

  test('an alphabet whose symbol never comes: everything escapes', async () => {
    const q = [0, -1, 1, 2 ** 20, -(2 ** 20), 2 ** 28, -(2 ** 28)];
    const { reference } = await through([flatTable(500, [4095])], [q]);
    expect(reference[0]).toEqual(q);
  });

  test('the extremes a coefficient may have, and one step more is refused', async () => {
    const spec = { ...codingSpec('klt:24', 1, 2), basis: plainBasis([flatTable(0, [1000])]) };
    for (const most of [2 ** 29 - 64, 64 - 2 ** 29]) {
      const labels = await encode(spec, logitsOnly([1, 2], [most, -most]));
      expect(values(await decode(spec, labels))[0]).toBe(most);
    }
    for (const beyond of [2 ** 29, -(2 ** 29), Number.NaN, Number.POSITIVE_INFINITY]) {
      await expect(encode(spec, logitsOnly([1, 2], [beyond, -beyond]))).rejects.toMatchObject({
        code: 'E_DIVERGED',
        message: expect.stringContaining('within 2^29 steps'),
      });
    }
  });

  test('the worked example of docs/label-format.md', async () => {
    const tables = [flatTable(-1, [1024, 2048, 512]), flatTable(0, [2048, 1024], 1)];
    const q = [
      [0, -1, 9],
      [3, 0, 1],
    ];
    const { bytes, reference, native } = await through(tables, q);
    expect([native, reference]).toEqual([q, q]);
    const u = dither(0n, [0, 1, 2], 0, 2);
    const first = u.map((words, j) => (q[j]![0]! + 0.5 - words[0]! * 2 ** -24).toFixed(6));
    const doc = readFileSync(new URL('../../docs/label-format.md', import.meta.url), 'utf8').replace(/\s+/g, ' ');
    const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(' ');
    for (const said of [`\`${hex}\``, u[0]!.join(' '), u[1]!.join(' '), `coefficients are ${first.join(' and ')}`])
      expect(doc).toContain(said);
  });
});

describe('damage', () => {
  const sample = async () => {
    const [rows, K] = [60, 12];
    const plain = codingSpec('klt:6', rows, K, { lengths: [20, 20, 20] });
    const answers = logitsOnly([rows, K], someLogits(rows, K, 3));
    const spec = { ...plain, basis: await fitBasis(plain, answers) };
    return { spec, labels: await encode(spec, answers) };
  };
  const outcome = async (work: Promise<unknown>): Promise<string> =>
    work.then(
      () => 'ok',
      (error) => (error as { code: string }).code,
    );

  test('two thousand damaged streams: E_DATA, but for the few that are streams of other labels', async () => {
    const { spec, labels } = await sample();
    const roll = dice(11);
    const good = arrayOf(labels.blobs!.data, 'U8');
    const ends = Array.from(arrayOf(labels.blobs!.offset, 'I64'), Number);
    const one = { ...codingSpec('klt:6', 20, 12, { recordIds: [0] }), basis: spec.basis };
    const counts: Record<string, number> = {};
    for (let i = 0; i < 2000; i++) {
      const whole = good.slice(ends[0], ends[1]);
      const bytes = i % 4 ? mutate(whole, roll) : Uint8Array.from({ length: roll(300) }, () => roll(256));
      const changed = bytes.length !== whole.length || bytes.some((b, at) => b !== whole[at]);
      const blobs = { data: tensor('U8', [bytes.length], Uint8Array.from(bytes)), offset: i64([2], [0, bytes.length]) };
      const got = await outcome(decode(one, { tensors: {}, blobs }));
      const key = changed ? got : 'same';
      counts[key] = (counts[key] ?? 0) + 1;
      if (!changed) expect(got).toBe('ok');
    }
    const { same: _same, ok = 0, E_DATA = 0, ...others } = counts;
    expect(others).toEqual({});
    expect(E_DATA).toBeGreaterThan(1500);
    expect(ok).toBeLessThan(200); // low bits that are coded as they are have no redundancy; SHA-256 of the shard sees them
  });

  test('a thousand damaged bases: E_MISMATCH, E_DATA or finite numbers', async () => {
    const { spec, labels } = await sample();
    const roll = dice(13);
    const names = Object.keys(spec.basis);
    const seen = new Set<string>();
    for (let i = 0; i < 1000; i++) {
      const name = names[roll(names.length)]!;
      const view = spec.basis[name]!;
      const data = view.data.slice();
      for (let k = 0; k < 1 + roll(3); k++)
        data[roll(data.length)] = roll(2) ? roll(256) : [0, 0x7f, 0x80, 0xff][roll(4)]!;
      const basis: TensorMap = { ...spec.basis, [name]: { ...view, data } };
      let finite = true;
      const work = decode({ ...spec, basis }, labels).then((got) => {
        finite = values(got).every(Number.isFinite);
      });
      seen.add(await outcome(work));
      expect(finite, name).toBe(true);
    }
    expect([...seen].filter((code) => !['E_DATA', 'E_MISMATCH', 'ok'].includes(code))).toEqual([]);
  });

  test('tensors of other shapes, of other types, and none', async () => {
    const { spec, labels } = await sample();
    for (const [name, view] of Object.entries(spec.basis)) {
      const { [name]: _gone, ...rest } = spec.basis;
      const longer = { ...view, shape: [1, ...view.shape] };
      const other = { ...view, dtype: 'U8', shape: [view.data.length] } as const;
      for (const basis of [rest, { ...rest, [name]: longer }, { ...rest, [name]: other }])
        expect(await outcome(decode({ ...spec, basis }, labels)), name).toBe('E_MISMATCH');
    }
  });
});
