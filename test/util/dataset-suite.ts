// The contract every dataset format must keep, as one call: labels, names, order, pixels, id, subsets, cancel, damage.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { Dataset, DatasetFormat, DatasetOptions, ImageChunk, Split } from '../../src/datasets/types.ts';

export const ALL: DatasetOptions = { classes: null, verify: false, skipUnreadable: false };

/** One image as a split must yield it. */
export interface WantedImage {
  readonly label: number;
  readonly height: number;
  readonly width: number;
  readonly pixels: Uint8Array;
}

export interface Wanted {
  /** What to open: the folder given, unless the set lies below it. */
  readonly path: string;
  readonly classNames: readonly string[];
  readonly channels: 1 | 3;
  readonly train: readonly WantedImage[];
  readonly test: readonly WantedImage[] | null;
}

export interface Damage {
  readonly what: string;
  /** When it must be noticed. */
  readonly at: 'open' | 'read';
  /** Damages the set below `dir`; returns the path the error must name. */
  readonly apply: (dir: string) => Promise<string>;
}

export interface DatasetCase {
  readonly format: DatasetFormat;
  /** Writes a good set below the empty folder `dir`, with at least three classes, and says what it holds. */
  readonly write: (dir: string) => Promise<Wanted>;
  readonly damages: readonly Damage[];
  /** False for a set that always opens the same files. */
  readonly ownsPath?: boolean;
}

/** All chunks of a split. */
export async function chunksOf(split: Split, signal?: AbortSignal, indices?: Int32Array): Promise<ImageChunk[]> {
  const chunks: ImageChunk[] = [];
  for await (const chunk of split.read(signal, indices)) chunks.push(chunk);
  return chunks;
}

/** All images of a split, or those of rising indices, one by one. */
export async function imagesOf(split: Split, channels: number, indices?: Int32Array): Promise<WantedImage[]> {
  return (await chunksOf(split, undefined, indices)).flatMap(({ images, labels, height, width }) => {
    const size = height * width * channels;
    if (images.length !== labels.length * size)
      throw new Error(`a chunk of ${labels.length} images of ${size} bytes holds ${images.length}`);
    return Array.from(labels, (label, i) => ({ label, height, width, pixels: images.slice(i * size, (i + 1) * size) }));
  });
}

/** Opens and reads everything; for sets that must be refused at either time. */
export async function readAll(dataset: Dataset): Promise<void> {
  await chunksOf(dataset.train);
  if (dataset.test !== null) await chunksOf(dataset.test);
}

/** A folder for one test file's sets, removed afterwards. */
export function scratch(): { make: () => Promise<string> } {
  let root = '';
  let serial = 0;
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'lpld-data-'));
  });
  afterAll(() => rm(root, { recursive: true, force: true }));
  return { make: () => mkdtemp(join(root, `${serial++}-`)) };
}

export function testDataset(name: string, { format, write, damages, ownsPath = true }: DatasetCase): void {
  describe(`${name}: contract of a dataset format`, () => {
    const dirs = scratch();
    let wanted: Wanted;
    let dataset: Dataset;
    beforeAll(async () => {
      wanted = await write(await dirs.make());
      dataset = await format.open(wanted.path, ALL);
    });

    test('classes, channels and constants are consistent', () => {
      expect(dataset.classNames).toEqual(wanted.classNames);
      expect(new Set(dataset.classNames).size).toBe(dataset.classNames.length);
      expect(dataset.channels).toBe(wanted.channels);
      expect(dataset.mean).toHaveLength(wanted.channels);
      expect(dataset.std).toHaveLength(wanted.channels);
      for (const mean of dataset.mean) expect(mean > 0 && mean < 1).toBe(true);
      for (const std of dataset.std) expect(std > 0 && std < 1).toBe(true);
      expect(dataset.id).toMatch(/^[0-9a-f]{64}$/);
    });

    test('each split yields exactly the images written, in order, with the labels it announces', async () => {
      for (const [split, images] of [
        [dataset.train, wanted.train],
        [dataset.test, wanted.test],
      ] as const) {
        expect(split === null).toBe(images === null);
        if (split === null || images === null) continue;
        expect(split.count).toBe(images.length);
        expect([...split.labels]).toEqual(images.map((image) => image.label));
        expect(await imagesOf(split, wanted.channels)).toEqual(images);
      }
    });

    test('reading twice, and opening again, gives the same order and id', async () => {
      const again = await format.open(wanted.path, ALL);
      expect(again.id).toBe(dataset.id);
      expect(await imagesOf(again.train, wanted.channels)).toEqual(await imagesOf(dataset.train, wanted.channels));
      expect(await imagesOf(again.train, wanted.channels)).toEqual(await imagesOf(dataset.train, wanted.channels));
    });

    test('a class subset is renumbered in the order asked for and has an id of its own', async () => {
      const subset = await format.open(wanted.path, { ...ALL, classes: [2, 0] });
      const images = wanted.train
        .filter((image) => image.label === 2 || image.label === 0)
        .map((image) => ({ ...image, label: image.label === 2 ? 0 : 1 }));
      expect(subset.classNames).toEqual([wanted.classNames[2], wanted.classNames[0]]);
      expect([...subset.train.labels]).toEqual(images.map((image) => image.label));
      expect(await imagesOf(subset.train, wanted.channels)).toEqual(images);
      expect(subset.id).not.toBe(dataset.id);
    });

    test('images asked for by index are the same images, of the whole set and of a class subset', async () => {
      const { length } = wanted.train;
      const some = [0, 1, Math.floor(length / 2), length - 1].filter((i, at, all) => all.indexOf(i) === at);
      expect(await imagesOf(dataset.train, wanted.channels, Int32Array.from(some))).toEqual(
        some.map((i) => wanted.train[i]),
      );
      expect(await imagesOf(dataset.train, wanted.channels, new Int32Array(0))).toEqual([]);
      const subset = await format.open(wanted.path, { ...ALL, classes: [2, 0] });
      const all = await imagesOf(subset.train, wanted.channels);
      const odd = Int32Array.from(all.keys()).filter((i) => i % 2 === 1);
      expect(await imagesOf(subset.train, wanted.channels, odd)).toEqual(Array.from(odd, (i) => all[i]));
    });

    test.each([[[]], [[0, 0]], [[-1]], [[0.5]], [[100_000]]])(
      'class subset %j is refused with E_CONFIG',
      async (classes) => {
        await expect(format.open(wanted.path, { ...ALL, classes })).rejects.toMatchObject({ code: 'E_CONFIG' });
      },
    );

    test('an aborted signal stops reading with E_CANCELLED', async () => {
      await expect(chunksOf(dataset.train, AbortSignal.abort())).rejects.toMatchObject({ code: 'E_CANCELLED' });
    });

    test('a reader may stop after the first chunk and start again', async () => {
      for await (const chunk of dataset.train.read()) {
        expect(chunk.labels[0]).toBe(wanted.train[0]!.label);
        break;
      }
      expect(await imagesOf(dataset.train, wanted.channels)).toHaveLength(wanted.train.length);
    });

    if (ownsPath)
      test('a path where nothing is gives E_DATA with a path below it', async () => {
        const path = join(await dirs.make(), 'absent');
        const error = await format.open(path, ALL).catch((e: unknown) => e);
        expect(error).toMatchObject({ code: 'E_DATA' });
        expect((error as { details: { path: string } }).details.path.startsWith(path)).toBe(true);
      });

    for (const { what, at, apply } of damages)
      test(`${what}: E_DATA with its path at ${at}`, async () => {
        const dir = await dirs.make();
        const { path } = await write(dir);
        const culprit = await apply(dir);
        const refusal = { code: 'E_DATA', details: { path: culprit } };
        if (at === 'open') await expect(format.open(path, ALL)).rejects.toMatchObject(refusal);
        else await expect(format.open(path, ALL).then(readAll)).rejects.toMatchObject(refusal);
      });
  });
}
