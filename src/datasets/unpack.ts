// Unpacks downloaded .gz, .tar.gz and .zip files.
// The invariant: only regular files and folders come out, and only below the folder given; an archive that holds a
// link, a device, an absolute name or a `..` is refused before anything is written.

import { spawn } from 'node:child_process';
import { createReadStream, createWriteStream } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { crc32, createGunzip } from 'node:zlib';
import yauzl from 'yauzl';
import { fileError } from '../atomic-file.ts';
import { LpldError } from '../errors.ts';
import { dataError } from './files.ts';

/**
 * Unpacks one .gz file to `path`.
 * @throws {LpldError} E_DATA with details.path if it is broken or truncated; E_CANCELLED
 */
export async function unpackGzip(archive: string, path: string, signal?: AbortSignal): Promise<void> {
  await pipeline(createReadStream(archive), createGunzip(), createWriteStream(path), { signal }).catch(
    (cause: unknown) => {
      throw broken(archive, cause, signal);
    },
  );
}

/**
 * Unpacks a .tar.gz below `into` with the system's tar.
 * @throws {LpldError} E_DATA: broken archive or forbidden entry; E_DEVICE, details.reason 'no-tar'; E_CANCELLED
 */
export async function unpackTar(archive: string, into: string, signal?: AbortSignal): Promise<void> {
  const names = await tar(['-tzf', archive], archive, signal);
  const kinds = await tar(['-tvzf', archive], archive, signal);
  names.forEach((name, i) => {
    const kind = kinds[i]?.[0];
    if ((kind !== '-' && kind !== 'd') || kinds.length !== names.length || !isInside(name))
      throw dataError(archive, 'files and folders with plain names only', name);
  });
  await mkdir(into, { recursive: true });
  await tar(['-xzf', archive, '-C', into, '--no-same-owner', '--no-same-permissions'], archive, signal);
}

/**
 * Unpacks a .zip below `into`, checking every CRC-32.
 * @throws {LpldError} E_DATA with details.path: broken archive or forbidden entry; E_CANCELLED
 */
export async function unpackZip(archive: string, into: string, signal?: AbortSignal): Promise<void> {
  try {
    for (const write of [false, true])
      await eachEntry(archive, (zip, entry) => unpackEntry(zip, entry, into, write), signal);
  } catch (cause) {
    throw broken(archive, cause, signal);
  }
  async function unpackEntry(zip: yauzl.ZipFile, entry: yauzl.Entry, root: string, write: boolean): Promise<void> {
    const name = entry.fileName;
    const link = ((entry.externalFileAttributes >>> 16) & 0o170000) === 0o120000;
    if (link || !isInside(name)) throw dataError(archive, 'files and folders with plain names only', name);
    if (!write) return;
    const target = join(root, name);
    if (name.endsWith('/')) {
      await mkdir(target, { recursive: true });
      return;
    }
    await mkdir(dirname(target), { recursive: true });
    const content = await new Promise<Readable>((resolve, reject) => {
      zip.openReadStream(entry, (error, stream) => (stream === undefined || error ? reject(error) : resolve(stream)));
    });
    let crc = 0;
    const check = new Transform({
      transform(piece: Uint8Array, _encoding, done) {
        crc = crc32(piece, crc);
        done(null, piece);
      },
    });
    await pipeline(content, check, createWriteStream(target), { signal });
    if (crc !== entry.crc32 >>> 0) throw dataError(archive, `CRC-32 ${entry.crc32 >>> 0} of ${name}`, crc);
  }
}

type Visit = (zip: yauzl.ZipFile, entry: yauzl.Entry) => Promise<void>;

async function eachEntry(archive: string, visit: Visit, signal?: AbortSignal): Promise<void> {
  const zip = await new Promise<yauzl.ZipFile>((resolve, reject) => {
    yauzl.open(archive, { lazyEntries: true, autoClose: false }, (error, file) =>
      error ? reject(error) : resolve(file),
    );
  });
  try {
    await new Promise<void>((resolve, reject) => {
      zip.on('error', reject);
      zip.on('end', resolve);
      zip.on('entry', (entry: yauzl.Entry) => {
        if (signal?.aborted) return reject(signal.reason);
        visit(zip, entry).then(() => zip.readEntry(), reject);
      });
      zip.readEntry();
    });
  } finally {
    zip.close();
  }
}

/** A relative name that stays below its folder on every system. */
function isInside(name: string): boolean {
  return name !== '' && !/^([/\\]|[A-Za-z]:)/.test(name) && !name.includes('\0') && !name.split(/[/\\]/).includes('..');
}

function broken(archive: string, cause: unknown, signal: AbortSignal | undefined): LpldError {
  if (signal?.aborted) return new LpldError('E_CANCELLED', `unpacking ${archive} cancelled`, {}, cause);
  if (cause instanceof LpldError) return cause;
  const e = cause as { code?: unknown; syscall?: unknown; message?: unknown };
  if (typeof e.syscall === 'string') return fileError(cause, archive);
  return dataError(archive, 'a whole archive', e.message, 'remove it and download it again', cause);
}

/** Lines that tar prints. C locale: names and listings in one form everywhere. */
async function tar(args: readonly string[], archive: string, signal?: AbortSignal): Promise<string[]> {
  const child = spawn('tar', args, { stdio: ['ignore', 'pipe', 'pipe'], env: { ...process.env, LC_ALL: 'C' }, signal });
  const out: Buffer[] = [];
  let problem = '';
  child.stdout.on('data', (piece: Buffer) => out.push(piece));
  child.stderr.on('data', (piece: Buffer) => {
    problem = `${problem}${piece}`.slice(-2000);
  });
  const code = await new Promise<number | null>((resolve, reject) => {
    child.on('error', reject);
    child.on('close', resolve);
  }).catch((cause: unknown) => {
    if ((cause as { code?: unknown }).code !== 'ENOENT') throw broken(archive, cause, signal);
    throw new LpldError(
      'E_DEVICE',
      'expected the program tar but found none\ninstall tar',
      { reason: 'no-tar' },
      cause,
    );
  });
  if (signal?.aborted) throw broken(archive, signal.reason, signal);
  if (code !== 0) throw dataError(archive, 'a whole .tar.gz', problem.trim() || `exit code ${code}`);
  return Buffer.concat(out)
    .toString('utf8')
    .split('\n')
    .filter((line) => line !== '');
}
