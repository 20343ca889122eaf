// What both sides of the relabel bench work on: JPEG files (quality 75) of pictures with structure at all scales, the same
// files decoded into a store, a teacher whose BatchNorms are not the identity, and Recipes drawn as relabel draws them.

import { mkdirSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { decodeImage, encodeImage } from '../dist/datasets/images.js';
import { labelPlan, recordBatches } from '../dist/plan.js';
import { drawRecipes, LABEL_STREAMS } from '../dist/recipe.js';
import { uniforms } from '../dist/rng.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { vector } from './inputs.mjs';

const [SEED, SCALE] = [7, [0.08, 1]];
/** @import { NativeBinding } from '../dist/native.js' */
/** @import { AugmentSpec } from '../dist/recipe.js' */

const [MEAN, STD] = [
  [0.485, 0.456, 0.406],
  [0.229, 0.224, 0.225],
];

/**
 * One picture [size, size, channels]: noise at 4, 8, 16, ... px, the finer the weaker, as in photographs.
 *
 * @param {NativeBinding} binding
 */
function picture(binding, object, size, channels) {
  const sum = new Float32Array(size * size * channels);
  let [total, view] = [0, 0];
  for (let side = 4; side <= size; side *= 2) {
    const weight = 1 / side;
    const values = uniforms(1n, 19, object, view++, side * side * channels);
    const coarse = tensor(
      'U8',
      [side, side, channels],
      Uint8Array.from(values, (u) => Math.floor(256 * u)),
    );
    const fine = binding.ops.resizeBilinear(coarse, size, size).data;
    for (let i = 0; i < sum.length; i++) sum[i] += weight * fine[i];
    total += weight;
  }
  return Uint8Array.from(sum, (value) => value / total);
}

/**
 * Decodes the files 0.jpg .. into a fresh store, as a dataset's folder is opened.
 *
 * @param {NativeBinding} binding
 */
export async function decodeStore(binding, folder, { count, size, channels, classes, device }) {
  const store = binding.createImageStore({ channels, device });
  for (let i = 0; i < count; i++) {
    const path = join(folder, `${i}.jpg`);
    const { pixels, height, width } = await decodeImage(await readFile(path), path, channels);
    store.append(pixels, Int32Array.of(i % classes), { height, width, resize: 'none', size: 0, centerCrop: 0 });
  }
  if (store.count !== count || store.bytes !== count * size * size * channels)
    throw new Error('not the images written');
  return store;
}

/**
 * A teacher with its BatchNorms' tensors drawn: [low, low + 1).
 *
 * @param {NativeBinding} binding
 */
function createTeacher(binding, { arch, stem, widths, size, channels, classes, device }) {
  const model = binding.createModel({
    ...{ arch, numClasses: classes, inChannels: channels, inputSize: size, device, seed: 1n },
    options: { stem, widths, pooling: 'avg' },
  });
  const state = { ...model.stateDict() };
  const low = { weight: 0.5, bias: -0.5, running_mean: -0.5, running_var: 0.5 };
  for (const [i, { name, channels: width }] of model.normLayers.entries())
    for (const [k, [field, from]] of Object.entries(low).entries())
      state[`${name}.${field}`] = vector([...uniforms(1n, 19, 1000 + 4 * i + k, 0, width)].map((u) => from + u));
  model.loadStateDict(state);
  return model;
}

/**
 * Everything of a case: one batch of images, so that every batch is an epoch of its own. `recipes` draws those of all batches
 * anew, as a run of relabel does.
 *
 * @param {NativeBinding} binding
 */
export async function relabelInputs(binding, folder, setting) {
  const { size, channels, classes, batch, batches, device } = setting;
  const images = join(folder, 'images');
  mkdirSync(images, { recursive: true });
  const count = batch;
  for (let i = 0; i < count; i++)
    writeFileSync(
      join(images, `${i}.jpg`),
      await encodeImage(picture(binding, i, size, channels), size, size, channels, 'jpeg'),
    );
  const store = await decodeStore(binding, images, { count, size, channels, classes, device });
  const plan = labelPlan({
    ...{ images: count, batch, epochs: batches, pruneRatio: 0, dropLast: true, keep: 'prefix' },
    seed: BigInt(SEED),
  });
  const { recordIds } = plan;
  /** @type {AugmentSpec} */
  const augment = { crop: { scale: [SCALE[0], SCALE[1]] }, flip: true, cutout: 0, mix: 'cutmix' };
  const recipes = () =>
    drawRecipes(recordBatches(plan, BigInt(SEED), recordIds), {
      ...{ seed: BigInt(SEED), augment, sizes: () => [size, size], inputSize: size, purposes: LABEL_STREAMS },
    });
  const [mean, std] = [MEAN, STD].map((values) => values.slice(0, channels));
  return {
    ...{ images, store, plan, recordIds, recipes, scale: SCALE, mean, std, seed: SEED },
    model: createTeacher(binding, setting),
    input: { size, normalize: binding.ops.normalizeTable(vector(mean), vector(std)) },
  };
}

/**
 * Network input of every batch as floats [B, C, P, P], for the bare teacher.
 *
 * @param {NativeBinding} binding
 */
export function floatBatches(binding, { store, recipes, input }) {
  const all = recipes();
  const { shape, data } = binding.ops.renderBatch(store, all, input.size);
  const table = arrayOf(input.normalize, 'F32');
  const [, channels, height, width] = shape;
  const [plane, each] = [height * width, channels * height * width];
  const at = arrayOf(all.offset, 'I32');
  return Array.from(at.subarray(1), (end, s) => {
    const pixels = data.subarray(at[s] * each, end * each);
    const x = Float32Array.from(pixels, (level, i) => table[256 * (Math.floor(i / plane) % channels) + level]);
    return tensor('F32', [end - at[s], ...shape.slice(1)], x);
  });
}
