// Reading files and folders: what every format needs below its own layout; files of fixed records are records.ts.
// The invariant: whatever is wrong with a file becomes E_DATA with its path, and nothing larger than a block of a few
// MiB is held. Gzipped files (.gz) read like plain ones.

import { createReadStream } from 'node:fs';
import { lstat, open, readdir, readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { pipeline } from 'node:stream';
import { promisify } from 'node:util';
import { createGunzip, gunzip } from 'node:zlib';
import { expected, LpldError, toLpldError } from '../errors.ts';

/** Bytes of pixels per chunk that splits aim at. */
export const CHUNK_BYTES = 4 << 20;

/** Longest content of a small packed file: labels of 268 million images. */
const MAX_UNPACKED_BYTES = 1 << 28;

/** An E_DATA error in the common message form; details.path is the file or folder to look at. */
export function dataError(path: string, what: string, received: unknown, advice?: string, cause?: unknown): LpldError {
  return new LpldError('E_DATA', expected(what, path, received, advice), { path }, cause);
}

/** @throws {LpldError} E_CANCELLED once the signal is aborted: its reason, where that says who stopped it */
export function checkCancelled(signal?: AbortSignal): void {
  if (signal?.aborted && signal.reason instanceof LpldError) throw signal.reason;
  if (signal?.aborted) throw new LpldError('E_CANCELLED', 'reading the dataset was cancelled', {}, signal.reason);
}

/** Byte order of UTF-8 text: the order of files and classes on every machine and locale. */
export function byBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

/**
 * Size in bytes of an existing regular file.
 * @throws {LpldError} E_DATA if it is absent, empty or no file
 */
export async function fileSize(path: string): Promise<number> {
  const info = await stat(path).catch(async (cause: unknown) => {
    if (!isAbsent(cause)) throw toLpldError(cause);
    const dangling = (await lstat(path).catch(() => null))?.isSymbolicLink();
    throw dataError(path, 'a file', dangling ? 'a link to nothing' : undefined, undefined, cause);
  });
  if (!info.isFile()) throw dataError(path, 'a file', 'something else');
  if (info.size === 0) throw dataError(path, 'a file with content', '0 bytes');
  return info.size;
}

/** True for an existing folder; false for anything else. */
export async function isFolder(path: string): Promise<boolean> {
  return stat(path).then(
    (s) => s.isDirectory(),
    () => false,
  );
}

/**
 * Names of the entries of a folder that do not start with a dot, in byte order.
 * @param kind - folders or files; links count as what they point to, one to nothing as a file
 * @throws {LpldError} E_DATA if the folder cannot be listed, or a link in it that may have been a class's leads nowhere
 */
export async function list(path: string, kind: 'folders' | 'files'): Promise<string[]> {
  const entries = await readdir(path, { withFileTypes: true }).catch((cause: unknown) => {
    throw isAbsent(cause) ? dataError(path, 'a folder', undefined, undefined, cause) : toLpldError(cause);
  });
  const names: string[] = [];
  for (const entry of entries) {
    if (entry.name.startsWith('.')) continue;
    const at = join(path, entry.name);
    const target = entry.isSymbolicLink() ? await stat(at).catch(() => null) : entry;
    if (target === null && kind === 'folders') throw dataError(at, 'a folder', 'a link to nothing');
    if (kind === 'folders' ? target?.isDirectory() : (target?.isFile() ?? true)) names.push(entry.name);
  }
  return names.sort(byBytes);
}

/** The first of `names` that exists in `folder` as a path, or null. */
export async function findFile(folder: string, names: readonly string[]): Promise<string | null> {
  for (const name of names) {
    const path = join(folder, name);
    if (
      await stat(path).then(
        (s) => s.isFile(),
        () => false,
      )
    )
      return path;
  }
  return null;
}

/**
 * Content of a small file, decompressed if its name ends in .gz.
 * @throws {LpldError} E_DATA if it is absent, empty, or a broken or truncated .gz
 */
export async function readContent(path: string): Promise<Uint8Array> {
  await fileSize(path);
  const bytes = await readFile(path).catch((cause: unknown) => Promise.reject(toLpldError(cause)));
  if (!path.endsWith('.gz')) return bytes;
  return promisify(gunzip)(bytes, { maxOutputLength: MAX_UNPACKED_BYTES }).catch((cause: unknown) =>
    Promise.reject(brokenGzip(path, cause)),
  );
}

/** Lines of a UTF-8 text file without blank ones; CRLF read like LF. */
export async function readLines(path: string): Promise<string[]> {
  const text = new TextDecoder().decode(await readContent(path));
  return text.split(/\r?\n/).filter((line) => line.trim() !== '');
}

/**
 * Size of a file's content: for a .gz the size it unpacks to. Trusts the length a .gz ends with only if it is the
 * `wanted` one; otherwise (several members, or damage) unpacks the whole file to count.
 * @throws {LpldError} E_DATA if the file is absent, empty, or a broken or truncated .gz
 */
export async function contentSize(path: string, wanted: number): Promise<number> {
  const size = await fileSize(path);
  if (!path.endsWith('.gz')) return size;
  // Deflate makes at most 1032 bytes of one: a promise above that is false, and room is made for what is promised.
  if (wanted > 1032 * size) throw dataError(path, `${wanted} bytes, as its header says,`, `${size} packed ones`);
  const file = await open(path);
  try {
    const tail = new Uint8Array(4);
    await file.read(tail, 0, 4, Math.max(0, size - 4));
    if (new DataView(tail.buffer).getUint32(0, true) === wanted % 2 ** 32) return wanted;
  } finally {
    await file.close();
  }
  let total = 0;
  for await (const piece of pieces(path)) total += piece.length;
  return total;
}

/** The first `bytes` bytes of a file's content; fewer if it is shorter. */
export async function readStart(path: string, bytes: number): Promise<Uint8Array> {
  await fileSize(path);
  const found: Uint8Array[] = [];
  let length = 0;
  for await (const piece of pieces(path)) {
    found.push(piece);
    length += piece.length;
    if (length >= bytes) break;
  }
  return Buffer.concat(found).subarray(0, bytes);
}

/** The content of a file in pieces, unpacked if its name ends in .gz. */
export async function* pieces(path: string): AsyncGenerator<Uint8Array> {
  const source = createReadStream(path, { highWaterMark: 1 << 18 });
  const zipped = path.endsWith('.gz');
  const stream = zipped ? pipeline(source, createGunzip({ chunkSize: 1 << 18 }), () => {}) : source;
  try {
    yield* stream as AsyncIterable<Uint8Array>;
  } catch (cause) {
    throw zipped && String((cause as { code?: unknown }).code).startsWith('Z_')
      ? brokenGzip(path, cause)
      : toLpldError(cause);
  } finally {
    source.destroy();
  }
}

function brokenGzip(path: string, cause: unknown): LpldError {
  return dataError(path, 'a whole gzip file', (cause as Error).message, 'the download may be incomplete', cause);
}

function isAbsent(cause: unknown): boolean {
  return ['ENOENT', 'ENOTDIR'].includes(String((cause as { code?: unknown }).code));
}

/**
 * Maps items to results in order with at most `limit` calls in flight.
 * A caller that stops early waits for the calls in flight; their failures are dropped.
 */
export async function* orderedMap<T, R>(
  items: readonly T[],
  limit: number,
  map: (item: T) => Promise<R>,
): AsyncGenerator<R> {
  const inFlight: Promise<R>[] = [];
  let next = 0;
  try {
    while (next < items.length || inFlight.length > 0) {
      while (next < items.length && inFlight.length < limit) {
        const result = map(items[next++]!);
        result.catch(() => {}); // reported when its turn comes
        inFlight.push(result);
      }
      yield await inFlight.shift()!;
    }
  } finally {
    await Promise.allSettled(inFlight);
  }
}
