// Stores far larger than memory allows: opening reads headers and sizes, a record reads its rows, and nothing else.
// The shards are sparse files, 3 GiB and more of zeros with a few real bytes, so that the test costs no disk.

import { closeSync, ftruncateSync, openSync, readFileSync, statSync, writeFileSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Artifact, openArtifact, openDraft } from '../src/artifact.ts';
import { prettyJson } from '../src/canonical-json.ts';
import { FORMAT, type LabelsIndex, type ShardEntry } from '../src/label-format.ts';
import { LabelStore, shardFile } from '../src/labels.ts';
import { arrayOf } from '../src/tensor.ts';
import { dice, scratch } from './util/hostile.ts';
import { labelStage as stage } from './util/label-stage.ts';

const GIB = 2 ** 30;

/** Tensors of a sparse shard, in file order: what is written, the rest is a hole. */
type Sparse = readonly {
  name: string;
  dtype: string;
  shape: readonly number[];
  bytes: number;
  data: Uint8Array | null;
}[];

function writeSparse(path: string, tensors: Sparse): Map<string, number> {
  const begins = new Map<string, number>();
  const entries: Record<string, unknown> = {};
  let at = 0;
  for (const { name, dtype, shape, bytes } of tensors) {
    begins.set(name, at);
    entries[name] = { dtype, shape, data_offsets: [at, at + bytes] };
    at += bytes;
  }
  const text = Buffer.from(JSON.stringify(entries));
  const head = Buffer.alloc(8);
  head.writeBigUInt64LE(BigInt(text.length));
  const file = openSync(path, 'w');
  writeSync(file, head);
  writeSync(file, text);
  const start = 8 + text.length;
  for (const { name, data } of tensors) {
    begins.set(name, begins.get(name)! + start);
    if (data !== null) writeSync(file, data, 0, data.length, begins.get(name)!);
  }
  ftruncateSync(file, start + at);
  closeSync(file);
  return begins;
}

interface Large {
  readonly artifact: Artifact;
  readonly bytes: number;
  /** Puts bytes into a tensor of a shard. */
  put(shard: number, tensor: string, at: number, data: Uint8Array): void;
}

/** A store of `shards` sparse shards of `records` records of `rows` rows of `numClasses` halves, or of blobs. */
async function large(
  dir: string,
  o: { shards: number; records: number; rows: number; numClasses: number; blobBytes: number | null },
): Promise<Large> {
  const { records, rows, numClasses, blobBytes } = o;
  const m = records * rows;
  /** A size tensor: the same for every record, but for the first. */
  const sized = (name: string, size: number, first = size): Sparse[number] => {
    const data = new Uint32Array(records).fill(size).fill(first, 0, 1);
    return { name, dtype: 'U32', shape: [records], bytes: 4 * records, data: new Uint8Array(data.buffer) };
  };
  const entries: ShardEntry[] = [];
  const begins: Map<string, number>[] = [];
  const draft = await openDraft(dir, stage);
  for (let shard = 0; shard < o.shards; shard++) {
    const firstId = shard * records;
    const file = shardFile(shard);
    const index: Sparse = [sized('recordGap', 1, firstId), sized('recordRows', rows)];
    const labels: Sparse =
      blobBytes === null
        ? [{ name: 'label.logits', dtype: 'F16', shape: [m, numClasses], bytes: 2 * m * numClasses, data: null }]
        : [
            sized('blobBytes', blobBytes),
            { name: 'blob', dtype: 'U8', shape: [records * blobBytes], bytes: records * blobBytes, data: null },
          ];
    await draft.writeFile(file, new Uint8Array(0));
    begins.push(writeSparse(draft.path(file), [...index, ...labels]));
    entries.push({ file, firstId, lastId: firstId + records - 1, records, rows: m });
  }
  const index: LabelsIndex = {
    format: FORMAT,
    codec: 'dense:f16',
    recipes: 'derived',
    numClasses,
    recordsPerShard: records,
    batch: rows,
    inputSize: 16,
    seed: 1,
    streamVersion: 1,
    augment: {},
    plan: { epochs: o.shards, images: m },
    shards: entries,
  };
  await draft.writeJson('labels.json', index);
  // The manifest would be written with sizes taken before the holes: set them, as hashing 3 GiB would prove nothing here.
  const size = (file: string): number => statSync(join(`${dir}.partial`, file)).size;
  const sizes = new Map(entries.map(({ file }) => [file, size(file)]));
  await draft.publish(null).catch(() => {}); // refuses the sizes after it has renamed
  const manifest = JSON.parse(readFileSync(join(dir, 'manifest.json'), 'utf8'));
  for (const file of manifest.files) file.bytes = sizes.get(file.path) ?? file.bytes;
  writeFileSync(join(dir, 'manifest.json'), prettyJson(manifest));
  const artifact = await openArtifact(dir);
  return {
    artifact,
    bytes: [...sizes.values()].reduce((a, b) => a + b, 0),
    put(shard, name, at, data) {
      const file = openSync(artifact.path(shardFile(shard)), 'r+');
      writeSync(file, data, 0, data.length, begins[shard]!.get(name)! + at);
      closeSync(file);
    },
  };
}

/** Bytes this process has asked the kernel to read so far, all threads together; Linux only. */
const readSoFar = (): number => Number(/rchar: (\d+)/.exec(readFileSync('/proc/self/io', 'utf8'))![1]);

/** Bytes read and growth of resident memory while `work` runs. */
async function cost<T>(work: () => Promise<T>): Promise<{ result: T; read: number; memory: number }> {
  const [read, memory] = [readSoFar(), process.memoryUsage.rss()];
  const result = await work();
  return { result, read: readSoFar() - read, memory: process.memoryUsage.rss() - memory };
}
const SLACK = 1 << 20; // what else the test process may read meanwhile
const MEMORY = 96 << 20;

describe('a store of one 3.1 GiB shard', () => {
  test('10,450 classes, 16 rows a record: a record costs its 334,400 bytes', async () => {
    const size = { shards: 1, records: 10_000, rows: 16, numClasses: 10_450, blobBytes: null };
    const store = await large(join(scratch(), 'labels'), size);
    expect(store.bytes).toBeGreaterThan(3 * GIB);
    const rowBytes = 2 * 10_450;
    store.put(0, 'label.logits', (9_999 * 16 + 3) * rowBytes, Uint8Array.of(7, 9)); // past 2^31 of the file
    const opened = await cost(() => LabelStore.open(store.artifact));
    expect(opened.read).toBeLessThan(10_000 * 8 + SLACK);
    expect(opened.memory).toBeLessThan(MEMORY);
    const one = await cost(() => opened.result.readRecords(Int32Array.of(9_999)));
    expect(one.result.tensors.logits!.data.length).toBe(16 * rowBytes);
    expect([...one.result.tensors.logits!.data.subarray(3 * rowBytes, 3 * rowBytes + 3)]).toEqual([7, 9, 0]);
    expect(one.read).toBeLessThan(16 * rowBytes + SLACK);
    const roll = dice(5);
    const many = await cost(() => opened.result.readRecords(Int32Array.from({ length: 40 }, () => roll(10_000))));
    expect(many.read).toBeLessThan(40 * 16 * rowBytes + SLACK);
    expect(many.memory).toBeLessThan(MEMORY);
    expect(opened.result.bytes().payload).toBe(10_000 * 16 * rowBytes);
    await opened.result.close();
  });

  test('blobs alone, past 4 GiB: an offset beyond 2^32 is found', async () => {
    const size = { shards: 1, records: 5_000, rows: 4, numClasses: 10, blobBytes: 2 ** 20 };
    const store = await large(join(scratch(), 'labels'), size);
    expect(store.bytes).toBeGreaterThan(4.8 * GIB);
    store.put(0, 'blob', 4_998 * 2 ** 20 + 5, Uint8Array.of(42));
    const opened = await cost(() => LabelStore.open(store.artifact));
    expect(opened.read).toBeLessThan(5_000 * 12 + SLACK);
    const one = await cost(() => opened.result.readRecords(Int32Array.of(4_998)));
    expect(arrayOf(one.result.blobs!.offset, 'I64')).toEqual(BigInt64Array.of(0n, 2n ** 20n));
    expect(one.result.blobs!.data.data[5]).toBe(42);
    expect(one.read).toBeLessThan(2 ** 20 + SLACK);
    await opened.result.close();
  });
});

test('a store of 300 shards, 9 GiB: opening reads 8 bytes a record, in the widest dtype, and the headers', async () => {
  const size = { shards: 300, records: 128, rows: 12, numClasses: 10_450, blobBytes: null };
  const store = await large(join(scratch(), 'labels'), size);
  expect(store.bytes).toBeGreaterThan(8.9 * GIB);
  const opened = await cost(() => LabelStore.open(store.artifact));
  expect(opened.result.numRecords).toBe(38_400);
  expect(opened.read).toBeLessThan(8 * 38_400 + 300 * 1024 + SLACK);
  expect(opened.memory).toBeLessThan(MEMORY);
  const spread = Int32Array.from({ length: 60 }, (_, i) => i * 640); // one of every fifth shard: more than stay open
  const read = await cost(() => opened.result.readRecords(spread));
  expect([...read.result.recordIds]).toEqual([...spread]);
  expect(read.read).toBeLessThan(60 * (12 * 2 * 10_450 + 1024) + SLACK);
  await opened.result.close();
});
