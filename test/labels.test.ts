import { readFileSync, statSync, unlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Artifact, type ArtifactDraft, openArtifact, openDraft } from '../src/artifact.ts';
import { prettyJson } from '../src/canonical-json.ts';
import { RECIPE_FIELDS, RECIPE_NAMES, RECIPE_ROW_BYTES } from '../src/label-format.ts';
import { type LabelHeader, type LabelRecords, LabelStore, LabelWriter } from '../src/labels.ts';
import type { Recipes } from '../src/native.ts';
import { readHeader, readSafetensors, safetensorsChunks } from '../src/safetensors.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../src/tensor.ts';
import { badData, dice, refusal, scratch } from './util/hostile.ts';
import { labelStage as stage } from './util/label-stage.ts';

const K = 5;
const base: LabelHeader = {
  codec: 'dense:f16',
  recipes: 'explicit',
  numClasses: K,
  recordsPerShard: 8,
  batch: 3,
  inputSize: 16,
  seed: 1,
  streamVersion: 1,
  augment: { flip: true },
  plan: { epochs: 20, images: 11 },
};

/** Rows of a record: every fourth is short, one in nine has a single row. Values depend on (id, row) alone. */
const rowsOf = (id: number): number => (id % 9 === 5 ? 1 : id % 4 === 3 ? 2 : 3);

function record(ids: readonly number[], explicit = true): LabelRecords {
  const offset = [0];
  for (const id of ids) offset.push(offset.at(-1)! + rowsOf(id));
  const rows = ids.flatMap((id) => Array.from({ length: rowsOf(id) }, (_, i) => 1000 * id + i));
  const m = rows.length;
  const wide = (n: number): Int32Array =>
    Int32Array.from({ length: n * m }, (_, i) => rows[Math.floor(i / n)]! * n + (i % n));
  const boxes = wide(4).map((value) => 1 + (value % 7)); // inside the 16 px of the input
  const offsetView = tensor('I32', [offset.length], Int32Array.from(offset));
  const recipes: Recipes = {
    offset: offsetView,
    index: tensor(
      'I32',
      [m],
      Int32Array.from(rows, (r) => r % 11),
    ),
    crop: tensor(
      'I32',
      [m, 4],
      wide(4).map((value) => value + 1),
    ),
    flip: tensor(
      'U8',
      [m],
      Uint8Array.from(rows, (r) => r % 2),
    ),
    cutout: tensor('I32', [m, 4], boxes),
    cutoutColor: tensor('U8', [m, 3], Uint8Array.from(wide(3))),
    mixKind: tensor(
      'U8',
      [m],
      Uint8Array.from(rows, (r) => r % 3),
    ),
    mixIndex: tensor(
      'I32',
      [m],
      Int32Array.from(rows, (r) => (r % 1000) % 2),
    ),
    mixBox: tensor(
      'I32',
      [m, 4],
      boxes.map((value) => 8 - value),
    ),
    lambda: tensor(
      'F32',
      [m],
      Float32Array.from(rows, (r) => (r % 8) / 8),
    ),
  };
  const logits = Uint16Array.from({ length: K * m }, (_, i) => (rows[Math.floor(i / K)]! + (i % K)) & 0x7fff);
  const tensors = { logits: tensor('F16', [m, K], logits), count: tensor('I32', [m], Int32Array.from(rows)) };
  return {
    recordIds: Int32Array.from(ids),
    offset: offsetView,
    recipes: explicit ? recipes : null,
    tensors,
    blobs: null,
  };
}

async function write(
  dir: string,
  ids: readonly number[],
  options: { header?: Partial<LabelHeader>; chunk?: number; basis?: TensorMap } = {},
): Promise<Artifact> {
  const header = { ...base, ...options.header };
  const draft = await openDraft(dir, stage);
  const writer = await LabelWriter.open(draft, header);
  await writer.writeBasis(options.basis ?? {});
  const chunk = options.chunk ?? 5;
  for (let i = 0; i < ids.length; i += chunk)
    await writer.append(record(ids.slice(i, i + chunk), header.recipes === 'explicit'));
  await writer.finish();
  return draft.publish(null);
}

const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);
const plain = (view: TensorView): unknown => ({ ...view, data: new Uint8Array(view.data) });
const comparable = (r: LabelRecords): unknown => ({
  recordIds: r.recordIds,
  offset: plain(r.offset),
  recipes: r.recipes === null ? null : RECIPE_NAMES.map((n) => plain(r.recipes![n])),
  tensors: Object.fromEntries(Object.entries(r.tensors).map(([n, t]) => [n, plain(t)])),
});

describe('reading what was written', () => {
  test.each(['explicit', 'derived'] as const)(
    'any selection of %s records, in any order and twice',
    async (recipes) => {
      const ids = range(70).filter((id) => id % 13 !== 6); // holes, a short last shard
      const artifact = await write(join(scratch(), 'labels'), ids, { header: { recipes } });
      await using store = await LabelStore.open(artifact);
      expect(store.numRecords).toBe(ids.length);
      expect([...store.recordIds]).toEqual(ids);
      const roll = dice(3);
      for (let round = 0; round < 40; round++) {
        const positions = Int32Array.from({ length: roll(20) }, () => roll(ids.length));
        const wanted = record(
          [...positions].map((p) => ids[p]!),
          recipes === 'explicit',
        );
        const got = await store.readRecords(positions);
        expect(comparable(got)).toEqual(comparable(wanted));
        expect(got.recipes?.offset ?? null).toEqual(recipes === 'explicit' ? got.offset : null);
      }
      const all = await store.readRecords(Int32Array.from(ids.keys()));
      expect(comparable(all)).toEqual(comparable(record(ids, recipes === 'explicit')));
    },
  );

  test('reads at the same time do not disturb each other, with more shards than may be open', async () => {
    const ids = range(60);
    const artifact = await write(join(scratch(), 'labels'), ids, { header: { recordsPerShard: 2 } });
    const store = await LabelStore.open(artifact);
    const roll = dice(5);
    const jobs = range(20).map(() => Int32Array.from({ length: 12 }, () => roll(60)));
    const got = await Promise.all(jobs.map((positions) => store.readRecords(positions)));
    for (const [i, positions] of jobs.entries())
      expect(comparable(got[i]!)).toEqual(comparable(record([...positions])));
    await store.close();
    expect([...(await store.readRecords(Int32Array.of(9))).recordIds]).toEqual([9]);
    await store.close();
  });

  test('a failed read does not stop the next one', async () => {
    const store = await LabelStore.open(await write(join(scratch(), 'labels'), range(4)));
    expect((await refusal(() => store.readRecords(Int32Array.of(4)))).code).toBe('E_INTERNAL');
    expect((await refusal(() => store.readRecords(Int32Array.of(-1)))).code).toBe('E_INTERNAL');
    expect((await store.readRecords(Int32Array.of(3))).recordIds).toEqual(Int32Array.of(3));
    await store.close();
  });

  test('the basis is stored once and read back; none is no file', async () => {
    const root = scratch();
    const basis = { mean: tensor('F64', [2], Float64Array.of(1, 2)) };
    const withBasis = await LabelStore.open(await write(join(root, 'a'), [0], { basis }));
    expect(plain(withBasis.basis.mean!)).toEqual(plain(basis.mean));
    expect(withBasis.bytes().basis).toBe(16);
    const without = await write(join(root, 'b'), [0]);
    expect(without.has('basis.safetensors')).toBe(false);
    expect((await LabelStore.open(without)).bytes().basis).toBe(0);
  });
});

describe('shards', () => {
  test('hold fixed id ranges: a record stands in the same file whatever else is there', async () => {
    const root = scratch();
    const full = await write(join(root, 'full'), range(40));
    const thin = await write(join(root, 'thin'), [...range(16), 33]);
    expect(thin.manifest.files.map((f) => f.path)).toEqual([
      'labels.json',
      'shard-00000.safetensors',
      'shard-00001.safetensors',
      'shard-00004.safetensors',
    ]);
    for (const file of ['shard-00000.safetensors', 'shard-00001.safetensors'])
      expect(readFileSync(thin.path(file))).toEqual(readFileSync(full.path(file)));
  });

  test('do not depend on how records were cut into appends', async () => {
    const root = scratch();
    const ids = await Promise.all([1, 3, 8, 40].map((chunk) => write(join(root, `${chunk}`), range(40), { chunk })));
    expect(new Set(ids.map((a) => a.id)).size).toBe(1);
  });

  test('written by a stopped process are taken over: resumed equals uninterrupted', async () => {
    const root = scratch();
    const ids = range(40).filter((id) => id % 5 !== 1);
    const whole = await write(join(root, 'whole'), ids);
    for (const stop of [1, 7, 8, 20, ids.length]) {
      const dir = join(root, `stopped${stop}`);
      const first = await LabelWriter.open(await openDraft(dir, stage), base);
      for (const id of ids.slice(0, stop)) await first.append(record([id])); // then the process dies
      const draft = await openDraft(dir, stage);
      const writer = await LabelWriter.open(draft, base);
      const left = writer.remaining(Int32Array.from(ids));
      // Everything before the shard in the making is done.
      expect(left[0]).toBe(ids.find((id) => id >= 8 * Math.floor(ids[stop - 1]! / 8)));
      expect(writer.isDone(left[0]!)).toBe(false);
      await writer.append(record([...left]));
      await writer.finish();
      expect((await draft.publish(null)).id).toBe(whole.id);
    }
  });
});

describe('accounting', () => {
  test.each(['explicit', 'derived'] as const)('of %s stores adds up to the files on disk', async (recipes) => {
    const basis = { mean: tensor('F64', [2], Float64Array.of(1, 2)) };
    const ids = range(30);
    const artifact = await write(join(scratch(), 'labels'), ids, { header: { recipes }, basis });
    const bytes = (await LabelStore.open(artifact)).bytes();
    const rows = ids.reduce((sum, id) => sum + rowsOf(id), 0);
    expect(RECIPE_ROW_BYTES).toBe(65);
    expect(bytes.payload).toBe(rows * (2 * K + 4));
    expect(bytes.recipes).toBe(recipes === 'explicit' ? 65 * rows : 0);
    expect(bytes.index).toBe(2 * 30); // a gap and a number of rows, a byte each
    const disk = artifact.manifest.files.reduce((sum, f) => sum + statSync(artifact.path(f.path)).size, 0);
    expect(bytes.file).toBe(disk);
    expect(bytes.payload + bytes.recipes + bytes.index + bytes.basis + bytes.container).toBe(bytes.file);
    let headers = statSync(artifact.path('labels.json')).size;
    for (const { path } of artifact.manifest.files)
      if (path.endsWith('.safetensors')) headers += (await readHeader(artifact.path(path))).dataStart;
    expect(bytes.container).toBe(headers);
    expect(bytes.fullStore).toBe(20 * 11 * (2 * K + (recipes === 'explicit' ? 65 : 0)));
    expect(bytes.compression).toBeCloseTo(bytes.fullStore / disk, 12);
    expect(bytes.perImage).toBeCloseTo(disk / 11, 12);
  });
});

describe('refusals', () => {
  const open = async (): Promise<LabelWriter> => LabelWriter.open(await openDraft(join(scratch(), 'a'), stage), base);
  const replace = (r: LabelRecords, name: keyof Recipes, view: TensorView): LabelRecords => ({
    ...r,
    recipes: { ...r.recipes!, [name]: view },
  });

  test('records that do not fit are E_INTERNAL', async () => {
    const good = record([1, 2]);
    const cases: [string, LabelRecords][] = [
      ['falling ids', record([2, 1])],
      ['the same id twice', record([1, 1])],
      ['negative id', { ...good, recordIds: Int32Array.of(-1, 2) }],
      ['short offset', { ...good, offset: tensor('I32', [2], Int32Array.of(0, 6)) }],
      ['falling offset', { ...good, offset: tensor('I32', [3], Int32Array.of(0, 7, 6)) }],
      ['a record without rows', { ...good, offset: tensor('I32', [3], Int32Array.of(0, 6, 6)) }],
      ['no recipes', { ...good, recipes: null }],
      ['no tensors', { ...good, tensors: {} }],
      ['rows of another count', { ...good, tensors: { logits: tensor('F16', [5, K], new Uint16Array(5 * K)) } }],
      ['crop of another shape', replace(good, 'crop', tensor('I32', [6, 2], new Int32Array(12)))],
      ['lambda of another dtype', replace(good, 'lambda', tensor('I32', [6], new Int32Array(6)))],
    ];
    for (const [name, records] of cases) {
      const writer = await open();
      expect((await refusal(() => writer.append(records))).code, name).toBe('E_INTERNAL');
    }
    const writer = await open();
    await writer.append(good);
    expect((await refusal(() => writer.append(record([2])))).code).toBe('E_INTERNAL');
    const other = { ...record([3]), tensors: { logits: tensor('F32', [2, K], new Float32Array(2 * K)) } };
    expect((await refusal(() => writer.append(other))).code).toBe('E_INTERNAL');
  });

  /** Rewrites a file of a finished store together with its manifest entry, as another program might. */
  async function forge(
    change: (draft: ArtifactDraft, source: Artifact) => Promise<void>,
  ): Promise<() => Promise<unknown>> {
    const root = scratch();
    const source = await write(join(root, 'good'), range(20));
    const draft = await openDraft(join(root, 'bad'), stage);
    for (const { path } of source.manifest.files) await draft.writeFile(path, readFileSync(source.path(path)));
    await change(draft, source);
    const bad = await draft.publish(null);
    return () => LabelStore.open(bad);
  }
  const index = (change: (json: Record<string, unknown>) => void) => async (draft: ArtifactDraft) => {
    const json = await draft.readJson<Record<string, unknown>>('labels.json');
    change(json);
    await draft.writeJson('labels.json', json);
  };
  const shards = (json: Record<string, unknown>): Record<string, unknown>[] => json.shards as Record<string, unknown>[];
  const shard = (change: (tensors: TensorMap) => void) => async (draft: ArtifactDraft) => {
    const tensors = await draft.readTensors('shard-00001.safetensors');
    change(tensors);
    await draft.writeTensors('shard-00001.safetensors', tensors);
  };
  const cases: [string, (draft: ArtifactDraft, source: Artifact) => Promise<void>, RegExp][] = [
    ['format 3', index((j) => Object.assign(j, { format: 3 })), /expected 2 for format/],
    ['no codec', index((j) => Reflect.deleteProperty(j, 'codec')), /codec/],
    ['unknown recipes', index((j) => Object.assign(j, { recipes: 'x' })), /recipes/],
    ['no classes', index((j) => Object.assign(j, { numClasses: 0 })), /numClasses/],
    ['no stream version', index((j) => Object.assign(j, { streamVersion: null })), /streamVersion/],
    ['no seed', index((j) => Object.assign(j, { seed: null })), /seed/],
    ['no plan', index((j) => Object.assign(j, { plan: null })), /plan/],
    ['shards no list', index((j) => Object.assign(j, { shards: {} })), /shards/],
    ['shard null', index((j) => Object.assign(j, { shards: [null] })), /a shard/],
    ['shard file elsewhere', index((j) => Object.assign(shards(j)[0]!, { file: '../x' })), /shard-00000/],
    ['shards swapped', index((j) => shards(j).reverse()), /ids above/],
    ['ids of two files', index((j) => Object.assign(shards(j)[0]!, { lastId: 9 })), /ids of one file/],
    ['more records than ids', index((j) => Object.assign(shards(j)[0]!, { records: 9 })), /more records/],
    ['records differ', index((j) => Object.assign(shards(j)[1]!, { records: 7 })), /recordGap/],
    ['fewer rows than records', index((j) => Object.assign(shards(j)[1]!, { rows: 7 })), /rows in every record/],
    ['rows differ', index((j) => Object.assign(shards(j)[1]!, { rows: 8 })), /\[8/],
    ['last id differs', index((j) => Object.assign(shards(j)[2]!, { lastId: 23 })), /ids 16 to 23/],
    ['shard removed', (d) => d.remove('shard-00001.safetensors'), /a file of the relabel artifact/],
    ['no recipe field', shard((t) => Reflect.deleteProperty(t, 'mixBox')), /mixBox/],
    [
      'no labels',
      shard((t) => ['label.logits', 'label.count'].map((n) => Reflect.deleteProperty(t, n))),
      /at least one/,
    ],
    ['codec tensors differ', shard((t) => Reflect.deleteProperty(t, 'label.count')), /every shard/],
    ['foreign tensor', shard((t) => Object.assign(t, { x: t.flip })), /a tensor/],
    [
      'short labels',
      shard((t) => Object.assign(t, { 'label.count': tensor('I32', [1], new Int32Array(1)) })),
      /label.count/,
    ],
    [
      'shard of another',
      async (d, s) => d.writeFile('shard-00001.safetensors', readFileSync(s.path('shard-00000.safetensors'))),
      /ids 8 to 15|\[/,
    ],
  ];
  test.each(cases)('%s is E_DATA', async (_, change, message) => {
    const error = await refusal(await forge(change));
    expect(error.code, error.message).toBe('E_DATA');
    expect(error.message).toMatch(message);
    expect(error.details.path).toMatch(/labels\.json|shard-0000\d\.safetensors/);
  });

  test('a shard cut after opening is E_DATA when its records are read', async () => {
    const artifact = await write(join(scratch(), 'labels'), range(20));
    const store = await LabelStore.open(artifact);
    const path = artifact.path('shard-00001.safetensors');
    writeFileSync(path, readFileSync(path).subarray(0, -1));
    await badData(path, () => store.readRecords(Int32Array.of(9)));
    unlinkSync(path);
    await badData(path, () => store.readRecords(Int32Array.of(9)));
    await badData(join(artifact.dir, 'shard-00001.safetensors'), () => openArtifact(artifact.dir));
    expect((await store.readRecords(Int32Array.of(1))).recordIds).toEqual(Int32Array.of(1));
    await store.close();
  });
});

test('a reader of the stock format finds dense logits of a record without this package', async () => {
  const artifact = await write(join(scratch(), 'labels'), range(12));
  const t = await readSafetensors(artifact.path('shard-00001.safetensors'));
  let [id, row] = [0, 0];
  for (const [i, gap] of arrayOf(t.recordGap!, 'U8').entries()) {
    id += gap;
    if (id === 10) break;
    row += arrayOf(t.recordRows!, 'U8')[i]!;
  }
  const logits = arrayOf(t['label.logits']!, 'F16').subarray(K * row, K * (row + rowsOf(10)));
  expect([...logits]).toEqual([...arrayOf(record([10]).tensors.logits!, 'F16')]);
  expect(Object.keys(RECIPE_FIELDS).every((name) => name in t)).toBe(true);
  expect(JSON.parse(prettyJson(artifact.manifest)).stage).toBe('relabel');
  expect(safetensorsChunks(t).length).toBeGreaterThan(1);
});
