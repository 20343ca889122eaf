// The numbers that `bench codecs` prints about a codec's loss (bench/distortion.mjs): against values worked out by hand, and
// the invariances they must have.

import { describe, expect, test } from 'vitest';
import { distortion } from '../bench/distortion.mjs';
import { normals } from '../src/rng.ts';

const CLASSES = 7;
const teacher = Float32Array.from(normals(5n, 19, 0, 0, 40 * CLASSES), (value) => 4 * value);
const noisy = (scale: number) => {
  const noise = normals(5n, 19, 1, 0, teacher.length);
  return teacher.map((value, i) => value + scale * noise[i]!);
};

describe('distortion', () => {
  test('two classes, by hand: KL of (1/4, 3/4) against (1/2, 1/2), and of its temperature', () => {
    const z = Math.log(3);
    const { kl, mse, top1, top5 } = distortion(Float32Array.of(0, 2 * z), Float32Array.of(0, 0), 2);
    expect(kl[2]).toBeCloseTo(0.25 * Math.log(0.5) + 0.75 * Math.log(1.5), 6);
    const q = 1 / (1 + 3 ** 0.1); // at T = 20
    expect(kl[20]).toBeCloseTo(q * Math.log(2 * q) + (1 - q) * Math.log(2 * (1 - q)), 6);
    expect(mse).toBeCloseTo(z ** 2, 5); // rows less their means: (-z, z) against (0, 0)
    expect([top1, top5]).toEqual([0, 1]); // equal values: the first class; both classes are among the largest
  });

  test('nothing lost: zero and full agreement, also after each row is shifted by a constant', () => {
    const shifted = teacher.map((value, i) => value + Math.floor(i / CLASSES) - 20);
    for (const decoded of [teacher, shifted]) {
      const { kl, mse, top1, top5 } = distortion(teacher, decoded, CLASSES);
      for (const value of [...Object.values(kl), mse]) expect(Math.abs(value)).toBeLessThan(1e-10);
      expect(top1).toBeCloseTo(1, 12);
      expect(top5).toBeCloseTo(1, 12);
    }
  });

  test('more noise: larger KL at every temperature and larger MSE; less at a higher temperature', () => {
    const [small, large] = [distortion(teacher, noisy(0.1), CLASSES), distortion(teacher, noisy(1), CLASSES)];
    for (const t of ['20', '4', '2']) expect(large.kl[t]!).toBeGreaterThan(10 * small.kl[t]!);
    expect(large.mse).toBeCloseTo(100 * small.mse, 1);
    for (const { kl } of [small, large]) expect([kl[20]! < kl[4]!, kl[4]! < kl[2]!]).toEqual([true, true]);
    expect(small.kl[2]!).toBeGreaterThan(0);
  });

  test('five of seven: the share of the five largest classes that stay', () => {
    const { top1, top5 } = distortion(Float32Array.of(7, 6, 5, 4, 3, 2, 1), Float32Array.of(7, 1, 2, 3, 4, 5, 6), 7);
    expect(top1).toBe(1);
    expect(top5).toBeCloseTo(3 / 5, 12); // 0 3 4 of 0 1 2 3 4
  });
});
