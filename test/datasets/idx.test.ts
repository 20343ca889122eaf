import { readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { idx } from '../../src/datasets/idx.ts';
import { ALL, type Damage, imagesOf, scratch, testDataset, type Wanted } from '../util/dataset-suite.ts';
import { addOne, cutOne, drawn, edit, idxBytes, idxPair, put, put8 } from './writers.ts';

const train = drawn([2, 0, 1, 1, 0, 2, 2], 5, 8, 1, 10);
const testing = drawn([1, 0, 2], 5, 8, 1, 90);
const NAMES = [
  'train-images-idx3-ubyte',
  'train-labels-idx1-ubyte',
  't10k-images-idx3-ubyte',
  't10k-labels-idx1-ubyte',
];
const bytes = [...idxPair(train), ...idxPair(testing)];

async function write(dir: string, names: readonly string[] = NAMES): Promise<Wanted> {
  await put(dir, Object.fromEntries(names.map((n, i) => [n, n.endsWith('.gz') ? gzipSync(bytes[i]!) : bytes[i]!])));
  return { path: dir, classNames: ['0', '1', '2'], channels: 1, train, test: testing };
}

const zipped = NAMES.map((name) => `${name}.gz`);
const on = (name: string, change: (b: Buffer) => Uint8Array) => (dir: string) => edit(join(dir, name), change);
const damages = (suffix: '' | '.gz'): Damage[] => {
  const [images, labels, testImages, testLabels] = NAMES.map((n) => n + suffix) as [string, string, string, string];
  return [
    { what: 'images cut by one byte', at: 'open', apply: on(images, cutOne) },
    { what: 'labels cut by one byte', at: 'open', apply: on(labels, cutOne) },
    { what: 'test images cut by one byte', at: 'open', apply: on(testImages, cutOne) },
    { what: 'an empty label file', at: 'open', apply: on(testLabels, () => new Uint8Array(0)) },
  ];
};

testDataset('idx', {
  format: idx,
  write,
  damages: [
    ...damages(''),
    { what: 'images one byte too long', at: 'open', apply: on(NAMES[0]!, addOne) },
    { what: 'labels one byte too long', at: 'open', apply: on(NAMES[1]!, addOne) },
    { what: 'image magic of labels', at: 'open', apply: on(NAMES[0]!, put8(1, 3)) },
    { what: 'label magic of f32', at: 'open', apply: on(NAMES[1]!, put8(0xd, 2)) },
    {
      what: 'an image count unlike the label count',
      at: 'open',
      apply: on(NAMES[0]!, put8(6, 7)),
    },
    { what: 'a test label no training image has', at: 'open', apply: on(NAMES[3]!, put8(3, 8)) },
    {
      what: 'an empty class',
      at: 'open',
      apply: on(NAMES[1]!, (b) =>
        idxBytes(
          [7],
          b.subarray(8).map((v) => (v === 1 ? 0 : v)),
        ),
      ),
    },
    {
      what: 'test images of another size',
      at: 'open',
      apply: async (dir) => {
        const path = join(dir, NAMES[2]!);
        await writeFile(path, idxPair(drawn([1, 0, 2], 6, 8, 1, 0))[0]);
        return path;
      },
    },
    {
      what: 'a missing label file',
      at: 'open',
      apply: async (dir) => {
        await rm(join(dir, NAMES[1]!));
        return join(dir, NAMES[1]!);
      },
    },
  ],
});

testDataset('idx.gz', {
  format: idx,
  write: (dir) => write(dir, zipped),
  damages: [
    ...damages('.gz'),
    {
      what: 'a flipped byte in the compressed images',
      at: 'read',
      apply: on(zipped[0]!, (b) => {
        b[Math.floor(b.length / 2)]! ^= 0x10;
        return b;
      }),
    },
  ],
});

describe('idx: names and constants', () => {
  const dirs = scratch();

  test.each([
    [
      'dots',
      ['train-images.idx3-ubyte', 'train-labels.idx1-ubyte', 't10k-images.idx3-ubyte', 't10k-labels.idx1-ubyte'],
    ],
    [
      'test-',
      ['train-images-idx3-ubyte', 'train-labels-idx1-ubyte', 'test-images-idx3-ubyte', 'test-labels-idx1-ubyte'],
    ],
  ])('file names with %s are found', async (_what, names) => {
    const { path } = await write(await dirs.make(), names);
    const dataset = await idx.open(path, ALL);
    expect([dataset.train.count, dataset.test?.count]).toEqual([7, 3]);
  });

  test('without test files there is no test split', async () => {
    const dir = await dirs.make();
    await write(dir, NAMES.slice(0, 2).concat('unused-a', 'unused-b'));
    expect((await idx.open(dir, ALL)).test).toBeNull();
  });

  test('a .gz of several members is read whole', async () => {
    const dir = await dirs.make();
    await write(dir, zipped);
    const [head, tail] = [bytes[0]!.subarray(0, 100), bytes[0]!.subarray(100)];
    await writeFile(join(dir, zipped[0]!), Buffer.concat([gzipSync(head), gzipSync(tail)]));
    expect(await imagesOf((await idx.open(dir, ALL)).train, 1)).toEqual(train);
  });

  test('an unrecognised set gets the MNIST constants, a sidecar names Fashion-MNIST or KMNIST', async () => {
    const dir = await dirs.make();
    await write(dir);
    expect(await idx.open(dir, ALL)).toMatchObject({ name: 'idx', mean: [0.1307], std: [0.3081] });
    const names = Array.from({ length: 10 }, (_, i) => i % 10);
    const [images, labels] = idxPair(drawn(names, 5, 8, 1, 0));
    await put(dir, { [NAMES[0]!]: images, [NAMES[1]!]: labels, 'dataset.json': '{"name": "fashion-mnist"}' });
    const fashion = await idx.open(dir, ALL);
    expect(fashion).toMatchObject({ name: 'fashion-mnist', mean: [0.286], std: [0.353] });
    expect(fashion.classNames[9]).toBe('Ankle boot');
    await put(dir, { 'dataset.json': '{"name": "kmnist"}' });
    expect(await idx.open(dir, ALL)).toMatchObject({ name: 'kmnist', mean: [0.1918], std: [0.3483] });
  });

  test.each([
    '{',
    '[]',
    '{"naem": "mnist"}',
    '{"std": [0]}',
    '{"mean": [0.1, 0.2, 0.3]}',
    '{"classNames": ["a", "a", "b"]}',
  ])('sidecar %s is refused with its path', async (text) => {
    const dir = await dirs.make();
    await write(dir);
    await put(dir, { 'dataset.json': text });
    const path = join(dir, 'dataset.json');
    await expect(idx.open(dir, ALL)).rejects.toMatchObject({ code: 'E_DATA', details: { path } });
  });

  test('a file that shrinks between open and read is E_DATA, not fewer images', async () => {
    const dir = await dirs.make();
    await write(dir);
    const { train: split } = await idx.open(dir, ALL);
    const path = join(dir, NAMES[0]!);
    await rename(path, `${path}.old`);
    await writeFile(path, (await readFile(`${path}.old`)).subarray(0, 100));
    await expect(imagesOf(split, 1)).rejects.toMatchObject({ code: 'E_DATA', details: { path } });
  });
});
