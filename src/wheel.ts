// Reads Python wheels (zip files with a RECORD of SHA-256 sums) and unpacks chosen files of them. No Python code runs.
// Invariant: a file is on disk under its final name only inside the folder given, only if RECORD names it, and only
// with the size and SHA-256 that RECORD states; links, absolute names, `..` and repeated names are refused.
// Source: Python packaging specification "Recording installed projects" and "Binary distribution format".

import { createHash } from 'node:crypto';
import { createWriteStream, mkdirSync, rmSync } from 'node:fs';
import { basename, dirname, join, relative, resolve, sep } from 'node:path';
import { type Readable, Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import yauzl from 'yauzl';
import { LpldError } from './errors.ts';
import { toInstallError } from './install-errors.ts';

export interface Wheel {
  readonly file: string;
  /** Distribution name and version out of METADATA, e.g. torch and 2.13.0+cpu. */
  readonly name: string;
  readonly version: string;
  /** Requires-Dist lines of METADATA. */
  readonly requires: readonly string[];
  /** Tag lines of WHEEL, e.g. cp311-cp311-manylinux_2_28_x86_64. */
  readonly tags: readonly string[];
  /** Folder of RECORD and METADATA inside the wheel. */
  readonly distInfo: string;
  /** Uncompressed bytes of every file. */
  readonly sizes: ReadonlyMap<string, number>;
  /** Text of a small file (16 MiB at most). */
  read(name: string): Promise<string>;
  /** Unpacks the files that `select` accepts below `into`. Returns their number and bytes. */
  unpack(
    select: (name: string) => boolean,
    into: string,
    signal?: AbortSignal,
  ): Promise<{ files: number; bytes: number }>;
  close(): void;
}

const TEXT_LIMIT = 16 * 2 ** 20; // bytes; RECORD of torch is 1.5 MB

/** A file that is no usable wheel. */
export function badWheel(file: string, problem: string, cause?: unknown): LpldError {
  return new LpldError(
    'E_DEVICE',
    `expected an intact wheel for ${basename(file)} but ${problem}\ndownload it again`,
    { reason: 'bad-wheel', path: file, problem },
    cause,
  );
}

interface Recorded {
  readonly sha256: string; // base64url without padding, '' where RECORD states none
  readonly size: number | null; // bytes
}

/** Parses RECORD: lines of path,sha256=<base64url>,<size>; a path with commas or quotes is quoted as in CSV. */
export function parseRecord(text: string): Map<string, Recorded> {
  const rows = new Map<string, Recorded>();
  for (const line of text.split(/\r?\n/)) {
    const m = /^(?:"((?:[^"]|"")*)"|([^,"]*)),(?:sha256=([A-Za-z0-9_-]+)=*)?,(\d*)$/.exec(line);
    if (m === null) continue;
    const name = m[1]?.replaceAll('""', '"') ?? m[2]!;
    rows.set(name, { sha256: m[3] ?? '', size: m[4] === '' ? null : Number(m[4]) });
  }
  return rows;
}

function openZip(file: string): Promise<yauzl.ZipFile> {
  return new Promise((done, fail) => {
    yauzl.open(file, { lazyEntries: true, autoClose: false }, (error, zip) => (error ? fail(error) : done(zip)));
  });
}

function listEntries(zip: yauzl.ZipFile): Promise<Map<string, yauzl.Entry>> {
  const entries = new Map<string, yauzl.Entry>();
  return new Promise((done, fail) => {
    zip.on('error', fail);
    zip.on('end', () => done(entries));
    zip.on('entry', (entry: yauzl.Entry) => {
      const mode = (entry.externalFileAttributes >>> 16) & 0o170000;
      if (entries.has(entry.fileName)) return fail(new Error(`it holds ${entry.fileName} twice`));
      if (mode === 0o120000) return fail(new Error(`${entry.fileName} is a link`));
      if (!entry.fileName.endsWith('/')) entries.set(entry.fileName, entry);
      zip.readEntry();
    });
    zip.readEntry();
  });
}

function openEntry(zip: yauzl.ZipFile, entry: yauzl.Entry): Promise<Readable> {
  return new Promise((done, fail) => {
    zip.openReadStream(entry, (error, stream) => (error ? fail(error) : done(stream)));
  });
}

async function readText(zip: yauzl.ZipFile, entry: yauzl.Entry | undefined, name: string): Promise<string> {
  if (entry === undefined) throw new Error(`it has no ${name}`);
  if (entry.uncompressedSize > TEXT_LIMIT) throw new Error(`${name} is larger than ${TEXT_LIMIT} bytes`);
  const chunks: Buffer[] = [];
  for await (const chunk of await openEntry(zip, entry)) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString('utf8');
}

function header(metadata: string, key: string): string[] {
  const head = metadata.split(/\r?\n\r?\n/, 1)[0] ?? '';
  return [...head.matchAll(new RegExp(`^${key}:\\s*(.*?)\\r?$`, 'gm'))].map((m) => m[1]!);
}

/** Where `name` lands below `into`; throws if that is outside. */
function placeInside(into: string, name: string): string {
  const path = resolve(into, name);
  const from = relative(into, path);
  if (from === '' || from === '..' || from.startsWith(`..${sep}`)) throw new Error(`${name} points outside`);
  return path;
}

async function extract(
  zip: yauzl.ZipFile,
  entry: yauzl.Entry,
  path: string,
  recorded: Recorded,
  signal: AbortSignal | undefined,
): Promise<number> {
  const hash = createHash('sha256');
  let bytes = 0;
  const measure = new Transform({
    transform(chunk: Buffer, _encoding, next) {
      hash.update(chunk);
      bytes += chunk.length;
      next(null, chunk);
    },
  });
  const executable = ((entry.externalFileAttributes >>> 16) & 0o111) !== 0;
  mkdirSync(dirname(path), { recursive: true });
  const sink = createWriteStream(path, { flags: 'wx', mode: executable ? 0o755 : 0o644 });
  await pipeline(await openEntry(zip, entry), measure, sink, signal === undefined ? {} : { signal });
  const problem =
    recorded.size !== null && recorded.size !== bytes
      ? `has ${bytes} bytes where RECORD says ${recorded.size}`
      : recorded.sha256 !== '' && hash.digest('base64url') !== recorded.sha256
        ? 'does not have the SHA-256 of RECORD'
        : '';
  if (problem !== '') {
    rmSync(path, { force: true });
    throw new Error(`${entry.fileName} ${problem}`);
  }
  return bytes;
}

/**
 * Opens a wheel and reads its tables; nothing is written.
 *
 * @throws {LpldError} E_DEVICE with details.reason 'bad-wheel' if it is no wheel or is damaged
 */
export async function openWheel(file: string): Promise<Wheel> {
  let zip: yauzl.ZipFile | undefined;
  try {
    zip = await openZip(file);
    return await describeWheel(file, zip);
  } catch (e) {
    zip?.close();
    throw toInstallError(e, (problem) => badWheel(file, problem, e));
  }
}

async function describeWheel(file: string, zip: yauzl.ZipFile): Promise<Wheel> {
  const entries = await listEntries(zip);
  const infos = [...entries.keys()].filter((name) => /^[^/]+\.dist-info\/METADATA$/.test(name));
  if (infos.length !== 1) throw new Error(`it has ${infos.length} .dist-info/METADATA files where one is needed`);
  const distInfo = dirname(infos[0]!);
  const text = (name: string): Promise<string> => readText(zip, entries.get(name), name);
  const metadata = await text(`${distInfo}/METADATA`);
  const record = parseRecord(await text(`${distInfo}/RECORD`));
  const [name, version] = [header(metadata, 'Name')[0], header(metadata, 'Version')[0]];
  if (!name || !version) throw new Error('METADATA states no name and version');
  const tags = entries.has(`${distInfo}/WHEEL`) ? header(`${await text(`${distInfo}/WHEEL`)}\n\n`, 'Tag') : [];

  const guard = <T>(work: Promise<T>): Promise<T> =>
    work.catch((e: unknown) => {
      throw toInstallError(e, (problem) => badWheel(file, problem, e));
    });

  async function unpack(select: (name: string) => boolean, into: string, signal?: AbortSignal) {
    const chosen = new Set([...record.keys(), ...entries.keys()].filter(select));
    let total = 0;
    for (const name of chosen) {
      const [entry, recorded] = [entries.get(name), record.get(name)];
      if (entry === undefined) throw new Error(`it lacks ${name}, which RECORD names`);
      if (recorded === undefined) throw new Error(`RECORD does not name ${name}`);
      if (recorded.sha256 === '' && name !== `${distInfo}/RECORD`) throw new Error(`RECORD has no SHA-256 for ${name}`);
      total += await extract(zip, entry, placeInside(into, name), recorded, signal);
    }
    return { files: chosen.size, bytes: total };
  }

  return {
    file,
    name,
    version,
    requires: header(metadata, 'Requires-Dist'),
    tags,
    distInfo,
    sizes: new Map([...entries].map(([key, entry]) => [key, entry.uncompressedSize])),
    read: (path) => guard(text(path)),
    unpack: (select, into, signal) => guard(unpack(select, resolve(into), signal)),
    close: () => zip.close(),
  };
}

/** Files of a torch wheel that LibTorch needs; without `cuda` its CUDA libraries are left out. */
export function selectTorch(distInfo: string, cuda: boolean): (name: string) => boolean {
  const cudaLibrary = /^torch\/lib\/lib(torch_cuda|c10_cuda|torch_nvshmem)/;
  return (name) =>
    name === 'torch/version.py' ||
    name === `${distInfo}/RECORD` ||
    name === `${distInfo}/METADATA` ||
    (/^torch\/(lib|include)\//.test(name) && (cuda || !cudaLibrary.test(name)));
}

/** Files of an NVIDIA wheel that LibTorch maps: its shared libraries, in their folders. */
export function selectNvidia(distInfo: string): (name: string) => boolean {
  return (name) =>
    name === join(distInfo, 'RECORD') ||
    name === join(distInfo, 'METADATA') ||
    /^nvidia\/(?:[^/]+\/)*lib\/(?:[^/]+\/)*[^/]+\.so(?:\.\d+)*$/.test(name);
}
