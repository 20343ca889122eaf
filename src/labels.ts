// LabelStore: random access to the records of a published label store. A record is a Recipe and the teacher's encoded
// answer for it; its rows are read by file offset, whatever the size of the store, and a few shards stay open.
// The format is label-format.ts (and docs/label-format.md), writing is label-writer.ts.
// Source: DESIGN section 7.

import type { Artifact } from './artifact.ts';
import { expected, LpldError } from './errors.ts';
import { accountLabels, type LabelBytes } from './label-bytes.ts';
import {
  BASIS_FILE,
  BLOB,
  checkIndex,
  checkShard,
  LABEL_PREFIX,
  LABELS_FILE,
  type LabelsIndex,
  RECIPE_NAMES,
  type ShardEntry,
} from './label-format.ts';
import type { LabelRecords } from './label-writer.ts';
import type { Recipes } from './native.ts';
import type { ImageSizes } from './recipe.ts';
import { checkRecipes } from './recipe-check.ts';
import { BLOB_BYTES, blobOffsets, idsOf, RECORD_GAP, RECORD_ROWS, rowOffsets } from './record-sizes.ts';
import { SafetensorsFile } from './safetensors.ts';
import { DTYPE_BYTES, type DType, elements, type TensorMap, type TensorView, tensor } from './tensor.ts';

export type { LabelBytes } from './label-bytes.ts';
export type { LabelHeader, LabelsIndex, ShardEntry, StoredPlan } from './label-format.ts';
export { shardFile, shardOf } from './label-format.ts';
export { type LabelRecords, LabelWriter } from './label-writer.ts';

const OPEN_SHARDS = 16;

interface Shard {
  readonly entry: ShardEntry;
  readonly path: string;
  readonly first: number; // position of its first record in the store
  readonly offset: Float64Array; // [records + 1] rows; exact below 2^53
  readonly blobs: Float64Array | null; // [records + 1] bytes; null where the codec writes none
}

interface Field {
  readonly name: string; // in the shard
  readonly dtype: DType;
  readonly row: readonly number[];
}

/** Consecutive records of one shard, and where their rows go. */
interface Run {
  readonly shard: Shard;
  start: number; // record of the shard
  end: number;
  readonly row: number; // first row in the answer
}

export class LabelStore {
  readonly artifact: Artifact;
  readonly index: LabelsIndex;
  /** Ids of all records, rising. [R] */
  readonly recordIds: Int32Array;
  readonly basis: TensorMap;
  readonly #shards: readonly Shard[];
  readonly #fields: readonly Field[];
  readonly #bytes: LabelBytes;
  readonly #open = new Map<string, SafetensorsFile>(); // in order of last use
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(
    artifact: Artifact,
    index: LabelsIndex,
    found: { recordIds: Int32Array; basis: TensorMap; shards: Shard[]; fields: Field[]; bytes: LabelBytes },
  ) {
    this.artifact = artifact;
    this.index = index;
    this.recordIds = found.recordIds;
    this.basis = found.basis;
    this.#shards = found.shards;
    this.#fields = found.fields;
    this.#bytes = found.bytes;
  }

  get numRecords(): number {
    return this.recordIds.length;
  }

  /**
   * Opens a store: labels.json, every shard's header, record ids and sizes are read and checked; no label is.
   * @throws {LpldError} E_DATA with details.path: a missing shard, ids outside it, sizes that do not add up, tensors that do
   *   not fit; E_MISMATCH for a store of before the first release
   */
  static async open(artifact: Artifact): Promise<LabelStore> {
    const index = checkIndex(await artifact.readJson(LABELS_FILE), artifact.path(LABELS_FILE));
    const ids: Int32Array[] = []; // one list a shard: labels.json may promise any number, a shard has its bytes
    const shards: Shard[] = [];
    let fields: Field[] = [];
    let first = 0;
    let [payload, sizes] = [0, 0]; // bytes of labels, bytes of the index
    for (const entry of index.shards) {
      const file = await SafetensorsFile.open(artifact.path(entry.file));
      try {
        const { labels, blobs } = checkShard(file.header, entry, index.recipes, file.path);
        const names = [...(index.recipes === 'explicit' ? RECIPE_NAMES : []), ...labels];
        const here = names.map((name) => {
          const { dtype, shape } = file.entry(name);
          return { name, dtype, row: shape.slice(1) };
        });
        if (shards.length === 0) fields = here;
        else if (JSON.stringify(fields) !== JSON.stringify(here))
          refuse(file.path, JSON.stringify(fields), 'the tensors of every shard', JSON.stringify(here));
        const bytesOf = (name: string): number => file.entry(name).end - file.entry(name).begin;
        for (const name of blobs ? [...labels, BLOB] : labels) payload += bytesOf(name);
        for (const name of [RECORD_GAP, RECORD_ROWS, ...(blobs ? [BLOB_BYTES] : [])]) sizes += bytesOf(name);
        const wrong = (what: string, name: string, received: unknown) => refuse(file.path, what, name, received);
        const own = idsOf(await file.tensor(RECORD_GAP), entry, wrong);
        const offset = rowOffsets(await file.tensor(RECORD_ROWS), entry.rows, index.batch, wrong);
        const ends = blobs ? blobOffsets(await file.tensor(BLOB_BYTES), bytesOf(BLOB), wrong) : null;
        if (shards.length > 0 && (shards[0]!.blobs !== null) !== blobs)
          refuse(file.path, blobs ? 'none' : 'a tensor', BLOB, 'what differs from the first shard');
        ids.push(own);
        shards.push({ entry, path: file.path, first, offset, blobs: ends });
      } finally {
        await file.close();
      }
      first += entry.records;
    }
    const basis = artifact.has(BASIS_FILE) ? await artifact.readTensors(BASIS_FILE) : {};
    const bytes = await accountLabels(artifact, index, { payload, index: sizes });
    return new LabelStore(artifact, index, { recordIds: joined(ids), basis, shards, fields, bytes });
  }

  /**
   * Reads records by position, in the order asked for; a position may come twice. QUIRK(first-image): upstream looks a
   * batch up by its first image, so that up to 1.3 % get another batch's labels; changed: records have ids.
   *
   * @param positions - [n] in [0, numRecords)
   * @param sizes - of the images, where crops of explicit Recipes are to be held against them too
   * @returns ids [n], offset I32 [n+1], recipes (null when derived), codec tensors with rows and blobs concatenated
   * @throws {LpldError} E_INTERNAL for a position outside the store; E_DATA for a damaged shard, and for a Recipe out of
   *   range with details.record
   */
  readRecords(positions: Int32Array, sizes: ImageSizes | null = null): Promise<LabelRecords> {
    const turn = this.#queue.then(() => this.#read(positions, sizes)); // one at a time: an open shard is not closed under a reader
    this.#queue = turn.catch(() => {});
    return turn;
  }

  /** Bytes on disk by purpose, compression against the full dense f16 store, and bytes per image. */
  bytes(): LabelBytes {
    return this.#bytes;
  }

  /** Closes the shards that are open. The store may be read again afterwards. */
  async close(): Promise<void> {
    await this.#queue;
    for (const file of this.#open.values()) await file.close();
    this.#open.clear();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #read(positions: Int32Array, sizes: ImageSizes | null): Promise<LabelRecords> {
    const { runs, offset } = this.#plan(positions);
    const rows = offset[positions.length]!;
    const views = this.#fields.map(({ dtype, row }): TensorView => {
      const data = new Uint8Array(rows * elements(row) * DTYPE_BYTES[dtype]);
      return { dtype, shape: [rows, ...row], data };
    });
    const blobs = this.#shards[0]?.blobs ? blobSpace(runs, positions.length) : null;
    let record = 0;
    for (const { shard, start, end, row } of runs) {
      const file = await this.#file(shard);
      const [from, to] = [shard.offset[start]!, shard.offset[end]!];
      const reads = this.#fields.map((field, i) => {
        const size = elements(field.row) * DTYPE_BYTES[field.dtype];
        const target = views[i]!.data.subarray(row * size, (row + to - from) * size);
        return file.rowsInto(field.name, from, to, target);
      });
      if (blobs !== null) {
        const target = blobs.data.subarray(Number(blobs.offset[record]), Number(blobs.offset[record + end - start]));
        reads.push(file.rowsInto(BLOB, shard.blobs![start]!, shard.blobs![end]!, target));
      }
      record += end - start;
      // Wait for all, so that no read is left running when one fails.
      for (const result of await Promise.allSettled(reads)) if (result.status === 'rejected') throw result.reason;
    }
    const offsetView = tensor('I32', [offset.length], offset);
    const byName = new Map(this.#fields.map(({ name }, i) => [name, views[i]!]));
    const tensors = [...byName].filter(([name]) => name.startsWith(LABEL_PREFIX));
    const recipes = this.index.recipes === 'derived' ? null : recipesOf(offsetView, byName);
    if (recipes !== null) this.#check(recipes, positions, sizes);
    return {
      recordIds: positions.map((p) => this.recordIds[p]!),
      offset: offsetView,
      recipes,
      tensors: Object.fromEntries(tensors.map(([name, view]) => [name.slice(LABEL_PREFIX.length), view])),
      blobs: blobs && {
        data: tensor('U8', [blobs.data.length], blobs.data),
        offset: tensor('I64', [blobs.offset.length], blobs.offset),
      },
    };
  }

  #check(recipes: Recipes, positions: Int32Array, sizes: ImageSizes | null): void {
    const { plan, inputSize } = this.index;
    checkRecipes(recipes, { images: plan.images, inputSize, sizes }, (batch, row, what, field, received) => {
      const { path } = this.#shardAt(positions[batch]!);
      const record = this.recordIds[positions[batch]!]!;
      const name = `${field} of row ${row} of record ${record}`;
      throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path, record, field });
    });
  }

  /** Cuts positions into runs of neighbours inside a shard. */
  #plan(positions: Int32Array): { runs: Run[]; offset: Int32Array<ArrayBuffer> } {
    const runs: Run[] = [];
    const offset = new Int32Array(positions.length + 1);
    for (const [i, position] of positions.entries()) {
      if (position < 0 || position >= this.numRecords)
        throw new LpldError('E_INTERNAL', expected(`a position in [0, ${this.numRecords})`, 'readRecords', position));
      const shard = this.#shardAt(position);
      const record = position - shard.first;
      const last = runs.at(-1);
      if (last?.shard === shard && last.end === record) last.end += 1;
      else runs.push({ shard, start: record, end: record + 1, row: offset[i]! });
      offset[i + 1] = offset[i]! + shard.offset[record + 1]! - shard.offset[record]!;
    }
    return { runs, offset };
  }

  /** The shard of a position, by bisection. */
  #shardAt(position: number): Shard {
    let low = 0;
    let high = this.#shards.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.#shards[middle]!.first <= position) low = middle;
      else high = middle - 1;
    }
    return this.#shards[low]!;
  }

  async #file(shard: Shard): Promise<SafetensorsFile> {
    const file = this.#open.get(shard.path) ?? (await this.#reopen(shard));
    this.#open.delete(shard.path);
    this.#open.set(shard.path, file);
    if (this.#open.size > OPEN_SHARDS) {
      const [path, oldest] = this.#open.entries().next().value!;
      this.#open.delete(path);
      await oldest.close();
    }
    return file;
  }

  /** Opens a shard to read labels: it may have changed since the store was opened. */
  async #reopen({ path, entry }: Shard): Promise<SafetensorsFile> {
    const file = await SafetensorsFile.open(path);
    try {
      checkShard(file.header, entry, this.index.recipes, path);
      return file;
    } catch (thrown) {
      await file.close();
      throw thrown;
    }
  }
}

function recipesOf(offset: TensorView, byName: ReadonlyMap<string, TensorView>): Recipes {
  return { offset, ...Object.fromEntries(RECIPE_NAMES.map((name) => [name, byName.get(name)!])) } as unknown as Recipes;
}

function refuse(path: string, what: string, name: string, received: unknown): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
}

function joined(parts: readonly Int32Array[]): Int32Array {
  const out = new Int32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    out.set(part, at);
    at += part.length;
  }
  return out;
}

/** Room for the blobs of some runs, and where each record's begins: I64 [records + 1]. */
function blobSpace(runs: readonly Run[], records: number): { data: Uint8Array; offset: BigInt64Array } {
  const offset = new BigInt64Array(records + 1);
  let at = 0;
  for (const { shard, start, end } of runs)
    for (let record = start; record < end; record++) {
      offset[at + 1] = offset[at]! + BigInt(shard.blobs![record + 1]! - shard.blobs![record]!);
      at += 1;
    }
  return { data: new Uint8Array(Number(offset[records])), offset };
}
