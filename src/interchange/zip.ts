// Stored (uncompressed) zip files over an open file: what torch.save writes. The library reads the directory; the bytes of
// an entry are read straight from the file. Offsets and sizes a hostile file names are checked before they reach the
// system, and nothing the library throws in a callback can escape the promise.

import type { FileHandle } from 'node:fs/promises';
import yauzl from 'yauzl';
import { expected, LpldError } from '../errors.ts';

export interface StoredZip {
  readonly entries: ReadonlyMap<string, yauzl.Entry>;
  /** Reads the first `bytes` bytes of an entry, all of them without a number. */
  readonly read: (entry: yauzl.Entry, bytes?: number) => Promise<Uint8Array>;
}

/** What the zip library reads through: offsets a hostile file names are checked before they reach the system. */
class BoundedReader extends yauzl.RandomAccessReader {
  readonly #handle: FileHandle;
  readonly #size: number;
  readonly #fail: (error: unknown) => void;
  constructor(handle: FileHandle, size: number, fail: (error: unknown) => void) {
    super();
    this.#handle = handle;
    this.#size = size;
    this.#fail = fail;
  }

  override read(
    buffer: Buffer,
    offset: number,
    length: number,
    position: number,
    callback: (error: Error | null, bytesRead?: number) => void,
  ): void {
    if (!(position >= 0 && position + length <= this.#size)) {
      setImmediate(callback, new Error(`${length} bytes at ${position} lie outside the file`));
      return;
    }
    this.#handle
      .read(buffer, offset, length, position)
      .then(
        ({ bytesRead }) => callback(null, bytesRead),
        (error: Error) => callback(error),
      )
      .catch(this.#fail); // the library itself threw
  }
}

/** The library's typings lack this method; it also checks that the data lies inside the file. */
interface LocalHeaders {
  readLocalFileHeader(
    entry: yauzl.Entry,
    options: { minimal: true },
    callback: (error: Error | null, header: { fileDataStart: number }) => void,
  ): void;
}

/**
 * Opens a zip and reads its directory.
 * @param path - the name errors call it by; the handle stays the caller's
 * @throws {Error} from the library, or LpldError E_DATA: not a zip, compressed, encrypted or doubled entries
 */
export function openZip(handle: FileHandle, size: number, path: string): Promise<StoredZip> {
  return new Promise((resolve, reject) => {
    let fail = reject;
    const reader = new BoundedReader(handle, size, (error) => fail(error));
    yauzl.fromRandomAccessReader(reader, size, { lazyEntries: true, autoClose: false }, (error, file) => {
      if (error !== null) return reject(error);
      const entries = new Map<string, yauzl.Entry>();
      const read = async (entry: yauzl.Entry, bytes = entry.uncompressedSize): Promise<Uint8Array> => {
        const start = await new Promise<number>((found, refused) => {
          fail = refused;
          (file as unknown as LocalHeaders).readLocalFileHeader(entry, { minimal: true }, (e, header) =>
            e === null || e === undefined ? found(header.fileDataStart) : refused(e),
          );
        });
        return readAt(handle, start, bytes, path);
      };
      file.on('error', reject);
      file.on('end', () => resolve({ entries, read }));
      file.on('entry', (entry: yauzl.Entry) => {
        const plain = entry.compressionMethod === 0 && !entry.isEncrypted() && !entries.has(entry.fileName);
        if (!plain) return reject(new Error(`entry ${entry.fileName} is compressed, encrypted or doubled`));
        entries.set(entry.fileName, entry);
        file.readEntry();
      });
      file.readEntry();
    });
  });
}

/** Reads exactly `bytes` bytes at an offset. @throws {LpldError} E_DATA if the file ends before */
export async function readAt(handle: FileHandle, at: number, bytes: number, path: string): Promise<Uint8Array> {
  const data = new Uint8Array(bytes);
  for (let done = 0; done < bytes; ) {
    const { bytesRead } = await handle.read(data, done, Math.min(1 << 30, bytes - done), at + done);
    if (bytesRead === 0) {
      const message = expected(`${bytes} bytes at ${at}`, 'a read', `${done} (truncated?)`);
      throw new LpldError('E_DATA', `${path}: ${message}`, { path });
    }
    done += bytesRead;
  }
  return data;
}
