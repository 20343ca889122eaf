// Writes a label store through an ArtifactDraft: records arrive in rising id order, a shard is written when its last
// record is in, and a killed process resumes at the first shard that is not whole.
// Invariant: a shard's bytes depend on its records alone, not on how they were cut into appends or on a resume.

import type { ArtifactDraft } from './artifact.ts';
import { expected, LpldError } from './errors.ts';
import {
  BASIS_FILE,
  BLOB,
  FORMAT,
  LABEL_PREFIX,
  LABELS_FILE,
  type LabelHeader,
  type LabelsIndex,
  RECIPE_FIELDS,
  RECIPE_NAMES,
  type ShardEntry,
  shardFile,
  shardOf,
} from './label-format.ts';
import type { EncodedLabels, Recipes } from './native.ts';
import { indexTensors, RECORD_GAP, RECORD_ROWS, sumsOf } from './record-sizes.ts';
import { arrayOf, DTYPE_BYTES, type DType, elements, type TensorMap, type TensorView } from './tensor.ts';

/** Some records in rising id order. Record i owns rows offset[i] .. offset[i+1] of every tensor. */
export interface LabelRecords extends EncodedLabels {
  readonly recordIds: Int32Array; // [R]
  readonly offset: TensorView; // I32 [R+1], from 0 to M
  readonly recipes: Recipes | null; // rows [M]; null for derived
}

/** The parts of one tensor of the shard in the making. */
interface Column {
  readonly dtype: DType;
  readonly row: readonly number[]; // shape of one row
  readonly parts: Uint8Array[];
}

function join(column: Column, rows: number): TensorView {
  const data = new Uint8Array(rows * elements(column.row) * DTYPE_BYTES[column.dtype]);
  let at = 0;
  for (const part of column.parts) {
    data.set(part, at);
    at += part.byteLength;
  }
  return { dtype: column.dtype, shape: [rows, ...column.row], data };
}

const sumOf = (sizes: readonly number[]): number => sizes.reduce((sum, size) => sum + size, 0);

function internal(what: string, name: string, received: unknown): never {
  throw new LpldError('E_INTERNAL', expected(what, name, received));
}

export class LabelWriter {
  readonly header: LabelHeader;
  readonly #draft: ArtifactDraft;
  readonly #shards = new Map<number, ShardEntry>();
  #shard = -1; // number of the shard in the making
  #lastId = -1;
  #ids: number[] = [];
  #rows: number[] = []; // of each record
  #blobs: Uint8Array[] = []; // of each record; empty where the codec writes none
  #columns = new Map<string, Column>();

  private constructor(draft: ArtifactDraft, header: LabelHeader) {
    this.#draft = draft;
    this.header = header;
  }

  /** Opens a writer on a draft; shards that an interrupted run finished are taken over. */
  static async open(draft: ArtifactDraft, header: LabelHeader): Promise<LabelWriter> {
    const writer = new LabelWriter(draft, header);
    for (const { path } of draft.files) {
      const match = /^shard-(\d+)\.safetensors$/.exec(path);
      if (match === null) continue;
      const tensors = await draft.readTensors(path);
      const ids = sumsOf(tensors[RECORD_GAP]!).subarray(1);
      const rows = sumsOf(tensors[RECORD_ROWS]!).at(-1)!;
      const entry = { file: path, firstId: ids[0]!, lastId: ids.at(-1)!, records: ids.length, rows };
      writer.#shards.set(Number(match[1]), entry);
    }
    return writer;
  }

  /** Whether the shard of a record is whole already. */
  isDone(recordId: number): boolean {
    return this.#shards.has(shardOf(recordId, this.header.recordsPerShard));
  }

  /**
   * The records of a plan that still have to be made, in the order given.
   * @param recordIds - all ids of the plan, rising
   */
  remaining(recordIds: Int32Array): Int32Array {
    return recordIds.filter((id) => !this.isDone(id));
  }

  /** Stores what the codec's fit wrote once; an empty basis stores nothing. */
  async writeBasis(tensors: TensorMap): Promise<void> {
    if (Object.keys(tensors).length > 0) await this.#draft.writeTensors(BASIS_FILE, tensors);
  }

  /** The basis of an interrupted run, or null. */
  async readBasis(): Promise<TensorMap | null> {
    return this.#draft.has(BASIS_FILE) ? this.#draft.readTensors(BASIS_FILE) : null;
  }

  /**
   * Appends records in rising id order; a shard is written as soon as a record of a later one arrives. The rows are
   * copied.
   * @throws {LpldError} E_INTERNAL on falling ids, rows that do not fit, a record whose shard is whole; E_DEVICE on no space
   */
  async append(records: LabelRecords): Promise<void> {
    const offset = arrayOf(records.offset, 'I32');
    const named = this.#named(records, offset.at(-1) ?? -1);
    if (offset.length !== records.recordIds.length + 1 || offset[0] !== 0)
      internal(`${records.recordIds.length + 1} offsets from 0`, 'offset', offset.length);
    for (let start = 0; start < records.recordIds.length; ) {
      const shard = shardOf(records.recordIds[start]!, this.header.recordsPerShard);
      if (shard !== this.#shard) await this.#flush();
      if (this.#shards.has(shard)) internal('a record of an unfinished shard', 'recordId', records.recordIds[start]);
      this.#shard = shard;
      let end = start;
      while (
        end < records.recordIds.length &&
        shardOf(records.recordIds[end]!, this.header.recordsPerShard) === shard
      ) {
        const id = records.recordIds[end]!;
        if (id <= this.#lastId) internal(`an id above ${this.#lastId}`, 'recordId', id);
        if (offset[end + 1]! <= offset[end]!) internal('at least one row a record', 'offset', offset[end + 1]);
        this.#ids.push(id);
        this.#rows.push(offset[end + 1]! - offset[end]!);
        this.#lastId = id;
        end += 1;
      }
      this.#take(named, offset[start]!, offset[end]!);
      this.#takeBlobs(records, start, end);
      start = end;
    }
  }

  /** Writes the last shard and labels.json. @returns the index as written */
  async finish(): Promise<LabelsIndex> {
    await this.#flush();
    const shards = [...this.#shards].sort(([a], [b]) => a - b).map(([, entry]) => entry);
    const index: LabelsIndex = { format: FORMAT, ...this.header, shards };
    await this.#draft.writeJson(LABELS_FILE, index);
    return index;
  }

  /** The tensors of some records under their names in a shard, checked against the row count. */
  #named(records: LabelRecords, rows: number): [string, TensorView][] {
    if ((records.recipes !== null) !== (this.header.recipes === 'explicit'))
      internal(`${this.header.recipes} recipes`, 'records', records.recipes === null ? 'none' : 'explicit ones');
    const named: [string, TensorView][] = Object.entries(records.tensors).map(([n, t]) => [LABEL_PREFIX + n, t]);
    if (named.length === 0 && records.blobs === null) internal('at least one tensor', 'the codec', 'none');
    if (records.blobs !== null) {
      const at = arrayOf(records.blobs.offset, 'I64');
      const rising = at.every((end, i) => (i === 0 ? end === 0n : end >= at[i - 1]!));
      if (!rising || at.length !== records.recordIds.length + 1 || Number(at.at(-1)) !== records.blobs.data.data.length)
        internal(`${records.recordIds.length + 1} blob offsets rising from 0`, 'the codec', `[${at}]`);
    }
    if (records.recipes !== null)
      for (const name of RECIPE_NAMES) {
        const view = records.recipes[name];
        const { dtype, row } = RECIPE_FIELDS[name];
        if (view.dtype !== dtype || `${view.shape.slice(1)}` !== `${row}`)
          internal(`${dtype} [M${row.map((n) => `, ${n}`)}]`, name, `${view.dtype} [${view.shape}]`);
        named.push([name, view]);
      }
    for (const [name, { shape }] of named) if (shape[0] !== rows) internal(`[${rows}, ...]`, name, `[${shape}]`);
    return named;
  }

  /** Copies rows [start, end) of every tensor into the shard in the making. */
  #take(named: readonly [string, TensorView][], start: number, end: number): void {
    const first = this.#columns.size === 0;
    if (!first && this.#columns.size !== named.length)
      internal(
        'the same tensors',
        'the shard',
        named.map(([n]) => n),
      );
    for (const [name, view] of named) {
      const row = view.shape.slice(1);
      if (first) this.#columns.set(name, { dtype: view.dtype, row, parts: [] });
      const column = this.#columns.get(name);
      if (column === undefined || column.dtype !== view.dtype || `${column.row}` !== `${row}`)
        internal('the dtype and row shape of earlier records', name, `${view.dtype} [${view.shape}]`);
      const bytes = elements(row) * DTYPE_BYTES[view.dtype];
      column.parts.push(view.data.slice(start * bytes, end * bytes));
    }
  }

  /** Copies the blobs of records [start, end) into the shard in the making. */
  #takeBlobs({ blobs }: LabelRecords, start: number, end: number): void {
    const earlier = this.#ids.length - (end - start);
    if (earlier > 0 && (blobs !== null) !== this.#blobs.length > 0)
      internal('blobs in all records of a store or in none', 'the shard', blobs === null ? 'none' : 'some');
    if (blobs === null) return;
    const at = arrayOf(blobs.offset, 'I64');
    for (let record = start; record < end; record++)
      this.#blobs.push(blobs.data.data.slice(Number(at[record]), Number(at[record + 1])));
  }

  async #flush(): Promise<void> {
    const records = this.#ids.length;
    if (records === 0) return;
    const blobs = this.#blobs.length > 0 ? this.#blobs.map(({ length }) => length) : null;
    const rows = sumOf(this.#rows);
    const tensors = indexTensors(this.#ids, this.#rows, blobs);
    for (const [name, column] of this.#columns) tensors[name] = join(column, rows);
    if (blobs !== null) tensors[BLOB] = join({ dtype: 'U8', row: [], parts: this.#blobs }, sumOf(blobs));
    const file = shardFile(this.#shard);
    await this.#draft.writeTensors(file, tensors);
    const entry = { file, firstId: this.#ids[0]!, lastId: this.#ids.at(-1)!, records, rows };
    this.#shards.set(this.#shard, entry);
    this.#ids = [];
    this.#rows = [];
    this.#blobs = [];
    this.#columns = new Map();
  }
}
