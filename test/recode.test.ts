// prune.codec: a store re-encoded without the teacher. Against relabelling with that codec, against encoding by hand, with
// pruning at the same time, stopped and resumed, and what is refused.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Artifact, openArtifact, openDraft } from '../src/artifact.ts';
import { LabelStore } from '../src/labels.ts';
import type { CodingSpec } from '../src/native.ts';
import { labelsFolder, pipelineNodes } from '../src/pipeline.ts';
import { runStage } from '../src/run.ts';
import { codingRecipes, poolOf } from '../src/stages/pool.ts';
import { segmentLimit } from '../src/stages/recode.ts';
import { arrayOf, type TensorView, tensor } from '../src/tensor.ts';
import { halfBits, halfValue } from './reference/half.ts';
import { decode, encode } from './util/codes.ts';
import { refusal } from './util/hostile.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, tiny, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const base = { batch: 4, epochs: 20, recordsPerShard: 7, dropLast: false };
let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-recode-'));
  await makeChain(root, tiny(), ['squeeze', 'synthesize']);
  for (const recipes of ['derived', 'explicit']) await relabel(`f16-${recipes}`, { recipes });
});
afterAll(() => rm(root, { recursive: true, force: true }));

function relabel(folder: string, options: Record<string, unknown>): Promise<Artifact> {
  return runStage('relabel', tiny({ relabel: { ...base, ...options } }), {
    ...optionsOf(join(root, folder)),
    inputs: inputsIn(root, 'relabel', []),
  });
}
const prune = (folder: string, labels: string, options: Record<string, unknown>): Promise<Artifact> =>
  runStage('prune', tiny({ prune: { pruneRatio: 0, ...options } }), {
    ...optionsOf(join(root, folder)),
    inputs: { labels: join(root, labels) },
  });

interface Content {
  readonly spec: CodingSpec;
  readonly logits: Float32Array;
  readonly tensors: Readonly<Record<string, TensorView>>;
}

/** All records of a store, decoded. */
async function contentOf(artifact: Artifact): Promise<Content> {
  await using store = await LabelStore.open(artifact);
  const records = await store.readRecords(Int32Array.from(store.recordIds.keys()));
  const pool = poolOf(store);
  const spec: CodingSpec = {
    codec: store.index.codec,
    basis: store.basis,
    recordIds: tensor('I32', [store.numRecords], store.recordIds),
    seed: pool.seed,
    threads: 1,
    numClasses: store.index.numClasses,
    recipes: codingRecipes(pool, records),
  };
  return {
    spec,
    logits: arrayOf(await decode(spec, { tensors: records.tensors, blobs: records.blobs }), 'F32'),
    tensors: records.tensors,
  };
}
const opened = (folder: string): Promise<Artifact> => openArtifact(join(root, folder), { verify: true });

describe.each(['derived', 'explicit'])('%s Recipes', (recipes) => {
  test.each(['dense:int8', 'dense:int4', 'topk:2:mr', 'topk:2:ms', 'topk:2:mrs'])(
    '%s from dense:f16 is relabelling with that codec up to f16 rounding of the logits',
    async (codec) => {
      const recoded = await contentOf(await prune(`${recipes}-${codec}`, `f16-${recipes}`, { codec }));
      const direct = await contentOf(await relabel(`direct-${recipes}-${codec}`, { recipes, codec }));
      const source = await contentOf(await opened(`f16-${recipes}`));
      expect(recoded.spec.codec).toBe(codec);
      expect(recoded.spec.recordIds).toEqual(direct.spec.recordIds);
      // Exactly the codec's own answer to the rounded logits.
      const shape = [source.logits.length / 3, 3];
      const byHand = await encode(
        { ...source.spec, codec, basis: {} },
        { logits: tensor('F32', shape, source.logits), features: null },
      );
      for (const [name, view] of Object.entries(byHand.tensors))
        expect([...recoded.tensors[name]!.data], name).toEqual([...view.data]);
      // And close to relabelling: half a level each way for dense; topk keeps halves, of two classes of three, so that
      // only the share left over (ms) is taken of other logits.
      const levels = codec === 'dense:int8' ? 255 : 15;
      for (let row = 0; row < shape[0]!; row++) {
        const own = direct.logits.subarray(3 * row, 3 * row + 3);
        const got = recoded.logits.subarray(3 * row, 3 * row + 3);
        const rounded = source.logits.subarray(3 * row, 3 * row + 3);
        const range = Math.max(...rounded) - Math.min(...rounded);
        const ulp = Math.max(...rounded.map((v) => Math.abs(v))) / 1024;
        for (let k = 0; k < 3; k++) {
          if (codec.startsWith('dense')) {
            expect(Math.abs(got[k]! - own[k]!)).toBeLessThanOrEqual((1.01 * range) / levels + 4 * ulp);
            continue;
          }
          if (codec.endsWith('ms')) expect(Math.abs(got[k]! - own[k]!)).toBeLessThanOrEqual(4 * ulp);
          else expect(got[k]).toBe(own[k]);
        }
      }
    },
  );

  test('klt, fitted to the first records kept: blobs, a basis, and logits near the centred ones', async () => {
    const made = await prune(`${recipes}-klt`, `f16-${recipes}`, { codec: 'klt:mse=0.01', fitRecords: 40 });
    expect(made.has('basis.safetensors')).toBe(true);
    const [source, coded] = [await contentOf(await opened(`f16-${recipes}`)), await contentOf(made)];
    expect(coded.tensors).toEqual({});
    let squares = 0;
    for (let at = 0; at < source.logits.length; at += 3) {
      const row = source.logits.subarray(at, at + 3);
      const mean = (row[0]! + row[1]! + row[2]!) / 3;
      for (let k = 0; k < 3; k++) squares += (row[k]! - mean - coded.logits[at + k]!) ** 2;
    }
    expect(squares / source.logits.length).toBeLessThan(0.02); // of the 0.01 asked for
  });

  test('pruned at the same time it keeps the records and bytes of pruning the re-encoded store', async () => {
    const both = { pruneRatio: 0.6, keep: 'random-batches' };
    const once = await prune(`${recipes}-once`, `f16-${recipes}`, { ...both, codec: 'dense:int8' });
    await prune(`${recipes}-first`, `f16-${recipes}`, { codec: 'dense:int8' });
    const twice = await prune(`${recipes}-then`, `${recipes}-first`, both);
    expect(hashesOf(once)).toEqual(hashesOf(twice));
  });
});

describe('identity', () => {
  test("the store's own codec, or none, copies its shards", async () => {
    const shards = (artifact: Artifact) =>
      Object.entries(hashesOf(artifact)).filter(([file]) => file.startsWith('shard'));
    const source = await opened('f16-derived');
    for (const codec of ['dense:f16', null])
      expect(shards(await prune(`copy-${codec}`, 'f16-derived', { codec }))).toEqual(shards(source));
  });

  test('a pruned store is re-encoded as it is, with its plan', async () => {
    const thin = await prune('thin', 'f16-derived', { pruneRatio: 0.7, keep: 'random-epochs' });
    const again = await prune('thin-int8', 'thin', { codec: 'dense:int8' });
    const [a, b] = [await LabelStore.open(thin), await LabelStore.open(again)];
    expect(b.recordIds).toEqual(a.recordIds);
    expect({ ...b.index, codec: 0, shards: 0 }).toEqual({ ...a.index, codec: 0, shards: 0 });
    expect(poolOf(b).plan).toEqual(poolOf(a).plan);
    await a.close();
    await b.close();
  });

  test('options that are not read leave the stage key alone', async () => {
    const key = async (options: Record<string, unknown>) =>
      (await prune(`key-${JSON.stringify(options).replace(/\W/g, '-')}`, 'f16-derived', options)).manifest.key;
    expect(await key({ fitRecords: 9 })).toBe(await key({ metric: 'diff' }));
    expect(await key({ codec: 'dense:int8' })).not.toBe(await key({ codec: 'dense:int4' }));
  });

  test('back to dense:f16 from int8 the logits are those it decodes to, rounded', async () => {
    await prune('to-int8', 'f16-derived', { codec: 'dense:int8' });
    const int8 = await contentOf(await opened('to-int8'));
    const back = await contentOf(await prune('back', 'to-int8', { codec: 'dense:f16' }));
    expect([...back.logits]).toEqual(Array.from(int8.logits, (v) => halfValue(halfBits(v))));
  });
});

test('stopped between segments and resumed it is the artifact of an uninterrupted run', async () => {
  const options = { codec: 'dense:int4' };
  const whole = await prune('whole', 'f16-derived', options);
  const controller = new AbortController();
  const { sink } = watching((step) => {
    if (step.what === 'update' && step.done >= 8) controller.abort();
  });
  const run = (more: object) =>
    runStage('prune', tiny({ prune: { pruneRatio: 0, ...options } }), {
      ...optionsOf(join(root, 'stopped'), more),
      inputs: { labels: join(root, 'f16-derived') },
    });
  const error = await refusal(() => run({ progress: sink, signal: controller.signal }));
  expect(error.code).toBe('E_CANCELLED');
  const { sink: second, steps } = watching();
  expect((await run({ progress: second })).id).toBe(whole.id);
  expect(steps.find((step) => step.what === 'update')!.done).toBeGreaterThan(0);
});

describe('refusals', () => {
  test.each(['features', 'delta:24'])('%s needs the teacher', async (codec) => {
    const error = await refusal(() => prune('teacher', 'f16-derived', { codec }));
    expect(error.code).toBe('E_CONFIG');
    expect(error.message).toContain('expected a codec of logits alone for prune.codec');
    expect(error.message).toContain(`relabel with relabel.codec ${codec}`);
  });

  test('a name that is no codec', async () => {
    const error = await refusal(() => prune('none', 'f16-derived', { codec: 'dense:f17' }));
    expect(error.code).toBe('E_CONFIG');
    expect(error.message).toContain('dense:f17');
  });
});

describe('a labels.json of strangers is E_DATA', () => {
  test.each([
    ['no batch', { images: 6, epochs: 20, dropLast: false, pruneRatio: 0, keep: 'prefix' }],
    ['an unknown way to keep', { images: 6, batch: 4, epochs: 20, dropLast: false, pruneRatio: 0, keep: 'all' }],
    ['a ratio of one', { images: 6, batch: 4, epochs: 20, dropLast: false, pruneRatio: 1, keep: 'prefix' }],
    [
      'fewer records than there are',
      { images: 6, batch: 4, epochs: 3, dropLast: false, pruneRatio: 0, keep: 'prefix' },
    ],
    ['batches larger than the set', { images: 6, batch: 9, epochs: 20, dropLast: true, pruneRatio: 0, keep: 'prefix' }],
  ])('a plan with %s', async (what, plan) => {
    const source = await opened('f16-derived');
    const header = { stage: 'relabel', stageVersion: 1, config: plan, inputs: {}, precision: 'fp32' } as const;
    const draft = await openDraft(join(root, what, 'stranger'), { ...header, deviceClass: 'cpu' });
    for (const { path } of source.manifest.files) await draft.writeFile(path, await readFile(source.path(path)));
    await draft.writeJson('labels.json', { ...(await source.readJson<object>('labels.json')), plan });
    await using store = await LabelStore.open(await draft.publish(null));
    const error = await refusal(() => poolOf(store));
    expect(error.code, error.message).toBe('E_DATA');
    expect(error.details.path).toMatch(/stranger\/labels\.json$/);
  });
});

test('a run with prune.codec alone has a prune stage, and students read its store', () => {
  const config = tiny({ prune: { pruneRatio: 0, codec: 'dense:int8' } });
  expect(labelsFolder(config)).toBe('prune');
  const nodes = pipelineNodes(config);
  expect(nodes.find(({ folder }) => folder === 'prune')!.inputs.labels).toBe('relabel');
  expect(nodes.find(({ folder }) => folder === 'train')!.inputs.labels).toBe('prune');
  expect(labelsFolder(tiny({ prune: { pruneRatio: 0 } }))).toBe('relabel');
});

test('a segment holds at most 256 MiB of logits, and at least one record', () => {
  for (const [batch, numClasses] of [
    [128, 1000],
    [32, 10450],
    [100, 10450],
  ] as const) {
    const limit = segmentLimit({ batch, numClasses });
    expect(4 * batch * numClasses * limit).toBeLessThanOrEqual(2 ** 28);
    expect(4 * batch * numClasses * (limit + 1)).toBeGreaterThan(2 ** 28);
  }
  expect(segmentLimit({ batch: 10_000, numClasses: 10_450 })).toBe(1);
});
