import { createHash } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { MersenneTwister, torchPermutation } from '../../src/interchange/torch-permutation.ts';
import { refusal } from '../util/hostile.ts';
import { pythonWith, runPython, withoutPython } from '../util/python.ts';

/** The first permutations of n by a generator with a seed. */
function drawn(seed: number, n: number, count: number): Int32Array[] {
  const generator = new MersenneTwister(seed);
  return Array.from({ length: count }, () => torchPermutation(generator, n));
}
const hash = (order: Int32Array): string => createHash('sha256').update(new Uint8Array(order.buffer)).digest('hex');

/** torch 2.13: SHA-256 of randperm(n) as int32 from a generator seeded 42, calls 1 to 3; the first 16 digits. */
const HASHES: Record<number, string[]> = {
  1000: ['e944a33b3da0cea1', '571e3bdc637ae1d7', 'dc158e53cbc3836e'],
  50000: ['15bd7ad5aed2bf05', 'f323bd1a3673299b', '57896536e3e786d0'],
};

describe('torch.randperm on the CPU, restated', () => {
  test('the first three permutations of ten with seed 42', () => {
    expect(drawn(42, 10, 3).map((order) => [...order])).toEqual([
      [2, 6, 1, 8, 4, 5, 0, 9, 3, 7],
      [3, 5, 8, 9, 4, 6, 1, 0, 7, 2],
      [7, 5, 0, 3, 1, 6, 9, 8, 4, 2],
    ]);
  });

  test.each([1000, 50000])('three permutations of %d', (n) => {
    expect(drawn(42, n, 3).map((order) => hash(order).slice(0, 16))).toEqual(HASHES[n]);
  });

  test('the generator is MT19937: its 10,000th output from seed 5489 is the one of the C++ standard', () => {
    const generator = new MersenneTwister(5489);
    let last = 0;
    for (let i = 0; i < 10_000; i++) last = generator.next();
    expect(last).toBe(4123659995);
  });

  test('nothing, one, and a length torch draws in another way', async () => {
    expect(drawn(42, 0, 1)[0]).toHaveLength(0);
    expect([...drawn(42, 1, 1)[0]!]).toEqual([0]);
    expect((await refusal(() => drawn(42, 2 ** 28, 1))).code).toBe('E_CONFIG');
  });

  const python = pythonWith('torch');
  test.skipIf(python === null)(`other seeds and lengths, against torch${withoutPython(python, 'torch')}`, () => {
    const cases: [number, number][] = [
      [0, 2],
      [7, 625],
      [123456789, 3001],
      [2 ** 32 - 1, 17],
    ];
    const script = `
import json, sys, torch
out = []
for seed, n in json.loads(sys.argv[1]):
    g = torch.Generator().manual_seed(seed)
    out.append([torch.randperm(n, generator=g).tolist() for _ in range(3)])
print(json.dumps(out))`;
    const theirs = JSON.parse(runPython(python!, script, [JSON.stringify(cases)])) as number[][][];
    expect(cases.map(([seed, n]) => drawn(seed, n, 3).map((order) => [...order]))).toEqual(theirs);
  });
});
