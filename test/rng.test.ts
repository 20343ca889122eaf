// Vectors come from the Python definition of the streams and from Random123; they are repeated in docs/streams.md.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  bounded,
  integers,
  keyOf,
  mulhi,
  normals,
  Purpose,
  permutation,
  philox4x32,
  uniform,
  uniforms,
  words,
} from '../src/rng.ts';

const hex = (block: Uint32Array) => Array.from(block, (w) => w.toString(16).padStart(8, '0')).join(' ');

/** Philox by big integers, written from the paper. */
function slowPhilox(counter: readonly number[], key: readonly number[]): number[] {
  const mask = 0xffffffffn;
  let c = counter.map(BigInt);
  let [x, y] = key.map(BigInt) as [bigint, bigint];
  for (let round = 0; round < 10; round++) {
    const p0 = 0xd2511f53n * c[0]!;
    const p1 = 0xcd9e8d57n * c[2]!;
    c = [((p1 >> 32n) ^ c[1]! ^ x) & mask, p1 & mask, ((p0 >> 32n) ^ c[3]! ^ y) & mask, p0 & mask];
    x = (x + 0x9e3779b9n) & mask;
    y = (y + 0xbb67ae85n) & mask;
  }
  return c.map(Number);
}

const f = 0xffffffff;

describe('philox4x32', () => {
  test.each([
    [[0, 0, 0, 0], [0, 0], '6627e8d5 e169c58d bc57ac4c 9b00dbd8'],
    [[f, f, f, f], [f, f], '408f276d 41c83b0e a20bc7c6 6d5451fd'],
    [[0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0], 'd16cfe09 94fdcceb 5001e420 24126ea1'],
  ] as const)('gives the published answer for counter %j', (counter, key, answer) => {
    expect(hex(philox4x32(counter, key))).toBe(answer);
  });

  test('equals big-integer arithmetic on 2000 blocks', () => {
    for (let i = 0; i < 2000; i++) {
      const [a, b, c, d] = Array.from(words(7n, Purpose.dither, i, 0, 0)) as [number, number, number, number];
      expect(Array.from(philox4x32([a, b, c, d], [d, a]))).toEqual(slowPhilox([a, b, c, d], [d, a]));
    }
  });

  test('mulhi is the high half of the product, at the corners too', () => {
    const corners = [0, 1, 2, 0xffff, 0x10000, 0x10001, 0x7fffffff, 0x80000000, 0xfffffffe, f];
    const some = Array.from(uniforms(3n, 6, 0, 0, 50), (u) => Math.floor(u * 2 ** 32));
    for (const a of [...corners, ...some])
      for (const b of [...corners, ...some]) expect(mulhi(a, b)).toBe(Number((BigInt(a) * BigInt(b)) >> 32n));
  });
});

describe('streams', () => {
  test('words are addressed by seed, purpose, object, view and block', () => {
    expect(hex(words(42n, 19, 0, 0, 0))).toBe('34f23243 80c44246 413bc495 464ee795');
    expect(hex(words(0x0123456789abcdefn, 6, 1, 2, 3))).toBe('af5003d8 e79355ea a3c1c378 2a6c183e');
  });

  test('each of the five addresses changes the words', () => {
    const all = [words(1n, 2, 3, 4, 5), words(2n, 2, 3, 4, 5), words(1n, 3, 3, 4, 5), words(1n, 2, 4, 4, 5)];
    all.push(words(1n, 2, 3, 5, 5), words(1n, 2, 3, 4, 6), words(1n + (1n << 32n), 2, 3, 4, 5));
    expect(new Set(all.map(hex)).size).toBe(all.length);
  });

  test('purposes are distinct and keep their numbers', () => {
    expect(Object.values(Purpose)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28,
    ]);
  });

  test.each([-1n, 1n << 64n])('a seed of %s is refused', (seed) => {
    expect(() => keyOf(seed)).toThrowError(expect.objectContaining({ code: 'E_CONFIG' }));
  });

  test('the largest seed is split into its halves', () => {
    expect(keyOf((1n << 64n) - 1n)).toEqual([f, f]);
    expect(keyOf(0x0000000100000002n)).toEqual([2, 1]);
  });
});

describe('permutation and integers', () => {
  test('equal the definition', () => {
    expect(Array.from(permutation(42n, 5, 0, 0, 8))).toEqual([2, 0, 1, 5, 4, 6, 3, 7]);
    expect(Array.from(permutation(42n, 1, 0, 0, 10))).toEqual([7, 3, 0, 2, 1, 4, 5, 6, 9, 8]);
    expect(Array.from(permutation(42n, 1, 0, 1, 10))).toEqual([0, 8, 4, 5, 9, 2, 3, 7, 6, 1]);
    expect(Array.from(permutation(0xfedcba9876543210n, 5, 77, 299, 5))).toEqual([0, 1, 3, 2, 4]);
    expect(Array.from(integers(42n, 21, 3, 0, 6, 585))).toEqual([156, 178, 557, 187, 210, 343]);
  });

  test.each([0, 1, 2, 3, 4, 5, 127, 1000])('permutation(%i) holds each number once', (n) => {
    const order = permutation(9n, 1, 0, 0, n);
    expect(Array.from(order).sort((a, b) => a - b)).toEqual(Array.from({ length: n }, (_, i) => i));
  });

  test('every first element of a permutation of 6 comes up about equally often', () => {
    const seen = new Array<number>(6).fill(0);
    for (let view = 0; view < 6000; view++) seen[permutation(1n, 1, 0, view, 6)[0]!]!++;
    for (const count of seen) expect(Math.abs(count - 1000)).toBeLessThan(150); // 5 standard deviations
  });

  test('bounded stays below n at the extremes', () => {
    expect([bounded(0, 7), bounded(f, 7), bounded(f, 1), bounded(f, f)]).toEqual([0, 6, 0, f - 1]);
  });
});

describe('uniforms and normals', () => {
  test('uniforms are 24 bits of a word', () => {
    expect(Array.from(uniforms(42n, 20, 0, 0, 6))).toEqual([
      0.00736689567565918, 0.07895582914352417, 0.6575062870979309, 0.024783790111541748, 0.37501031160354614,
      0.9323056936264038,
    ]);
    expect(uniform(f)).toBe(1 - 2 ** -24);
    expect(uniform(255)).toBe(0);
  });

  test('normals equal Box-Muller computed by Python, to one float32 step', () => {
    const first = [
      -1.775018572807312, -0.03340284153819084, -0.25500112771987915, 1.6338249444961548, -0.9012282490730286,
      -0.944861114025116, 0.0828135758638382, -0.26234832406044006,
    ];
    const odd = [
      -0.6516810655593872, -0.5549739003181458, 0.09149617701768875, 0.38925376534461975, -0.4527464509010315,
    ];
    for (const [got, want] of [
      [normals(42n, 19, 0, 0, 8), first],
      [normals(42n, 19, 3, 1, 5), odd],
      [normals(42n, 19, 258504, 0, 2), [3.1940932273864746, 3.829322338104248]], // w0 is 17115: the + 0.5 shows
    ] as const) {
      expect(got.length).toBe(want.length);
      for (const [i, w] of want.entries()) expect(Math.abs(got[i]! - w)).toBeLessThanOrEqual(2 ** -23 * Math.abs(w));
    }
  });

  test('a shorter draw is the beginning of a longer one', () => {
    const long = normals(5n, 19, 1, 2, 64);
    for (let n = 0; n < 64; n += 7) expect(normals(5n, 19, 1, 2, n)).toEqual(long.slice(0, n));
  });

  test('100000 normals have the moments of a standard normal', () => {
    const x = normals(11n, 19, 0, 0, 100000);
    const moment = (k: number) => x.reduce((s, v) => s + v ** k, 0) / x.length;
    expect(Math.abs(moment(1))).toBeLessThan(0.016); // 5 standard errors each
    expect(Math.abs(moment(2) - 1)).toBeLessThan(0.023);
    expect(Math.abs(moment(3))).toBeLessThan(0.062);
    expect(Math.abs(moment(4) - 3)).toBeLessThan(0.16);
    expect(x.every(Number.isFinite)).toBe(true);
  });
});

describe('docs/streams.md', () => {
  const doc = readFileSync(new URL('../docs/streams.md', import.meta.url), 'utf8');

  test('shows the words, permutations and uniforms this code draws', () => {
    const shown = [
      hex(philox4x32([0, 0, 0, 0], [0, 0])),
      hex(philox4x32([f, f, f, f], [f, f])),
      hex(philox4x32([0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344], [0xa4093822, 0x299f31d0])),
      hex(words(42n, 19, 0, 0, 0)),
      hex(words(0x0123456789abcdefn, 6, 1, 2, 3)),
      permutation(42n, 5, 0, 0, 8).join(' '),
      permutation(42n, 1, 0, 0, 10).join(' '),
      permutation(42n, 1, 0, 1, 10).join(' '),
      integers(42n, 21, 3, 0, 6, 585).join(' '),
      uniforms(42n, 20, 0, 0, 6).join(' '),
    ];
    for (const line of shown) expect(doc).toContain(` ${line} |`);
  });

  test('lists every purpose once or, where it has several uses, on rows of its own', () => {
    const table = doc.slice(doc.indexOf('## Purposes'), doc.indexOf('## Numbers from words'));
    const rows = [...table.matchAll(/^\| (\d[\d, ]*) \|/gm)].flatMap(([, numbers]) => numbers!.split(', ').map(Number));
    expect([...new Set(rows)]).toEqual(Object.values(Purpose));
  });

  test('and docs/architecture.md those that the design the project started from does not have', () => {
    const designed = [1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26];
    const numbers = Object.values(Purpose) as number[];
    expect(numbers).toEqual(expect.arrayContaining(designed)); // never renumbered
    const added = numbers.filter((number) => !designed.includes(number));
    const page = readFileSync(new URL('../docs/architecture.md', import.meta.url), 'utf8');
    const [, told] = /^\| purposes of the Philox streams \| ([\d, and]+) besides/m.exec(page)!;
    expect(told!.match(/\d+/g)!.map(Number)).toEqual(added);
  });

  test('shows the seeds of students and the real images this code draws', () => {
    const seeds = [...doc.matchAll(/^\| student (\d) \| (0x[\da-f]{16}) \|$/gm)];
    expect(seeds.length).toBe(2);
    for (const [, number, seed] of seeds) {
      const [low, high] = words(42n, Purpose.weights, f, Number(number) + 1, 0);
      expect((BigInt(high!) << 32n) | BigInt(low!)).toBe(BigInt(seed!));
    }
    expect(doc).toContain(`Seed 42, class 3, ten images: ${permutation(42n, 22, 3, 0, 10).join(' ')}.`);
  });

  test('shows normals equal to this code to one float32 step', () => {
    const rows = [...doc.matchAll(/^\| normals: purpose 19, object (\d+), view (\d) \| (.*) \|$/gm)];
    expect(rows.length).toBe(3);
    for (const [, object, view, values] of rows) {
      const want = values!.split(' ').map(Number);
      const got = normals(42n, 19, Number(object), Number(view), want.length);
      for (const [i, w] of want.entries()) expect(Math.abs(got[i]! - w)).toBeLessThanOrEqual(2 ** -23 * Math.abs(w));
    }
  });
});
