// Labels out in the layout of SRe2L and LPLD and in again: equal Recipes, pixels and f16 logits, for every kind of mixing
// and of store; and what the layout cannot say is refused.

import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { openArtifact } from '../../src/artifact.ts';
import { batchFile, fromFkd, INDICES_FILE, toFkd } from '../../src/interchange/fkd.ts';
import { LabelStore } from '../../src/labels.ts';
import type { Recipes } from '../../src/native.ts';
import { recordRows } from '../../src/plan.ts';
import { runStage } from '../../src/run.ts';
import { poolOf } from '../../src/stages/pool.ts';
import { arrayOf, tensor } from '../../src/tensor.ts';
import { contentOf, exporting, importing, madeImages, pixelsOf, quietly, relabelTo } from '../util/exchange.ts';
import { refusal, scratch } from '../util/hostile.ts';
import { native, ops } from '../util/native.ts';
import { optionsOf, tiny, tinySource } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole stages, on a busy machine

const relabel = { batch: 4, epochs: 5, recordsPerShard: 4, dropLast: false };
const config = tiny({ dataset: { inputSize: 12 }, relabel });
const { root, images } = madeImages(config);
const make = (name: string, change: object): Promise<string> =>
  relabelTo(root(), name, tiny({ dataset: { inputSize: 12 }, relabel: { ...relabel, ...change } }));

async function pixelHash(recipes: Recipes, size: number): Promise<string> {
  const { store } = await pixelsOf(images());
  const pixels = ops().renderBatch(store, recipes, size);
  store.dispose();
  return createHash('sha256').update(pixels.data).digest('hex');
}

test.each<[string, object]>([
  ['CutMix, derived Recipes, short last batches', {}],
  ['CutMix, explicit Recipes', { recipes: 'explicit' }],
  ['no mixing, whole batches only', { mix: 'none', dropLast: true, batch: 2 }],
  ['whole images, no flip', { mix: 'none', cropScale: null, flip: false }],
  ['a pool that ends inside an epoch', { pruneRatio: 0.35, dropLast: true, batch: 2 }],
  ['one batch of all images', { batch: 100 }],
])('%s: exported and imported it is the same store', async (name, change) => {
  const labels = await make(`round ${name}`, change);
  const out = join(scratch(), 'fkd');
  const done = await exporting({ format: 'fkd', labels, images: images(), out });
  const back = join(scratch(), 'labels');
  const artifact = await importing({ format: 'fkd', dir: out, images: images(), out: back, inputSize: 12 });
  const [ours, theirs] = [await contentOf(labels, images()), await contentOf(back, images())];
  expect(theirs).toEqual(ours);
  expect(await pixelHash(theirs.recipes, 12)).toBe(await pixelHash(ours.recipes, 12));
  expect(done).toMatchObject({ items: ours.ids.length, files: ours.ids.length + 1, format: 'fkd' });
  expect(artifact.manifest.summary).toMatchObject({ records: ours.ids.length, rows: ours.logits.shape[0] });
  await using before = await LabelStore.open(await openArtifact(labels));
  await using after = await LabelStore.open(artifact);
  const [mine, imported] = [poolOf(before).plan, poolOf(after).plan];
  expect([...imported.recordIds]).toEqual([...mine.recordIds]);
  expect(imported.batchesPerEpoch).toBe(mine.batchesPerEpoch);
  for (const id of imported.recordIds) expect(recordRows(imported, id)).toBe(recordRows(mine, id));
});

test.each(native().codecs())('labels of codec %s leave as the f16 of what a student would decode', async (codec) => {
  const labels = await make(`codec ${codec}`, { codec });
  const out = join(scratch(), 'fkd');
  await exporting({ format: 'fkd', labels, images: images(), out });
  const back = await importing({ format: 'fkd', dir: out, images: images(), out: join(scratch(), 'a'), inputSize: 12 });
  const [ours, theirs] = [await contentOf(labels, images()), await contentOf(back.dir, images())];
  expect(theirs).toEqual(ours);
  expect(new Set(arrayOf(theirs.logits, 'F16')).size, 'they differ from each other').toBeGreaterThan(20);
});

test('a pool with gaps is numbered anew: the same records in the same order', async () => {
  const labels = await make('gaps', { pruneRatio: 0.4, keep: 'random-batches', dropLast: true, batch: 2 });
  const out = join(scratch(), 'fkd');
  await exporting({ format: 'fkd', labels, images: images(), out });
  const back = await importing({ format: 'fkd', dir: out, images: images(), out: join(scratch(), 'a'), inputSize: 12 });
  const [ours, theirs] = [await contentOf(labels, images()), await contentOf(back.dir, images())];
  expect(ours.ids.at(-1)).toBeGreaterThan(ours.ids.length - 1);
  expect(theirs.ids).toEqual([...theirs.ids.keys()]);
  expect({ ...theirs, ids: ours.ids }).toEqual(ours);
});

test('short records before the end of an epoch have no place in the layout', async () => {
  const labels = await make('short', { pruneRatio: 0.4, keep: 'random-batches' });
  const out = join(scratch(), 'fkd');
  const error = await refusal(() => exporting({ format: 'fkd', labels, images: images(), out }));
  expect([error.code, error.message]).toEqual(['E_MISMATCH', expect.stringMatching(/expected 4 images .* received 2/)]);
  expect(existsSync(out) || existsSync(`${out}.partial`), 'nothing is left').toBe(false);
});

describe('the folder', () => {
  test('has the official names, and one list of images per epoch', async () => {
    const labels = await make('names', { recipes: 'explicit' });
    const out = join(scratch(), 'fkd');
    await exporting({ format: 'fkd', labels, images: images(), out });
    expect(readdirSync(out).sort()).toEqual(['epoch_0', 'epoch_1', 'epoch_2', 'epoch_3', 'epoch_4', INDICES_FILE]);
    expect(readdirSync(join(out, 'epoch_3')).sort()).toEqual(['batch_0.tar', 'batch_1.tar']);
    const lists = JSON.parse(readFileSync(join(out, INDICES_FILE), 'utf8')) as Record<string, number[]>;
    const { recipes } = await contentOf(labels, images());
    expect(Object.keys(lists)).toEqual(['0', '1', '2', '3', '4']);
    expect(Object.values(lists).flat()).toEqual([...arrayOf(recipes.index, 'I32')]);
    for (const list of Object.values(lists)) expect([...list].sort()).toEqual([0, 1, 2, 3, 4, 5]);
  });

  test('is byte for byte the same twice, and an import of it has the same id twice and is not made again', async () => {
    const labels = await make('twice', {});
    const [one, two] = [join(scratch(), 'fkd'), join(scratch(), 'fkd')];
    for (const out of [one, two]) await exporting({ format: 'fkd', labels, images: images(), out });
    for (const name of [batchFile(0, 0), batchFile(4, 1), INDICES_FILE])
      expect(readFileSync(join(two, name)).equals(readFileSync(join(one, name))), name).toBe(true);
    const back = join(scratch(), 'labels');
    const given = { format: 'fkd', images: images(), out: back, inputSize: 12 };
    const first = await importing({ ...given, dir: one });
    const other = await importing({ ...given, dir: two, out: join(scratch(), 'labels') });
    expect(other.id).toBe(first.id);
    const before = readFileSync(join(back, 'run.json'), 'utf8');
    expect((await importing({ ...given, dir: two })).id).toBe(first.id);
    expect(readFileSync(join(back, 'run.json'), 'utf8')).toBe(before);
    await openArtifact(back, { verify: true });
  });

  test('an import that was stopped goes on and gives the same artifact', async () => {
    const labels = await make('stopped', {});
    const dir = join(scratch(), 'fkd');
    await exporting({ format: 'fkd', labels, images: images(), out: dir });
    const given = { format: 'fkd', dir, images: images(), inputSize: 12 };
    const whole = await importing({ ...given, out: join(scratch(), 'labels') });
    const out = join(scratch(), 'labels');
    let checks = 0;
    const controller = new AbortController();
    const progress = {
      stage: () => ({ start() {}, update: () => void (++checks === 5 && controller.abort()), log() {}, finish() {} }),
      close() {},
    };
    const error = await refusal(() => importing({ ...given, out, progress, signal: controller.signal }));
    expect([error.code, existsSync(out)]).toEqual(['E_CANCELLED', false]);
    expect((await importing({ ...given, out })).id).toBe(whole.id);
  });

  test('students train on an import as on the store it was exported from', async () => {
    const own = tiny({ dataset: { inputSize: 12 }, relabel, train: { epochs: 4 } });
    const labels = await make('train', {});
    const dir = join(scratch(), 'fkd');
    await exporting({ format: 'fkd', labels, images: images(), out: dir });
    const back = (await importing({ format: 'fkd', dir, images: images(), out: join(scratch(), 'a'), inputSize: 12 }))
      .dir;
    const students: string[][] = [];
    for (const from of [labels, back]) {
      const out = join(scratch(), 'train');
      const made = await runStage('train', own, { ...optionsOf(out), inputs: { images: images(), labels: from } });
      students.push(made.manifest.files.map(({ path, sha256 }) => `${path} ${sha256}`));
    }
    expect(students[1]).toEqual(students[0]);
    expect(students[0]!.length).toBeGreaterThan(2);
  });

  test('an import can be pruned like a store of our own', async () => {
    const labels = await make('prune', {});
    const dir = join(scratch(), 'fkd');
    await exporting({ format: 'fkd', labels, images: images(), out: dir });
    const back = (await importing({ format: 'fkd', dir, images: images(), out: join(scratch(), 'a'), inputSize: 12 }))
      .dir;
    const pruned = await runStage('prune', tiny(tinySource()), {
      ...optionsOf(join(scratch(), 'p')),
      inputs: { labels: back },
    });
    expect(pruned.manifest.summary).toMatchObject({ records: 5 });
    const error = await refusal(() => exporting({ format: 'fkd', labels: pruned.dir, images: images(), out: dir }));
    expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringMatching(/a new or empty folder for --out/)]);
  });
});

describe('what is asked for must fit', () => {
  test.each<[string, object, string, RegExp]>([
    ['an unknown format', { format: 'tfrecord' }, 'E_CONFIG', /one of fkd, folder, webdataset, parquet for --format/],
    ['labels without a folder of labels', { labels: null }, 'E_CONFIG', /the folder of labels .* for --labels/],
    ['images with a folder of labels', { format: 'folder' }, 'E_CONFIG', /no folder for --format folder/],
  ])('%s is refused', async (_, change, code, message) => {
    const labels = await make('fit', {});
    const out = join(scratch(), 'out');
    const error = await refusal(() => exporting({ format: 'fkd', labels, images: images(), out, ...change }));
    expect([error.code, error.message]).toEqual([code, expect.stringMatching(message)]);
    expect(existsSync(out)).toBe(false);
  });

  test('labels of other images are refused', async () => {
    const labels = await make('fit', {});
    const other = join(root(), 'other');
    const options = { ...optionsOf(other), inputs: { teacher: join(root(), 'squeeze') } };
    await runStage('synthesize', tiny({ dataset: { inputSize: 12 }, seed: 5 }), options);
    const error = await refusal(() => exporting({ format: 'fkd', labels, images: other, out: join(scratch(), 'a') }));
    expect(error.code).toBe('E_MISMATCH');
  });

  test('a cancelled export leaves nothing', async () => {
    const labels = await make('fit', {});
    const out = join(scratch(), 'out');
    const given = { ...quietly(), signal: AbortSignal.abort() };
    expect((await refusal(() => exporting({ format: 'fkd', labels, images: images(), out, ...given }))).code).toBe(
      'E_CANCELLED',
    );
    expect(existsSync(out) || existsSync(`${out}.partial`)).toBe(false);
  });
});

describe('Recipes in shares and corners', () => {
  const rows = 3;
  const base: Recipes = {
    offset: tensor('I32', [2], Int32Array.of(0, rows)),
    index: tensor('I32', [rows], Int32Array.of(5, 0, 9)),
    crop: tensor('I32', [rows, 4], Int32Array.of(0, 0, 224, 224, 223, 1, 1, 3, 17, 100, 65, 124)),
    flip: tensor('U8', [rows], Uint8Array.of(1, 0, 1)),
    cutout: tensor('I32', [rows, 4], new Int32Array(4 * rows)),
    cutoutColor: tensor('U8', [rows, 3], new Uint8Array(3 * rows)),
    mixKind: tensor('U8', [rows], Uint8Array.of(2, 2, 2)),
    mixIndex: tensor('I32', [rows], Int32Array.of(2, 0, 1)),
    mixBox: tensor('I32', [rows, 4], new Int32Array(4 * rows)),
    lambda: tensor('F32', [rows], new Float32Array(rows).fill(0.3)),
  };
  const logits = tensor('F16', [rows, 1], new Uint16Array(rows));
  const round = (recipes: Recipes, size = 224): Recipes =>
    fromFkd(toFkd(recipes, logits, { size, inputSize: 224 }, 'here'), arrayOf(recipes.index, 'I32'), {
      size,
      inputSize: 224,
      path: 'x',
    });

  test('mixup comes back with its weight', () => {
    expect(round(base)).toEqual(base);
  });

  test.each([1, 3, 8, 64, 224, 331, 512, 1000])('every crop edge of images of %d px comes back', (size) => {
    const edges = Array.from({ length: size }, (_, px) => [px, size - 1 - px, size - px, px + 1]).flat();
    const n = size;
    const many: Recipes = {
      offset: tensor('I32', [2], Int32Array.of(0, n)),
      index: tensor('I32', [n], new Int32Array(n)),
      crop: tensor('I32', [n, 4], Int32Array.from(edges)),
      flip: tensor('U8', [n], new Uint8Array(n)),
      cutout: tensor('I32', [n, 4], new Int32Array(4 * n)),
      cutoutColor: tensor('U8', [n, 3], new Uint8Array(3 * n)),
      mixKind: tensor('U8', [n], new Uint8Array(n)),
      mixIndex: tensor(
        'I32',
        [n],
        Int32Array.from({ length: n }, (_, i) => i),
      ),
      mixBox: tensor('I32', [n, 4], new Int32Array(4 * n)),
      lambda: tensor('F32', [n], new Float32Array(n).fill(1)),
    };
    expect(round(many, size)).toEqual(many);
  });

  test('an empty box stays a box', () => {
    const boxes = {
      mixKind: tensor('U8', [rows], Uint8Array.of(1, 1, 1)),
      lambda: tensor('F32', [rows], new Float32Array(rows).fill(1)),
    };
    const mixBox = tensor(
      'I32',
      [rows, 4],
      Int32Array.from({ length: 4 * rows }, (_, i) => [7, 8, 0, 0][i % 4]!),
    );
    expect(round({ ...base, ...boxes, mixBox })).toEqual({ ...base, ...boxes, mixBox });
  });

  test.each<[string, Partial<Recipes>]>([
    ['kinds', { mixKind: tensor('U8', [rows], Uint8Array.of(2, 0, 2)) }],
    ['weights', { lambda: tensor('F32', [rows], Float32Array.of(0.3, 0.3, 0.5)) }],
    [
      'boxes',
      {
        mixKind: tensor('U8', [rows], Uint8Array.of(1, 1, 1)),
        mixBox: tensor(
          'I32',
          [rows, 4],
          Int32Array.from({ length: 12 }, (_, i) => (i === 4 ? 1 : 0)),
        ),
      },
    ],
  ])('rows with other %s than their neighbours are refused', async (_, change) => {
    expect((await refusal(() => round({ ...base, ...change }))).code).toBe('E_MISMATCH');
  });
});
