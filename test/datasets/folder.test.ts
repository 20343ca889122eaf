import { rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { CHUNK_BYTES } from '../../src/datasets/files.ts';
import { folder } from '../../src/datasets/folder.ts';
import { encodeImage } from '../../src/datasets/images.ts';
import type { FileDataset } from '../../src/datasets/splits.ts';
import { ALL, chunksOf, imagesOf, scratch, testDataset, type Wanted, type WantedImage } from '../util/dataset-suite.ts';
import { badData } from '../util/hostile.ts';
import { testImage } from '../util/images.ts';
import { cutOne, edit, pngOf, put } from './writers.ts';

// Byte order: Z before a before b, 10 before 9, and the umlaut last, unlike any locale.
const CLASSES = ['Z', 'a', 'b c', 'ä'];
const FILES = ['10.png', '9.PNG', 'B.png', 'a.png'];
const sizes = [
  [6, 9],
  [6, 9],
  [9, 6],
  [4, 11],
] as const;

function images(channels: 1 | 3, seed: number, files: number): [string, WantedImage][] {
  return CLASSES.flatMap((name, label) =>
    FILES.slice(0, files).map((file, i): [string, WantedImage] => {
      const [height, width] = sizes[i]!;
      return [
        `${name}/${file}`,
        { label, height, width, pixels: testImage(seed + 10 * label + i, height, width, channels) },
      ];
    }),
  );
}

async function putImages(dir: string, list: readonly [string, WantedImage][], channels: 1 | 3): Promise<WantedImage[]> {
  for (const [name, image] of [...list].reverse()) await put(dir, { [name]: await pngOf(image, channels) });
  return list.map(([, image]) => image);
}

async function write(dir: string, channels: 1 | 3 = 3): Promise<Wanted> {
  const train = await putImages(join(dir, 'train'), images(channels, 1, 4), channels);
  const testing = await putImages(join(dir, 'val'), images(channels, 500, 2), channels);
  await put(dir, { 'train/a/notes.txt': 'no image', 'train/.cache/x.png': 'hidden', 'train/a/.hidden.png': 'hidden' });
  return { path: dir, classNames: CLASSES, channels, train, test: testing };
}

testDataset('folder', {
  format: folder,
  write,
  damages: [
    { what: 'a cut image', at: 'read', apply: (dir) => edit(join(dir, 'train/b c/B.png'), cutOne) },
    {
      what: 'a text file named .png',
      at: 'read',
      apply: (dir) => edit(join(dir, 'val/a/10.png'), () => Buffer.from('hello')),
    },
    {
      what: 'an empty image file',
      at: 'open',
      apply: (dir) => edit(join(dir, 'train/a/9.PNG'), () => new Uint8Array(0)),
    },
    {
      what: 'a class folder without images',
      at: 'open',
      apply: async (dir) => {
        await put(dir, { 'train/empty/readme.txt': '' });
        return join(dir, 'train/empty');
      },
    },
    {
      what: 'a validation class that training lacks',
      at: 'open',
      apply: async (dir) => {
        await put(dir, { 'val/new/1.png': 'x' });
        return join(dir, 'val/new');
      },
    },
    {
      what: 'images without class folders',
      at: 'open',
      apply: async (dir) => {
        await rm(join(dir, 'train'), { recursive: true });
        await put(dir, { 'train/1.png': 'x' });
        return join(dir, 'train');
      },
    },
  ],
});

testDataset('folder of grey images', { format: folder, write: (dir) => write(dir, 1), damages: [] });

testDataset('folder without a test split', {
  format: folder,
  write: async (dir) => {
    const train = await putImages(dir, images(3, 30, 3), 3);
    return { path: dir, classNames: CLASSES, channels: 3, train, test: null };
  },
  damages: [],
});

describe('folder: what the contract does not say', () => {
  const dirs = scratch();

  test('runs of one size share a chunk, other sizes start one', async () => {
    const { path } = await write(await dirs.make());
    const shapes = (await chunksOf((await folder.open(path, ALL)).train)).map((c) => [
      c.labels.length,
      c.height,
      c.width,
    ]);
    expect(shapes.slice(0, 3)).toEqual([
      [2, 6, 9],
      [1, 9, 6],
      [1, 4, 11],
    ]);
  });

  test('a long run is cut into chunks of at most CHUNK_BYTES', async () => {
    const dir = await dirs.make();
    const side = 700; // px; 1.4 MiB an image, two fit
    const image = await encodeImage(testImage(0, side, side, 3), side, side, 3, 'jpeg');
    await put(dir, Object.fromEntries([0, 1, 2, 3, 4].map((i) => [`only/${i}.jpg`, image])));
    const chunks = await chunksOf((await folder.open(dir, ALL)).train);
    expect(chunks.map((c) => c.labels.length)).toEqual([2, 2, 1]);
    for (const chunk of chunks) expect(chunk.images.length).toBeLessThanOrEqual(CHUNK_BYTES);
  });

  test('test/ is the test split where there is no val/', async () => {
    const dir = await dirs.make();
    await putImages(join(dir, 'train'), images(3, 1, 2), 3);
    const testing = await putImages(join(dir, 'test'), images(3, 70, 1), 3);
    expect(await imagesOf((await folder.open(dir, ALL)).test!, 3)).toEqual(testing);
  });

  test('class folders may be links', async () => {
    const dir = await dirs.make();
    const { path } = await write(await dirs.make());
    for (const name of CLASSES.slice(0, 2)) await symlink(join(path, 'train', name), join(dir, name));
    expect((await folder.open(dir, ALL)).train.count).toBe(8);
  });

  test('a link that leads nowhere is no image or class less: it is named, or left out and listed', async () => {
    const dir = await dirs.make();
    await write(dir);
    const gone = join(dir, 'train/a/99.png');
    await symlink(join(dir, 'nowhere.png'), gone);
    expect(await badData(gone, () => folder.open(dir, ALL))).toContain('a link to nothing');
    const { skipped } = (await folder.open(dir, { ...ALL, skipUnreadable: true })) as FileDataset;
    expect(skipped).toEqual(['train/a/99.png']);
    await rm(gone);
    await symlink(join(dir, 'nowhere'), join(dir, 'train/zz'));
    await badData(join(dir, 'train/zz'), () => folder.open(dir, ALL));
  });

  test('skipUnreadable leaves out and lists what does not decode; the announced labels stay true', async () => {
    const dir = await dirs.make();
    const { train } = await write(dir);
    const before = await folder.open(dir, ALL);
    await edit(join(dir, 'train/a/10.png'), cutOne);
    await edit(join(dir, 'val/Z/9.PNG'), () => new Uint8Array(0));
    const dataset = (await folder.open(dir, { ...ALL, skipUnreadable: true })) as FileDataset;
    expect([...dataset.skipped].sort()).toEqual(['train/a/10.png', 'val/Z/9.PNG']);
    expect([dataset.train.count, dataset.test?.count]).toEqual([15, 7]);
    expect(await imagesOf(dataset.train, 3)).toEqual(train.filter((_, i) => i !== 4));
    expect(dataset.id).not.toBe(before.id);
  });

  test('skipUnreadable does not hide a class left without images', async () => {
    const dir = await dirs.make();
    await write(dir);
    for (const file of FILES) await edit(join(dir, 'train/a', file), cutOne);
    await expect(folder.open(dir, { ...ALL, skipUnreadable: true })).rejects.toMatchObject({ code: 'E_DATA' });
  });

  test('a colour image in a grey set is refused, unless dataset.json states the channels', async () => {
    const dir = await dirs.make();
    await write(dir, 1);
    const colour = { label: 0, height: 6, width: 9, pixels: testImage(3, 6, 9, 3) };
    await put(dir, { 'train/a/z.png': await pngOf(colour, 3) });
    const path = join(dir, 'train/a/z.png');
    await expect(folder.open(dir, ALL).then((d) => chunksOf(d.train))).rejects.toMatchObject({
      code: 'E_DATA',
      details: { path },
    });
    await put(dir, { 'dataset.json': '{"channels": 3, "name": "mixed"}' });
    const mixed = await folder.open(dir, ALL);
    expect(mixed).toMatchObject({ name: 'mixed', channels: 3, mean: [0.485, 0.456, 0.406] });
    expect((await imagesOf(mixed.train, 3)).at(8)!.pixels).toEqual(colour.pixels);
  });

  test('a sidecar with another number of class names is refused', async () => {
    const dir = await dirs.make();
    await write(dir);
    await put(dir, { 'dataset.json': '{"classNames": ["one"]}' });
    const path = join(dir, 'dataset.json');
    await expect(folder.open(dir, ALL)).rejects.toMatchObject({ code: 'E_DATA', details: { path } });
  });
});
