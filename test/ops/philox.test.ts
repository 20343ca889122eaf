// The one source of randomness, four times over: BigInt reference, src/rng.ts, the test fill and native/core/philox.h.

import { describe, expect, test } from 'vitest';
import { philox4x32, normals as rngNormals } from '../../src/rng.ts';
import { arrayOf } from '../../src/tensor.ts';
import { normals, philox } from '../reference/philox.ts';
import { ops } from '../util/native.ts';
import { goldenWeights, philoxBlock, values } from '../util/tensors.ts';
import { expectClose } from '../util/tolerance.ts';

const F = 0xffffffff;
/** Known answers of the Random123 distribution: counter, key, words. */
const KNOWN: readonly (readonly [number[], [number, number], number[]])[] = [
  [
    [0, 0, 0, 0],
    [0, 0],
    [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
  ],
  [
    [F, F, F, F],
    [F, F],
    [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
  ],
  [
    [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
    [0xa4093822, 0x299f31d0],
    [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
  ],
];

describe('philox block', () => {
  test('reference, src/rng.ts, test fill and native give the known answers of Random123', () => {
    for (const [counter, key, words] of KNOWN) {
      expect(philox(counter, key)).toEqual(words);
      expect([...philox4x32(counter as [number, number, number, number], key)]).toEqual(words);
      const out = new Uint32Array(4);
      philoxBlock(out, counter, key[0], key[1]);
      expect([...out]).toEqual(words);
      expect(ops().philox(counter, key)).toEqual(words);
    }
  });

  test('all four agree on 200 counters that walk through every word', () => {
    let counter = [1, 0x80000000, 20, 7];
    let key: [number, number] = [0xdeadbeef, 3];
    for (let i = 0; i < 200; i++) {
      const words = philox(counter, key);
      expect(ops().philox(counter, key)).toEqual(words);
      expect([...philox4x32(counter as [number, number, number, number], key)]).toEqual(words);
      const out = new Uint32Array(4);
      philoxBlock(out, counter, key[0], key[1]);
      expect([...out]).toEqual(words);
      counter = words;
      key = [words[3]!, words[0]!];
    }
  });
});

describe('normals', () => {
  test.each([1, 2, 3, 5, 1001])('%i native normals equal the double formula up to one float32 step', (count) => {
    const seed = 0x123456789abcdef0n;
    const wanted = normals(seed, 19, 7, 3, count);
    const got = arrayOf(ops().normals(seed, 19, 7, 3, count), 'F32');
    expectClose('native', got, wanted, 1.2e-7); // one float32 step: two maths libraries may round differently
    expectClose('src/rng.ts', rngNormals(seed, 19, 7, 3, count), wanted, 1.2e-7);
  });

  test('every address word and both seed halves change the stream', () => {
    const base = values(ops().normals(5n, 19, 1, 2, 8));
    const others = [
      ops().normals(6n, 19, 1, 2, 8),
      ops().normals(5n + (1n << 32n), 19, 1, 2, 8),
      ops().normals(5n, 20, 1, 2, 8),
      ops().normals(5n, 19, 3, 2, 8),
      ops().normals(5n, 19, 1, 4, 8),
    ];
    for (const other of others) expect(values(other)).not.toEqual(base);
  });

  test('a longer stream starts with the shorter one', () => {
    const long = values(ops().normals(9n, 19, 0, 0, 4099));
    expect(values(ops().normals(9n, 19, 0, 0, 6))).toEqual(long.slice(0, 6));
  });

  test('mean, variance, skewness and kurtosis of 200000 are those of a standard normal', () => {
    const x = values(ops().normals(1n, 19, 0, 0, 200_000));
    const moment = (k: number): number => x.reduce((s, v) => s + v ** k, 0) / x.length;
    // five standard errors of each moment: sqrt(Var(x^k) / 200000)
    expect(Math.abs(moment(1))).toBeLessThan(5 * Math.sqrt(1 / 200_000));
    expect(Math.abs(moment(2) - 1)).toBeLessThan(5 * Math.sqrt(2 / 200_000));
    expect(Math.abs(moment(3))).toBeLessThan(5 * Math.sqrt(15 / 200_000));
    expect(Math.abs(moment(4) - 3)).toBeLessThan(5 * Math.sqrt(96 / 200_000));
  });
});

test('golden weights depend on the position in the list, and each kind of tensor has its range', () => {
  const made = goldenWeights([
    ['a.weight', [4, 8]],
    ['b.weight', [4, 8]],
    ['n.weight', [64]],
    ['n.bias', [64]],
    ['n.running_var', [64]],
  ]);
  expect(values(made['a.weight']!)).not.toEqual(values(made['b.weight']!));
  const range = (name: string): [number, number] => [
    Math.min(...values(made[name]!)),
    Math.max(...values(made[name]!)),
  ];
  expect(Math.max(...range('a.weight').map(Math.abs))).toBeLessThanOrEqual(0.5); // sqrt(2 / 8)
  expect(range('n.weight')[0]).toBeGreaterThanOrEqual(0.5);
  expect(range('n.running_var')[1]).toBeLessThan(1.5);
  expect(Math.max(...range('n.bias').map(Math.abs))).toBeLessThanOrEqual(0.1);
});
