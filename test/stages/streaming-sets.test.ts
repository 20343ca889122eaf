// Synthetic sets larger than the memory budget: labels, fitted codecs and students of a streamed set are those of a set in
// memory, byte for byte, whatever names images by their number: dither, predictions of the delta codec, stored Recipes.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Config } from '../../src/config.ts';
import { runStage } from '../../src/run.ts';
import type { StageName } from '../../src/stages/types.ts';
import { watchHandles } from '../util/handle-watch.ts';
import { refusal } from '../util/hostile.ts';
import { hashesOf, makeChain, optionsOf, RUNTIME, tiny, watching } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

const SET = { synthesize: { ipc: 8, iterations: 8 }, squeeze: { epochs: 1 } }; // 24 images of 64 bytes
const LITTLE = 700; // bytes: two stores of five images
const label = (change: object, more: object = {}): Config =>
  tiny({ ...SET, relabel: { batch: 3, epochs: 4, recordsPerShard: 5, ...change }, ...more });

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-streaming-sets-'));
  await makeChain(root, label({}), ['squeeze', 'synthesize']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

let serial = 0;
async function made(stage: StageName, config: Config, memory: number, labels = '') {
  const { sink, steps } = watching();
  const out = join(root, `${stage}-${++serial}`);
  const inputs = {
    teacher: join(root, 'squeeze'),
    images: join(root, 'synthesize'),
    ...(labels === '' ? {} : { labels }),
  };
  const artifact = await runStage(stage, config, {
    ...optionsOf(out, { progress: sink, runtime: { ...RUNTIME, memory } }),
    inputs,
  });
  const streamed = steps.filter((step) => step.what === 'log' && step.line.startsWith('streaming')).length;
  return { id: artifact.id, files: hashesOf(artifact), dir: out, streamed };
}

describe('relabel', () => {
  test.each<[string, object]>([
    ['dense, CutMix', {}],
    ['dense, mixup, cutouts, stored Recipes', { mix: 'mixup', cutout: 0.3, recipes: 'explicit' }],
    ['teacher in train mode, a short last batch', { teacherMode: 'train', batch: 5, dropLast: false, mix: 'none' }],
    ['features', { codec: 'features' }],
    ['klt, whose dither is drawn by image', { codec: 'klt:3' }],
    ['delta, which predicts from whole images', { codec: 'delta:3', recipes: 'explicit' }],
    ['delta fitted to few records', { codec: 'delta:3', fitRecords: 2 }],
    ['a pool pruned at random', { pruneRatio: 0.4, keep: 'random-batches' }],
  ])('%s', async (_, change) => {
    const config = label(change);
    const whole = await made('relabel', config, 2 ** 30);
    const parts = await made('relabel', config, LITTLE);
    expect([whole.streamed, parts.streamed]).toEqual([0, 1]);
    expect(parts.files).toEqual(whole.files);
    expect(parts.id).toBe(whole.id);
  });

  test('stopped half-way it goes on to the same labels, and leaves no store', async () => {
    const config = label({ codec: 'delta:3', epochs: 12 });
    const whole = await made('relabel', config, 2 ** 30);
    const watch = watchHandles();
    const controller = new AbortController();
    const { sink } = watching(({ label: phase, what, done, total }) => {
      if (phase === 'soft labels' && what === 'update' && done > total / 2) controller.abort();
    });
    const options = {
      ...optionsOf(join(root, 'stopped'), { runtime: { ...RUNTIME, memory: LITTLE } }),
      inputs: { teacher: join(root, 'squeeze'), images: join(root, 'synthesize') },
    };
    const error = await refusal(() =>
      runStage('relabel', config, { ...options, progress: sink, signal: controller.signal }),
    );
    expect(error.code).toBe('E_CANCELLED');
    expect(watch.live()).toEqual([]);
    expect((await runStage('relabel', config, options)).id).toBe(whole.id);
    expect(watch.live()).toEqual([]);
  });

  test('a batch over half the budget is refused with what to do', async () => {
    const error = await refusal(() => made('relabel', label({ batch: 12 }), LITTLE));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'memory', memory: LITTLE } });
    expect(error.message).toMatch(/a batch of at most 350 B.*\n.*--memory/);
  });
});

describe('train', () => {
  test.each<[string, object, object]>([
    ['derived Recipes, drawn from a full pool', {}, {}],
    ['stored Recipes, drawn at random', { recipes: 'explicit' }, { draw: 'with-replacement' }],
    ['labels of delta, from a pruned pool', { codec: 'delta:3', recipes: 'explicit', pruneRatio: 0.4 }, {}],
    ['labels of klt, two students', { codec: 'klt:3' }, { students: 2, draw: 'permutation' }],
    ['hard labels', {}, { targets: 'hard' }],
  ])('%s', async (_, relabel, train) => {
    const config = label(relabel, { train: { epochs: 3, ...train } });
    const { dir } = await made('relabel', config, 2 ** 30);
    const whole = await made('train', config, 2 ** 30, dir);
    const parts = await made('train', config, LITTLE, dir);
    expect([whole.streamed, parts.streamed]).toEqual([0, 1]);
    expect(parts.files).toEqual(whole.files);
    expect(parts.id).toBe(whole.id);
  });
});
