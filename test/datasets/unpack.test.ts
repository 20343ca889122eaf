// Archives of every kind, whole, damaged and hostile. Tars are made by the system's tar, zips byte by byte.

import { spawnSync } from 'node:child_process';
import { mkdir, readdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32, deflateRawSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { unpackGzip, unpackTar, unpackZip } from '../../src/datasets/unpack.ts';
import { scratch } from '../util/dataset-suite.ts';
import { put } from './writers.ts';

const CONTENT: Record<string, Uint8Array> = {
  'set/a.bin': Uint8Array.from({ length: 300_000 }, (_, i) => Math.imul(i, 0x9e3779b1) >>> 24),
  'set/sub/b ä.txt': Buffer.from('second'),
  'set/empty': Buffer.alloc(0),
};

/** A zip of deflated entries, written from the format's description; `crc` and `mode` can be made wrong. */
function zipOf(files: Record<string, Uint8Array>, wrong: { crc?: boolean; mode?: number } = {}): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const [name, content] of Object.entries(files)) {
    const packed = deflateRawSync(content);
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0);
    shared.writeUInt16LE(0x800, 2); // names are UTF-8
    shared.writeUInt16LE(8, 4);
    shared.writeUInt32LE((crc32(content) ^ (wrong.crc ? 1 : 0)) >>> 0, 10);
    shared.writeUInt32LE(packed.length, 14);
    shared.writeUInt32LE(content.length, 18);
    shared.writeUInt16LE(Buffer.byteLength(name), 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), shared, Buffer.from(name), packed]);
    const tail = Buffer.alloc(14);
    tail.writeUInt32LE(((wrong.mode ?? 0o100644) << 16) >>> 0, 6);
    tail.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.of(20, 3), shared, tail, Buffer.from(name)]));
    locals.push(local);
    offset += local.length;
  }
  const size = central.reduce((n, b) => n + b.length, 0);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 'latin1');
  end.writeUInt16LE(central.length, 8);
  end.writeUInt16LE(central.length, 10);
  end.writeUInt32LE(size, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, ...central, end]);
}

/** What lies below a folder: names and bytes. */
async function contentOf(dir: string): Promise<Record<string, Buffer>> {
  const entries = await readdir(dir, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name));
  return Object.fromEntries(
    await Promise.all(files.map(async (path) => [path.slice(dir.length + 1), await readFile(path)] as const)),
  );
}

const wanted = Object.fromEntries(Object.entries(CONTENT).map(([name, bytes]) => [name, Buffer.from(bytes)]));
const dirs = scratch();

/** A folder with the archive in it and a folder to unpack to. */
async function place(bytes: Uint8Array): Promise<{ dir: string; archive: string; into: string }> {
  const dir = await dirs.make();
  await put(dir, { archive: bytes });
  return { dir, archive: join(dir, 'archive'), into: join(dir, 'in', 'to') };
}

async function refusal(unpack: typeof unpackTar, bytes: Uint8Array): Promise<void> {
  const { dir, archive, into } = await place(bytes);
  await expect(unpack(archive, into)).rejects.toMatchObject({ code: 'E_DATA', details: { path: archive } });
  expect(await contentOf(dir)).toEqual({ archive: Buffer.from(bytes) }); // nothing was written anywhere
}

describe('unpackTar', () => {
  async function tarOf(args: readonly string[]): Promise<Buffer> {
    const dir = await dirs.make();
    await put(dir, { ...CONTENT, escaped: 'x' });
    await symlink('/etc', join(dir, 'link'));
    await mkdir(join(dir, 'out'));
    const made = spawnSync('tar', ['-czPf', 'out/made', ...args], { cwd: dir });
    if (made.status !== 0) throw new Error(String(made.stderr));
    return readFile(join(dir, 'out/made'));
  }

  test('gives back every file', async () => {
    const { archive, into } = await place(await tarOf(['set']));
    await unpackTar(archive, into);
    expect(await contentOf(into)).toEqual(wanted);
  });

  test.each([
    ['a link', ['set', 'link']],
    ['a name that climbs out', ['set', '--transform', 's,^escaped,../../escaped,', 'escaped']],
    ['an absolute name', ['set', '--transform', 's,^escaped,/nowhere/escaped,', 'escaped']],
  ])('%s is refused and nothing is written', async (_what, args) => {
    await refusal(unpackTar, await tarOf(args));
  });

  test('a truncated archive is refused and nothing is written', async () => {
    const bytes = await tarOf(['set']);
    await refusal(unpackTar, bytes.subarray(0, bytes.length / 2));
  });

  test('an aborted signal is E_CANCELLED', async () => {
    const { archive, into } = await place(await tarOf(['set']));
    await expect(unpackTar(archive, into, AbortSignal.abort())).rejects.toMatchObject({ code: 'E_CANCELLED' });
  });
});

describe('unpackZip', () => {
  test('gives back every file', async () => {
    const { archive, into } = await place(zipOf(CONTENT));
    await unpackZip(archive, into);
    expect(await contentOf(into)).toEqual(wanted);
  });

  test.each<[string, Buffer]>([
    ['a link', zipOf({ ...CONTENT, 'set/link': Buffer.from('/etc') }, { mode: 0o120777 })],
    ['a name that climbs out', zipOf({ ...CONTENT, '../../escaped': Buffer.from('x') })],
    ['a name that climbs out the other way', zipOf({ ...CONTENT, 'set\\..\\..\\escaped': Buffer.from('x') })],
    ['an absolute name', zipOf({ ...CONTENT, '/nowhere/escaped': Buffer.from('x') })],
    ['a cut end', zipOf(CONTENT).subarray(0, -30)],
  ])('%s is refused and nothing is written', async (_what, bytes) => {
    await refusal(unpackZip, bytes);
  });

  test('content that does not fit its CRC is refused', async () => {
    const { archive, into } = await place(zipOf(CONTENT, { crc: true }));
    await expect(unpackZip(archive, into)).rejects.toMatchObject({ code: 'E_DATA', details: { path: archive } });
  });

  test('an aborted signal is E_CANCELLED', async () => {
    const { archive, into } = await place(zipOf(CONTENT));
    await expect(unpackZip(archive, into, AbortSignal.abort())).rejects.toMatchObject({ code: 'E_CANCELLED' });
  });
});

describe('unpackGzip', () => {
  test('gives back the file, and refuses a cut one', async () => {
    const packed = gzipSync(CONTENT['set/a.bin']!);
    const { dir, archive } = await place(packed);
    await unpackGzip(archive, join(dir, 'plain'));
    expect(await readFile(join(dir, 'plain'))).toEqual(wanted['set/a.bin']);
    await writeFile(archive, packed.subarray(0, -9));
    const refused = { code: 'E_DATA', details: { path: archive } };
    await expect(unpackGzip(archive, join(dir, 'other'))).rejects.toMatchObject(refused);
  });
});
