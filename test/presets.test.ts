// Every preset against the tables of settings it was taken from, planned on a small set in its format; and the ones that
// need more than a plain pipeline run to the end, reduced.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { type Config, loadConfig, presetNames } from '../src/config.ts';
import { planPipeline, runPipeline } from '../src/run.ts';
import { cifarBytes, drawn, idxPair, pngOf, put } from './datasets/writers.ts';
import { optionsOf } from './util/tiny.ts';

let root = '';
const folders: Record<string, string> = { digits: '' };
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-presets-'));
  for (const format of ['idx', 'cifar100', 'folder', 'tiny-imagenet']) folders[format] = join(root, format);
  const labels = Array.from({ length: 24 }, (_, i) => i % 3);
  const [images, classes] = idxPair(drawn(labels, 28, 28, 1, 0));
  for (const part of ['train', 't10k'])
    await put(folders.idx!, {
      [`${part}-images-idx3-ubyte.gz`]: gzipSync(images),
      [`${part}-labels-idx1-ubyte.gz`]: gzipSync(classes),
    });
  const cifar = Array.from({ length: 100 }, (_, i) => i);
  const records = cifarBytes(drawn([...cifar, ...labels], 32, 32, 3, 1), 2);
  const names = cifar.map((i) => `class ${i}`).join('\n');
  await put(folders.cifar100!, { 'train.bin': records, 'test.bin': records, 'fine_label_names.txt': names });
  for (const [label, name] of ['n01', 'n02', 'n03'].entries())
    for (const [split, count] of [
      ['train', 8],
      ['val', 2],
    ] as const)
      for (const [i, image] of drawn(new Array(count).fill(label), 64, 64, 3, 10 * label).entries())
        for (const format of ['folder', 'tiny-imagenet'])
          await put(folders[format]!, { [`${split}/${name}/${i}.png`]: await pngOf(image, 3) });
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A preset on the small set of its format. */
function small(name: string, change: Readonly<Record<string, unknown>> = {}): Config {
  const { format } = loadConfig(name).dataset;
  const classes = format === 'cifar100' || format === 'digits' ? [0, 1, 2] : null;
  return loadConfig(name, { 'dataset.path': folders[format], 'dataset.classes': classes, ...change });
}

const LESS = { 'synthesize.ipc': 2, 'relabel.batch': 4, 'relabel.epochs': 40, 'train.epochs': 1 };

test.each(presetNames())('%s: a dry run on three classes plans every stage, to be run', async (name) => {
  const config = small(name, LESS);
  const { stages } = await planPipeline(config, optionsOf(join(root, `dry-${name}`)));
  const folders = stages.map((stage) => stage.folder);
  expect(folders).toEqual(expect.arrayContaining(['squeeze', 'synthesize', 'relabel', 'train', 'evaluate']));
  expect(folders.includes('prune')).toBe(config.prune.pruneRatio > 0);
  expect(folders.some((folder) => folder.startsWith('random'))).toBe(config.controls.length > 0);
  for (const { action, bytes, seconds } of stages) {
    expect(action).toBe('run');
    expect(bytes > 0 && seconds > 0).toBe(true);
  }
});

describe('published settings (methods 6.3 and 7)', () => {
  /** Recover: lr, iterations, rBn, first layer, batch, roll, crop scale. */
  const RECOVER: Record<string, readonly unknown[]> = {
    'imagenet-1k-sre2l': ['sre2l', 0.25, 4000, 0.01, 10, 100, [0, 32], [0.08, 1], true],
    'tiny-imagenet-sre2l': ['sre2l', 0.1, 4000, 1, 10, 100, [-4, 4], [0.08, 1], true],
    'cifar-100-sre2l': ['sre2l', 0.25, 1000, 0.01, 10, 100, [0, 4], null, false],
    'imagenet-1k-cda': ['cda', 0.25, 4000, 0.01, 10, 100, [0, 32], [0.08, 1], true],
    'tiny-imagenet-cda': ['cda', 0.4, 4000, 0.05, 10, 100, [0, 4], [0.08, 1], true],
    'imagenet-21k-cda': ['cda', 0.05, 2000, 0.25, 10, 100, [0, 32], [0.08, 1], true],
    'imagenet-1k-lpld': ['lpld', 0.25, 4000, 0.01, 10, 200, [0, 32], [0.08, 1], true],
    'tiny-imagenet-lpld': ['lpld', 0.1, 4000, 0.05, 10, 100, [-4, 4], [0.08, 1], true],
    'imagenet-21k-lpld': ['lpld', 0.05, 2000, 0.25, 10, 20, [0, 32], [0.08, 1], true],
  };
  const published = presetNames().filter((name) => /-(sre2l|cda|lpld)$/.test(name));

  test('recover', () => {
    const found = published.map((name) => {
      const s = loadConfig(name).synthesize;
      expect([s.beta1, s.beta2, s.eps, s.tvL2, s.l2Scale, s.targets, s.encoding]).toEqual([
        0.5,
        0.9,
        1e-8,
        0,
        0,
        'auto',
        'jpeg',
      ]);
      if (s.method === 'cda') expect([s.curriculum, s.milestone]).toEqual(['cosine', 1]);
      const roll = [s.rollMin, s.rollMax];
      return [name, [s.method, s.lr, s.iterations, s.rBn, s.firstBnMultiplier, s.batch, roll, s.cropScale, s.flip]];
    });
    expect(Object.fromEntries(found)).toEqual(RECOVER);
  });

  /** Labels: batch, epochs, mix, cutout, flip, teacher mode, kept whole batches only where pruned. */
  const LABELS: Record<string, readonly unknown[]> = {
    'imagenet-1k-sre2l': [1024, 300, 'cutmix', 0, true, 'eval', 0],
    'imagenet-1k-cda': [128, 300, 'cutmix', 0, true, 'eval', 0],
    'imagenet-1k-lpld': [128, 300, 'cutmix', 0, true, 'eval', 0.975],
    'imagenet-21k-lpld': [32, 300, 'none', 0.5, false, 'eval', 0.975],
    'imagenet-21k-cda': [32, 300, 'none', 0.5, false, 'eval', 0],
    'tiny-imagenet-lpld': [64, 100, 'none', 0, true, 'eval', 0.975],
    'tiny-imagenet-sre2l': [256, 100, 'none', 0, true, 'eval', 0],
    'tiny-imagenet-cda': [256, 100, 'none', 0, true, 'eval', 0],
    'cifar-100-sre2l': [128, 400, 'mixup', 0, true, 'train', 0],
  };

  test('relabel', () => {
    const found = published.map((name) => {
      const r = loadConfig(name).relabel;
      return [name, [r.batch, r.epochs, r.mix, r.cutout, r.flip, r.teacherMode, r.pruneRatio]];
    });
    expect(Object.fromEntries(found)).toEqual(LABELS);
    for (const name of published.filter((name) => name.startsWith('imagenet-1k')))
      expect(loadConfig(name).relabel.dropLast).toBe(loadConfig(name).relabel.pruneRatio > 0);
  });

  /** Student: optimizer, lr, weight decay and what decays, epochs, warm-up, T, its square, the teacher's T. */
  const STUDENT: Record<string, readonly unknown[]> = {
    'imagenet-1k-sre2l': ['adamw', 0.001, 0.01, 'matrices', 300, 0, 20, false, null],
    'imagenet-1k-cda': ['adamw', 0.001, 0.01, 'matrices', 300, 0, 20, false, null],
    'imagenet-1k-lpld': ['adamw', 0.001, 0.01, 'matrices', 300, 0, 20, false, null],
    'imagenet-21k-lpld': ['adamw', 0.002, 0.01, 'matrices', 300, 0, 20, false, 25],
    'imagenet-21k-cda': ['adamw', 0.002, 0.01, 'matrices', 300, 0, 20, false, 25],
    'tiny-imagenet-lpld': ['sgd', 0.2, 0.0001, 'matrices', 100, 5, 20, true, null],
    'tiny-imagenet-sre2l': ['sgd', 0.2, 0.0001, 'all', 100, 5, 20, true, null],
    'tiny-imagenet-cda': ['sgd', 0.2, 0.0001, 'all', 100, 5, 20, true, null],
    'cifar-100-sre2l': ['adamw', 0.001, 0.01, 'all', 400, 0, 30, false, null],
  };

  test('student', () => {
    const found = published.map((name) => {
      const t = loadConfig(name).train;
      expect([t.beta1, t.beta2, t.momentum, t.schedule, t.schedulePer]).toEqual([0.9, 0.999, 0.9, 'cosine', 'epoch']);
      const teacher = t.teacherTemperature;
      const { temperature, temperatureSquared, weightDecay, decay, epochs, warmupEpochs } = t;
      return [
        name,
        [t.optimizer, t.lr, weightDecay, decay, epochs, warmupEpochs, temperature, temperatureSquared, teacher],
      ];
    });
    expect(Object.fromEntries(found)).toEqual(STUDENT);
  });

  test('pixels: sides, squashed images and no normalisation for ImageNet-21K-P, the ImageNet-1K test transform', () => {
    for (const name of published) {
      const { inputSize, storedSize, testResize, testCrop, mean, std } = loadConfig(name).dataset;
      const [set] = name.match(/^(imagenet-1k|imagenet-21k|tiny|cifar)/)!;
      expect([inputSize, storedSize, testResize, testCrop, mean, std]).toEqual(
        {
          'imagenet-1k': [224, 0, 256, 224, null, null],
          'imagenet-21k': [224, 224, 0, 0, [0, 0, 0], [1, 1, 1]],
          tiny: [64, 0, 0, 0, null, null],
          cifar: [32, 0, 0, 0, null, null],
        }[set!],
      );
    }
  });
});

describe('reduced and run to the end', () => {
  const REDUCED = {
    ...LESS,
    'squeeze.epochs': 1,
    'squeeze.batch': 8,
    'squeeze.statsBatch': 8,
    'synthesize.iterations': 2,
    'evaluate.batch': 4,
  };
  test.each([
    ['imagenet-1k-lpld', { 'dataset.inputSize': 32, 'dataset.testResize': 36, 'dataset.testCrop': 32 }],
    ['imagenet-21k-lpld', { 'dataset.inputSize': 32, 'dataset.storedSize': 32 }],
    ['imagenet-21k-cda', { 'dataset.inputSize': 32, 'dataset.storedSize': 32, 'relabel.epochs': 2 }],
    ['cifar-100-sre2l', { 'relabel.epochs': 2 }],
  ])(
    '%s',
    async (name, change) => {
      const out = join(root, name);
      const report = await runPipeline(small(name, { ...REDUCED, ...change }), optionsOf(out));
      expect(report.student.top1).toBeGreaterThanOrEqual(0);
      expect(report.images.count).toBe(6);
      const { manifest } = await openArtifact(join(out, 'relabel'));
      expect(manifest.summary).toMatchObject({ codec: 'dense:f16' });
    },
    240_000,
  );
});
