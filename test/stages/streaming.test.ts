// Streamed images against images in one store: the same teachers, statistics, scores and control images, bit for bit, on
// packed records, gzipped ones and files of different sizes; and the bounds that streaming promises.

import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { Config } from '../../src/config.ts';
import { openDataset } from '../../src/datasets/index.ts';
import type { ImageChunk, Split } from '../../src/datasets/types.ts';
import type { ImageStoreSpec, NativeBinding, NativeImageStore } from '../../src/native.ts';
import { resolveRuntime, runStage } from '../../src/run.ts';
import { loadStore, openImages, type SegmentImages } from '../../src/stages/images.ts';
import type { Runtime, StageName } from '../../src/stages/types.ts';
import { drawn, idxPair, pngOf, put } from '../datasets/writers.ts';
import { ALL } from '../util/dataset-suite.ts';
import { refusal } from '../util/hostile.ts';
import { native } from '../util/native.ts';
import { i32 } from '../util/tensors.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, RUNTIME, tiny, watching } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 });

let root = '';
let folder = '';
let gzipped = '';

/** 3 classes of colour images whose sides differ. */
async function writeFolder(dir: string): Promise<void> {
  for (const [split, per] of [
    ['train', 14],
    ['val', 5],
  ] as const)
    for (const label of [0, 1, 2])
      for (let i = 0; i < per; i++) {
        const [image] = drawn([label], 9 + ((5 * i + label) % 7), 8 + ((3 * i) % 11), 3, 100 * label + i);
        await put(dir, { [`${split}/c${label}/${i}.png`]: await pngOf(image!, 3) });
      }
}

async function writeGzipped(dir: string): Promise<void> {
  for (const [name, per] of [
    ['train', 20],
    ['t10k', 7],
  ] as const) {
    const labels = Array.from({ length: 3 * per }, (_, i) => (i * 7) % 3);
    const [images, classes] = idxPair(drawn(labels, 8, 8, 1, per));
    await put(dir, {
      [`${name}-images-idx3-ubyte.gz`]: gzipSync(images),
      [`${name}-labels-idx1-ubyte.gz`]: gzipSync(classes),
    });
  }
}

beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-streaming-'));
  folder = join(root, 'folder');
  gzipped = join(root, 'gzipped');
  await writeFolder(folder);
  await writeGzipped(gzipped);
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Runs a stage and returns the hashes of its files and its log. */
async function made(stage: StageName, config: Config, name: string, memory: number, inputs = {}) {
  const { sink, steps } = watching();
  const options = optionsOf(join(root, name), { progress: sink, runtime: { ...RUNTIME, memory } });
  const artifact = await runStage(stage, config, { ...options, inputs });
  const streamed = steps.filter((step) => step.what === 'log' && step.line.startsWith('streaming')).length;
  return { id: artifact.id, files: hashesOf(artifact), streamed };
}

const FOLDER = () => ({ format: 'folder', path: folder, inputSize: 8, testResize: 10, testCrop: 8 });

describe('squeeze: teacher, statistics and test accuracy of a streamed set are those of a set in memory', () => {
  const cases: readonly [string, number, () => Record<string, unknown>][] = [
    ['digits, exact statistics of whole images', 9_000, () => ({ squeeze: { epochs: 2, batch: 40, statsBatch: 24 } })],
    [
      'digits, running average over augmented views',
      9_000,
      () => ({ squeeze: { epochs: 2, batch: 40, stats: 'ema', statsAugment: 'train', statsViews: 2, statsBatch: 16 } }),
    ],
    [
      'gzipped records',
      1_500,
      () => ({ dataset: { format: 'idx', path: gzipped, classes: [2, 0] }, squeeze: { batch: 8, statsBatch: 8 } }),
    ],
    [
      'a folder of images of different sizes, with CutMix',
      12_000,
      () => ({
        dataset: { ...FOLDER(), classes: null },
        squeeze: { epochs: 5, batch: 7, statsBatch: 5, stats: 'ema', statsAugment: 'train', mix: 'cutmix' },
      }),
    ],
    [
      'the same resized to a stored size',
      4_000,
      () => ({ dataset: { ...FOLDER(), classes: null, storedSize: 9 }, squeeze: { batch: 7, statsBatch: 5 } }),
    ],
  ];
  test.each(cases)('%s', async (what, memory, change) => {
    const config = tiny(change());
    const name = what.replace(/\W+/g, '-');
    const whole = await made('squeeze', config, `${name}-whole`, 2 ** 30);
    const parts = await made('squeeze', config, `${name}-parts`, memory);
    expect(whole.streamed).toBe(0);
    expect(parts.streamed).toBeGreaterThan(0);
    expect(parts.files).toEqual(whole.files);
    expect(parts.id).toBe(whole.id); // the accuracy of the teacher stands in the manifest
  });

  test('stopped in the middle of a streamed training it goes on to the same artifact', async () => {
    const config = tiny({ squeeze: { epochs: 3, batch: 40, statsBatch: 24 } });
    const runtime = { ...RUNTIME, memory: 9_000 };
    const whole = await made('squeeze', config, 'stopped-whole', 2 ** 30);
    const controller = new AbortController();
    const { sink } = watching((step) => {
      if (step.label === 'teacher' && step.done > step.total / 2) controller.abort();
    });
    const out = join(root, 'stopped');
    const options = { ...optionsOf(out, { progress: sink, signal: controller.signal, runtime }), inputs: {} };
    expect((await refusal(() => runStage('squeeze', config, options))).code).toBe('E_CANCELLED');
    const { sink: again, steps } = watching();
    const { id } = await runStage('squeeze', config, { ...optionsOf(out, { progress: again, runtime }), inputs: {} });
    expect(steps.some((step) => step.line === 'resuming')).toBe(true);
    expect(steps.find((step) => step.what === 'update' && step.label === 'teacher')!.done).toBeGreaterThan(0);
    expect(id).toBe(whole.id);
  });

  test('one batch over half the budget is refused with E_DEVICE that says what to do', async () => {
    const error = await refusal(() => made('squeeze', tiny({ squeeze: { batch: 200 } }), 'refused', 20_000));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'memory', memory: 20_000 } });
    expect(error.message).toMatch(/a batch of at most 9\.77 KiB.*\n.*--memory.*storedSize/);
  });
});

test('evaluate: accuracies and losses of a streamed test set are those of a set in memory', async () => {
  const chain: StageName[] = ['squeeze', 'synthesize', 'relabel', 'train'];
  const config = tiny({ evaluate: { batch: 20 }, train: { students: 2 } });
  await makeChain(join(root, 'chain'), config, chain);
  const inputs = inputsIn(join(root, 'chain'), 'evaluate', chain);
  const whole = await made('evaluate', config, 'evaluate-whole', 2 ** 30, inputs);
  const parts = await made('evaluate', config, 'evaluate-parts', 6_000, inputs);
  expect([whole.streamed, parts.streamed]).toEqual([0, 1]);
  expect(parts.files).toEqual(whole.files);
});

test('random: only the images drawn are ever decoded, and a budget below the set changes nothing', async () => {
  const dir = join(root, 'control');
  await writeFolder(dir);
  const config = (path: string) =>
    tiny({
      dataset: { ...FOLDER(), path, classes: null },
      synthesize: { method: 'random', ipc: 2, encoding: 'png' },
    });
  const whole = await made('synthesize', config(folder), 'random-whole', 2 ** 30);
  const images = Object.keys(whole.files).filter((path) => path.startsWith('images/'));
  expect(images).toHaveLength(6);
  // Break files until only those drawn are left: each one that is needed is put back when the stage misses it.
  const broken = new Uint8Array(10).fill(1);
  const needed = new Set<string>();
  for (const label of [0, 1, 2])
    for (const name of await readdir(join(dir, `train/c${label}`)))
      if (name !== '0.png') await writeFile(join(dir, `train/c${label}`, name), broken); // the first is looked at for grey
  let parts: Awaited<ReturnType<typeof made>> | null = null;
  while (parts === null)
    try {
      parts = await made('synthesize', config(dir), `random-parts-${needed.size}`, 6 * 8 * 8 * 3);
    } catch (thrown) {
      const { path } = (thrown as { details: { path: string } }).details;
      expect(needed.has(path)).toBe(false);
      needed.add(path);
      const [label, i] = path.match(/\d+/g)!.slice(-2).map(Number) as [number, number];
      const [image] = drawn([label], 9 + ((5 * i + label) % 7), 8 + ((3 * i) % 11), 3, 100 * label + i);
      await writeFile(path, await pngOf(image!, 3));
    }
  expect(needed.size).toBeLessThanOrEqual(6);
  expect(needed.size).toBeGreaterThan(2);
  for (const path of images) expect(parts.files[path]).toBe(whole.files[path]);
});

describe('a feed', () => {
  /** A binding that keeps account of the stores made through it. */
  function counting(): { native: NativeBinding; live: () => number; stores: () => number; most: () => number[] } {
    const open = new Set<NativeImageStore>();
    const most = [0, 0];
    const look = (): void => {
      most[0] = Math.max(most[0]!, open.size);
      most[1] = Math.max(
        most[1]!,
        [...open].reduce((sum, store) => sum + store.bytes, 0),
      );
    };
    let stores = 0;
    const createImageStore = (spec: ImageStoreSpec): NativeImageStore => {
      const store = native().createImageStore(spec);
      open.add(store);
      stores++;
      return {
        get bytes() {
          return store.bytes;
        },
        get count() {
          return store.count;
        },
        sizes: () => store.sizes(),
        image: (index: number) => store.image(index),
        append: (...args: Parameters<NativeImageStore['append']>) => {
          store.append(...args);
          look();
        },
        dispose: () => {
          open.delete(store);
          store.dispose();
        },
        [Symbol.dispose]: () => {
          open.delete(store);
          store.dispose();
        },
      } as NativeImageStore;
    };
    return {
      native: { ...native(), createImageStore },
      live: () => open.size,
      stores: () => stores,
      most: () => most,
    };
  }
  const runtimeOf = (memory: number): Runtime => resolveRuntime(optionsOf(root, { runtime: { ...RUNTIME, memory } }));
  const transform = { resize: 'none', size: 0, centerCrop: 0 } as const;
  const progress = { start() {}, update() {}, log() {}, finish() {} };

  test('hands out the pixels, labels and sizes of the images asked for, in two stores within the budget', async () => {
    const { train, channels } = await openDataset('folder', folder, ALL);
    const whole = await loadStore({ native: native(), runtime: runtimeOf(2 ** 30) }, train, channels);
    const memory = 12_000; // a batch of 6 takes up to 6 * 15 * 18 * 3 = 4,860 bytes
    const steps = 40;
    const batch = (step: number): Int32Array =>
      Int32Array.from({ length: 6 }, (_, i) => (step * 11 + i * 17 + ((step * i) % 5)) % train.count);
    const account = counting();
    const images = await openImages(
      { native: account.native, runtime: runtimeOf(memory), progress },
      train,
      3,
      transform,
    );
    const feed = images.feed((first, last) => Array.from({ length: last - first }, (_, i) => batch(first + i)), steps);
    const seen: number[] = [];
    for (let step = 0; step < steps; ) {
      const part: SegmentImages = await feed.segment(step, Math.min(steps, step + 7));
      expect(part.last).toBeGreaterThan(step);
      await new Promise((done) => setTimeout(done, 20)); // a job; the next images are read meanwhile
      for (; step < part.last; step++) {
        const wanted = batch(step);
        const index = part.local({ index: i32([6], [...wanted]) } as never).index;
        const here = new Int32Array(index.data.buffer, index.data.byteOffset, 6);
        for (const [i, global] of wanted.entries()) {
          const image = part.store.image(here[i]!);
          expect(image).toEqual(whole.image(global));
          const sizes = part.sizes as (index: number) => readonly [number, number];
          expect(sizes(global)).toEqual(image.shape.slice(0, 2));
        }
        seen.push(step);
      }
    }
    expect(seen).toEqual(Array.from({ length: steps }, (_, i) => i));
    await feed[Symbol.asyncDispose]();
    images[Symbol.dispose]();
    expect(account.live()).toBe(0);
    expect(account.stores()).toBeGreaterThan(5);
    expect(account.most()[0]).toBe(2);
    // The first store is the attempt to hold all; afterwards a batch larger than any before may pass its half.
    expect(account.most()[1]).toBeLessThanOrEqual(memory + 4_860);
    whole.dispose();
  });

  test('a broken image of a later segment fails when its turn comes, and leaves no store open', async () => {
    const good = (await openDataset('folder', folder, ALL)).train;
    const split: Split = {
      ...good,
      async *read(signal, indices): AsyncGenerator<ImageChunk> {
        if (indices?.includes(30)) throw new Error('image 30');
        yield* good.read(signal, indices);
      },
    };
    const account = counting();
    const images = await openImages(
      { native: account.native, runtime: runtimeOf(12_000), progress },
      split,
      3,
      transform,
    );
    const feed = images.feed(
      (first, last) => Array.from({ length: last - first }, (_, i) => Int32Array.of((first + i) * 2)),
      20,
    );
    let step = 0;
    await expect(
      (async () => {
        while (step < 20) step = (await feed.segment(step, 20)).last;
      })(),
    ).rejects.toThrow('image 30');
    expect(step).toBeGreaterThan(0);
    expect(step).toBeLessThanOrEqual(15);
    await feed[Symbol.asyncDispose]();
    expect(account.live()).toBe(0);
  });
});
