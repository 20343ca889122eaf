// What a label store looks like on disk: names, dtypes and row shapes of a shard's tensors, and labels.json. Shared by the
// reader (labels.ts) and the writer (label-writer.ts), which never see each other. docs/label-format.md says the same for
// people who read the files without this package; test/labels.test.ts holds the two together.
// Source: DESIGN section 7 (rows are images, explicit or derived recipes, total accounting); of the index: record-sizes.ts.

import { expected, LpldError } from './errors.ts';
import type { Recipes } from './native.ts';
import { BLOB_BYTES, RECORD_GAP, RECORD_ROWS, SIZE_DTYPES } from './record-sizes.ts';
import type { Header } from './safetensors.ts';
import { DTYPE_BYTES, type DType, elements } from './tensor.ts';

export const LABELS_FILE = 'labels.json';
export const BASIS_FILE = 'basis.safetensors';
/** Codec tensors stand in a shard under this prefix. */
export const LABEL_PREFIX = 'label.';
/** What a codec writes in varying length: the bytes of all records, U8. */
export const BLOB = 'blob';
/** `format` of labels.json. 1, of before the first release, had ids and offsets where sizes are now. */
export const FORMAT = 2;

/** Fields of explicit Recipes with dtype and shape of a row; `offset` becomes the shard's recordRows. */
export const RECIPE_FIELDS = {
  index: { dtype: 'I32', row: [] },
  crop: { dtype: 'I32', row: [4] },
  flip: { dtype: 'U8', row: [] },
  cutout: { dtype: 'I32', row: [4] },
  cutoutColor: { dtype: 'U8', row: [3] },
  mixKind: { dtype: 'U8', row: [] },
  mixIndex: { dtype: 'I32', row: [] },
  mixBox: { dtype: 'I32', row: [4] },
  lambda: { dtype: 'F32', row: [] },
} as const satisfies Record<Exclude<keyof Recipes, 'offset'>, { dtype: DType; row: readonly number[] }>;
export type RecipeField = keyof typeof RECIPE_FIELDS;
export const RECIPE_NAMES = Object.keys(RECIPE_FIELDS) as RecipeField[];

/** Bytes of one row of explicit Recipes: 65. */
export const RECIPE_ROW_BYTES = Object.values(RECIPE_FIELDS).reduce(
  (sum, { dtype, row }) => sum + DTYPE_BYTES[dtype] * elements(row),
  0,
);

export interface ShardEntry {
  readonly file: string;
  readonly firstId: number;
  readonly lastId: number; // inclusive
  readonly records: number;
  readonly rows: number;
}

/** What decides which records exist. `epochs` and `images` are the full plan's, before pruning. */
export interface StoredPlan {
  readonly epochs: number;
  readonly images: number; // N
  readonly [key: string]: unknown;
}

export interface LabelHeader {
  readonly codec: string; // e.g. dense:f16
  readonly recipes: 'explicit' | 'derived';
  readonly numClasses: number; // K
  readonly recordsPerShard: number;
  readonly batch: number; // rows of a full record
  readonly inputSize: number; // P, px
  readonly seed: number | string;
  readonly streamVersion: number;
  readonly augment: unknown;
  /** How many teachers answered, in which mode, how combined; for readers: nothing is decided by it. */
  readonly teachers?: unknown;
  readonly plan: StoredPlan;
}

export interface LabelsIndex extends LabelHeader {
  readonly format: typeof FORMAT;
  readonly shards: readonly ShardEntry[]; // rising ids
}

/** The file that holds a record: a pure function of its id, so that pruning first or last gives equal shards. */
export function shardOf(recordId: number, recordsPerShard: number): number {
  return Math.floor(recordId / recordsPerShard);
}

export function shardFile(shard: number): string {
  return `shard-${String(shard).padStart(5, '0')}.safetensors`;
}

function refuse(path: string, what: string, name: string, received: unknown): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
}

/** Logits of one record, which are decoded together: 4 GiB of float32. Nothing is asked of memory that files merely claim. */
const MAX_RECORD_LOGITS = 2 ** 30;

/** A seed as a number or in decimal digits. */
const isSeed = (v: unknown): boolean =>
  isCount(v, 0) || (typeof v === 'string' && /^\d{1,20}$/.test(v) && BigInt(v) < 2n ** 64n);

const isCount = (v: unknown, least: number): v is number => Number.isSafeInteger(v) && (v as number) >= least;

/** Refuses the layout of before the first release, which has other tensors in its shards. */
function refuseFirst(path: string): never {
  const advice = 'these labels were made before the first release: relabel or import again, then prune';
  throw new LpldError('E_MISMATCH', `${path}: ${expected(String(FORMAT), 'format', 1, advice)}`, { path });
}

/**
 * Checks labels.json.
 * @throws {LpldError} E_DATA with details.path naming the field; E_MISMATCH for the format of before the first release
 */
export function checkIndex(json: unknown, path: string): LabelsIndex {
  if (typeof json !== 'object' || json === null) refuse(path, 'an object', 'labels', JSON.stringify(json));
  const index = json as { [K in keyof LabelsIndex]?: unknown };
  if (index.format === 1) refuseFirst(path);
  if (index.format !== FORMAT) refuse(path, String(FORMAT), 'format', JSON.stringify(index.format));
  if (typeof index.codec !== 'string') refuse(path, 'a name', 'codec', JSON.stringify(index.codec));
  if (index.recipes !== 'explicit' && index.recipes !== 'derived')
    refuse(path, 'explicit or derived', 'recipes', JSON.stringify(index.recipes));
  for (const name of ['numClasses', 'recordsPerShard', 'batch', 'inputSize'] as const)
    if (!isCount(index[name], 1)) refuse(path, 'a positive integer', name, JSON.stringify(index[name]));
  if (!isCount(index.streamVersion, 0))
    refuse(path, 'an integer', 'streamVersion', JSON.stringify(index.streamVersion));
  if (!isSeed(index.seed)) refuse(path, 'an integer in [0, 2^64)', 'seed', JSON.stringify(index.seed));
  if ((index.batch as number) * (index.numClasses as number) > MAX_RECORD_LOGITS)
    refuse(
      path,
      `at most ${MAX_RECORD_LOGITS} logits a record`,
      'batch and numClasses',
      `${index.batch} and ${index.numClasses}`,
    );
  const plan = index.plan as Partial<StoredPlan> | null | undefined;
  if (!isCount(plan?.epochs, 1) || !isCount(plan?.images, 1))
    refuse(path, 'epochs and images', 'plan', JSON.stringify(plan));
  if (!Array.isArray(index.shards)) refuse(path, 'a list', 'shards', JSON.stringify(index.shards));
  let after = -1;
  for (const shard of index.shards as (Partial<ShardEntry> | null)[]) {
    const shown = JSON.stringify(shard);
    if (!isCount(shard?.firstId, 0) || !isCount(shard.lastId, shard.firstId) || !isCount(shard.records, 1))
      refuse(path, 'firstId <= lastId and records', 'a shard', shown);
    if (!isCount(shard.rows, shard.records) || shard.lastId - shard.firstId + 1 < shard.records)
      refuse(path, 'rows in every record, and no more records than ids', 'a shard', shown);
    const number = shardOf(shard.firstId, index.recordsPerShard as number);
    if (shard.file !== shardFile(number) || number !== shardOf(shard.lastId, index.recordsPerShard as number))
      refuse(path, `ids of one file, ${shardFile(number)}`, 'a shard', shown);
    if (shard.firstId <= after) refuse(path, `ids above ${after}`, 'a shard', shown);
    after = shard.lastId;
  }
  return json as LabelsIndex;
}

/**
 * Checks that a shard's header holds exactly the tensors its entry promises.
 * @returns names of the codec's row tensors, with the prefix, and whether there are blobs
 * @throws {LpldError} E_DATA with details.path naming the tensor
 */
export function checkShard(
  header: Header,
  entry: ShardEntry,
  recipes: LabelsIndex['recipes'],
  path: string,
): { readonly labels: string[]; readonly blobs: boolean } {
  const need = (name: string, dtypes: readonly DType[], shape: readonly number[]): void => {
    const found = header.tensors.get(name);
    const shown = found === undefined ? 'none' : `${found.dtype} [${found.shape}]`;
    if (!dtypes.some((dtype) => shown === `${dtype} [${shape}]`))
      refuse(path, `${dtypes.join(', ')} [${shape}]`, name, shown);
  };
  need(RECORD_GAP, SIZE_DTYPES, [entry.records]);
  need(RECORD_ROWS, SIZE_DTYPES, [entry.records]);
  const known = new Set<string>([RECORD_GAP, RECORD_ROWS]);
  if (recipes === 'explicit')
    for (const name of RECIPE_NAMES) {
      need(name, [RECIPE_FIELDS[name].dtype], [entry.rows, ...RECIPE_FIELDS[name].row]);
      known.add(name);
    }
  const blob = header.tensors.get(BLOB);
  if (blob !== undefined) {
    need(BLOB, ['U8'], [blob.shape[0] ?? 0]);
    need(BLOB_BYTES, SIZE_DTYPES, [entry.records]);
    known.add(BLOB).add(BLOB_BYTES);
  }
  const labels: string[] = [];
  for (const [name, { shape }] of header.tensors) {
    if (known.has(name)) continue;
    if (!name.startsWith(LABEL_PREFIX)) refuse(path, `one of ${[...known]} or ${LABEL_PREFIX}*`, 'a tensor', name);
    if (shape[0] !== entry.rows) refuse(path, `[${entry.rows}, ...]`, name, `[${shape}]`);
    labels.push(name);
  }
  if (labels.length === 0 && blob === undefined)
    refuse(path, `${BLOB} or at least one ${LABEL_PREFIX}* tensor`, 'a shard', 'none');
  return { labels: labels.sort(), blobs: blob !== undefined };
}
