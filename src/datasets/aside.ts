// Gzipped records that are wanted here and there: a .gz is only read from its start, so a file of which a set that is
// streamed wants some images, again and again, is unpacked once, aside.
// The invariant: what lies aside has no name. It is unlinked before its first byte is written, so that however the process
// ends nothing is left, and it takes exactly the bytes that the records and their header were checked to have.

import { type FileHandle, mkdir, open, statfs, unlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileError, temporaryName } from '../atomic-file.ts';
import { expected, LpldError, toLpldError } from '../errors.ts';
import { cacheRoot } from '../libtorch.ts';
import { checkCancelled, dataError, pieces } from './files.ts';
import type { RecordFile } from './records.ts';
import type { Aside } from './types.ts';

const bytesOf = ({ headerBytes, recordBytes, count }: RecordFile): number => headerBytes + count * recordBytes;

/** A file without a name in the first of these folders that can be written and has room. */
async function nameless(bytes: number, source: string, folders: readonly string[]): Promise<FileHandle> {
  const refused: string[] = [];
  for (const folder of folders)
    try {
      await mkdir(folder, { recursive: true });
      const { bavail, bsize } = await statfs(folder);
      if (bavail * bsize < bytes) {
        refused.push(`${folder} has ${bavail * bsize} bytes`);
        continue;
      }
      const path = temporaryName(join(folder, 'unpacked'));
      const handle = await open(path, 'wx+', 0o600);
      await unlink(path);
      return handle;
    } catch (thrown) {
      refused.push(`${folder}: ${fileError(thrown, folder).message.split('\n')[0]}`);
    }
  throw new LpldError(
    'E_DEVICE',
    expected(
      `${bytes} bytes of free space`,
      `unpacking ${source}`,
      refused.join('; '),
      'raise --memory so that the images fit, set XDG_CACHE_HOME or TMPDIR to a disk with room, or gunzip the file',
    ),
    { path: source, bytes, reason: 'space' },
  );
}

/** The .gz files of a split, unpacked one by one when records of them are first wanted, until disposed. */
export class UnpackedAside implements Aside {
  readonly bytes: number;
  readonly folder: string;
  readonly #folders: readonly string[];
  readonly #open = new Map<string, Promise<FileHandle>>();

  /** @param folders - where to unpack, best first */
  constructor(files: readonly RecordFile[], folders: readonly string[] = [cacheRoot(), tmpdir()]) {
    this.bytes = files.reduce((sum, file) => sum + bytesOf(file), 0);
    this.folder = folders[0]!;
    this.#folders = folders;
  }

  /**
   * The content of a file, unpacked now or before. Belongs to this object: do not close it.
   * @throws {LpldError} E_DATA for a broken .gz or another length than its records have; E_DEVICE without room; E_CANCELLED
   */
  content(file: RecordFile, signal?: AbortSignal): Promise<FileHandle> {
    const known = this.#open.get(file.path);
    if (known !== undefined) return known;
    const made = this.#unpack(file, signal);
    this.#open.set(file.path, made);
    made.catch(() => {
      if (this.#open.get(file.path) === made) this.#open.delete(file.path); // the next one tries again
    });
    return made;
  }

  [Symbol.dispose](): void {
    for (const made of this.#open.values())
      made.then(
        (handle) => handle.close().catch(() => {}),
        () => {},
      );
    this.#open.clear();
  }

  async #unpack(file: RecordFile, signal?: AbortSignal): Promise<FileHandle> {
    const wanted = bytesOf(file);
    const handle = await nameless(wanted, file.path, this.#folders);
    try {
      let total = 0;
      for await (const piece of pieces(file.path)) {
        checkCancelled(signal);
        total += piece.length;
        if (total > wanted) break;
        for (let done = 0; done < piece.length; )
          done += (await handle.write(piece, done).catch((e) => Promise.reject(fileError(e, this.folder))))
            .bytesWritten;
      }
      if (total !== wanted)
        throw dataError(file.path, `${wanted} bytes unpacked`, total > wanted ? `${total} or more` : total);
      return handle;
    } catch (thrown) {
      await handle.close();
      throw toLpldError(thrown);
    }
  }
}
