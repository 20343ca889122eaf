import { describe, expect, test } from 'vitest';
import { classesOf, classesPerForward, forwardPlan, selectGroups } from '../src/groups.ts';
import type { SynthesisGroup } from '../src/methods/index.ts';

const range = (n: number) => Array.from({ length: n }, (_, i) => i);
const refusal = (code: string) => expect.objectContaining({ code });

/** Groups of one class each, with `images` images. */
const groupsOf = (classIds: readonly number[], images = 2): SynthesisGroup[] =>
  classIds.map((classId) => ({
    images: range(images).map((id) => ({ classId, id })),
    target: { classId },
    object: classId,
  }));
const classesOfAll = (forwards: SynthesisGroup[][]) => forwards.map(classesOf);

describe('forwardPlan', () => {
  test('cuts consecutive blocks and keeps every group once', () => {
    for (const [classes, size] of [
      [10, 1],
      [10, 3],
      [10, 10],
      [10, 99],
      [10450, 100],
    ] as const) {
      const forwards = classesOfAll(forwardPlan(groupsOf(range(classes)), size));
      expect(forwards.flat()).toEqual(range(classes));
      expect(forwards.length).toBe(Math.ceil(classes / size));
      for (const forward of forwards.slice(0, -1)) expect(forward.length).toBe(size);
    }
  });

  test('keeps the order given', () => {
    expect(classesOfAll(forwardPlan(groupsOf([7, 2, 9]), 2))).toEqual([[7, 2], [9]]);
  });

  test('groups of different sizes never share a forward', () => {
    const mixed = [...groupsOf([0, 1]), ...groupsOf([2], 1), ...groupsOf([3])];
    expect(classesOfAll(forwardPlan(mixed, 9))).toEqual([[0, 1], [2], [3]]);
  });

  test('a forward that holds several images or groups of a class names it once', () => {
    expect(classesOf([...groupsOf([4, 1]), ...groupsOf([4])])).toEqual([4, 1]);
  });

  test.each([
    [[], 1],
    [[1, 2], 0],
    [[1, 2], 1.5],
  ])('refuses classes %j in blocks of %d', (classIds, size) => {
    expect(() => forwardPlan(groupsOf(classIds), size)).toThrowError(refusal('E_CONFIG'));
  });
});

describe('selectGroups', () => {
  const plan = { groupsPerForward: 3, forwards: classesOfAll(forwardPlan(groupsOf(range(10)), 3)) }; // 012 345 678 9

  test('whole groups by class, in plan order', () => {
    expect(selectGroups(plan, 'all')).toEqual([0, 1, 2, 3]);
    expect(selectGroups(plan, { classes: [9, 5, 4, 3] })).toEqual([1, 3]);
  });

  test('a class without its group is refused and the whole groups are named', () => {
    expect(() => selectGroups(plan, { classes: [0, 1, 2, 4] })).toThrowError(/whole groups.*\n.*0,1,2 \| 3,4,5/);
    expect(() => selectGroups(plan, { classes: [0, 1, 2, 4] })).toThrowError(refusal('E_CONFIG'));
  });

  test.each([[[]], [[10]], [[9, 12]]])('refuses classes %j', (classes) => {
    expect(() => selectGroups(plan, { classes })).toThrowError(refusal('E_CONFIG'));
  });

  test.each([1, 2, 3, 4])('%i shards share the forwards out, none empty, sizes within one', (count) => {
    const shards = range(count).map((shard) => selectGroups(plan, { shard, count }));
    expect(shards.flat()).toEqual([0, 1, 2, 3]);
    const sizes = shards.map((s) => s.length);
    expect(Math.min(...sizes)).toBeGreaterThan(0);
    expect(Math.max(...sizes) - Math.min(...sizes)).toBeLessThanOrEqual(1);
  });

  test.each([
    [0, 5],
    [0, 0],
    [2, 2],
    [-1, 2],
    [0.5, 2],
  ])('refuses shard %d of %d', (shard, count) => {
    expect(() => selectGroups(plan, { shard, count })).toThrowError(refusal('E_CONFIG'));
  });
});

describe('classesPerForward', () => {
  test('memory decides without a cache limit, the smaller of both with one', () => {
    const base = { ipc: 10, bytesPerImage: 1000, memory: 105000 };
    expect(classesPerForward({ ...base, cacheImages: null })).toBe(10);
    expect(classesPerForward({ ...base, cacheImages: 45 })).toBe(4);
    expect(classesPerForward({ ...base, cacheImages: 5000 })).toBe(10);
  });

  test('one class at least, even when it is past the cache', () => {
    expect(classesPerForward({ ipc: 50, bytesPerImage: 1, memory: 1000, cacheImages: 20 })).toBe(1);
  });

  test('a class that does not fit the memory is E_DEVICE and says how many bytes it asks for', () => {
    expect(() => classesPerForward({ ipc: 50, bytesPerImage: 100, memory: 4999, cacheImages: null })).toThrowError(
      expect.objectContaining({ code: 'E_DEVICE', details: { reason: 'memory', bytes: 5000, memory: 4999 } }),
    );
  });
});
