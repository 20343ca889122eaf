// Within-class similarity: the op against pairs counted one by one, and the job on features that a test can read.

import { describe, expect, test } from 'vitest';
import type { NativeModel } from '../../src/native.ts';
import { classCosine } from '../reference/class-cosine.ts';
import { inputOf, MODEL, openModel, openStore, recipesOf } from '../util/jobs.ts';
import { EXACT, native, ops, quiet } from '../util/native.ts';
import { f32, i32, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

describe('classCosine', () => {
  const shape = [9, 7];
  const x = symmetric(shape, 700, 3);
  x.fill(0, 5 * 7, 6 * 7); // a row without direction
  const labels = [2, 0, 2, 4, 2, 0, 4, 2, 3]; // class 1 does not occur, class 3 once

  test('equals the reference; NaN where there is no pair', () => {
    const got = ops().classCosine(f32(shape, x), i32([9], labels), 5);
    expect([got.dtype, got.shape]).toEqual(['F64', [5]]);
    const wanted = classCosine(Float64Array.from(x, Math.fround), labels, 5);
    expect([...values(got)].map(Number.isNaN)).toEqual([false, true, false, true, false]);
    const known = (all: Float64Array): number[] => [0, 2, 4].map((k) => all[k]!);
    expectClose('cosine', known(values(got)), known(wanted), TOLERANCE.F64);
    expect(values(got)[0]).toBe(0); // one of its two rows is zero
  });

  test('equal rows give 1, opposite rows -1, whatever their length', () => {
    const rows = f32([4, 2], [1, 2, 10, 20, 3, 1, -6, -2]);
    expectClose('cosine', values(ops().classCosine(rows, i32([4], [0, 0, 1, 1]), 2)), [1, -1], TOLERANCE.F64);
  });

  test.each([
    ['labels outside', f32([2, 1], [1, 1]), i32([2], [0, 2]), 'E_DATA'],
    ['too few labels', f32([2, 1], [1, 1]), i32([1], [0]), 'E_INTERNAL'],
    ['features of one dimension', f32([2], [1, 1]), i32([2], [0, 0]), 'E_INTERNAL'],
    ['NaN', f32([2, 2], [1, 1, 1, Number.NaN]), i32([2], [0, 0]), 'E_DIVERGED'],
    ['NaN in a class of one', f32([3, 1], [1, 1, Number.NaN]), i32([3], [0, 0, 1]), 'E_DIVERGED'],
    ['infinity', f32([2, 1], [Number.NEGATIVE_INFINITY, 1]), i32([2], [0, 0]), 'E_DIVERGED'],
  ])('refuses %s', (_what, features, classes, code) => {
    expect(() => ops().classCosine(features, classes, 2)).toThrowError(expect.objectContaining({ code }));
  });
});

describe('the job', () => {
  const D = 4 * 4 * 4; // one block of four channels at 8 px

  /** MODEL with as many classes as features and the identity as its head: its logits are its features. */
  function transparent(): NativeModel {
    const model = openModel({ numClasses: D });
    const state = model.stateDict();
    const identity = Float64Array.from({ length: D * D }, (_, i) => (i % (D + 1) === 0 ? 1 : 0));
    model.loadStateDict({
      ...state,
      'classifier.weight': f32([D, D], identity),
      'classifier.bias': f32([D], new Float64Array(D)),
    });
    return model;
  }

  test('is the mean cosine of the inputs of the last layer, images of a class by themselves', async () => {
    const [model, store] = [transparent(), openStore()];
    const [recipes, input] = [recipesOf(3), inputOf()];
    const spec = { ...EXACT, recipes, input };
    const { similarity } = await native().similarity(model, store, spec, quiet).promise;
    expect(similarity.shape).toEqual([D]);
    const pixels = ops().renderBatch(store, recipes, MODEL.inputSize);
    const table = values(input.normalize);
    const x = Float32Array.from(pixels.data, (level) => table[level]!);
    const features = values(ops().forward(model, f32([6, 1, 8, 8], x), 'fp32'));
    const wanted = classCosine(features, [0, 1, 2, 0, 1, 2], 3);
    expectClose('similarity', values(similarity).slice(0, 3), wanted, TOLERANCE.F32);
    expect(values(similarity).slice(3).every(Number.isNaN)).toBe(true);
  });

  test('a network whose features are not finite is E_DIVERGED, not a set without similarity', async () => {
    const [model, store] = [transparent(), openStore()];
    const state = model.stateDict();
    const [name, view] = Object.entries(state).find(([key]) => key.endsWith('.weight'))!;
    model.loadStateDict({ ...state, [name]: f32(view.shape, values(view).fill(Number.NaN, 0, 1)) });
    const spec = { ...EXACT, recipes: recipesOf(3), input: inputOf() };
    await expect(native().similarity(model, store, spec, quiet).promise).rejects.toMatchObject({ code: 'E_DIVERGED' });
  });

  test('does not depend on how rows are cut into batches', async () => {
    const model = transparent();
    const answer = async (offset: number[], mixIndex: number[]) => {
      const recipes = { ...recipesOf(3), offset: i32([offset.length], offset), mixIndex: i32([6], mixIndex) };
      const spec = { ...EXACT, recipes, input: inputOf() };
      return values((await native().similarity(model, openStore(), spec, quiet).promise).similarity).slice(0, 3);
    };
    const [once, often] = [await answer([0, 6], [0, 1, 2, 3, 4, 5]), await answer([0, 1, 5, 6], [0, 0, 1, 2, 3, 0])];
    expectClose('similarity', often, once, TOLERANCE.F32);
  });
});
