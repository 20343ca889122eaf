// Teachers in evaluation and in train mode, alone and in ensembles: raw answers against PyTorch's float64, and the relabel
// stage that is given further teachers by its config.

import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { LabelStore } from '../src/labels.ts';
import type { AnswerSpec, NativeImageStore, NativeModel } from '../src/native.ts';
import { evaluationRecipes } from '../src/recipe.ts';
import { type RunOptions, resolveRuntime, runStage } from '../src/run.ts';
import { openTeachers } from '../src/stages/teachers.ts';
import { halfValue } from './reference/half.ts';
import { golden, goldenTensor } from './util/golden.ts';
import { refusal } from './util/hostile.ts';
import { EXACT, goldenModel, native, ops, quiet } from './util/native.ts';
import { f32, imageBytes, values } from './util/tensors.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';
import { expectClose, TOLERANCE } from './util/tolerance.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

describe('answers of ResNet-18 to six images in batches of four and two', () => {
  const file = golden('teachers');
  const { size, mean, std } = file.info as { size: number; mean: number; std: number };
  let one: NativeModel;
  let two: NativeModel;
  let store: NativeImageStore;
  beforeAll(() => {
    one = goldenModel('resnet18-small');
    two = goldenModel('resnet18-small');
    const weights = two.stateDict();
    const scaled = (name: string, by: number) => {
      const held = weights[name]!;
      weights[name] = f32(
        held.shape,
        values(held).map((value) => by * value),
      );
    };
    scaled('conv1.weight', -1);
    scaled('fc.weight', 3);
    two.loadStateDict(weights);
    store = native().createImageStore({ channels: 3, device: 'cpu' });
    for (let i = 0; i < 6; i++) {
      const spec = { height: size, width: size, resize: 'none', size: 0, centerCrop: 0 } as const;
      store.append(imageBytes([size, size, 3], 700 + i), Int32Array.of(0), spec);
    }
  });
  afterAll(() => {
    for (const handle of [one, two, store]) handle?.dispose();
  });

  const answers = async (models: NativeModel[], change: Partial<AnswerSpec> = {}): Promise<number[]> => {
    const spec: AnswerSpec = {
      ...EXACT,
      recipes: evaluationRecipes(6, () => [size, size], 4),
      input: { size, normalize: ops().normalizeTable(f32([3], Array(3).fill(mean)), f32([3], Array(3).fill(std))) },
      ensemble: 'mean',
      teacherMode: 'eval',
      features: false,
      ...change,
    };
    return [...values((await native().answer(models, store, spec, quiet).promise).logits)];
  };

  test.each(['eval', 'train'] as const)('%s mode: alone, mean and norm-mean equal PyTorch', async (teacherMode) => {
    const wanted = (key: string) => values(goldenTensor(file, key));
    const near = (name: string, got: number[], key: string) =>
      expectClose(name, got, wanted(key), TOLERANCE.loop, file.provenance);
    near('alone', await answers([one], { teacherMode }), teacherMode);
    near('mean', await answers([one, two], { teacherMode }), `${teacherMode}/mean`);
    near('norm-mean', await answers([one, two], { teacherMode, ensemble: 'norm-mean' }), `${teacherMode}/norm-mean`);
    expect(Math.abs(wanted('eval')[0]! - wanted('train')[0]!)).toBeGreaterThan(0.01); // the modes can be told apart
  });

  test('train mode moves nothing: the weights and the answers in evaluation mode stay as they were', async () => {
    const [weights, before] = [one.stateDict(), await answers([one])];
    await answers([one], { teacherMode: 'train' });
    const moved = Object.entries(one.stateDict()).filter(
      ([name, { data }]) => !Buffer.from(data).equals(weights[name]!.data),
    );
    expect(moved.map(([name]) => name)).toEqual([]);
    expect(await answers([one])).toEqual(before);
  });

  test('train mode depends on the batch, evaluation mode does not', async () => {
    const alone = { recipes: evaluationRecipes(6, () => [size, size], 1) };
    expectClose('eval', await answers([one], alone), await answers([one]), TOLERANCE.F32);
    const [single, together] = [
      await answers([one], { ...alone, teacherMode: 'train' }),
      values(goldenTensor(file, 'train')),
    ];
    expect(Math.max(...single.map((z, i) => Math.abs(z - together[i]!)))).toBeGreaterThan(0.01);
  });
});

describe('relabel', () => {
  let root = '';
  const folder = (name: string): string => join(root, name);
  const make = (name: string, relabel: Record<string, unknown> = {}, options: Partial<RunOptions> = {}) =>
    runStage('relabel', tiny({ relabel: { epochs: 4, recordsPerShard: 3, ...relabel } }), {
      ...optionsOf(folder(name), options),
      inputs: inputsIn(root, 'relabel', []),
    });
  const squeeze = (name: string, change: Record<string, unknown>) =>
    runStage('squeeze', tiny(change), { ...optionsOf(folder(name)), inputs: {} });

  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'lpld-teachers-'));
    await makeChain(root, tiny(), ['squeeze', 'synthesize']);
    await squeeze('second', { seed: 1 });
    await squeeze('third', { seed: 2, squeeze: { widths: [6] } }); // another architecture
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  test('an ensemble answers with the mean of its teachers; their ids are inputs, their folders are not', async () => {
    const ensemble = [folder('second'), folder('third')];
    const made = await make('three', { ensemble });
    const ids = await Promise.all(
      ['squeeze', ...['second', 'third']].map(async (d) => (await openArtifact(folder(d))).id),
    );
    const { teacher, teacher2, teacher3 } = made.manifest.inputs;
    expect([teacher, teacher2, teacher3]).toEqual(ids);
    await cp(folder('second'), folder('elsewhere'), { recursive: true });
    expect((await make('moved', { ensemble: [folder('elsewhere'), folder('third')] })).id).toBe(made.id);
    expect((await make('swapped', { ensemble: [...ensemble].reverse() })).id).not.toBe(made.id);
    expect((await make('fewer', { ensemble: [folder('second')] })).manifest.key).not.toBe(made.manifest.key);
    expect(await made.readJson('labels.json')).toMatchObject({ teachers: { count: 3, mode: 'eval', combine: 'mean' } });

    const logits = async (artifact: string): Promise<number[]> => {
      await using labels = await LabelStore.open(await openArtifact(folder(artifact)));
      const { tensors, recordIds } = await labels.readRecords(Int32Array.of(2));
      expect([...recordIds]).toEqual([2]);
      return Array.from(new Uint16Array(tensors.logits!.data.slice().buffer), halfValue);
    };
    await make('one');
    const parts = [await logits('one')];
    for (const name of ['second', 'third']) {
      const inputs = { ...inputsIn(root, 'relabel', []), teacher: folder(name) };
      const config = tiny({ relabel: { epochs: 4, recordsPerShard: 3 } });
      await runStage('relabel', config, { ...optionsOf(folder(`only-${name}`)), inputs });
      parts.push(await logits(`only-${name}`));
    }
    const mean = parts[0]!.map((z, i) => (z + parts[1]![i]! + parts[2]![i]!) / 3);
    expectClose('mean of three', await logits('three'), mean, 2e-3); // rounded to f16 before and after
  });

  test('train mode and norm-mean make other labels, recorded in labels.json and equal when made again', async () => {
    const ensemble = [folder('second')];
    const plain = await make('pair', { ensemble });
    for (const change of [{ teacherMode: 'train' }, { combine: 'norm-mean' }]) {
      const name = Object.values(change)[0]!;
      const made = await make(name, { ensemble, ...change });
      const { teachers } = await made.readJson<{ teachers: object }>('labels.json');
      expect(teachers).toEqual({ count: 2, mode: change.teacherMode ?? 'eval', combine: change.combine ?? 'mean' });
      const shards = (of: typeof made) => Object.entries(hashesOf(of)).filter(([path]) => path.startsWith('shard'));
      expect(shards(made)).not.toEqual(shards(plain));
      expect((await make(`${name}-again`, { ensemble, ...change })).id).toBe(made.id);
    }
  });

  test('a record is labelled in train mode alike in the whole store and in a pruned one', async () => {
    const whole = await make('all', { teacherMode: 'train', recipes: 'explicit' });
    const half = await make('half', {
      teacherMode: 'train',
      recipes: 'explicit',
      pruneRatio: 0.5,
      keep: 'random-batches',
    });
    await using all = await LabelStore.open(whole);
    await using some = await LabelStore.open(half);
    expect(some.numRecords).toBe(4);
    for (const [position, id] of some.recordIds.entries()) {
      const same = await all.readRecords(Int32Array.of(all.recordIds.indexOf(id)));
      expect(await some.readRecords(Int32Array.of(position))).toEqual(same);
    }
  });

  test.each([
    ['other classes', { dataset: { classes: [0, 1, 3] } }, 'classNames'],
    ['another input size', { dataset: { inputSize: 10 } }, 'inputSize'],
    ['another normalisation', { dataset: { mean: [0.1] } }, 'mean'],
  ])('a further teacher of %s is refused', async (what, change, fact) => {
    await squeeze(`odd ${what}`, change);
    const error = await refusal(() => make(`with ${what}`, { ensemble: [folder(`odd ${what}`)] }));
    expect([error.code, error.details.path]).toEqual(['E_MISMATCH', folder(`odd ${what}`)]);
    expect(error.message).toContain(`teachers of equal ${fact}`);
  });

  test('a further teacher that is no squeeze, or no artifact, is refused by the key of the config', async () => {
    const images = await refusal(() => make('images', { ensemble: [folder('synthesize')] }));
    expect([images.code, images.message]).toEqual(['E_MISMATCH', expect.stringContaining('relabel.ensemble')]);
    expect((await refusal(() => make('nothing', { ensemble: [folder('nowhere')] }))).code).toBe('E_DATA');
  });

  test('teachers keep the order of the config past nine of them', async () => {
    const squeezed = await openArtifact(folder('squeeze'));
    const roles = Array.from({ length: 11 }, (_, i) => (i === 0 ? 'teacher' : `teacher${i + 1}`));
    const inputs = Object.fromEntries(roles.toSorted().map((role) => [role, squeezed]));
    inputs.teacher11 = await openArtifact(folder('third'));
    const { load } = await openTeachers(inputs);
    using models = await load(native(), resolveRuntime(optionsOf(root)));
    expect(models.all.map((model) => model.normLayers.length)).toEqual([...Array(10).fill(2), 1]);
  });
});
