// Files of fixed-size records behind a header: all of them in order, or some of them where they lie.
// The invariant: whatever is wrong with a file becomes E_DATA with its path, and blocks hold whole records.

import { type FileHandle, open } from 'node:fs/promises';
import { toLpldError } from '../errors.ts';
import type { UnpackedAside } from './aside.ts';
import { CHUNK_BYTES, checkCancelled, dataError, pieces } from './files.ts';

export interface RecordFile {
  readonly path: string;
  readonly headerBytes: number; // skipped
  readonly recordBytes: number;
  readonly count: number; // records after the header
}

/** Whether a file can only be read from its start. */
export const isPacked = ({ path }: RecordFile): boolean => path.endsWith('.gz');

/**
 * Yields the records of a file in order, as blocks of whole records of at most about CHUNK_BYTES.
 * @throws {LpldError} E_DATA if the file ends before `count` records; E_CANCELLED
 */
export async function* recordBlocks(file: RecordFile, signal?: AbortSignal): AsyncGenerator<Uint8Array> {
  const perBlock = Math.max(1, Math.floor(CHUNK_BYTES / file.recordBytes));
  let left = file.count;
  let skip = file.headerBytes;
  let block = new Uint8Array(Math.min(perBlock, left) * file.recordBytes);
  let filled = 0;
  for await (const piece of pieces(file.path)) {
    checkCancelled(signal);
    let at = Math.min(skip, piece.length);
    skip -= at;
    while (at < piece.length && left > 0) {
      const n = Math.min(piece.length - at, block.length - filled);
      block.set(piece.subarray(at, at + n), filled);
      at += n;
      filled += n;
      if (filled < block.length) continue;
      left -= block.length / file.recordBytes;
      yield block;
      checkCancelled(signal);
      block = new Uint8Array(Math.min(perBlock, left) * file.recordBytes);
      filled = 0;
    }
    if (left === 0) return;
  }
  throw dataError(
    file.path,
    `${file.count} records of ${file.recordBytes} bytes`,
    `${file.count - left} and then the end`,
  );
}

/**
 * Yields some records of a file in order, as blocks like recordBlocks. Records are read where they lie; a .gz, which can
 * only be read from its start, is unpacked up to the last one, or aside once.
 *
 * @param wanted - record numbers in [0, count), rising
 * @param aside - keeps what is unpacked, for a file that will be asked again
 * @throws {LpldError} E_DATA if the file ends before a record; E_CANCELLED; E_DEVICE without room aside
 */
export async function* recordsAt(
  file: RecordFile,
  wanted: Int32Array,
  signal?: AbortSignal,
  aside?: UnpackedAside,
): AsyncGenerator<Uint8Array> {
  if (wanted.length === 0) return;
  if (wanted.length === file.count) return yield* recordBlocks(file, signal);
  const { recordBytes } = file;
  const perBlock = Math.max(1, Math.floor(CHUNK_BYTES / recordBytes));
  const reader = await readerOf(file, signal, aside);
  try {
    for (let first = 0; first < wanted.length; first += perBlock) {
      checkCancelled(signal);
      const some = wanted.subarray(first, first + perBlock);
      const block = new Uint8Array(some.length * recordBytes);
      for (let i = 0, n = 1; i < some.length; i += n, n = 1) {
        while (some[i + n] === some[i]! + n) n++; // neighbours are one read
        await reader.read(some[i]!, block.subarray(i * recordBytes, (i + n) * recordBytes));
      }
      yield block;
    }
  } finally {
    await reader.close();
  }
}

interface RecordReader {
  /** Fills `target` with records from `record` on. */
  read(record: number, target: Uint8Array): Promise<void>;
  close(): Promise<unknown>;
}

async function readerOf(file: RecordFile, signal?: AbortSignal, aside?: UnpackedAside): Promise<RecordReader> {
  if (!isPacked(file)) {
    const handle = await open(file.path).catch((cause: unknown) => Promise.reject(toLpldError(cause)));
    return { ...recordReader(file, handle), close: () => handle.close() };
  }
  if (aside === undefined) return unpacker(file, signal);
  return { ...recordReader(file, await aside.content(file, signal)), close: async () => {} };
}

function recordReader({ path, headerBytes, recordBytes }: RecordFile, handle: FileHandle): Pick<RecordReader, 'read'> {
  return {
    async read(record, target) {
      const start = headerBytes + record * recordBytes;
      for (let done = 0; done < target.length; ) {
        const { bytesRead } = await handle.read(target, done, target.length - done, start + done);
        if (bytesRead === 0) throw dataError(path, `record ${record} of ${recordBytes} bytes`, 'the end of the file');
        done += bytesRead;
      }
    },
  };
}

/** A reader of rising records of a .gz, which keeps one block of the unpacked stream. */
function unpacker(file: RecordFile, signal?: AbortSignal): RecordReader {
  const blocks = recordBlocks(file, signal);
  let block: Uint8Array = new Uint8Array(0);
  let start = 0; // of the block, in bytes after the header
  return {
    async read(record, target) {
      let from = record * file.recordBytes;
      for (let done = 0; done < target.length; ) {
        while (from >= start + block.length) {
          start += block.length;
          const next = await blocks.next();
          if (next.done) throw dataError(file.path, `record ${record}`, 'the end of the file');
          block = next.value;
        }
        const piece = block.subarray(from - start, from - start + target.length - done);
        target.set(piece, done);
        done += piece.length;
        from += piece.length;
      }
    },
    close: () => blocks.return(undefined),
  };
}
