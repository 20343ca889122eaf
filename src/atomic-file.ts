// Writing files so that a reader, or a process started after a SIGKILL, sees the old content or the new one and never
// half of it: bytes go to a sibling temporary file, are fsynced, and are renamed over the target. SHA-256 is taken while
// the bytes are written. Every system error leaves as an LpldError that names the path.

import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { type FileHandle, open, rename, unlink } from 'node:fs/promises';
import { dirname } from 'node:path';
import { LpldError, toLpldError } from './errors.ts';

export interface Written {
  readonly bytes: number;
  readonly sha256: string; // hex
}

const ADVICE: Record<string, string> = {
  ENOSPC: 'free some space and run the same command again: what is whole is kept',
  EDQUOT: 'raise the quota or free some space and run the same command again: what is whole is kept',
  EROFS: 'the file system is read-only: choose another folder',
  EACCES: 'choose a folder you may write to',
  EPERM: 'choose a folder you may write to',
};

/** The LpldError of a failed file operation, with details.path and a second line that says what to do. */
export function fileError(thrown: unknown, path: string): LpldError {
  if (thrown instanceof LpldError && thrown.details.path !== undefined) return thrown;
  const e = toLpldError(thrown);
  const advice = ADVICE[String(e.details.reason)];
  const shown = e.message.includes(path) ? e.message : `${e.message}: ${path}`;
  const message = advice === undefined ? shown : `${shown}\n${advice}`;
  return new LpldError(e.code, message, { ...e.details, path }, thrown);
}

/** Runs file operations; what goes wrong is an LpldError that names the path. */
export async function guarded<T>(path: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (thrown) {
    throw fileError(thrown, path);
  }
}

/** Names of temporary files end in this form; whatever matches is rubbish of a process that was stopped. */
export const TEMPORARY = /\.tmp-\d+-\d+$/;
let serial = 0;

/** The name of a new temporary file beside `path`. */
export function temporaryName(path: string): string {
  serial += 1;
  return `${path}.tmp-${process.pid}-${serial}`;
}

const CHUNK = 1 << 26; // one write() takes at most 2 GiB; 64 MiB keeps hashing and writing in step

async function writeChunks(handle: FileHandle, chunks: Iterable<Uint8Array>, hash: Hash): Promise<number> {
  let bytes = 0;
  for (const chunk of chunks) {
    for (let at = 0; at < chunk.byteLength; at += CHUNK) {
      const part = chunk.subarray(at, at + CHUNK);
      hash.update(part);
      for (let done = 0; done < part.byteLength; ) done += (await handle.write(part, done)).bytesWritten;
    }
    bytes += chunk.byteLength;
  }
  return bytes;
}

/**
 * Writes a file whole or not at all. The caller syncs the folder (syncFolder) where the name itself must survive a power
 * loss.
 *
 * @param chunks - the content in order; not copied
 * @throws {LpldError} E_DEVICE on no space, no permission, read-only; E_DATA if the folder does not exist
 */
export async function writeFileAtomic(path: string, chunks: Iterable<Uint8Array>): Promise<Written> {
  const temporary = temporaryName(path);
  try {
    const hash = createHash('sha256');
    const handle = await open(temporary, 'wx');
    let bytes: number;
    try {
      bytes = await writeChunks(handle, chunks, hash);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(temporary, path);
    return { bytes, sha256: hash.digest('hex') };
  } catch (thrown) {
    await unlink(temporary).catch(() => {});
    throw fileError(thrown, path);
  }
}

/** Makes renames and new names inside a folder durable. */
export async function syncFolder(path: string): Promise<void> {
  try {
    const handle = await open(path, 'r');
    try {
      await handle.sync();
    } finally {
      await handle.close();
    }
  } catch (thrown) {
    // Some network file systems cannot sync a folder; the rename itself is still atomic there.
    if (!['EINVAL', 'ENOTSUP', 'EBADF'].includes((thrown as { code?: string }).code ?? ''))
      throw fileError(thrown, path);
  }
}

/** Syncs the folder a path lives in. */
export function syncParent(path: string): Promise<void> {
  return syncFolder(dirname(path));
}

/** SHA-256 of a file as hex. @throws {LpldError} E_DATA if it is missing */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  try {
    for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(chunk as Uint8Array);
  } catch (thrown) {
    throw fileError(thrown, path);
  }
  return hash.digest('hex');
}
