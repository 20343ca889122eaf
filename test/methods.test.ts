// The table of synthesis methods: how the images of some classes are divided into groups. Properties that hold for every
// method that optimises images, and what is special to each.

import { describe, expect, test } from 'vitest';
import { METHODS, type Method, type MethodOptions } from '../src/methods/index.ts';

const method = (name: string): Method => METHODS.find((entry) => entry.name === name)!;
const OPTIONS: MethodOptions[] = [
  { ipc: 1, batch: 1, numClasses: 3 },
  { ipc: 10, batch: 100, numClasses: 3 },
  { ipc: 10, batch: 5, numClasses: 3 },
  { ipc: 7, batch: 3, numClasses: 3 },
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
    const sizes = method('lpld').groups([1], { ipc: 7, batch: 3, numClasses: 3 });
    expect(sizes.map(({ images }) => images.map(({ id }) => id))).toEqual([[0, 1, 2], [3, 4, 5], [6]]);
    expect(sizes.map(({ object }) => object)).toEqual([1, 4, 7]);
  });

  test('a group is the same whichever other classes are made with it', () => {
    const options = { ipc: 7, batch: 3, numClasses: 5 };
    const alone = method('lpld').groups([3], options);
    const all = method('lpld').groups([0, 1, 2, 3, 4], options);
    const mine = all.filter((group) => group.images.some(({ classId }) => classId === 3));
    expect(mine).toEqual(alone);
  });
});

test('random optimises nothing: its images are real', () => {
  expect(method('random')).toMatchObject({ source: 'real' });
  expect(method('random').groups(CLASSES, OPTIONS[1]!)).toEqual([]);
});
