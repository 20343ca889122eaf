// Label stores of every codec the addon knows, made by the writer of this package: the good files of the store and native
// targets. Twelve images of five classes at 8 px, two label epochs of three records, two shards.

import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { HEADER, pixels } from './sets.mjs';

/** @import { AnswerSpec, Execution, NativeBinding } from '../../dist/native.js' */
/** @import { Load } from './worker.mjs' */

export const [SIZE, IMAGES, CLASSES, BATCH, EPOCHS] = [8, 12, 5, 4, 2];
export const quiet = () => {};
/** @type {Execution} */
export const EXECUTION = { precision: 'fp32', threads: 1, deterministic: true };
/** @typedef {Awaited<ReturnType<typeof openRoom>>} Room */

const AUGMENT = { cropScale: [0.5, 1], flip: true, cutout: 0, mix: 'cutmix' };
const SEED = 7n;

/**
 * The addon with a model, a store of images and Recipes for all records.
 *
 * @param {Load} load
 */
export async function openRoom(load) {
  const { loadNative } = await load('addon');
  const { labelPlan, recordBatches } = await load('plan');
  const { drawRecipes, evaluationRecipes, LABEL_STREAMS } = await load('recipe');
  const { augmentSpec, augmentTable } = await load('stages/training');
  const { tensor } = await load('tensor');
  const native = loadNative();
  const model = native.createModel({
    arch: 'convnet',
    numClasses: CLASSES,
    inChannels: 3,
    inputSize: SIZE,
    options: { stem: 'small', widths: [4], pooling: 'avg' },
    device: 'cpu',
    seed: 1n,
  });
  const images = native.createImageStore({ channels: 3, device: 'cpu' });
  const bytes = Uint8Array.from(Array.from({ length: IMAGES }, (_, i) => [...pixels(i, SIZE, SIZE, 3)]).flat());
  const classIds = Int32Array.from({ length: IMAGES }, (_, i) => i % CLASSES);
  images.append(bytes, classIds, { height: SIZE, width: SIZE, resize: 'none', size: 0, centerCrop: 0 });
  const sizes = new Int32Array(2 * IMAGES).fill(SIZE);
  /** @type {Omit<import('../../dist/plan.js').LabelPlanOptions, 'seed'>} */
  const planned = { images: IMAGES, batch: BATCH, epochs: EPOCHS, pruneRatio: 0, dropLast: true, keep: 'prefix' };
  const plan = labelPlan({ ...planned, seed: SEED });
  const augment = augmentTable.parse(AUGMENT);
  const recipes = drawRecipes(recordBatches(plan, SEED, plan.recordIds), {
    seed: SEED,
    augment: augmentSpec(augment),
    sizes,
    inputSize: SIZE,
    purposes: LABEL_STREAMS,
  });
  const normalize = tensor(
    'F32',
    [3, 256],
    Float32Array.from({ length: 768 }, (_, i) => (i % 256) / 128 - 1),
  );
  const input = { size: SIZE, normalize };
  const whole = evaluationRecipes(IMAGES, sizes, BATCH);
  return { native, model, images, sizes, whole, plan, planned, augment, recipes, input, seed: SEED };
}

/**
 * The labels of all records in one codec.
 *
 * @param {Room} room
 */
export async function labelsOf(room, codec) {
  const { native, model, images, plan, recipes, input, seed } = room;
  const { plan: _, ...code } = { plan, codec, basis: {}, recordIds: idsOf(plan.recordIds), seed };
  const needs = native.codecNeeds(codec);
  /** @type {AnswerSpec} */
  const asked = { ...EXECUTION, recipes, input, ensemble: 'mean', teacherMode: 'eval', features: needs.features };
  const answers = await native.answer([model], images, asked, quiet).promise;
  const spec = { ...code, threads: 1, numClasses: CLASSES, recipes };
  const wholeImages = { ...asked, recipes: room.whole };
  const whole = needs.whole ? await native.answer([model], images, wholeImages, quiet).promise : null;
  const known = { sample: needs.sample ? answers : null, whole };
  const { basis } = await native.fitCodec([model], { ...spec, ...known }, quiet).promise;
  return { basis, spec: { ...spec, basis }, ...(await native.encode({ ...spec, basis, ...answers }, quiet).promise) };
}

/** @returns {import('../../dist/tensor.js').TensorView} */
export const idsOf = (ids) => ({
  dtype: 'I32',
  shape: [ids.length],
  data: new Uint8Array(Int32Array.from(ids).buffer),
});

/**
 * Writes a label store to `out`. `blobs`: one is added where the codec has none.
 *
 * @param {Load} load
 * @param {Room} room
 * @returns its files by name
 */
async function writeStore(load, room, out, { codec, explicit, blobs }) {
  const { openDraft } = await load('artifact');
  const { LabelWriter } = await load('labels');
  const made = await labelsOf(room, codec);
  const { plan, recipes, planned, augment, seed } = room;
  const draft = await openDraft(out, HEADER);
  const writer = await LabelWriter.open(draft, {
    codec,
    recipes: explicit ? 'explicit' : 'derived',
    numClasses: CLASSES,
    recordsPerShard: 4,
    batch: BATCH,
    inputSize: SIZE,
    seed: String(seed),
    streamVersion: 1,
    augment,
    plan: planned,
  });
  await writer.writeBasis(made.basis);
  const ends = BigInt64Array.from([0, 3, 3, 8, 9, 20, 24], BigInt);
  /** @returns {import('../../dist/tensor.js').TensorView} */
  const view = (dtype, array) => ({ dtype, shape: [array.length], data: new Uint8Array(array.buffer) });
  const extra = { data: view('U8', new Uint8Array(24).fill(65)), offset: view('I64', ends) };
  await writer.append({
    recordIds: plan.recordIds,
    offset: recipes.offset,
    recipes: explicit ? recipes : null,
    tensors: made.tensors,
    blobs: made.blobs ?? (blobs ? extra : null),
  });
  await writer.finish();
  await draft.publish({ codec });
  const files = {};
  for (const name of await readdir(out))
    if (name !== 'run.json') files[name] = new Uint8Array(await readFile(join(out, name)));
  return { dir: out, codec, files };
}

/**
 * A store of every codec, and two more: with stored Recipes, and with a run of bytes beside the rows.
 *
 * @param {Load} load
 * @param {Room} room
 */
export async function makeStores(load, room, dir) {
  await mkdir(dir, { recursive: true });
  const kinds = room.native.codecs().map((codec) => ({ codec, explicit: false, blobs: false }));
  kinds.push(
    { codec: 'dense:f16', explicit: true, blobs: false },
    { codec: 'dense:int8', explicit: false, blobs: true },
  );
  const stores = [];
  for (const [i, kind] of kinds.entries()) stores.push(await writeStore(load, room, join(dir, `store-${i}`), kind));
  return stores;
}
