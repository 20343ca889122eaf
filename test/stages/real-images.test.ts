// The control "random": what the synthesize stage takes of a dataset with that method, against the embedded digits themselves.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Artifact } from '../../src/artifact.ts';
import { digits } from '../../src/datasets/digits.ts';
import { decodeImage } from '../../src/datasets/images.ts';
import { openSyntheticSet } from '../../src/datasets/synthetic-set.ts';
import { runStage } from '../../src/run.ts';
import { tellAside } from '../../src/stages/images.ts';
import { ALL, imagesOf } from '../util/dataset-suite.ts';
import { refusal, scratch } from '../util/hostile.ts';
import { hashesOf, optionsOf, tiny, watching } from '../util/tiny.ts';

const take = (options: object, seed = 0): Promise<Artifact> => {
  const config = tiny({ seed, synthesize: { method: 'random', ipc: 3, encoding: 'png', ...options } });
  return runStage('synthesize', config, { ...optionsOf(join(scratch(), 'images')), inputs: {} });
};

test('takes ipc images of every class, no image twice, each as it is in the training set under that class', async () => {
  const { dir, manifest } = await take({ ipc: 20 });
  const set = await openSyntheticSet(dir);
  expect([...set.train.labels]).toEqual([0, 1, 2].flatMap((classId) => new Array(20).fill(classId)));
  expect(manifest.summary).toEqual({ method: 'random', images: 60, ipc: 20, size: 8 });
  const real = new Map((await imagesOf((await digits.open('', ALL)).train, 1)).map((x) => [`${x.pixels}`, x.label]));
  const seen = new Set<string>();
  for (const { path } of manifest.files.filter((file) => file.path.startsWith('images/'))) {
    const { pixels } = await decodeImage(readFileSync(join(dir, path)), path, 1);
    expect(real.get(`${pixels}`), path).toBe(Number(path.split('/')[1]));
    seen.add(`${pixels}`);
  }
  expect(seen.size).toBe(60);
});

test('room for the unpacked dataset is told of where there is some to speak of, not for the embedded digits', async () => {
  const { train } = await digits.open('', ALL);
  expect(train.aside!.bytes).toBeGreaterThan(0);
  const linesFor = (bytes: number): string[] => {
    const { sink, steps } = watching();
    const aside = { bytes, folder: '~/cache', [Symbol.dispose]: () => {} };
    tellAside({ ...train, aside }, sink.stage('s'));
    return steps.map(({ line }) => line);
  };
  expect(linesFor(45 * 2 ** 20)).toEqual([expect.stringMatching(/gzipped.* 45\.0 MiB .*~\/cache$/)]);
  expect(linesFor(train.aside!.bytes)).toEqual([]);
  const { sink, steps } = watching();
  const config = tiny({ synthesize: { method: 'random', ipc: 3 } });
  await runStage('synthesize', config, { ...optionsOf(join(scratch(), 'images'), { progress: sink }), inputs: {} });
  expect(steps.filter(({ what }) => what === 'start').length).toBe(1);
  expect(steps.filter(({ what }) => what === 'log')).toEqual([]);
});

describe('a selection of classes', () => {
  test.each([
    [
      [2, 0],
      [0, 2],
    ],
    [
      [2, 0, 2],
      [0, 2],
    ],
    [[1, 1, 1, 1], [1]],
  ])('%j: each class once, in order, with the images a whole set has of it', async (classes, once) => {
    const [given, plain, whole] = [await take({ classes }), await take({ classes: once }), await take({})];
    expect(hashesOf(given)).toEqual(hashesOf(plain));
    expect(given.manifest.summary).toMatchObject({ images: 3 * once.length });
    const set = await openSyntheticSet(given.dir);
    expect(set.description.classes).toEqual(once);
    expect(set.train.count).toBe(3 * once.length);
    const { 'set.json': _, ...images } = hashesOf(given);
    expect(Object.keys(images)).toHaveLength(3 * once.length);
    expect(hashesOf(whole)).toMatchObject(images);
  });

  test.each([
    ['a class that is not there', { classes: [0, 3] }, /class ids below 3 for synthesize\.classes but received 3/],
    ['more images than a class has', { ipc: 5000 }, /at most 376, the images of class 0 \(0\), for synthesize\.ipc/],
    ['a shard', { shard: '1/2' }, 'synthesize.shard'],
  ])('%s is E_CONFIG', async (_what, options, message) => {
    const error = await refusal(() => take(options));
    expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringMatching(message)]);
  });
});

test('another seed draws other images', async () => {
  expect(Object.values(hashesOf(await take({}, 1)))).not.toEqual(Object.values(hashesOf(await take({}))));
});
