// Metrics of records: the definitions in float64 loops, corner cases, refusals.

import { describe, expect, test } from 'vitest';
import { labelMetrics } from '../reference/label-metrics.ts';
import { ops } from '../util/native.ts';
import { f32, i32, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const run = (shape: readonly [number, number], z: ArrayLike<number>, own: number[] | null, offset: number[]) => {
  const labels = own === null ? null : i32([own.length], own);
  return ops().labelMetrics(f32(shape, z), labels, i32([offset.length], offset));
};

describe('against the definitions', () => {
  const own = [0, 3, 3, 6, 2, 1, 5, 5, 4];
  const offset = [0, 4, 5, 9];

  test.each([0.5, 4, 60])('nine rows of seven classes in three records, logits of +-%d', (size) => {
    const z = Float32Array.from(symmetric([9, 7], 41, size));
    const got = run([9, 7], z, own, offset);
    const wanted = labelMetrics(z, 7, own, offset);
    for (const name of ['confidence', 'diff', 'diffSigned', 'correct'] as const)
      expectClose(name, values(got[name]!), wanted[name], TOLERANCE.F64);
    expect(new Set(wanted.correct).size).toBeGreaterThan(1);
  });

  test('without classes only confidence and diff are told, and they are the same', () => {
    const z = Float32Array.from(symmetric([9, 7], 42, 3));
    const [known, unknown] = [run([9, 7], z, own, offset), run([9, 7], z, null, offset)];
    expect([unknown.diffSigned, unknown.correct]).toEqual([null, null]);
    expect(values(unknown.confidence)).toEqual(values(known.confidence));
    expect(values(unknown.diff)).toEqual(values(known.diff));
  });
});

describe('corner cases', () => {
  test('equal largest logits: no difference, and the lower class is the answer', () => {
    const got = run([2, 3], [5, 5, 1, 5, 5, 1], [0, 1], [0, 1, 2]);
    expect([...values(got.diff)]).toEqual([0, 0]);
    expect([...values(got.correct!)]).toEqual([1, 0]);
    expect([...values(got.diffSigned!)]).toEqual([0, 0]);
  });

  test('what topk:M:mr leaves out, -65504, counts as no probability', () => {
    const got = run([1, 3], [2, -65504, -65504], [1], [0, 1]);
    expect([values(got.confidence)[0], values(got.diff)[0], values(got.diffSigned!)[0]]).toEqual([1, 1, -1]);
  });

  test('one class is certain', () => {
    const got = run([1, 1], [-3], [0], [0, 1]);
    expect([got.confidence, got.diff, got.diffSigned!, got.correct!].map((v) => values(v)[0])).toEqual([1, 1, 1, 1]);
  });
});

test.each([
  ['an offset short of the rows', 'E_MISMATCH', () => run([2, 2], [0, 0, 0, 0], null, [0, 1])],
  ['a record without rows', 'E_MISMATCH', () => run([2, 2], [0, 0, 0, 0], null, [0, 0, 2])],
  ['a falling offset', 'E_MISMATCH', () => run([2, 2], [0, 0, 0, 0], null, [0, 3, 2])],
  ['classes of fewer rows', 'E_MISMATCH', () => run([2, 2], [0, 0, 0, 0], [0], [0, 2])],
  ['a class outside [0, K)', 'E_MISMATCH', () => run([1, 2], [0, 0], [2], [0, 1])],
  ['a negative class', 'E_MISMATCH', () => run([1, 2], [0, 0], [-1], [0, 1])],
  ['logits of one dimension', 'E_MISMATCH', () => ops().labelMetrics(f32([2], [0, 0]), null, i32([2], [0, 1]))],
  ['an infinite logit', 'E_DIVERGED', () => run([1, 2], [0, Number.POSITIVE_INFINITY], null, [0, 1])],
  ['a logit that is no number', 'E_DIVERGED', () => run([1, 2], [0, Number.NaN], null, [0, 1])],
] as const)('refuses %s with %s', (_, code, call) => {
  expect(call).toThrow(expect.objectContaining({ code }));
});
