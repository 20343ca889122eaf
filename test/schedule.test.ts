// Golden values were recorded from the published recipes, to the digits shown.

import { describe, expect, test } from 'vitest';
import { type CurriculumOptions, cropScale, type LearningRateOptions, learningRates } from '../src/schedule.ts';

const synthesis: LearningRateOptions = {
  kind: 'cosine',
  base: 0.25,
  epochs: 4000,
  stepsPerEpoch: 1,
  per: 'step',
  warmupEpochs: 0,
  warmupStart: 0.01,
};
const tiny: LearningRateOptions = { ...synthesis, base: 0.2, epochs: 100, per: 'epoch', warmupEpochs: 5 };

describe('learningRates', () => {
  test('synthesis: cosine per iteration', () => {
    const lr = learningRates(synthesis);
    expect(lr.length).toBe(4000);
    expect(lr[0]).toBe(0.25);
    expect(lr[1]).toBeCloseTo(0.24999996, 8);
    expect(lr[1000]).toBeCloseTo(0.21338835, 8);
    expect(lr[2000]).toBeCloseTo(0.125, 12);
    expect(lr[3000]).toBeCloseTo(0.03661165, 8);
    expect(lr[3999]! / 3.8553e-8).toBeCloseTo(1, 4);
  });

  test('Tiny-ImageNet: five epochs of warm-up from 1 %, then cosine over 95', () => {
    const lr = learningRates(tiny);
    for (const [e, want] of [0.002, 0.0416, 0.0812, 0.1208, 0.1604, 0.2, 0.19994533].entries())
      expect(lr[e]).toBeCloseTo(want, 8);
    expect(lr[99]).toBeCloseTo(5.467e-5, 8);
  });

  test('students: one value for all steps of an epoch, lr (1 + cos(pi e / E)) / 2', () => {
    const lr = learningRates({ ...synthesis, base: 1e-3, epochs: 300, stepsPerEpoch: 78, per: 'epoch' });
    expect(lr.length).toBe(300 * 78);
    for (const e of [0, 1, 150, 299]) {
      const steps = lr.subarray(e * 78, (e + 1) * 78);
      expect(new Set(steps).size).toBe(1);
      expect(steps[0]).toBeCloseTo(1e-3 * 0.5 * (1 + Math.cos((Math.PI * e) / 300)), 15);
    }
  });

  test('teachers: warm-up per step rises every step, meets base, then falls', () => {
    const lr = learningRates({ ...tiny, epochs: 10, stepsPerEpoch: 7, per: 'step', warmupEpochs: 2 });
    expect(lr[0]).toBeCloseTo(0.002, 12);
    expect(lr[7]).toBeCloseTo(0.2 * (0.01 + 0.99 / 2), 12);
    expect(lr[14]).toBe(0.2);
    for (let t = 1; t < 14; t++) expect(lr[t]!).toBeGreaterThan(lr[t - 1]!);
    for (let t = 15; t < 70; t++) expect(lr[t]!).toBeLessThan(lr[t - 1]!);
    expect(lr[69]!).toBeGreaterThan(0);
  });

  test('constant, with and without warm-up', () => {
    expect(new Set(learningRates({ ...synthesis, kind: 'constant' }))).toEqual(new Set([0.25]));
    const lr = learningRates({ ...tiny, kind: 'constant', epochs: 8 });
    expect(lr[4]).toBeCloseTo(0.1604, 12);
    expect(Array.from(lr.subarray(5))).toEqual([0.2, 0.2, 0.2]);
  });

  test('a training that is all warm-up has no cosine part', () => {
    expect(learningRates({ ...tiny, epochs: 5 }).every(Number.isFinite)).toBe(true);
  });

  test.each([
    { epochs: 0 },
    { epochs: 1.5 },
    { stepsPerEpoch: 0 },
    { base: -1 },
    { base: Number.NaN },
    { base: Number.POSITIVE_INFINITY },
    { warmupEpochs: 5000 },
    { warmupEpochs: 5, warmupStart: 2 },
  ])('refuses %j', (wrong) => {
    expect(() => learningRates({ ...synthesis, ...wrong })).toThrowError(expect.objectContaining({ code: 'E_CONFIG' }));
  });
});

const cda: CurriculumOptions = { curriculum: 'cosine', milestone: 1, min: 0.08, max: 1, iterations: 4000 };

describe('cropScale', () => {
  test.each([
    [
      'cosine',
      1,
      { 0: 1, 1: 0.99999986, 400: 0.977486, 1000: 0.86526912, 2000: 0.54, 3000: 0.21473088, 3999: 0.08000014 },
    ],
    ['linear', 1, { 0: 1, 1: 0.99977, 400: 0.908, 1000: 0.77, 2000: 0.54, 3000: 0.31, 3999: 0.08023 }],
    ['cosine', 0.5, { 0: 1, 500: 0.86526912, 1000: 0.54, 1999: 0.08000057, 2000: 0.08, 3999: 0.08 }],
    ['step', 0.25, { 0: 1, 999: 1, 1000: 0.08, 3999: 0.08 }],
    ['linear', 0, { 0: 0.08, 3999: 0.08 }],
    ['constant', 1, { 0: 0.08, 3999: 0.08 }],
  ] as const)('%s with milestone %d', (curriculum, milestone, values) => {
    const scale = cropScale({ ...cda, curriculum, milestone });
    for (const [t, low] of Object.entries(values)) {
      expect(scale(Number(t))[0]).toBeCloseTo(low, 7);
      expect(scale(Number(t))[1]).toBe(1);
    }
  });

  test('stays within [min, max] for other bounds', () => {
    for (const curriculum of ['constant', 'step', 'linear', 'cosine'] as const) {
      const scale = cropScale({ curriculum, milestone: 0.7, min: 0.25, max: 0.9, iterations: 33 });
      for (let t = 0; t < 33; t++) {
        const [low, high] = scale(t);
        expect(high).toBe(0.9);
        expect(low).toBeGreaterThanOrEqual(0.25);
        expect(low).toBeLessThanOrEqual(0.9);
      }
    }
  });

  test.each([
    { milestone: 1.1 },
    { milestone: -0.1 },
    { min: 0 },
    { min: 0.9, max: 0.5 },
    { max: 1.5 },
    { iterations: 0 },
  ])('refuses %j', (wrong) => {
    expect(() => cropScale({ ...cda, ...wrong })).toThrowError(expect.objectContaining({ code: 'E_CONFIG' }));
  });
});
