// Gzipped records of which some are read at a time: unpacked once into a file without a name, given back when disposed,
// and never more than the records were checked to have.

import { readdirSync, readlinkSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { UnpackedAside } from '../../src/datasets/aside.ts';
import { CHUNK_BYTES } from '../../src/datasets/files.ts';
import { openDataset } from '../../src/datasets/index.ts';
import { type RecordFile, recordsAt } from '../../src/datasets/records.ts';
import { imagesOf } from '../util/dataset-suite.ts';
import { dice, refusal, scratch } from '../util/hostile.ts';
import { drawn, idxPair, put } from './writers.ts';

const recordBytes = 777; // divides no block and no piece
const COUNT = Math.ceil((1.4 * CHUNK_BYTES) / recordBytes);
const content = new Uint8Array(11 + COUNT * recordBytes).map((_, i) => Math.imul(i, 0x9e3779b1) >>> 24);

/** A gzipped file of records in a new folder, and an empty folder to unpack into. */
async function packed(
  bytes: Uint8Array = gzipSync(content, { level: 1 }),
): Promise<{ file: RecordFile; into: string }> {
  const path = join(scratch(), 'r.gz');
  await writeFile(path, bytes);
  return { file: { path, headerBytes: 11, recordBytes, count: COUNT }, into: scratch() };
}

async function read(file: RecordFile, wanted: readonly number[], aside: UnpackedAside): Promise<Buffer> {
  const blocks: Uint8Array[] = [];
  for await (const block of recordsAt(file, Int32Array.from(wanted), undefined, aside)) blocks.push(block);
  return Buffer.concat(blocks);
}
const right = (wanted: readonly number[]): Buffer =>
  Buffer.concat(wanted.map((i) => content.subarray(11 + i * recordBytes, 11 + (i + 1) * recordBytes)));

/** Files of this process that lie in a folder or lay there before they were unlinked. */
const openIn = (folder: string): string[] =>
  readdirSync('/proc/self/fd').flatMap((fd) => {
    try {
      const target = readlinkSync(`/proc/self/fd/${fd}`);
      return target.startsWith(`${folder}/`) ? [target] : [];
    } catch {
      return []; // closed meanwhile
    }
  });
const closed = (folder: string) => expect.poll(() => openIn(folder)).toEqual([]);

describe('records aside', () => {
  test('read in any order they are those of the file, which is unpacked once', async () => {
    const { file, into } = await packed();
    const roll = dice(3);
    using aside = new UnpackedAside([file], [into]);
    expect(aside.bytes).toBe(content.length);
    const some = (): number[] => [...new Set(Array.from({ length: 40 }, () => roll(COUNT)))].sort((a, b) => a - b);
    const first = some();
    expect((await read(file, first, aside)).equals(right(first))).toBe(true);
    await rm(file.path); // nobody opens it again
    for (let turn = 0; turn < 20; turn++) {
      const wanted = some();
      expect((await read(file, wanted, aside)).equals(right(wanted))).toBe(true);
    }
    expect((await read(file, [COUNT - 1], aside)).equals(right([COUNT - 1]))).toBe(true);
    expect((await read(file, [0], aside)).equals(right([0]))).toBe(true);
  });

  test('have no name, so that no end of the process leaves them, and are closed when disposed', async () => {
    const { file, into } = await packed();
    const aside = new UnpackedAside([file], [into]);
    await read(file, [5], aside);
    expect(readdirSync(into)).toEqual([]);
    expect(openIn(into)).toEqual([expect.stringMatching(/ \(deleted\)$/)]);
    aside[Symbol.dispose]();
    await closed(into);
    expect((await read(file, [7], aside)).equals(right([7])), 'unpacked again when asked again').toBe(true);
    aside[Symbol.dispose]();
    await closed(into);
  });

  test('asked for at the same time they are unpacked once', async () => {
    const { file, into } = await packed();
    using aside = new UnpackedAside([file], [into]);
    const all = await Promise.all([3, 1, 2].map((i) => read(file, [i], aside)));
    expect(Buffer.concat(all).equals(right([3, 1, 2]))).toBe(true);
    expect(openIn(into)).toHaveLength(1);
  });

  test('stopped in the middle they leave nothing, and the next call unpacks', async () => {
    const { file, into } = await packed();
    using aside = new UnpackedAside([file], [into]);
    const controller = new AbortController();
    const stopped = refusal(() => aside.content(file, controller.signal));
    controller.abort();
    expect((await stopped).code).toBe('E_CANCELLED');
    await closed(into);
    expect((await read(file, [9], aside)).equals(right([9]))).toBe(true);
  });

  test.each<[string, (whole: Buffer) => Uint8Array, RegExp]>([
    ['cut off', (whole) => whole.subarray(0, whole.length - 5000), /r\.gz/],
    ['damaged', (whole) => whole.fill(0x55, 1000, 1100), /r\.gz/],
    ['shorter than its header says', () => gzipSync(content.subarray(0, -1)), /received 5872576$/],
    ['longer than its header says', () => gzipSync(Buffer.concat([content, content])), /received "\d+ or more"/],
  ])('of a file that is %s they are E_DATA, and nothing stays open', async (_, change, message) => {
    const { file, into } = await packed(change(gzipSync(content, { level: 1 })));
    using aside = new UnpackedAside([file], [into]);
    const error = await refusal(() => read(file, [0, COUNT - 1], aside));
    expect([error.code, error.details.path]).toEqual(['E_DATA', file.path]);
    expect(error.message).toMatch(message);
    await closed(into);
    expect(readdirSync(into)).toEqual([]);
  });

  test('the first folder that can be written is taken; none is E_DEVICE with what to do', async () => {
    const { file, into } = await packed();
    using aside = new UnpackedAside([file], [join(file.path, 'below a file'), join(into, 'new')]);
    expect((await read(file, [1], aside)).equals(right([1]))).toBe(true);
    const none = new UnpackedAside([file], [join(file.path, 'below a file')]);
    const error = await refusal(() => read(file, [1], none));
    expect([error.code, error.details.reason]).toEqual(['E_DEVICE', 'space']);
    expect(error.message).toMatch(/below a file.*\nraise --memory/s);
  });

  test('a disk without room is E_DEVICE before a byte is written', async () => {
    const { file, into } = await packed();
    const huge = { ...file, count: 2 ** 43 };
    using aside = new UnpackedAside([huge], [into]);
    const error = await refusal(() => aside.content(huge));
    expect([error.code, error.details.path]).toEqual(['E_DEVICE', file.path]);
    expect(error.message).toContain(`${into} has `);
    expect(readdirSync(into)).toEqual([]);
  });
});

describe('a gzipped IDX set', () => {
  test('read whole or by class unpacks nothing aside; read by index it does, until its split is given back', async () => {
    const [dir, cache] = [scratch(), scratch()];
    const before = process.env.XDG_CACHE_HOME;
    process.env.XDG_CACHE_HOME = cache;
    onTestFinished(() => {
      if (before === undefined) delete process.env.XDG_CACHE_HOME;
      else process.env.XDG_CACHE_HOME = before;
    });
    const images = drawn([0, 1, 2, 0, 1, 2, 0], 5, 6, 1, 40);
    const [pixels, labels] = idxPair(images);
    await put(dir, {
      'train-images-idx3-ubyte.gz': gzipSync(pixels),
      'train-labels-idx1-ubyte': labels,
    });
    const plain = { skipUnreadable: false, verify: false };
    const { train } = await openDataset('idx', dir, { classes: null, ...plain });
    const some = await openDataset('idx', dir, { classes: [0, 2], ...plain });
    expect(await imagesOf(train, 1)).toEqual(images);
    expect(await imagesOf(some.train, 1)).toHaveLength(5);
    expect(openIn(cache)).toEqual([]);
    expect(await imagesOf(train, 1, Int32Array.of(1, 4))).toEqual([images[1], images[4]]);
    expect(await imagesOf(train, 1, Int32Array.of(0))).toEqual([images[0]]);
    expect(openIn(cache)).toHaveLength(1);
    train.aside![Symbol.dispose]();
    await closed(cache);
  });
});
