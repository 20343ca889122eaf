// The index of a shard: which records it holds and how long each is. Told as sizes, one small unsigned integer a record
// and tensor; ids and offsets are their running sums, made where a shard is opened.
// Invariant: the tensors depend on the shard's records alone, and sums are exact: one that left the exact integers could
// not equal what labels.json and the header promise, and is refused.
// Source: docs/label-format.md, "Tensors of a shard".

import { expected, LpldError } from './errors.ts';
import { arrayOf, type DType, type TensorMap, type TensorView, tensor } from './tensor.ts';

/** Id of a record less that of the one before it in the shard; of the first, its id. [R] */
export const RECORD_GAP = 'recordGap';
/** Rows of a record. [R] */
export const RECORD_ROWS = 'recordRows';
/** Bytes of a record in `blob`. [R] */
export const BLOB_BYTES = 'blobBytes';

/** What sizes may be stored as; the writer takes the first that holds the largest. */
export const SIZE_DTYPES = ['U8', 'U16', 'U32'] as const satisfies readonly DType[];
const LIMIT = { U8: 2 ** 8, U16: 2 ** 16, U32: 2 ** 32 } as const;

/** Ids are int32 in memory. */
const MAX_ID = 2 ** 31 - 1;

function sizesTensor(name: string, sizes: readonly number[]): TensorView {
  const largest = sizes.reduce((most, size) => Math.max(most, size), 0);
  const dtype = SIZE_DTYPES.find((type) => largest < LIMIT[type]);
  if (dtype === undefined) throw new LpldError('E_INTERNAL', expected('sizes below 2^32', name, largest));
  if (dtype === 'U8') return tensor(dtype, [sizes.length], Uint8Array.from(sizes));
  if (dtype === 'U16') return tensor(dtype, [sizes.length], Uint16Array.from(sizes));
  return tensor(dtype, [sizes.length], Uint32Array.from(sizes));
}

/**
 * The index tensors of a shard.
 *
 * @param ids - [R], rising
 * @param rows - [R]
 * @param blobs - bytes of each record [R]; null where the codec writes none
 * @throws {LpldError} E_INTERNAL for a size of 2^32 or more
 */
export function indexTensors(
  ids: readonly number[],
  rows: readonly number[],
  blobs: readonly number[] | null,
): TensorMap {
  const gaps = ids.map((id, i) => id - (ids[i - 1] ?? 0));
  const sizes = { [RECORD_GAP]: gaps, [RECORD_ROWS]: rows, ...(blobs === null ? {} : { [BLOB_BYTES]: blobs }) };
  return Object.fromEntries(Object.entries(sizes).map(([name, list]) => [name, sizesTensor(name, list)]));
}

const sizesIn = (view: TensorView) => arrayOf(view, view.dtype as (typeof SIZE_DTYPES)[number]);

/**
 * Running sums of sizes.
 * @param view - [R], of one of SIZE_DTYPES
 * @returns [R+1]: 0, the first, the first and the second, and so on
 */
export function sumsOf(view: TensorView): Float64Array {
  const sizes = sizesIn(view);
  const sums = new Float64Array(sizes.length + 1);
  for (let i = 0; i < sizes.length; i++) sums[i + 1] = sums[i]! + sizes[i]!;
  return sums;
}

/** Refuses the file that is read. */
type Refuse = (what: string, name: string, received: unknown) => never;

/**
 * The ids of a shard.
 *
 * @param view - recordGap [R], R >= 1, of one of SIZE_DTYPES
 * @returns [R], rising, from firstId to lastId
 */
export function idsOf(
  view: TensorView,
  { firstId, lastId }: { readonly firstId: number; readonly lastId: number },
  refuse: Refuse,
): Int32Array {
  const gaps = sizesIn(view);
  for (let i = 1; i < gaps.length; i++) if (gaps[i] === 0) refuse('at least 1', `${RECORD_GAP}[${i}]`, 0);
  const ids = sumsOf(view).subarray(1);
  if (ids[0] !== firstId || ids.at(-1) !== lastId)
    refuse(`ids ${firstId} to ${lastId}`, RECORD_GAP, `${ids[0]} to ${ids.at(-1)}`);
  if (lastId > MAX_ID) refuse('ids below 2^31', RECORD_GAP, lastId);
  return Int32Array.from(ids);
}

/**
 * Where the rows of every record begin and end.
 *
 * @param view - recordRows [R], of one of SIZE_DTYPES
 * @param rows - of the shard, below 2^53
 * @param most - rows of a full record
 * @returns [R+1], from 0 to `rows`
 */
export function rowOffsets(view: TensorView, rows: number, most: number, refuse: Refuse): Float64Array {
  const sizes = sizesIn(view);
  for (const [i, size] of sizes.entries())
    if (size < 1 || size > most) refuse(`1 to ${most} rows`, `${RECORD_ROWS}[${i}]`, size);
  const offset = sumsOf(view);
  if (offset.at(-1) !== rows) refuse(`${rows} rows in all`, RECORD_ROWS, offset.at(-1));
  return offset;
}

/**
 * Where the bytes of every record begin and end in `blob`.
 *
 * @param view - blobBytes [R], of one of SIZE_DTYPES
 * @param bytes - of `blob`, below 2^53
 * @returns [R+1], from 0 to `bytes`
 */
export function blobOffsets(view: TensorView, bytes: number, refuse: Refuse): Float64Array {
  const offset = sumsOf(view);
  if (offset.at(-1) !== bytes) refuse(`${bytes} bytes in all`, BLOB_BYTES, offset.at(-1));
  return offset;
}
