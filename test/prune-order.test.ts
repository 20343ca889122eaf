// Pruning before labelling and pruning after it give byte-equal stores: relabel with a ratio against relabel in full and
// then prune, for every way to keep, ratio, last-batch rule and kind of Recipes, over several shards; and for every codec
// that is not fitted to the records kept.

import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Artifact, openArtifact } from '../src/artifact.ts';
import { LabelStore } from '../src/labels.ts';
import { runStage } from '../src/run.ts';
import { refusal } from './util/hostile.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const base = { batch: 4, epochs: 20, recordsPerShard: 7 };
let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-order-'));
  await makeChain(root, tiny(), ['squeeze', 'synthesize']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

const relabel = (folder: string, options: Record<string, unknown>): Promise<Artifact> =>
  runStage('relabel', tiny({ relabel: { ...base, ...options } }), {
    ...optionsOf(join(root, folder)),
    inputs: inputsIn(root, 'relabel', []),
  });

const prune = (folder: string, labels: string, options: Record<string, unknown>): Promise<Artifact> =>
  runStage('prune', tiny({ prune: options }), {
    ...optionsOf(join(root, folder)),
    inputs: { labels: join(root, labels) },
  });

describe.each([
  [true, 'derived'],
  [true, 'explicit'],
  [false, 'derived'],
  [false, 'explicit'],
] as const)('dropLast %s, %s Recipes', (dropLast, recipes) => {
  const name = `full-${dropLast}-${recipes}`;
  let full: Artifact;
  beforeAll(async () => {
    full = await relabel(name, { dropLast, recipes });
  });

  test.each([
    ['prefix', 0.5],
    ['prefix', 0.9],
    ['random-epochs', 0.5],
    ['random-epochs', 0.9],
    ['random-batches', 0.5],
    ['random-batches', 0.9],
  ] as const)('%s, ratio %d', async (keep, pruneRatio) => {
    const folder = `${name}-${keep}-${pruneRatio}`;
    const after = await prune(`prune-${folder}`, name, { keep, pruneRatio });
    const before = await relabel(`relabel-${folder}`, { dropLast, recipes, keep, pruneRatio });
    expect(hashesOf(after)).toEqual(hashesOf(before));
    const files = Object.keys(hashesOf(after));
    expect(files).toContain('labels.json');
    const shards = files.filter((file) => file.startsWith('shard-'));
    expect(shards.length).toBeGreaterThanOrEqual(pruneRatio === 0.5 ? 2 : 1);
    await using store = await LabelStore.open(await openArtifact(after.dir, { verify: true }));
    const perEpoch = dropLast ? 1 : 2; // 6 images in batches of 4
    expect(store.numRecords).toBe(
      Math.floor((1 - pruneRatio) * (keep === 'random-epochs' ? 20 : 20 * perEpoch)) *
        (keep === 'random-epochs' ? perEpoch : 1),
    );
    if (keep !== 'prefix') expect(store.recordIds.at(-1)).toBeGreaterThanOrEqual(store.numRecords); // not the first ones
    expect((await openArtifact(full.dir, { verify: true })).id).toBe(full.id); // the store pruned from is untouched
  });
});

describe.each(['dense:int8', 'dense:int4', 'topk:2:mr', 'topk:2:ms', 'topk:2:mrs', 'features'])('codec %s', (codec) => {
  test.each([
    ['prefix', 0.9],
    ['random-batches', 0.5],
  ] as const)('%s, ratio %d', async (keep, pruneRatio) => {
    const options = { codec, dropLast: false };
    await relabel(`full-${codec}`, options); // once: the second time it is kept
    const after = await prune(`prune-${codec}-${keep}`, `full-${codec}`, { keep, pruneRatio });
    const before = await relabel(`relabel-${codec}-${keep}`, { ...options, keep, pruneRatio });
    expect(hashesOf(after)).toEqual(hashesOf(before));
    expect(Object.keys(hashesOf(after)).includes('basis.safetensors')).toBe(codec === 'features');
  });
});

test('a store that was pruned before is refused', async () => {
  await relabel('thin', { pruneRatio: 0.5 });
  const error = await refusal(() => prune('thinner', 'thin', { pruneRatio: 0.5 }));
  expect(error.code).toBe('E_MISMATCH');
  expect(error.message).toContain('0.5');
});

test('a codec that does not exist is refused before a draft of another one is touched', async () => {
  const begun = join(root, 'begun.partial');
  await mkdir(begun, { recursive: true });
  await writeFile(join(begun, 'precious'), '');
  await expect(relabel('begun', { codec: 'dense:f61' })).rejects.toMatchObject({ code: 'E_CONFIG' });
  expect(existsSync(join(begun, 'precious'))).toBe(true);
  await relabel('kept', {});
  await expect(prune('begun', 'kept', { codec: 'topk:0:mr' })).rejects.toMatchObject({ code: 'E_CONFIG' });
  expect(existsSync(join(begun, 'precious'))).toBe(true);
});
