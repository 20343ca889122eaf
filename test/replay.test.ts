// The student sees exactly the pixels the teacher labelled. Native code hashes the uint8 pixels and the mix fields of
// every batch it feeds; labelling and training must give equal hashes for equal Recipes, whether those were drawn again
// or stored, and other hashes for any change of a Recipe.

import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { loadNative } from '../src/addon.ts';
import { openArtifact } from '../src/artifact.ts';
import { openSyntheticSet } from '../src/datasets/synthetic-set.ts';
import { LabelStore } from '../src/labels.ts';
import type { InputSpec, NativeImageStore, NativeModel, Recipes, TrainSpec } from '../src/native.ts';
import { labelPlan, recordBatches } from '../src/plan.ts';
import { drawRecipes, LABEL_STREAMS } from '../src/recipe.ts';
import { resolveRuntime, runStage } from '../src/run.ts';
import { loadStore } from '../src/stages/images.ts';
import { type DatasetFacts, inputSpec, loadTeacher, storeSizes } from '../src/stages/shared.ts';
import { augmentSpec } from '../src/stages/training.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../src/tensor.ts';
import { denseCode } from './util/codes.ts';
import { batchesOf, EXACT, quiet } from './util/native.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const config = tiny({
  dataset: { inputSize: 12, storedSize: 10 },
  relabel: { batch: 4, epochs: 6, recordsPerShard: 4, dropLast: false, recipes: 'explicit', cutout: 0.4 },
});
const seed = BigInt(config.seed);
const native = loadNative();
let root = '';
let teacher: NativeModel;
let store: NativeImageStore;
let input: InputSpec;
let explicit: LabelStore;

/** Draws the Recipes of some records again. */
function derived(recordIds: readonly number[]): Recipes {
  const { batch, epochs, dropLast, keep } = config.relabel;
  const plan = labelPlan({ images: store.count, batch, epochs, pruneRatio: 0, dropLast, keep, seed });
  return drawRecipes(recordBatches(plan, seed, recordIds), {
    seed,
    augment: augmentSpec(config.relabel),
    sizes: storeSizes(store),
    inputSize: input.size,
    purposes: LABEL_STREAMS,
  });
}

async function label(recipes: Recipes): Promise<{ pixelHash: string; tensors: TensorMap }> {
  return native.label(
    [teacher],
    store,
    {
      ...EXACT,
      recipes,
      input,
      ensemble: 'mean',
      teacherMode: 'eval',
      ...denseCode(recipes.offset.shape[0]! - 1),
      hashPixels: true,
    },
    quiet,
  ).promise;
}

/** One pass of a fresh student over the Recipes, soft or hard. */
async function train(recipes: Recipes, tensors: TensorMap | null): Promise<string> {
  const student = native.createModel({
    arch: 'convnet',
    numClasses: 3,
    inChannels: 1,
    inputSize: input.size,
    options: { stem: 'small', widths: [4], pooling: 'avg' },
    device: 'cpu',
    seed: 5n,
  });
  const steps = recipes.offset.shape[0]! - 1;
  const spec: TrainSpec = {
    ...EXACT,
    recipes,
    input,
    target:
      tensors === null
        ? { kind: 'hard', smoothing: 0 }
        : {
            kind: 'soft',
            ...denseCode(steps),
            tensors,
            blobs: null,
            temperature: 20,
            teacherTemperature: 20,
            lossScale: 1,
          },
    optimizer: {
      kind: 'sgd',
      lr: tensor('F64', [steps], new Float64Array(steps).fill(0.01)),
      momentum: 0.9,
      beta1: 0.9,
      beta2: 0.999,
      eps: 1e-8,
      weightDecay: 0,
      decay: 'matrices',
    },
    hashPixels: true,
  };
  const { pixelHash } = await native.train(student, store, spec, quiet).promise;
  student.dispose();
  return pixelHash;
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-replay-'));
  await makeChain(root, config, ['squeeze', 'synthesize', 'relabel']);
  const runtime = resolveRuntime(optionsOf(root));
  const squeezed = await openArtifact(join(root, 'squeeze'));
  teacher = await loadTeacher(native, runtime, squeezed);
  const set = await openSyntheticSet(join(root, 'synthesize'));
  store = await loadStore({ native, runtime }, set.train, set.channels);
  input = inputSpec(native, await squeezed.readJson<DatasetFacts>('dataset.json'));
  explicit = await LabelStore.open(await openArtifact(join(root, 'relabel')));
});

afterAll(async () => {
  await explicit?.close();
  await rm(root, { recursive: true, force: true });
});

const all = (): Int32Array => Int32Array.from(explicit.recordIds.keys());

test('teacher and student see the same pixels: Recipes drawn again, read from the store, soft and hard targets', async () => {
  expect(explicit.numRecords).toBe(12); // 6 images in batches of 4 and 2
  const records = await explicit.readRecords(all());
  const stored: Recipes = { ...records.recipes!, offset: records.offset };
  const drawn = derived([...explicit.recordIds]);
  for (const [name, view] of Object.entries(drawn)) expect(stored[name as keyof Recipes], name).toEqual(view);
  const teacherSaw = await label(drawn);
  expect(teacherSaw.pixelHash).toMatch(/^[0-9a-f]{16,}$/);
  expect((await label(stored)).pixelHash).toBe(teacherSaw.pixelHash);
  expect(await train(stored, records.tensors)).toBe(teacherSaw.pixelHash);
  expect(await train(drawn, teacherSaw.tensors)).toBe(teacherSaw.pixelHash);
  expect(await train(drawn, null)).toBe(teacherSaw.pixelHash);
});

test('a store with derived Recipes replays the pixels of the one that stored them, and holds the same labels', async () => {
  const other = tiny({ ...config, relabel: { ...config.relabel, recipes: 'derived' } });
  const options = { ...optionsOf(join(root, 'derived')), inputs: inputsIn(root, 'relabel', ['squeeze', 'synthesize']) };
  await using labels = await LabelStore.open(await runStage('relabel', other, options));
  const positions = Int32Array.of(7, 0, 3, 7); // the order of a student: any, with repeats
  const [mine, theirs] = [await labels.readRecords(positions), await explicit.readRecords(positions)];
  expect(mine.recipes).toBeNull();
  expect(mine.tensors).toEqual(theirs.tensors);
  const stored: Recipes = { ...theirs.recipes!, offset: theirs.offset };
  expect(await train(derived([...mine.recordIds]), mine.tensors)).toBe(await train(stored, theirs.tensors));
});

test('the train stage reads a pruned pool alike with derived and with stored Recipes: equal students', async () => {
  const made: Record<string, string>[] = [];
  for (const recipes of ['derived', 'explicit'] as const) {
    const own = tiny({
      ...config,
      relabel: { ...config.relabel, recipes, pruneRatio: 0.5, keep: 'random-batches' },
      train: { epochs: 6 },
    });
    const dir = join(root, `pool-${recipes}`);
    const { images, teacher: squeezed } = inputsIn(root, 'relabel', []) as { images: string; teacher: string };
    const labels = join(dir, 'relabel');
    await mkdir(dir);
    await runStage('relabel', own, { ...optionsOf(labels), inputs: { images, teacher: squeezed } });
    const students = await runStage('train', own, { ...optionsOf(join(dir, 'train')), inputs: { images, labels } });
    made.push(hashesOf(students));
  }
  expect(made[1]).toEqual(made[0]);
});

/** A copy of a tensor with one element changed. */
function changed(view: TensorView, at: number, to: (value: number) => number): TensorView {
  const data = view.data.slice();
  const copy = { ...view, data };
  const values = arrayOf(copy, view.dtype as 'I32' | 'U8');
  values[at] = to(values[at]!);
  return copy;
}

test('any change of what is seen changes the hash: crop, flip, cutout, image, partner, box, order of the batches', async () => {
  const recipes = derived([0, 2, 4]); // full batches
  const { pixelHash } = await label(recipes);
  const crops = arrayOf(recipes.crop, 'I32');
  const box = arrayOf(recipes.mixBox, 'I32');
  const row = 5; // in the second batch
  expect(box[4 * row + 2]! * box[4 * row + 3]!, 'the box of the batch has pixels').toBeGreaterThan(0);
  const side = input.size;
  const changes: Record<string, Partial<Recipes>> = {
    'crop height': {
      crop: changed(recipes.crop, 4 * row + 2, (h) => (h > 1 ? h - 1 : crops[4 * row]! > 0 ? 1 : h + 1)),
    },
    flip: { flip: changed(recipes.flip, row, (f) => 1 - f) },
    'cutout width': { cutout: changed(recipes.cutout, 4 * row + 3, (w) => w - 1) },
    'cutout colour': { cutoutColor: changed(recipes.cutoutColor, 3 * row, (level) => (level + 128) % 256) },
    image: { index: changed(recipes.index, row, (i) => (i + 1) % store.count) },
    partner: { mixIndex: changed(recipes.mixIndex, row, (i) => (i + 1) % 4) },
    'box place': {
      mixBox: changed(recipes.mixBox, 4 * row, (top) =>
        top > 0 ? top - 1 : top + box[4 * row + 2]! < side ? top + 1 : top,
      ),
    },
    'box height': { mixBox: changed(recipes.mixBox, 4 * row + 2, (h) => h - 1) },
    lambda: {
      lambda: {
        ...recipes.lambda,
        data: new Uint8Array(
          Float32Array.from(arrayOf(recipes.lambda, 'F32'), (l, i) => (i === row ? l / 2 : l)).buffer,
        ),
      },
    },
  };
  for (const [what, change] of Object.entries(changes))
    expect((await label({ ...recipes, ...change })).pixelHash, what).not.toBe(pixelHash);
  expect((await label(derived([2, 0, 4]))).pixelHash, 'order').not.toBe(pixelHash);
  expect((await label(derived([0, 2]))).pixelHash, 'fewer batches').not.toBe(pixelHash);
  expect((await label(derived([0, 2, 4]))).pixelHash, 'the same again').toBe(pixelHash);
});

test('a record labelled alone has the labels it has in the whole store', async () => {
  for (const position of [0, 1, 6, 11]) {
    const record = await explicit.readRecords(Int32Array.of(position));
    const alone = await label(derived([record.recordIds[0]!]));
    expect(alone.tensors).toEqual(record.tensors);
  }
  const whole = derived([...explicit.recordIds]);
  const { tensors } = await label(batchesOf(whole, 3, 5));
  const pair = await explicit.readRecords(Int32Array.of(3, 4));
  expect(tensors).toEqual(pair.tensors);
});
