// The table of synthesis methods: how the images of some classes are divided into groups. Properties that hold for every
// method that optimises images, and what is special to each.

import { describe, expect, test } from 'vitest';
import { METHODS, type Method, type MethodOptions } from '../src/methods/index.ts';

const method = (name: string): Method => METHODS.find((entry) => entry.name === name)!;
const OPTIONS: MethodOptions[] = [
  { ipc: 1, batch: 1, numClasses: 3, targets: 'auto' },
  { ipc: 10, batch: 100, numClasses: 3, targets: 'auto' },
  { ipc: 10, batch: 5, numClasses: 3, targets: 'auto' },
  { ipc: 7, batch: 3, numClasses: 3, targets: 'auto' },
];
const CLASSES = [0, 2];

describe.each(METHODS.filter(({ source }) => source === 'synthetic'))('$name', ({ groups }) => {
  test.each(OPTIONS)('ipc $ipc, batch $batch: each image once, no group above the batch', (options) => {
    const made = groups(CLASSES, options);
    const images = made.flatMap((group) => group.images.map(({ classId, id }) => `${classId}/${id}`));
    const wanted = CLASSES.flatMap((classId) => Array.from({ length: options.ipc }, (_, id) => `${classId}/${id}`));
    expect(images.toSorted()).toEqual(wanted.toSorted());
    for (const group of made) {
      expect(group.images.length).toBeGreaterThan(0);
      expect(group.images.length).toBeLessThanOrEqual(options.batch);
    }
    expect(new Set(made.map(({ object }) => object)).size).toBe(made.length);
  });
});

describe('lpld', () => {
  test('a group holds images of one class, matched with the statistics of that class', () => {
    for (const options of OPTIONS)
      for (const { images, target } of method('lpld').groups(CLASSES, options))
        expect(images.map(({ classId }) => ({ classId }))).toEqual(images.map(() => target));
  });

  test('an ipc that is no multiple of the batch ends with a smaller round and continues the numbers', () => {
    const sizes = method('lpld').groups([1], { ipc: 7, batch: 3, numClasses: 3, targets: 'auto' });
    expect(sizes.map(({ images }) => images.map(({ id }) => id))).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
    expect(sizes.map(({ object }) => object)).toEqual([1, 4, 7]);
  });

  test('a group is the same whichever other classes are made with it', () => {
    const options = { ipc: 7, batch: 3, numClasses: 5, targets: 'auto' as const };
    const alone = method('lpld').groups([3], options);
    const all = method('lpld').groups([0, 1, 2, 3, 4], options);
    const mine = all.filter((group) => group.images.some(({ classId }) => classId === 3));
    expect(mine).toEqual(alone);
  });
});

describe('lpld with global targets (ablation +C)', () => {
  test("batches stay within a class, statistics are the dataset's", () => {
    for (const { images, target } of method('lpld').groups(CLASSES, { ...OPTIONS[1]!, targets: 'global' })) {
      expect(new Set(images.map(({ classId }) => classId)).size).toBe(1);
      expect(target).toBe('global');
    }
  });
});

describe.each(['sre2l', 'cda'])('%s', (name) => {
  test('a group holds one image each of consecutive classes, all of one id, against global statistics', () => {
    const groups = method(name).groups([0, 1, 2, 3, 4], { ipc: 2, batch: 3, numClasses: 5, targets: 'auto' });
    const shown = groups.map(({ images, target, object }) => [
      images.map((i) => `${i.classId}/${i.id}`).join(' '),
      target,
      object,
    ]);
    expect(shown).toEqual([
      ['0/0 1/0 2/0', 'global', 0],
      ['3/0 4/0', 'global', 3],
      ['0/1 1/1 2/1', 'global', 5],
      ['3/1 4/1', 'global', 8],
    ]);
  });

  test('class statistics are refused: a batch of many classes has none', () => {
    expect(() => method(name).groups([0, 1], { ipc: 1, batch: 2, numClasses: 2, targets: 'class' })).toThrow(
      /E_CONFIG|global/,
    );
  });
});

test('cda differs from sre2l by its curriculum alone', () => {
  const { name: _, summary: __, curriculum, ...cda } = method('cda');
  const { name: ___, summary: ____, curriculum: plain, ...sre2l } = method('sre2l');
  expect([curriculum, plain]).toEqual([true, false]);
  expect(cda).toEqual(sre2l);
});

test('random optimises nothing: its images are real', () => {
  expect(method('random')).toMatchObject({ source: 'real' });
  expect(method('random').groups(CLASSES, OPTIONS[1]!)).toEqual([]);
});
