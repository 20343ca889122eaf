// The safetensors format: 8 bytes of header length, a JSON header, the tensors' bytes without holes. Whole files, headers
// alone, and rows of one tensor are read; nothing is trusted: every promise of the format is checked before a byte of a
// tensor is handed out, and a broken one is E_DATA with details.path. Reading by rows touches only those rows.
// Source of the format: github.com/huggingface/safetensors, README and safetensors/src/tensor.rs (rules, not code).

import { type FileHandle, open } from 'node:fs/promises';
import { fileError, type Written, writeFileAtomic } from './atomic-file.ts';
import { canonicalJson, parseStrictJson } from './canonical-json.ts';
import { expected, LpldError } from './errors.ts';
import { DTYPE_BYTES, type DType, elements, type TensorMap, type TensorView } from './tensor.ts';

/** Longest header that is read; the reference implementation has the same cap. */
export const MAX_HEADER_BYTES = 100_000_000;
const MAX_RANK = 64;

export interface TensorEntry {
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number; // bytes from the start of the data
  readonly end: number;
}

export interface Header {
  readonly tensors: ReadonlyMap<string, TensorEntry>; // in file order
  readonly metadata: Readonly<Record<string, string>>;
  readonly dataStart: number; // bytes from the start of the file
  readonly fileBytes: number;
}

function refuse(path: string, what: string, name: string, received: unknown): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
}

const isSize = (v: unknown): v is number => typeof v === 'number' && Number.isSafeInteger(v) && v >= 0;

function checkEntry(path: string, name: string, value: unknown): TensorEntry {
  const entry = value as { dtype?: unknown; shape?: unknown; data_offsets?: unknown } | null;
  if (typeof entry !== 'object' || entry === null || Array.isArray(entry)) refuse(path, 'an object', name, value);
  const extra = Object.keys(entry).find((k) => !['dtype', 'shape', 'data_offsets'].includes(k));
  if (extra !== undefined) refuse(path, 'the keys dtype, shape, data_offsets', name, extra);
  const { dtype, shape, data_offsets: offsets } = entry;
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype))
    refuse(path, `one of ${Object.keys(DTYPE_BYTES).join(', ')}`, `dtype of ${name}`, JSON.stringify(dtype));
  if (!Array.isArray(shape) || shape.length > MAX_RANK || !shape.every(isSize))
    refuse(path, 'a list of sizes', `shape of ${name}`, JSON.stringify(shape));
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isSize))
    refuse(path, 'two offsets', `data_offsets of ${name}`, JSON.stringify(offsets));
  const [begin, end] = offsets as [number, number];
  let bytes = DTYPE_BYTES[dtype as DType];
  for (const size of shape as number[]) {
    // A product that leaves the safe integers is refused even where a later size is 0.
    bytes *= size;
    if (!Number.isSafeInteger(bytes)) refuse(path, 'a size below 2^53 bytes', name, JSON.stringify(shape));
  }
  if (end - begin !== bytes) refuse(path, `${bytes} bytes for ${dtype} [${shape}]`, name, `offsets ${begin} to ${end}`);
  return { dtype: dtype as DType, shape: shape as number[], begin, end };
}

/** Checks the 8 length bytes and returns the header's length, before anything is allocated for it. */
function headerLength(prefix: Uint8Array, fileBytes: number, path: string): number {
  if (prefix.byteLength < 8) refuse(path, 'at least 8 bytes', 'a safetensors file', `${prefix.byteLength} bytes`);
  const length = new DataView(prefix.buffer, prefix.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) refuse(path, `at most ${MAX_HEADER_BYTES} bytes`, 'the header', `${length}`);
  if (Number(length) > fileBytes - 8)
    refuse(path, `${length} bytes of header`, 'a safetensors file', `${fileBytes} bytes in all (truncated?)`);
  return Number(length);
}

/**
 * Checks a header against the size of its file.
 * @param text - the header's bytes, without the 8 length bytes
 * @throws {LpldError} E_DATA: not UTF-8, not JSON, duplicate keys, unknown dtype, overlap, hole, wrong sizes, wrong end
 */
function checkHeader(text: Uint8Array, fileBytes: number, path: string): Header {
  let json: unknown;
  try {
    json = parseStrictJson(new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(text));
  } catch (thrown) {
    refuse(path, 'UTF-8 JSON without duplicate keys', 'the header', (thrown as Error).message);
  }
  if (text[0] !== 0x7b || typeof json !== 'object' || json === null)
    refuse(path, '{', 'the first header byte', text[0]);
  const dataStart = 8 + text.byteLength;
  let metadata: Record<string, string> = {};
  const list: [string, TensorEntry][] = [];
  for (const [name, value] of Object.entries(json)) {
    if (name !== '__metadata__') list.push([name, checkEntry(path, name, value)]);
    else if (typeof value === 'object' && value !== null && Object.values(value).every((v) => typeof v === 'string'))
      metadata = value as Record<string, string>;
    else refuse(path, 'an object of strings', '__metadata__', JSON.stringify(value));
  }
  list.sort(([, a], [, b]) => a.begin - b.begin || a.end - b.end);
  let at = 0;
  for (const [name, entry] of list) {
    if (entry.begin !== at) refuse(path, `offset ${at} (no holes, no overlap)`, name, entry.begin);
    at = entry.end;
  }
  if (dataStart + at !== fileBytes) refuse(path, `${dataStart + at} bytes`, 'the file size', fileBytes);
  return { tensors: new Map(list), metadata, dataStart, fileBytes };
}

/**
 * Reads a safetensors file that is already in memory. The views share its bytes.
 * @param path - the name errors call it by
 * @throws {LpldError} E_DATA with details.path
 */
export function parseSafetensors(content: Uint8Array, path: string): { tensors: TensorMap; header: Header } {
  // A Buffer's slice() shares memory where a Uint8Array's copies; views must never be Buffers.
  const bytes = new Uint8Array(content.buffer, content.byteOffset, content.byteLength);
  const length = headerLength(bytes, bytes.byteLength, path);
  const header = checkHeader(bytes.subarray(8, 8 + length), bytes.byteLength, path);
  const view = ([name, e]: [string, TensorEntry]): [string, TensorView] => {
    const data = bytes.subarray(header.dataStart + e.begin, header.dataStart + e.end);
    return [name, { dtype: e.dtype, shape: e.shape, data }];
  };
  return { tensors: Object.fromEntries([...header.tensors].map(view)), header };
}

/** A checked safetensors file that stays open for ranged reads. Close it, or use `await using`. */
export class SafetensorsFile {
  readonly path: string;
  readonly header: Header;
  readonly #handle: FileHandle;

  private constructor(path: string, header: Header, handle: FileHandle) {
    this.path = path;
    this.header = header;
    this.#handle = handle;
  }

  /**
   * Opens a file and checks its header; no tensor is read.
   * @throws {LpldError} E_DATA with details.path: missing, or any broken promise of the format
   */
  static async open(path: string): Promise<SafetensorsFile> {
    let handle: FileHandle | undefined;
    try {
      handle = await open(path, 'r');
      const { size } = await handle.stat();
      const prefix = new Uint8Array(8);
      const { bytesRead } = await handle.read(prefix, 0, 8, 0);
      const text = new Uint8Array(headerLength(prefix.subarray(0, bytesRead), size, path));
      await readExactly(handle, text, 8, path);
      return new SafetensorsFile(path, checkHeader(text, size, path), handle);
    } catch (thrown) {
      await handle?.close();
      throw fileError(thrown, path);
    }
  }

  /** The entry of a tensor. @throws {LpldError} E_DATA if the file has none of that name */
  entry(name: string): TensorEntry {
    const entry = this.header.tensors.get(name);
    if (entry === undefined) refuse(this.path, 'a tensor', name, 'no tensor of that name');
    return entry;
  }

  /** Reads one tensor whole. */
  async tensor(name: string): Promise<TensorView> {
    const { dtype, shape, begin, end } = this.entry(name);
    const data = new Uint8Array(end - begin);
    await readExactly(this.#handle, data, this.header.dataStart + begin, this.path);
    return { dtype, shape, data };
  }

  /** Reads all tensors, in file order. */
  async tensors(): Promise<TensorMap> {
    const list: [string, TensorView][] = [];
    for (const name of this.header.tensors.keys()) list.push([name, await this.tensor(name)]);
    return Object.fromEntries(list);
  }

  /** Reads rows [start, end) of a tensor [N, ...] into `target`, (end - start) rows long; only their bytes are read. */
  async rowsInto(name: string, start: number, end: number, target: Uint8Array): Promise<void> {
    const { dtype, shape, begin } = this.entry(name);
    const count = shape[0];
    if (count === undefined || !isSize(start) || !isSize(end) || start > end || end > count)
      refuse(this.path, `rows inside [${shape}]`, name, `${start} to ${end}`);
    const row = DTYPE_BYTES[dtype] * elements(shape.slice(1));
    if (target.byteLength !== (end - start) * row)
      throw new LpldError('E_INTERNAL', expected(`${(end - start) * row} bytes`, `rows of ${name}`, target.byteLength));
    await readExactly(this.#handle, target, this.header.dataStart + begin + start * row, this.path);
  }

  /** Rows [start, end) of a tensor [N, ...] as [end - start, ...]. @throws {LpldError} E_DATA outside the tensor */
  async rows(name: string, start: number, end: number): Promise<TensorView> {
    const { dtype, shape } = this.entry(name);
    const rest = shape.slice(1);
    const inside = isSize(start) && isSize(end) && start <= end && end <= (shape[0] ?? -1);
    const data = new Uint8Array(inside ? (end - start) * DTYPE_BYTES[dtype] * elements(rest) : 0);
    await this.rowsInto(name, start, end, data);
    return { dtype, shape: [end - start, ...rest], data };
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

const READ_CHUNK = 1 << 30; // one read() takes at most 2 GiB

async function readExactly(handle: FileHandle, target: Uint8Array, position: number, path: string): Promise<void> {
  for (let done = 0; done < target.byteLength; ) {
    const length = Math.min(READ_CHUNK, target.byteLength - done);
    const { bytesRead } = await handle.read(target, done, length, position + done);
    if (bytesRead === 0) refuse(path, `${target.byteLength} bytes at ${position}`, 'a read', `${done} (file shrank)`);
    done += bytesRead;
  }
}

/** Reads a whole file. @throws {LpldError} E_DATA with details.path */
export async function readSafetensors(path: string): Promise<TensorMap> {
  const file = await SafetensorsFile.open(path);
  try {
    return await file.tensors();
  } finally {
    await file.close();
  }
}

/** Reads and checks the header alone. @throws {LpldError} E_DATA with details.path */
export async function readHeader(path: string): Promise<Header> {
  const file = await SafetensorsFile.open(path);
  await file.close();
  return file.header;
}

/**
 * The parts of a safetensors file in writing order. Tensors stand by falling element size, then name, so that each is
 * aligned; the header is padded with spaces to a multiple of 8 bytes. Equal input gives equal bytes.
 * @throws {LpldError} E_INTERNAL if a tensor's bytes are not shape x dtype
 */
export function safetensorsChunks(tensors: TensorMap, metadata: Readonly<Record<string, string>> = {}): Uint8Array[] {
  const list = Object.entries(tensors).sort(
    ([a, x], [b, y]) => DTYPE_BYTES[y.dtype] - DTYPE_BYTES[x.dtype] || (a < b ? -1 : 1),
  );
  const parts: string[] = [];
  if (Object.keys(metadata).length > 0) parts.push(`"__metadata__":${canonicalJson(metadata)}`);
  let at = 0;
  for (const [name, { dtype, shape, data }] of list) {
    const bytes = elements(shape) * DTYPE_BYTES[dtype];
    if (name === '__metadata__' || data.byteLength !== bytes || !shape.every(isSize))
      throw new LpldError('E_INTERNAL', expected(`${bytes} bytes for ${dtype} [${shape}]`, name, data.byteLength));
    parts.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape}],"data_offsets":[${at},${at + bytes}]}`);
    at += bytes;
  }
  const text = new TextEncoder().encode(`{${parts.join(',')}}`);
  const padded = Math.ceil(text.byteLength / 8) * 8;
  if (padded > MAX_HEADER_BYTES)
    throw new LpldError('E_INTERNAL', expected(`at most ${MAX_HEADER_BYTES} bytes`, 'the header', padded));
  const head = new Uint8Array(8 + padded).fill(0x20);
  new DataView(head.buffer).setBigUint64(0, BigInt(padded), true);
  head.set(text, 8);
  return [head, ...list.map(([, view]) => view.data)];
}

/**
 * Writes a file whole or not at all (temporary file, fsync, rename) and takes its SHA-256 on the way.
 * @throws {LpldError} E_DEVICE naming the path if there is no space or no permission
 */
export function writeSafetensors(
  path: string,
  tensors: TensorMap,
  metadata: Readonly<Record<string, string>> = {},
): Promise<Written> {
  return writeFileAtomic(path, safetensorsChunks(tensors, metadata));
}
