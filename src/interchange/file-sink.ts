// A file that grows while it is written, for exports whose files are too large to hold. It is new, or it is refused; what
// the system refuses names the path. Its folder becomes visible when the export is whole, so there is no temporary name.

import { type FileHandle, open } from 'node:fs/promises';
import { guarded } from '../atomic-file.ts';

const HELD_BYTES = 1 << 20;

export class FileSink {
  readonly path: string;
  readonly #handle: FileHandle;
  #parts: Uint8Array[] = [];
  #held = 0;
  #bytes = 0;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /** @throws {LpldError} E_DEVICE if it cannot be made */
  static async create(path: string): Promise<FileSink> {
    return new FileSink(path, await guarded(path, () => open(path, 'wx')));
  }

  /** Bytes written so far. */
  get bytes(): number {
    return this.#bytes;
  }

  /** Appends; bytes are copied or written before the promise resolves. */
  async write(data: string | Uint8Array): Promise<void> {
    const bytes = typeof data === 'string' ? new TextEncoder().encode(data) : data;
    this.#bytes += bytes.byteLength;
    if (this.#held + bytes.byteLength > HELD_BYTES) await this.#flush();
    if (bytes.byteLength > HELD_BYTES) return this.#put(bytes);
    this.#parts.push(bytes.slice());
    this.#held += bytes.byteLength;
  }

  /** Writes what is held, makes it durable and closes. */
  async close(): Promise<void> {
    try {
      await this.#flush();
      await guarded(this.path, () => this.#handle.sync());
    } finally {
      await this.#handle.close();
    }
  }

  async #flush(): Promise<void> {
    const held = Buffer.concat(this.#parts);
    this.#parts = [];
    this.#held = 0;
    await this.#put(held);
  }

  async #put(bytes: Uint8Array): Promise<void> {
    await guarded(this.path, async () => {
      for (let done = 0; done < bytes.byteLength; ) done += (await this.#handle.write(bytes, done)).bytesWritten;
    });
  }
}
