// Explicit Recipes of a stranger's store: every field out of its range is E_DATA that names the file and the record,
// whatever reads the store and whatever would have tripped over it otherwise.

import { cp, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openArtifact, openDraft } from '../src/artifact.ts';
import { LabelStore, shardFile } from '../src/labels.ts';
import { runStage } from '../src/run.ts';
import { arrayOf, type TensorMap } from '../src/tensor.ts';
import { exporting } from './util/exchange.ts';
import { refusal } from './util/hostile.ts';
import { inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const RECORDS_PER_SHARD = 8;
const config = tiny({
  relabel: { recipes: 'explicit', mix: 'mixup', cutout: 0.4, codec: 'delta:8', recordsPerShard: RECORDS_PER_SHARD },
});
let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-recipes-'));
  await makeChain(root, config, ['squeeze', 'synthesize', 'relabel']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Field = 'index' | 'crop' | 'flip' | 'cutout' | 'mixKind' | 'mixIndex' | 'mixBox' | 'lambda';
const WIDTH: Record<Field, number> = {
  index: 1,
  crop: 4,
  flip: 1,
  cutout: 4,
  mixKind: 1,
  mixIndex: 1,
  mixBox: 4,
  lambda: 1,
};

/** Writes values into row 1 of record 11, of the second shard. */
const put = (tensors: TensorMap, field: Field, values: readonly number[]): void => {
  const view = tensors[field]!;
  const before = arrayOf(tensors.recordRows!, 'U8').subarray(0, 11 - RECORDS_PER_SHARD);
  const row = before.reduce((sum, rows) => sum + rows, 0) + 1;
  const at = row * WIDTH[field];
  if (view.dtype === 'F32') arrayOf(view, 'F32').set(values, at);
  else if (view.dtype === 'U8') arrayOf(view, 'U8').set(values, at);
  else arrayOf(view, 'I32').set(values, at);
};

/** The store with one field of record 11 changed, whole and hashed as any other. Called labels, in a folder of its own. */
async function stranger(field: Field, values: readonly number[]): Promise<string> {
  const source = await openArtifact(join(root, 'relabel'));
  const out = join(await mkdtemp(join(root, 'stranger-')), 'labels');
  const { stage, stageVersion, config: made, inputs, deviceClass, precision } = source.manifest;
  const draft = await openDraft(out, { stage, stageVersion, config: made, inputs, deviceClass, precision });
  for (const { path } of source.manifest.files) await cp(source.path(path), join(draft.dir, path));
  for (const { path } of source.manifest.files) {
    if (path.endsWith('.json')) await draft.writeJson(path, await source.readJson(path));
    else {
      const tensors = await source.readTensors(path);
      if (path === shardFile(1)) put(tensors, field, values);
      await draft.writeTensors(path, tensors);
    }
  }
  await draft.publish(source.manifest.summary);
  return out;
}

// 6 images of 8 x 8 px seen at 8 px, records of 3 rows
const wrong: [what: string, field: Field, values: number[]][] = [
  ['a negative image', 'index', [-1]],
  ['an image past the last', 'index', [6]],
  ['a crop without height', 'crop', [0, 0, 0, 3]],
  ['a crop without width', 'crop', [0, 0, 3, 0]],
  ['a crop above the image', 'crop', [-1, 0, 3, 3]],
  ['a crop left of the image', 'crop', [0, -1, 3, 3]],
  ['a crop of a whole int32', 'crop', [2 ** 31 - 1, 2 ** 31 - 1, 0, 0]],
  ['a flip of 2', 'flip', [2]],
  ['a cutout past the border', 'cutout', [6, 0, 3, 1]],
  ['a cutout of negative height', 'cutout', [3, 3, -1, 1]],
  ['a cutout whose ends overflow', 'cutout', [2 ** 31 - 1, 0, 2 ** 31 - 1, 1]],
  ['a mix kind of 3', 'mixKind', [3]],
  ['a negative partner', 'mixIndex', [-1]],
  ['a partner of the next record', 'mixIndex', [3]],
  ['a mixing box past the border', 'mixBox', [0, 7, 1, 2]],
  ['a mixing box that starts outside', 'mixBox', [-1, 0, 1, 1]],
  ['a share that is no number', 'lambda', [Number.NaN]],
  ['a share above 1', 'lambda', [1.0000001192092896]],
  ['a share below 0', 'lambda', [-1e-7]],
  ['an endless share', 'lambda', [Number.POSITIVE_INFINITY]],
];

describe('read from a store', () => {
  test.each(wrong)('%s', async (_, field, values) => {
    const dir = await stranger(field, values);
    await using store = await LabelStore.open(await openArtifact(dir, { verify: true }));
    const path = join(dir, shardFile(1));
    const error = await refusal(() => store.readRecords(Int32Array.of(3, 11, 0)));
    expect([error.code, error.details]).toEqual(['E_DATA', { path, record: 11, field }]);
    expect(error.message).toContain(`for ${field} of row 1 of record 11 but received`);
    expect(error.message.startsWith(`${path}: expected `)).toBe(true);
    const rest = await store.readRecords(Int32Array.of(10, 12, 9)); // the others are read as before
    expect([...rest.recordIds]).toEqual([10, 12, 9]);
  });

  test('a crop outside its image is refused where the size of the image is known', async () => {
    const dir = await stranger('crop', [0, 6, 8, 3]);
    await using store = await LabelStore.open(await openArtifact(dir));
    await store.readRecords(Int32Array.of(11));
    const sizes = new Int32Array(12).fill(8);
    for (const known of [sizes, () => [8, 8] as const]) {
      const error = await refusal(() => store.readRecords(Int32Array.of(11), known));
      expect(error.message).toContain('expected a crop inside 8x8 for crop of row 1 of record 11');
      expect([error.message, error.details.path]).toEqual([
        expect.stringContaining('[0,6,8,3]'),
        join(dir, shardFile(1)),
      ]);
    }
  });

  test('what the package itself writes passes, bounds included', async () => {
    for (const [field, values] of [
      ['index', [5]],
      ['crop', [7, 7, 1, 1]],
      ['flip', [1]],
      ['cutout', [0, 0, 8, 8]],
      ['cutout', [0, 0, 0, 0]],
      ['cutout', [8, 8, 0, 0]],
      ['mixKind', [2]],
      ['mixIndex', [2]],
      ['mixBox', [0, 0, 8, 8]],
      ['lambda', [0]],
      ['lambda', [1]],
    ] as [Field, number[]][]) {
      await using store = await LabelStore.open(await openArtifact(await stranger(field, values)));
      await store.readRecords(Int32Array.from(store.recordIds.keys()), new Int32Array(12).fill(8));
    }
  });
});

describe('by whatever reads the store', () => {
  const uses: [name: string, use: (labels: string) => Promise<unknown>][] = [
    [
      'train',
      (labels) =>
        runStage('train', config, {
          ...optionsOf(join(labels, '..', 'train')),
          inputs: { images: join(root, 'synthesize'), labels },
        }),
    ],
    [
      'prune by cut_ratio',
      (labels) =>
        runStage('prune', tiny({ prune: { keep: 'metric', metric: 'cut_ratio' } }), {
          ...optionsOf(join(labels, '..', 'ranked')),
          inputs: { ...inputsIn(root, 'prune', []), labels },
        }),
    ],
    [
      'prune to another codec',
      (labels) =>
        runStage('prune', tiny({ prune: { pruneRatio: 0, codec: 'dense:f16' } }), {
          ...optionsOf(join(labels, '..', 'coded')),
          inputs: { ...inputsIn(root, 'prune', []), labels },
        }),
    ],
    [
      'export',
      (labels) =>
        exporting({ format: 'fkd', images: join(root, 'synthesize'), labels, out: join(labels, '..', 'exported') }),
    ],
  ];
  test.each(uses)('%s', async (_, use) => {
    for (const [field, values] of [
      ['lambda', [Number.NaN]],
      ['mixBox', [0, 0, 9, 1]],
      ['flip', [9]],
    ] as [Field, number[]][]) {
      const labels = await stranger(field, values);
      const error = await refusal(() => use(labels));
      expect([error.code, error.details], field).toEqual([
        'E_DATA',
        { path: join(labels, shardFile(1)), record: 11, field },
      ]);
    }
  });

  test('a crop outside its image, by train and export', async () => {
    for (const [, use] of [uses[0]!, uses[3]!]) {
      const labels = await stranger('crop', [0, 0, 9, 9]);
      const error = await refusal(() => use(labels));
      expect([error.code, error.details.record]).toEqual(['E_DATA', 11]);
    }
  });
});
