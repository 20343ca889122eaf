// Static labels: one label per image, the teacher's answer to the whole, unaugmented image, and students that meet these
// records again every epoch. Also the other augmentations of relabel, as far as its stage decides about them.

import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { loadNative } from '../src/addon.ts';
import { openArtifact } from '../src/artifact.ts';
import { openSyntheticSet } from '../src/datasets/synthetic-set.ts';
import { LabelStore } from '../src/labels.ts';
import { stageNamed } from '../src/pipeline.ts';
import { labelPlan } from '../src/plan.ts';
import { resolveRuntime, runStage } from '../src/run.ts';
import { loadStore } from '../src/stages/images.ts';
import { poolPositions } from '../src/stages/pool.ts';
import { type DatasetFacts, inputSpec, loadTeacher } from '../src/stages/shared.ts';
import { augmentTable } from '../src/stages/training.ts';
import { arrayOf, tensor } from '../src/tensor.ts';
import { halves } from './util/codes.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const STATIC = { epochs: 1, cropScale: null, flip: false, mix: 'none', dropLast: false, batch: 4 };
const config = (relabel: Record<string, unknown> = {}, train: Record<string, unknown> = {}) =>
  tiny({ relabel: { ...STATIC, ...relabel }, train: { epochs: 12, lr: 0.01, ...train } });
let root = '';

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-static-'));
  await makeChain(root, config(), ['squeeze', 'synthesize']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

const relabel = (folder: string, options: Record<string, unknown> = {}) =>
  runStage('relabel', config(options), { ...optionsOf(join(root, folder)), inputs: inputsIn(root, 'relabel', []) });

const train = (folder: string, labels: string, of = config()) =>
  runStage('train', of, {
    ...optionsOf(join(root, folder)),
    inputs: { images: join(root, 'synthesize'), labels: join(root, labels) },
  });

test('every image has one label: the teacher on the whole image as it is', async () => {
  await relabel('static', { recipes: 'explicit' });
  await using labels = await LabelStore.open(await openArtifact(join(root, 'static')));
  expect([...labels.recordIds]).toEqual([0, 1]); // 6 images in batches of 4 and 2
  const { recipes, tensors } = await labels.readRecords(Int32Array.of(0, 1));
  const index = [...arrayOf(recipes!.index, 'I32')];
  expect(index.toSorted()).toEqual([0, 1, 2, 3, 4, 5]);

  const native = loadNative();
  const runtime = resolveRuntime(optionsOf(root));
  const squeezed = await openArtifact(join(root, 'squeeze'));
  const set = await openSyntheticSet(join(root, 'synthesize'));
  const teacher = await loadTeacher(native, runtime, squeezed);
  const store = await loadStore({ native, runtime }, set.train, set.channels);
  const { size, normalize } = inputSpec(native, await squeezed.readJson<DatasetFacts>('dataset.json'));
  const table = arrayOf(normalize, 'F32');
  const x = index.flatMap((image) => Array.from(store.image(image).data, (level) => table[level]!));
  const logits = native.ops.forward(teacher, tensor('F32', [6, 1, size, size], Float32Array.from(x)), 'fp32');
  expect(halves(logits.shape, arrayOf(logits, 'F32'))).toEqual(tensors);
  store.dispose();
  teacher.dispose();
});

test('students meet the same records in order every epoch, and learn from them', async () => {
  await relabel('again');
  await using labels = await LabelStore.open(await openArtifact(join(root, 'again')));
  const plan = labelPlan({ images: 6, batch: 4, epochs: 1, pruneRatio: 0, dropLast: false, keep: 'prefix', seed: 1n });
  expect(plan.recordIds).toEqual(labels.recordIds);
  const pool = { plan, seed: 1n, augment: augmentTable.parse(labels.index.augment), labels };
  const positions = poolPositions(pool, { seed: 9n, draw: 'auto', lastBatchRule: true, first: 0, last: 7 });
  expect([...positions]).toEqual([0, 1, 0, 1, 0, 1, 0]);
  const artifact = await train('train', 'again');
  expect(artifact.manifest.summary).toMatchObject({ steps: 24 });
  const { series } = await artifact.readJson<{ series: { points: [number, number][] }[] }>('curves.json');
  const losses = series[0]!.points.map(([, loss]) => loss);
  expect(losses.length).toBe(12);
  expect(losses.at(-1)!).toBeLessThan(0.5 * losses[0]!);
});

test('a store that drops its short last batch leaves images without a label', async () => {
  await relabel('dropped', { dropLast: true, recipes: 'explicit' });
  await using labels = await LabelStore.open(await openArtifact(join(root, 'dropped')));
  const { recipes } = await labels.readRecords(Int32Array.of(0));
  expect([labels.numRecords, new Set(arrayOf(recipes!.index, 'I32')).size]).toEqual([1, 4]);
});

test.each(['cutmix', 'mixup', 'none'])(
  'cutout with %s: stored and derived Recipes make equal students',
  async (mix) => {
    const made: Record<string, string>[] = [];
    for (const recipes of ['explicit', 'derived'] as const) {
      const options = { recipes, mix, cutout: 0.5, cropScale: [0.5, 1], epochs: 3 };
      const labels = await relabel(`${mix}-${recipes}`, options);
      expect((await labels.readJson<{ augment: object }>('labels.json')).augment).toEqual({
        cropScale: [0.5, 1],
        flip: false,
        cutout: 0.5,
        mix,
      });
      made.push(hashesOf(await train(`train-${mix}-${recipes}`, `${mix}-${recipes}`, config(options))));
    }
    expect(made[1]).toEqual(made[0]);
  },
);

test('every augmentation decides the key of students with hard labels, none that of students with soft ones', () => {
  const { identity } = stageNamed('train');
  const changes = [{ cropScale: [0.1, 1] }, { flip: true }, { cutout: 0.1 }, { mix: 'mixup' }];
  const keys = (targets: string) =>
    [{}, ...changes].map((change) => JSON.stringify(identity(config(change, { targets }))));
  expect(Object.keys(augmentTable.shape).sort()).toEqual(changes.flatMap((change) => Object.keys(change)).sort());
  expect([new Set(keys('hard')).size, new Set(keys('soft')).size]).toEqual([changes.length + 1, 1]);
});

test('labels.json from before cutout reads as no cutout', () => {
  expect(augmentTable.parse({ cropScale: null, flip: false, mix: 'none' }).cutout).toBe(0);
});

test('an augmentation nobody knows is E_DATA', async () => {
  await relabel('broken');
  const file = join(root, 'broken', 'labels.json');
  await writeFile(file, (await readFile(file, 'utf8')).replace('"none"', '"nine"'));
  await expect(train('train-broken', 'broken')).rejects.toMatchObject({ code: 'E_DATA', details: { path: file } });
});
