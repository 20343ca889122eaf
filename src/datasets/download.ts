// Resumable downloads over HTTP: bytes go to FILE.part and get the name FILE once length and MD5 are right.
// The invariant: FILE is whole or absent; an interrupted transfer leaves FILE.part, and the next attempt asks for the
// rest of it (RFC 9110 section 14: Range, Content-Range, 206, 416).

import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileError } from '../atomic-file.ts';
import { LpldError } from '../errors.ts';

export interface DownloadOptions {
  readonly signal?: AbortSignal;
  /** Bytes present of the file so far, and its size where the server says; called after every piece. */
  readonly onBytes?: (bytes: number, total: number | null) => void;
}

const ATTEMPTS = 4; // in a row without one new byte
const FIRST_PAUSE = 250; // ms; doubles with every attempt in vain
const SILENCE = 60_000; // ms without a byte until a connection counts as broken

/**
 * Downloads `url` to `path`, continuing path.part where there is one.
 *
 * @param md5 - hexadecimal MD5 of the whole file
 * @throws {LpldError} E_DEVICE, details.reason 'download', if the server cannot be reached or refuses (the part stays);
 *   E_DATA with details.path if the bytes have another MD5 (path.part is removed); E_CANCELLED (path.part stays)
 */
export async function download(url: string, path: string, md5: string, options: DownloadOptions = {}): Promise<void> {
  const part = `${path}.part`;
  for (let inVain = 0; ; ) {
    const before = await sizeOf(part);
    try {
      await transfer(url, part, before, options);
      break;
    } catch (thrown) {
      if (options.signal?.aborted) throw new LpldError('E_CANCELLED', `download of ${url} cancelled`, { url }, thrown);
      if (!(thrown instanceof Broken)) throw fileError(thrown, part);
      inVain = (await sizeOf(part)) > before ? 0 : inVain + 1;
      if (thrown.final || inVain === ATTEMPTS) throw failed(url, thrown);
      await sleep(FIRST_PAUSE * 2 ** Math.max(0, inVain - 1), undefined, { signal: options.signal }).catch(() => {});
    }
  }
  const received = await hashMd5(part);
  if (received !== md5) {
    await rm(part, { force: true });
    const advice = 'the file was removed; try again, or another mirror';
    throw new LpldError('E_DATA', `expected MD5 ${md5} for ${url} but received ${received}\n${advice}`, { path, url });
  }
  await rename(part, path);
}

/** The network's or the server's fault. `final`: asking again will not help. */
class Broken extends Error {
  readonly final: boolean;
  readonly status: number | undefined;
  constructor(message: string, final: boolean, status?: number, cause?: unknown) {
    super(message, { cause });
    this.final = final;
    this.status = status;
  }
}

function failed(url: string, broken: Broken): LpldError {
  const details = { reason: 'download', url, ...(broken.status === undefined ? {} : { status: broken.status }) };
  const advice = 'what has arrived is kept: run the command again to continue, or name another mirror';
  return new LpldError('E_DEVICE', `download of ${url} failed: ${broken.message}\n${advice}`, details, broken);
}

async function transfer(url: string, part: string, have: number, options: DownloadOptions): Promise<void> {
  const silence = new AbortController();
  const watch = setTimeout(() => silence.abort(new Error(`no byte for ${SILENCE / 1000} s`)), SILENCE);
  const signal = options.signal === undefined ? silence.signal : AbortSignal.any([options.signal, silence.signal]);
  // identity: a server that gzips on the fly would change the bytes that Range and MD5 are about
  const headers = { 'accept-encoding': 'identity', ...(have > 0 ? { range: `bytes=${have}-` } : {}) };
  try {
    const response = await fetch(url, { headers, signal }).catch(asBroken);
    const range = response.headers.get('content-range');
    if (response.status === 416 && have > 0) {
      await response.body?.cancel();
      if (range === `bytes */${have}`) return; // it was complete
      await rm(part, { force: true });
      throw new Broken('the server cannot continue this file', false, 416);
    }
    const resumed = response.status === 206 && range?.startsWith(`bytes ${have}-`) === true;
    if (response.status !== 200 && !resumed) {
      await response.body?.cancel();
      throw new Broken(
        `HTTP status ${response.status}`,
        response.status < 500 && response.status !== 429,
        response.status,
      );
    }
    const start = resumed ? have : 0;
    const total = totalBytes(response, start);
    const file = await open(part, resumed ? 'a' : 'w');
    let bytes = start;
    try {
      const reader = response.body?.getReader();
      for (;;) {
        const piece = await (reader?.read() ?? Promise.resolve({ done: true, value: undefined })).catch(asBroken);
        if (piece.value === undefined) break;
        watch.refresh();
        await file.write(piece.value);
        bytes += piece.value.length;
        options.onBytes?.(bytes, total);
      }
    } finally {
      await file.close();
    }
    if (total !== null && bytes < total) throw new Broken(`the connection ended at ${bytes} of ${total} bytes`, false);
  } finally {
    clearTimeout(watch);
    silence.abort(); // whatever is left of the response
  }
}

function asBroken(cause: unknown): never {
  const e = cause as { message?: unknown; cause?: { message?: unknown } };
  throw new Broken(String(e.cause?.message ?? e.message ?? cause), false, undefined, cause);
}

function totalBytes(response: Response, start: number): number | null {
  const length = response.headers.get('content-length');
  return length === null ? null : start + Number(length);
}

async function sizeOf(path: string): Promise<number> {
  return stat(path).then(
    (s) => s.size,
    () => 0,
  );
}

async function hashMd5(path: string): Promise<string> {
  const hash = createHash('md5');
  for await (const piece of createReadStream(path, { highWaterMark: 1 << 20 })) hash.update(piece as Uint8Array);
  return hash.digest('hex');
}
