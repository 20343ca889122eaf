// Label stores whose codec writes a run of bytes per record: what was written is read in any selection, a stopped process
// is resumed, sizes of strangers are refused, and every byte is counted. No codec is needed: the store keeps bytes.

import { readFileSync, statSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Artifact, openArtifact, openDraft } from '../src/artifact.ts';
import { type LabelHeader, type LabelRecords, LabelStore, LabelWriter } from '../src/labels.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../src/tensor.ts';
import { dice, mutate, refusal, scratch } from './util/hostile.ts';
import { labelStage as stage } from './util/label-stage.ts';

const header: LabelHeader = {
  codec: 'some:blobs',
  recipes: 'derived',
  numClasses: 4,
  recordsPerShard: 8,
  batch: 3,
  inputSize: 16,
  seed: 1,
  streamVersion: 1,
  augment: {},
  plan: { epochs: 20, images: 11 },
};
const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Rows of a record, and its bytes: both depend on the id alone; some records have no bytes, some many. */
const rowsOf = (id: number): number => (id % 5 === 4 ? 1 : 3);
const blobOf = (id: number): number[] =>
  Array.from({ length: id % 3 === 1 ? 0 : (id * 7) % 40 }, (_, i) => (id + 3 * i) & 255);

/** Records as a codec gives them; `rows` adds a row tensor beside the blobs. */
function record(ids: readonly number[], rows: boolean): LabelRecords {
  const [offset, ends] = [[0], [0n]];
  for (const id of ids) {
    offset.push(offset.at(-1)! + rowsOf(id));
    ends.push(ends.at(-1)! + BigInt(blobOf(id).length));
  }
  const bytes = Uint8Array.from(ids.flatMap(blobOf));
  const scale = Float32Array.from(ids.flatMap((id) => Array.from({ length: rowsOf(id) }, (_, i) => id + i / 8)));
  return {
    recordIds: Int32Array.from(ids),
    offset: tensor('I32', [offset.length], Int32Array.from(offset)),
    recipes: null,
    tensors: rows ? { scale: tensor('F32', [scale.length], scale) } : {},
    blobs: {
      data: tensor('U8', [bytes.length], bytes),
      offset: tensor('I64', [ends.length], BigInt64Array.from(ends)),
    },
  };
}

async function write(dir: string, ids: readonly number[], rows: boolean, chunk = 5): Promise<Artifact> {
  const draft = await openDraft(dir, stage);
  const writer = await LabelWriter.open(draft, header);
  for (let i = 0; i < ids.length; i += chunk) await writer.append(record(ids.slice(i, i + chunk), rows));
  await writer.finish();
  return draft.publish(null);
}

const plain = (view: TensorView): unknown => ({ ...view, data: [...view.data] });
const comparable = (r: LabelRecords): unknown => ({
  ids: [...r.recordIds],
  offset: plain(r.offset),
  tensors: Object.fromEntries(Object.entries(r.tensors).map(([n, t]) => [n, plain(t)])),
  blobs: r.blobs && { data: plain(r.blobs.data), offset: plain(r.blobs.offset) },
});

describe.each([
  ['blobs alone', false],
  ['blobs beside rows', true],
] as const)('a store of %s', (_, rows) => {
  test('gives any selection, in any order and twice, nothing at all too', async () => {
    const ids = range(50).filter((id) => id % 13 !== 6);
    await using store = await LabelStore.open(await write(join(scratch(), 'labels'), ids, rows));
    const roll = dice(7);
    for (let round = 0; round < 60; round++) {
      const positions = Int32Array.from({ length: roll(16) }, () => roll(ids.length));
      const wanted = record(
        [...positions].map((p) => ids[p]!),
        rows,
      );
      expect(comparable(await store.readRecords(positions))).toEqual(comparable(wanted));
    }
  });

  test('written by a stopped process is taken over: resumed equals uninterrupted', async () => {
    const root = scratch();
    const ids = range(40).filter((id) => id % 5 !== 1);
    const whole = await write(join(root, 'whole'), ids, rows);
    for (const chunk of [1, 3, 32]) expect((await write(join(root, `by${chunk}`), ids, rows, chunk)).id).toBe(whole.id);
    for (const stop of [1, 7, 20, ids.length]) {
      const dir = join(root, `stopped${stop}`);
      const first = await LabelWriter.open(await openDraft(dir, stage), header);
      for (const id of ids.slice(0, stop)) await first.append(record([id], rows)); // then the process dies
      const draft = await openDraft(dir, stage);
      const writer = await LabelWriter.open(draft, header);
      await writer.append(record([...writer.remaining(Int32Array.from(ids))], rows));
      await writer.finish();
      expect((await draft.publish(null)).id).toBe(whole.id);
    }
  });

  test('counts its blobs as payload and their sizes as index', async () => {
    const ids = range(20);
    const artifact = await write(join(scratch(), 'labels'), ids, rows);
    await using store = await LabelStore.open(artifact);
    const bytes = store.bytes();
    const m = ids.reduce((sum, id) => sum + rowsOf(id), 0);
    expect(bytes.payload).toBe(ids.flatMap(blobOf).length + (rows ? 4 * m : 0));
    expect(bytes.index).toBe(3 * 20); // a gap, a number of rows and one of bytes, each below 256
    const disk = artifact.manifest.files.reduce((sum, file) => sum + statSync(artifact.path(file.path)).size, 0);
    expect(bytes.payload + bytes.recipes + bytes.index + bytes.basis + bytes.container).toBe(disk);
  });
});

describe('refusals', () => {
  const opened = async () => LabelWriter.open(await openDraft(join(scratch(), 'a'), stage), header);
  const blobs = (offset: readonly bigint[], bytes: number) => ({
    data: tensor('U8', [bytes], new Uint8Array(bytes)),
    offset: tensor('I64', [offset.length], BigInt64Array.from(offset)),
  });

  test.each([
    ['too few offsets', blobs([0n, 4n], 4)],
    ['an end elsewhere', blobs([0n, 2n, 3n], 4)],
    ['falling offsets', blobs([0n, 5n, 4n], 4)],
    ['a first offset past 0', blobs([1n, 2n, 4n], 4)],
  ])('blobs with %s are E_INTERNAL', async (_, wrong) => {
    const writer = await opened();
    expect((await refusal(() => writer.append({ ...record([1, 2], true), blobs: wrong }))).code).toBe('E_INTERNAL');
  });

  test('records without blobs after some with them are E_INTERNAL', async () => {
    const writer = await opened();
    await writer.append(record([0, 2], true));
    expect((await refusal(() => writer.append({ ...record([3], true), blobs: null }))).code).toBe('E_INTERNAL');
  });

  /** The store with one tensor of its second shard changed. */
  async function forged(change: (tensors: TensorMap) => void): Promise<Artifact> {
    const root = scratch();
    const source = await write(join(root, 'good'), range(20), true);
    const draft = await openDraft(join(root, 'bad'), stage);
    for (const { path } of source.manifest.files) await draft.writeFile(path, readFileSync(source.path(path)));
    const tensors = { ...(await draft.readTensors('shard-00001.safetensors')) };
    change(tensors);
    await draft.writeTensors('shard-00001.safetensors', tensors);
    return draft.publish(null);
  }
  const sizes = (dtype: 'U8' | 'U16' | 'U32', values: readonly number[]) => (tensors: TensorMap) => {
    const array = { U8: Uint8Array, U16: Uint16Array, U32: Uint32Array }[dtype].from(values);
    tensors.blobBytes = tensor(dtype, [values.length], array);
  };
  const good = range(20)
    .slice(8, 16)
    .map((id) => blobOf(id).length);
  const with1 = (at: number, value: number) => good.map((size, i) => (i === at ? value : size));

  test.each<[string, (tensors: TensorMap) => void, RegExp]>([
    ['a record of a byte more', sizes('U8', with1(0, good[0]! + 1)), /bytes in all for blobBytes/],
    ['a record of a byte less', sizes('U8', with1(0, good[0]! - 1)), /bytes in all for blobBytes/],
    ['sizes that add up past 2^32', sizes('U32', new Array(8).fill(2 ** 32 - 1)), /blobBytes but received 34359738360/],
    ['one size too few', sizes('U8', good.slice(1)), /U8, U16, U32 \[8\] for blobBytes but received "U8 \[7\]"/],
    ['signed sizes', (t) => Object.assign(t, { blobBytes: tensor('I8', [8], Int8Array.from(good)) }), /"I8 \[8\]"/],
    ['no sizes', (t) => Reflect.deleteProperty(t, 'blobBytes'), /blobBytes but received "none"/],
    ['sizes without blobs', (t) => Reflect.deleteProperty(t, 'blob'), /blobBytes/],
    ['blobs of another dtype', (t) => Object.assign(t, { blob: tensor('I32', [1], new Int32Array(1)) }), /U8/],
    [
      'no blobs in one shard of several',
      (t) => ['blob', 'blobBytes'].map((name) => Reflect.deleteProperty(t, name)),
      /first shard/,
    ],
  ])('a shard with %s is E_DATA', async (_, change, message) => {
    const bad = await forged(change);
    const error = await refusal(() => LabelStore.open(bad));
    expect(error.code, error.message).toBe('E_DATA');
    expect(error.message).toMatch(message);
    expect(error.details.path).toMatch(/shard-00001/);
  });

  test('2,000 damaged shards give E_DATA or records, nothing else', async () => {
    const root = scratch();
    const good = await write(join(root, 'good'), range(12), true);
    const whole = readFileSync(good.path('shard-00001.safetensors'));
    const roll = dice(23);
    const draft = await openDraft(join(root, 'bad'), stage);
    for (const { path } of good.manifest.files) await draft.writeFile(path, readFileSync(good.path(path)));
    const bad = await draft.publish(null);
    let refused = 0;
    for (let i = 0; i < 2000; i++) {
      await writeFile(bad.path('shard-00001.safetensors'), mutate(whole, roll));
      try {
        await using store = await LabelStore.open(bad);
        const all = await store.readRecords(Int32Array.from(store.recordIds.keys()));
        expect(Number(arrayOf(all.blobs!.offset, 'I64').at(-1))).toBe(all.blobs!.data.data.length);
      } catch (thrown) {
        refused += 1;
        expect((thrown as { code?: string }).code, String(thrown)).toBe('E_DATA');
      }
    }
    expect(refused).toBeGreaterThan(500);
    await expect(openArtifact(bad.dir, { verify: true })).rejects.toMatchObject({ code: 'E_DATA' });
  }, 60_000);
});
