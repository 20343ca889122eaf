// Rows of Recipes are compared with the single draws of test/draw.test.ts.

import { describe, expect, test } from 'vitest';
import { RECIPE_FIELDS } from '../src/label-format.ts';
import type { Recipes } from '../src/native.ts';
import {
  type AugmentSpec,
  drawCrop,
  drawCutMix,
  drawCutout,
  drawFlip,
  drawMixup,
  drawRecipes,
  epochOrder,
  evaluationRecipes,
  LABEL_STREAMS,
  type RecipeBatch,
  type RecipeOptions,
  sliceRecipes,
  TRAIN_STREAMS,
} from '../src/recipe.ts';
import { permutation } from '../src/rng.ts';
import { arrayOf, tensor } from '../src/tensor.ts';

const refusal = (code: string) => expect.objectContaining({ code });
const SIZES = Int32Array.of(64, 64, 32, 48, 50, 20, 64, 64, 224, 200);
const augment: AugmentSpec = { crop: { scale: [0.08, 1] }, flip: true, cutout: 0.5, mix: 'cutmix' };
const options: RecipeOptions = { seed: 42n, augment, sizes: SIZES, inputSize: 32, purposes: LABEL_STREAMS };
const batch = (indices: number[], epoch: number, number: number): RecipeBatch => ({
  indices: Int32Array.from(indices),
  view: epoch,
  batch: number,
  epoch,
});
const three = [batch([3, 0, 4], 0, 0), batch([1, 2], 0, 1), batch([4, 3, 1], 1, 0)];
const read = (r: Recipes) => ({
  offset: Array.from(arrayOf(r.offset, 'I32')),
  index: Array.from(arrayOf(r.index, 'I32')),
  crop: Array.from(arrayOf(r.crop, 'I32')),
  flip: Array.from(arrayOf(r.flip, 'U8')),
  cutout: Array.from(arrayOf(r.cutout, 'I32')),
  cutoutColor: Array.from(arrayOf(r.cutoutColor, 'U8')),
  mixKind: Array.from(arrayOf(r.mixKind, 'U8')),
  mixIndex: Array.from(arrayOf(r.mixIndex, 'I32')),
  mixBox: Array.from(arrayOf(r.mixBox, 'I32')),
  lambda: Array.from(arrayOf(r.lambda, 'F32')),
  shapes: Object.values(r).map((v) => v.shape.join('x')),
});

describe('drawRecipes', () => {
  test('rows hold the single draws of their image, epoch and batch', () => {
    const r = read(drawRecipes(three, options));
    expect(r.offset).toEqual([0, 3, 5, 8]);
    expect(r.index).toEqual([3, 0, 4, 1, 2, 4, 3, 1]);
    for (const [s, b] of three.entries()) {
      const first = r.offset[s]!;
      const n = b.indices.length;
      const { box } = drawCutMix(42n, b.batch, b.epoch, 32);
      expect(r.mixIndex.slice(first, first + n)).toEqual(Array.from(permutation(42n, 5, b.batch, b.epoch, n)));
      for (let i = 0; i < n; i++) {
        const image = b.indices[i]!;
        const row = first + i;
        const size = [SIZES[2 * image]!, SIZES[2 * image + 1]!] as const;
        expect(r.crop.slice(4 * row, 4 * row + 4)).toEqual(drawCrop(42n, 2, image, b.epoch, ...size, [0.08, 1]));
        expect(r.flip[row]).toBe(drawFlip(42n, 3, image, b.epoch));
        const hole = drawCutout(42n, 8, image, b.epoch, 32, 0.5);
        expect(r.cutout.slice(4 * row, 4 * row + 4)).toEqual(hole.box);
        expect(r.cutoutColor.slice(3 * row, 3 * row + 3)).toEqual(hole.color);
        expect(r.mixKind[row]).toBe(1);
        expect(r.mixBox.slice(4 * row, 4 * row + 4)).toEqual(box);
        expect(r.lambda[row]).toBe(Math.fround(1 - (box[2] * box[3]) / 1024));
      }
    }
  });

  test('a batch drawn alone is the batch drawn among others, from either form of sizes', () => {
    const all = drawRecipes(three, options);
    const sizes = (i: number) => [SIZES[2 * i]!, SIZES[2 * i + 1]!] as const;
    for (let s = 0; s < 3; s++)
      expect(read(drawRecipes([three[s]!], { ...options, sizes }))).toEqual(read(sliceRecipes(all, s, s + 1)));
  });

  test('mixup: one weight for a batch, the partners of its permutation, no box', () => {
    const r = read(drawRecipes(three, { ...options, augment: { ...augment, mix: 'mixup' } }));
    for (const [s, b] of three.entries()) {
      const [first, n] = [r.offset[s]!, b.indices.length];
      expect(r.mixIndex.slice(first, first + n)).toEqual(Array.from(permutation(42n, 5, b.batch, b.epoch, n)));
      expect(r.lambda.slice(first, first + n)).toEqual(Array(n).fill(drawMixup(42n, b.batch, b.epoch)));
    }
    expect(new Set(r.lambda).size).toBe(3);
    expect([new Set(r.mixKind), new Set(r.mixBox)]).toEqual([new Set([2]), new Set([0])]);
  });

  test('without any augmentation: whole images, own partner, empty boxes, lambda 1', () => {
    const r = read(drawRecipes(three, { ...options, augment: { crop: null, flip: false, cutout: 0, mix: 'none' } }));
    expect(r.crop.slice(0, 12)).toEqual([0, 0, 64, 64, 0, 0, 64, 64, 0, 0, 224, 200]);
    expect(r.mixIndex).toEqual([0, 1, 2, 0, 1, 0, 1, 2]);
    expect(new Set([...r.flip, ...r.cutout, ...r.cutoutColor, ...r.mixKind, ...r.mixBox])).toEqual(new Set([0]));
    expect(new Set(r.lambda)).toEqual(new Set([1]));
  });

  test('teacher training draws from other streams than labels', () => {
    const label = read(drawRecipes(three, options));
    const train = read(drawRecipes(three, { ...options, purposes: TRAIN_STREAMS }));
    expect(train.crop).not.toEqual(label.crop);
    expect(train.cutout).not.toEqual(label.cutout);
    expect(Array.from(epochOrder(1n, TRAIN_STREAMS.order, 0, 50))).not.toEqual(
      Array.from(epochOrder(1n, LABEL_STREAMS.order, 0, 50)),
    );
  });

  test('an image outside the store and an empty batch are refused', () => {
    for (const index of [5, -1])
      expect(() => drawRecipes([batch([index], 0, 0)], options)).toThrowError(refusal('E_MISMATCH'));
    expect(() => drawRecipes([batch([], 0, 0)], options)).toThrowError(refusal('E_INTERNAL'));
  });

  test('epochOrder is the permutation of its epoch', () => {
    expect(Array.from(epochOrder(42n, 1, 1, 10))).toEqual([0, 8, 4, 5, 9, 2, 3, 7, 6, 1]);
  });
});

describe('sliceRecipes, evaluationRecipes', () => {
  test('slices one after the other are the whole', () => {
    const all = read(drawRecipes(three, options));
    const parts = [
      [0, 1],
      [1, 1],
      [1, 3],
    ].map(([s0, s1]) => read(sliceRecipes(drawRecipes(three, options), s0!, s1!)));
    for (const name of Object.keys(RECIPE_FIELDS) as (keyof typeof RECIPE_FIELDS)[])
      expect(parts.flatMap((part) => [...part[name]])).toEqual([...all[name]]);
    expect(parts.map((part) => part.offset.at(-1))).toEqual([all.offset[1], 0, all.offset[3]! - all.offset[1]!]);
  });

  test('a slice of a slice and an empty slice have consistent shapes', () => {
    const all = drawRecipes(three, options);
    expect(read(sliceRecipes(sliceRecipes(all, 1, 3), 1, 2))).toEqual(read(sliceRecipes(all, 2, 3)));
    const none = sliceRecipes(all, 2, 2);
    expect(read(none).offset).toEqual([0]);
    expect(none.crop).toEqual(tensor('I32', [0, 4], new Int32Array(0)));
  });

  test.each([
    [-1, 1],
    [2, 1],
    [0, 4],
    [Number.NaN, 1],
  ])('refuses batches %d..%d of three', (s0, s1) => {
    expect(() => sliceRecipes(drawRecipes(three, options), s0, s1)).toThrowError(refusal('E_INTERNAL'));
  });

  test('evaluation shows every image once, in order and whole', () => {
    const r = read(evaluationRecipes(5, SIZES, 2));
    expect(r.offset).toEqual([0, 2, 4, 5]);
    expect(r.index).toEqual([0, 1, 2, 3, 4]);
    expect(r.crop.slice(4, 12)).toEqual([0, 0, 32, 48, 0, 0, 50, 20]);
    expect(new Set([...r.flip, ...r.mixKind])).toEqual(new Set([0]));
  });

  test('evaluation of the central square', () => {
    const r = read(evaluationRecipes(5, SIZES, 2, { center: 0.875 }));
    expect(r.crop.slice(4, 12)).toEqual([2, 10, 28, 28, 16, 1, 18, 18]);
    expect(() => evaluationRecipes(1, SIZES, 1, { center: 0 })).toThrowError(refusal('E_CONFIG'));
  });
});
