// keep: metric. The records kept against scores by the definitions, both ends, ties, the floor rule, a resume, what is
// drawn from the pool afterwards, and students that train on it.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Artifact, openArtifact } from '../src/artifact.ts';
import { openSyntheticSet } from '../src/datasets/synthetic-set.ts';
import { LabelStore } from '../src/labels.ts';
import { rankRecords } from '../src/plan.ts';
import { runStage } from '../src/run.ts';
import { codingRecipes, poolOf, poolPositions } from '../src/stages/pool.ts';
import { cutRatios, METRICS } from '../src/stages/prune-metric.ts';
import { arrayOf } from '../src/tensor.ts';
import { halfValue } from './reference/half.ts';
import { labelMetrics } from './reference/label-metrics.ts';
import { codingSpec } from './util/codes.ts';
import { refusal } from './util/hostile.ts';
import { f32, i32, u8 } from './util/tensors.ts';
import { hashesOf, makeChain, optionsOf, tiny, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const RECORDS = 40; // 20 epochs of a record of 4 images and one of 2
const base = { batch: 4, epochs: 20, recordsPerShard: 7, dropLast: false };
let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-metric-'));
  await makeChain(root, tiny({ relabel: base }), ['squeeze', 'synthesize', 'relabel']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

const inputs = (images = true) => ({
  labels: join(root, 'relabel'),
  ...(images ? { images: join(root, 'synthesize') } : {}),
});
const prune = (folder: string, options: Record<string, unknown>, images = true): Promise<Artifact> =>
  runStage('prune', tiny({ prune: { pruneRatio: 0.8, keep: 'metric', ...options } }), {
    ...optionsOf(join(root, folder)),
    inputs: inputs(images),
  });

/** Scores of all records of the full store by the definitions, from the f16 logits as they are stored. */
async function scoresByHand(): Promise<Record<string, number[]>> {
  await using store = await LabelStore.open(await openArtifact(join(root, 'relabel')));
  const all = await store.readRecords(Int32Array.from(store.recordIds.keys()));
  const recipes = codingRecipes(poolOf(store), all);
  const { labels } = (await openSyntheticSet(join(root, 'synthesize'))).train;
  const logits = Float64Array.from(arrayOf(all.tensors.logits!, 'F16'), halfValue);
  const own = arrayOf(recipes.index, 'I32').map((image) => labels[image]!);
  const offset = arrayOf(all.offset, 'I32');
  const of = labelMetrics(logits, 3, own, offset);
  const box = arrayOf(recipes.mixBox, 'I32');
  const cut = Array.from({ length: RECORDS }, (_, r) => (box[4 * offset[r]! + 2]! * box[4 * offset[r]! + 3]!) / 64);
  return { ...of, diff_signed: of.diffSigned, cut_ratio: cut };
}

describe.each(METRICS)('%s', (metric) => {
  test.each(['easy', 'hard'] as const)('%s: the first fifth of the ranking, ties by id', async (end) => {
    const scores = (await scoresByHand())[metric]!;
    expect(new Set(scores).size).toBeGreaterThan(3);
    const sign = (end === 'easy') === (metric !== 'cut_ratio') ? -1 : 1;
    const ranked = scores
      .map((score, id) => ({ score, id }))
      .sort((a, b) => (Math.abs(a.score - b.score) < 1e-12 ? a.id - b.id : sign * (a.score - b.score)));
    const made = await prune(`${metric}-${end}`, { metric, end });
    await using store = await LabelStore.open(await openArtifact(made.dir, { verify: true }));
    const count = Math.floor((1 - 0.8) * RECORDS); // 7: in doubles 1 - 0.8 is below a fifth
    const wanted = ranked.slice(0, count).map(({ id }) => id);
    expect([...store.recordIds]).toEqual(wanted.sort((a, b) => a - b));
    expect(store.index.plan).toMatchObject({ keep: 'metric', metric, end, pruneRatio: 0.8 });
  });
});

test('easy and hard ends of one metric share no record while half of them suffice', async () => {
  const idsOf = async (end: string): Promise<number[]> => {
    await using store = await LabelStore.open(await prune(`half-${end}`, { metric: 'diff', end, pruneRatio: 0.5 }));
    return [...store.recordIds];
  };
  const [easy, hard] = [await idsOf('easy'), await idsOf('hard')];
  expect(easy.filter((id) => hard.includes(id))).toEqual([]);
  expect(easy.length + hard.length).toBe(RECORDS);
});

describe('images', () => {
  test.each(['correct', 'diff_signed'])('%s asks for them by their role', async (metric) => {
    const error = await refusal(() => prune('without', { metric }, false));
    expect(error.code).toBe('E_CONFIG');
    expect(error.message).toContain('--images');
  });

  test.each(['confidence', 'diff', 'cut_ratio'])('%s does without, with the same result', async (metric) => {
    expect((await prune(`un-${metric}`, { metric }, false)).id).toBe((await prune(`with-${metric}`, { metric })).id);
  });

  test('ratio 0 keeps everything and asks for nothing', async () => {
    const all = await prune('everything', { metric: 'correct', pruneRatio: 0 }, false);
    expect(hashesOf(all)['shard-00000.safetensors']).toBe(
      hashesOf(await openArtifact(join(root, 'relabel')))['shard-00000.safetensors'],
    );
  });
});

test('stopped while it scores and resumed it keeps the same records', async () => {
  const options = { metric: 'confidence', end: 'hard' };
  const whole = await prune('uninterrupted', options);
  const controller = new AbortController();
  const { sink } = watching((step) => {
    if (/confidence/.test(step.label) && step.what === 'update' && step.done >= 8) controller.abort();
  });
  const run = (more: object) =>
    runStage('prune', tiny({ prune: { pruneRatio: 0.8, keep: 'metric', ...options } }), {
      ...optionsOf(join(root, 'stopped'), more),
      inputs: inputs(),
    });
  expect((await refusal(() => run({ progress: sink, signal: controller.signal }))).code).toBe('E_CANCELLED');
  expect((await run({})).id).toBe(whole.id);
});

test('a pool of chosen records: full-length epochs, no last batch where the rule holds, students that train', async () => {
  const made = await prune('pool', { metric: 'diff_signed', end: 'hard', pruneRatio: 0.6 });
  await using store = await LabelStore.open(made);
  const pool = poolOf(store);
  const ids = [...pool.plan.recordIds];
  expect(ids).toEqual([...store.recordIds]);
  expect(ids.at(-1)).toBeGreaterThanOrEqual(ids.length); // scattered
  expect(ids.some((id) => id % 2 === 1) && ids.some((id) => id % 2 === 0)).toBe(true);
  const drawn = poolPositions(pool, { seed: 3n, draw: 'auto', lastBatchRule: true, first: 0, last: 400 });
  expect(drawn.length).toBe(400);
  for (const at of drawn) expect(ids[at]! % 2).toBe(0);
  const free = poolPositions(pool, { seed: 3n, draw: 'auto', lastBatchRule: false, first: 0, last: 400 });
  expect(new Set(free).size).toBe(ids.length);
  const students = await runStage('train', tiny({ relabel: base, train: { epochs: 2 } }), {
    ...optionsOf(join(root, 'students')),
    inputs: { images: join(root, 'synthesize'), labels: made.dir },
  });
  expect(students.manifest.stage).toBe('train');
});

test('rankRecords: by score, ties by rising id, at either end', () => {
  const scores = Float64Array.of(0.5, 0.25, 0.5, -1, 0.25, 0.5);
  expect([...rankRecords(scores, true)]).toEqual([0, 2, 5, 1, 4, 3]);
  expect([...rankRecords(scores, false)]).toEqual([3, 1, 4, 0, 2, 5]);
});

test('cutRatios: box area for CutMix, the weight of the partner for mixup, nothing unmixed', () => {
  const { recipes } = codingSpec('dense:f16', 4, 3, { lengths: [2, 1, 1], lambda: [0.75, 0.75, 0.625, 1] });
  const mixed = {
    ...recipes,
    mixKind: u8([4], [1, 1, 2, 0]),
    mixBox: i32([4, 4], [0, 0, 2, 3, 1, 1, 4, 4, 0, 0, 0, 0, 0, 0, 0, 0]),
    lambda: f32([4], [0.5, 0.5, 0.625, 1]),
  };
  expect([...cutRatios(mixed, 4)]).toEqual([(6 + 16) / 32, 0.375, 0]);
});
