// The table of formats, the id of a dataset, and the reading of record files.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { byBytes, CHUNK_BYTES, orderedMap } from '../../src/datasets/files.ts';
import { datasetIdentity, HASHED_BYTES_LIMIT, SMALL_FILE_BYTES } from '../../src/datasets/identity.ts';
import { FORMATS, nearest, openDataset } from '../../src/datasets/index.ts';
import { recordBlocks, recordsAt } from '../../src/datasets/records.ts';
import { ALL, scratch } from '../util/dataset-suite.ts';

describe('openDataset', () => {
  test('names in the table are unique', () => {
    expect(new Set(FORMATS.map((f) => f.name)).size).toBe(FORMATS.length);
  });

  test('opens by name', async () => {
    expect((await openDataset('digits', '', ALL)).name).toBe('digits');
  });

  test.each([
    ['cifar-10', 'cifar10'],
    ['CIFAR100', 'cifar100'],
    ['tinyimagenet', 'tiny-imagenet'],
    ['fodler', 'folder'],
    ['digit', 'digits'],
    ['dx', 'idx'],
  ])('%s is refused with E_CONFIG naming %s', async (wrong, right) => {
    const error = await openDataset(wrong, '', ALL).catch((e: unknown) => e);
    expect(error).toMatchObject({ code: 'E_CONFIG', details: { nearest: right } });
    expect((error as Error).message).toContain(`did you mean ${right}?`);
  });

  test('a word near nothing gets no suggestion', async () => {
    expect(
      nearest(
        'something quite different',
        FORMATS.map((f) => f.name),
      ),
    ).toBeNull();
    await expect(openDataset('', '', ALL)).rejects.toMatchObject({ code: 'E_CONFIG', details: { nearest: null } });
  });
});

describe('datasetIdentity', () => {
  const dirs = scratch();
  const plain = { verify: false, facts: ['x'] };

  async function files(contents: Record<string, Uint8Array>): Promise<[string, { name: string; size: number }[]]> {
    const dir = await dirs.make();
    await mkdir(join(dir, 'sub'));
    for (const [name, bytes] of Object.entries(contents)) await writeFile(join(dir, name), bytes);
    return [dir, Object.entries(contents).map(([name, bytes]) => ({ name, size: bytes.length }))];
  }
  const idOf = async (contents: Record<string, Uint8Array>, options = plain): Promise<string> => {
    const [dir, list] = await files(contents);
    return (await datasetIdentity(dir, list, options)).id;
  };
  const bytes = (length: number, last: number): Uint8Array => new Uint8Array(length).fill(7).fill(last, length - 1);

  test('depends on names, sizes, small contents and facts, and not on listing order or folder', async () => {
    const base = { 'sub/a': bytes(10, 1), b: bytes(20, 2) };
    const id = await idOf(base);
    expect(await idOf({ b: base.b, 'sub/a': base['sub/a'] })).toBe(id);
    const others = [
      await idOf({ 'sub/c': bytes(10, 1), b: bytes(20, 2) }),
      await idOf({ 'sub/a': bytes(11, 1), b: bytes(20, 2) }),
      await idOf({ 'sub/a': bytes(10, 9), b: bytes(20, 2) }),
      await idOf(base, { verify: false, facts: ['y'] }),
    ];
    expect(new Set([id, ...others]).size).toBe(5);
  });

  test('verifying leaves the id alone and adds a hash that every byte counts in', async () => {
    const verify = { ...plain, verify: true };
    const [dir, list] = await files({ big: bytes(SMALL_FILE_BYTES, 1), 'sub/a': bytes(10, 1) });
    const cheap = await datasetIdentity(dir, list, plain);
    const whole = await datasetIdentity(dir, list, verify);
    expect(cheap.content).toBeUndefined();
    expect(whole).toEqual({ id: cheap.id, content: expect.stringMatching(/^[0-9a-f]{64}$/) });
    expect(await datasetIdentity(dir, [...list].reverse(), { ...verify, facts: ['y'] })).toMatchObject({
      content: whole.content, // of the files alone
    });
    await writeFile(join(dir, 'big'), bytes(SMALL_FILE_BYTES, 2));
    expect(await datasetIdentity(dir, list, plain)).toEqual(cheap);
    const changed = await datasetIdentity(dir, list, verify);
    expect(changed.id).toBe(cheap.id);
    expect(changed.content).not.toBe(whole.content);
  });

  test('small files count up to the stated total, in name order', async () => {
    const each = SMALL_FILE_BYTES - 1;
    const fit = Math.floor(HASHED_BYTES_LIMIT / each);
    const content = bytes(each, 1);
    const set = Object.fromEntries(Array.from({ length: fit + 1 }, (_, i) => [String(i).padStart(3, '0'), content]));
    const changed = (i: number): Record<string, Uint8Array> => ({
      ...set,
      [String(i).padStart(3, '0')]: bytes(each, 2),
    });
    const [dir, list] = await files(set);
    const { id } = await datasetIdentity(dir, list, plain);
    await writeFile(join(dir, String(fit).padStart(3, '0')), bytes(each, 2));
    expect((await datasetIdentity(dir, list, plain)).id).toBe(id);
    await writeFile(join(dir, '000'), changed(0)['000']!);
    expect((await datasetIdentity(dir, list, plain)).id).not.toBe(id);
  });
});

describe('recordBlocks', () => {
  const dirs = scratch();

  test.each([false, true])('gives back every byte after the header, in whole records (gzip: %s)', async (zipped) => {
    const recordBytes = 777; // divides neither block nor piece sizes
    const count = Math.ceil((2.3 * CHUNK_BYTES) / recordBytes);
    const content = new Uint8Array(11 + count * recordBytes).map((_, i) => Math.imul(i, 0x9e3779b1) >>> 24);
    const path = join(await dirs.make(), zipped ? 'r.gz' : 'r');
    await writeFile(path, zipped ? gzipSync(content) : content);
    const blocks: Uint8Array[] = [];
    for await (const block of recordBlocks({ path, headerBytes: 11, recordBytes, count })) {
      expect(block.length % recordBytes).toBe(0);
      expect(block.length).toBeLessThanOrEqual(CHUNK_BYTES);
      blocks.push(block);
    }
    expect(Buffer.concat(blocks).equals(content.subarray(11))).toBe(true);
  });

  test.each([false, true])('records asked for by number, in runs and alone (gzip: %s)', async (zipped) => {
    const recordBytes = 777;
    const count = Math.ceil((2.3 * CHUNK_BYTES) / recordBytes);
    const content = new Uint8Array(11 + count * recordBytes).map((_, i) => Math.imul(i, 0x9e3779b1) >>> 24);
    const path = join(await dirs.make(), zipped ? 'r.gz' : 'r');
    await writeFile(path, zipped ? gzipSync(content) : content);
    const file = { path, headerBytes: 11, recordBytes, count };
    const sparse = [0, 1, 2, 9, 5000, 5398, 5399, count - 2, count - 1];
    const most = Array.from({ length: count }, (_, i) => i).filter((i) => i % 13 !== 0); // more than one block
    for (const wanted of [sparse, most, [count - 1], []]) {
      const blocks: Uint8Array[] = [];
      for await (const block of recordsAt(file, Int32Array.from(wanted))) {
        expect(block.length).toBeLessThanOrEqual(CHUNK_BYTES);
        blocks.push(block);
      }
      const right = wanted.map((i) => content.subarray(11 + i * recordBytes, 11 + (i + 1) * recordBytes));
      expect(Buffer.concat(blocks).equals(Buffer.concat(right))).toBe(true);
    }
    const beyond = recordsAt({ ...file, count: count + 1 }, Int32Array.of(3, count)).next();
    await expect(beyond).rejects.toMatchObject({ code: 'E_DATA', details: { path } });
  });
});

describe('orderedMap', () => {
  test('keeps order and never has more than the limit in flight', async () => {
    let now = 0;
    let most = 0;
    const items = Array.from({ length: 40 }, (_, i) => i);
    const results: number[] = [];
    const work = async (i: number): Promise<number> => {
      most = Math.max(most, ++now);
      await new Promise((done) => setTimeout(done, (i * 7) % 5));
      now--;
      return i * i;
    };
    for await (const result of orderedMap(items, 4, work)) results.push(result);
    expect(results).toEqual(items.map((i) => i * i));
    expect(most).toBe(4);
  });

  test('a failure arrives in its turn and later ones are not left unhandled', async () => {
    const work = async (i: number): Promise<number> => {
      if (i >= 2) throw new Error(`item ${i}`);
      return i;
    };
    const seen: number[] = [];
    const run = async (): Promise<void> => {
      for await (const i of orderedMap([0, 1, 2, 3, 4], 5, work)) seen.push(i);
    };
    await expect(run()).rejects.toThrow('item 2');
    expect(seen).toEqual([0, 1]);
  });
});

test('byBytes is the order of UTF-8 bytes', () => {
  expect(['b', 'ä', 'a', 'Z', '10', '9', '\u{1f600}', '\uffee'].sort(byBytes)).toEqual([
    '10',
    '9',
    'Z',
    'a',
    'b',
    'ä',
    '\uffee',
    '\u{1f600}',
  ]);
});
