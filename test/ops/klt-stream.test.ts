// The streams of the klt codecs: any whole numbers through any models and back, and what damaged streams and bases do.
// Numbers reach the coder through a basis whose coefficients are the logits (plainBasis).

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { arrayOf, type TensorMap, tensor } from '../../src/tensor.ts';
import { decodeStream, dither, type Gaussians, modelOf } from '../reference/klt.ts';
import { codingSpec, decode, encode, fitBasis, logitsOnly } from '../util/codes.ts';
import { dice, mutate } from '../util/hostile.ts';
import { around0, plainBasis, someLogits, widthByte } from '../util/klt.ts';
import { i64, values } from '../util/tensors.ts';

const rowsOfNumbers = (q: readonly (readonly number[])[]): Float64Array => {
  const rows = q[0]!.length;
  return Float64Array.from({ length: rows * (q.length + 1) }, (_, at) => {
    const [i, j] = [Math.floor(at / (q.length + 1)), at % (q.length + 1)];
    return j < q.length ? q[j]![i]! : -q.reduce((sum, c) => sum + c[i]!, 0);
  });
};

/** Codes q [m][n] with these mixtures; the bytes, and q as the addon and the reference decode them. */
async function through(models: readonly Gaussians[], q: readonly (readonly number[])[]) {
  const [m, n] = [q.length, q[0]!.length];
  const spec = { ...codingSpec('klt:24', n, m + 1), basis: plainBasis(models) };
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
  return {
    bytes,
    reference: decodeStream(models.map(modelOf), bytes, u),
    native,
  };
}

/** A mixture of a few Gaussians anywhere; `most` bounds the widths. */
function someMixture(roll: (n: number) => number, most: number): Gaussians {
  const parts: (readonly [number, number, number])[] = [];
  for (let left = 256; roll(2) && left > 1; ) {
    const share = 1 + roll(Math.min(255, left - 1));
    parts.push([share, roll(most), roll(256)]);
    left -= share;
  }
  return [...parts, [0, roll(most), roll(256)]];
}

describe('round trip', () => {
  test('two hundred random sets of mixtures and streams, escapes and low bits among them', async () => {
    const roll = dice(7);
    const seen = { escapes: 0, shifted: 0, mixed: 0 };
    for (let trial = 0; trial < 200; trial++) {
      const [m, n] = [1 + roll(5), 1 + roll(40)];
      const models = Array.from({ length: m }, () => someMixture(roll, trial % 2 ? 224 : 90));
      const wild = 2 ** (1 + roll(21)); // float32 logits hold integers up to 2^24 exactly, and their sum with it
      const q = models.map((mixture) => {
        const { first, count, shift } = modelOf(mixture);
        seen.shifted += shift > 0 ? 1 : 0;
        seen.mixed += mixture.length > 1 ? 1 : 0;
        return Array.from({ length: n }, () => {
          const inside = (first + roll(count)) * 2 ** shift + roll(2 ** Math.min(30, shift));
          const value = roll(4) && Math.abs(inside) < 2 ** 21 ? inside : roll(2 * wild) - wild;
          const symbol = Math.floor(value / 2 ** shift) - first;
          seen.escapes += symbol < 0 || symbol >= count ? 1 : 0;
          return value;
        });
      });
      const { reference, native } = await through(models, q);
      expect(reference, `trial ${trial}`).toEqual(q);
      expect(native, `trial ${trial}`).toEqual(q);
    }
    expect(seen.escapes).toBeGreaterThan(1000);
    expect(seen.shifted).toBeGreaterThan(100);
    expect(seen.mixed).toBeGreaterThan(100);
  });

  test('any mixture: slots in order, one at least for each symbol, the last for the escape', () => {
    const roll = dice(8);
    for (let trial = 0; trial < 60; trial++) {
      const mixture = someMixture(roll, 224);
      const model = modelOf(mixture);
      expect(model.count).toBeLessThanOrEqual(64);
      for (const u of [0, 1, 2 ** 23, 2 ** 24 - 1]) {
        const starts = Array.from({ length: model.count + 2 }, (_, s) => model.start(s, u));
        expect([starts[0], ...starts.slice(-2)], JSON.stringify(mixture)).toEqual([0, 16383, 16384]);
        expect(starts.every((slot, s) => s === 0 || slot > starts[s - 1]!)).toBe(true);
      }
    }
  });

  test('slots follow the mixture: the probability of [q - u, q + 1 - u), of two Gaussians', () => {
    const normal = (x: number): number => {
      const n = 400; // Simpson between 0 and x
      const f = (t: number) => Math.exp((-t * t) / 2) / Math.sqrt(2 * Math.PI);
      let sum = f(0) + f(x);
      for (let i = 1; i < n; i++) sum += (i % 2 ? 4 : 2) * f((i * x) / n);
      return 0.5 + (sum * x) / (3 * n);
    };
    const [one, other] = [widthByte(12, 18), widthByte(8, 17)]; // cells of 3/16 and 1/16 of a step: deviations 3/2, 1/2
    const mixture: Gaussians = [
      [64, one, 128 - 16],
      [0, other, 128 + 40],
    ];
    const cdf = (x: number) => 0.25 * normal((x + 3) / 1.5) + 0.75 * normal((x - 2.5) / 0.5);
    const { first, count, shift, start } = modelOf(mixture);
    expect(shift).toBe(0);
    for (const u of [0, 0.3, 0.5, 0.9])
      for (let s = 0; s < count; s++) {
        const at = Math.floor(u * 2 ** 24);
        const slots = start(s + 1, at) - start(s, at);
        const wanted = 1 + (16383 - count) * (cdf(first + s + 1 - u) - cdf(first + s - u));
        expect(Math.abs(slots - wanted), `symbol ${s}, u ${u}`).toBeLessThan(3 + 0.03 * wanted);
      }
  });

  test('a coefficient that is always what its mixture expects costs next to nothing', async () => {
    const { bytes, reference } = await through([around0(1 / 16)], [new Array(500).fill(0)]);
    expect(reference[0]).toEqual(new Array(500).fill(0));
    expect(bytes.length).toBeLessThan(4 + 500 / 10);
  });

  test('a coefficient that is never what its mixture expects: everything escapes', async () => {
    const q = [9, -9, 1000, 2 ** 20, -(2 ** 20), 2 ** 28, -(2 ** 28)];
    const { reference } = await through([around0(1 / 16)], [q]);
    expect(reference[0]).toEqual(q);
  });

  test('coefficients left out take no bytes and are 0', async () => {
    const q = [3, -1, 0, 2];
    const alone = await through([around0(2)], [q]);
    const spec = { ...codingSpec('klt:24', 4, 4), basis: plainBasis([[[0, 255, 0]], around0(2), [[0, 255, 7]]]) };
    const logits = q.flatMap((x) => [9, x, -5, -x - 4]);
    const labels = await encode(spec, logitsOnly([4, 4], logits));
    const [one] = dither(0n, [0, 1, 2, 3], 0, 1);
    const [, two] = dither(0n, [0, 1, 2, 3], 0, 2);
    expect(one).not.toEqual(two); // the dither is the coefficient's own, so the bytes differ
    expect(Math.abs(labels.blobs!.data.shape[0]! - alone.bytes.length)).toBeLessThan(3);
    const got = values(await decode(spec, labels));
    for (let i = 0; i < 4; i++) {
      expect(got[4 * i]).toBe(0);
      expect(Math.abs(got[4 * i + 1]! - q[i]!)).toBeLessThanOrEqual(0.5);
      expect(got[4 * i + 2]).toBe(0);
    }
  });

  test.each([0, 100, 223])(
    'the extremes a coefficient may have, and one step more is refused, width %i',
    async (width) => {
      const spec = { ...codingSpec('klt:24', 1, 2), basis: plainBasis([[[0, width, 128]]]) };
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
    },
  );

  test('the worked example of docs/label-format.md', async () => {
    const q = [
      [0, -1, 9],
      [3, 0, 1],
    ];
    const models: Gaussians[] = [
      [
        [96, widthByte(8, 18), 100],
        [0, widthByte(12, 17), 140],
      ],
      [[0, widthByte(10, 23), 128]],
    ];
    const { bytes, reference, native } = await through(models, q);
    expect([native, reference]).toEqual([q, q]);
    const u = dither(0n, [0, 1, 2], 0, 2);
    const first = u.map((words, j) => (q[j]![0]! + 0.5 - words[0]! * 2 ** -24).toFixed(6));
    const doc = readFileSync(new URL('../../docs/label-format.md', import.meta.url), 'utf8').replace(/\s+/g, ' ');
    const hex = Array.from(bytes, (b) => b.toString(16).padStart(2, '0')).join(' ');
    const [one, two] = models.map(modelOf);
    const starts = Array.from({ length: one!.count + 2 }, (_, s) => one!.start(s, u[0]![0]!));
    const state = new DataView(Uint8Array.from(bytes).buffer).getUint32(0, true);
    const symbol = q[0]![0]! - one!.first;
    const [from, wide] = [starts[symbol]!, starts[symbol + 1]! - starts[symbol]!];
    const taken = wide * Math.floor(state / 16384) + (state % 16384) - from;
    expect(taken).toBeGreaterThanOrEqual(2 ** 23);
    for (const said of [
      `\`${hex}\``,
      ...models.map((mixture) => `\`${mixture.map((row) => row.join(' ')).join(', ')}\``),
      ...u.map((words) => words.join(' ')),
      ...[one!, two!].map((model) => `first ${model.first}, count ${model.count}, shift ${model.shift}`),
      `starts are ${starts.join(' ')}`,
      `${state} is ${state % 16384} mod 16384: symbol ${symbol}, q = 0`,
      `x = ${wide} * ${Math.floor(state / 16384)} + ${state % 16384} - ${from} = ${taken}`,
      `coefficients are ${first.join(' and ')}`,
    ])
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
