// Options that a config would not read: refused where they were given for it, carried where a file or preset names every
// key; and a path beside the embedded digits, which reads like a dataset that was never opened.

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { COMMANDS } from '../src/cli/commands.ts';
import { loadServices } from '../src/cli/load.ts';
import { main } from '../src/cli/main.ts';
import { loadConfig, parseConfig, presetNames } from '../src/config.ts';
import { openDataset } from '../src/datasets/index.ts';
import { RULED_KEYS } from '../src/unread.ts';
import { refusal, scratch } from './util/hostile.ts';

/** A command on the services as they are. */
async function real(command: string): Promise<{ code: number; err: string }> {
  let err = '';
  const stderr = { write: (text: string) => (err += text), isTTY: false } as never;
  const code = await main(command.split(' '), COMMANDS, loadServices, {
    stdout: { write: () => true },
    stderr,
    env: {},
  });
  return { code, err };
}

/** The key and a value; what makes it unread; what makes it read; a word of the refusal. */
const CASES: readonly (readonly [string, unknown, object, object, string])[] = [
  ['squeeze.epochs', 5, { 'squeeze.weights': 'a.pth' }, {}, 'imported'],
  ['squeeze.lr', 0.1, { 'squeeze.weights': 'a.pth' }, {}, 'imported'],
  ['squeeze.mix', 'cutmix', { 'squeeze.weights': 'a.pth' }, {}, 'imported'],
  ['squeeze.flip', true, { 'squeeze.weights': 'a.pth', 'squeeze.statsAugment': 'none' }, {}, 'plain'],
  [
    'squeeze.flip',
    true,
    { 'squeeze.weights': 'a.pth', 'squeeze.stats': 'none' },
    { 'squeeze.weights': 'a.pth' },
    'plain',
  ],
  ['squeeze.statsViews', 2, { 'squeeze.stats': 'none' }, {}, 'stats is none'],
  ['squeeze.statsMomentum', 0.2, { 'squeeze.stats': 'exact' }, { 'squeeze.stats': 'ema' }, 'stats is exact'],
  ['squeeze.stem', 'imagenet', {}, { 'squeeze.arch': 'resnet18' }, 'arch is convnet'],
  ['squeeze.widths', [8, 8], { 'squeeze.arch': 'resnet18' }, {}, 'arch is resnet18'],
  [
    'squeeze.pooling',
    'max',
    { 'squeeze.arch': 'resnet18' },
    { 'squeeze.arch': 'resnet18', 'train.arch': 'convnet' },
    'resnet18',
  ],
  ['train.widths', [8, 8], { 'train.arch': 'resnet18' }, {}, 'students are of resnet18'],
  ['train.momentum', 0.5, {}, { 'train.optimizer': 'sgd' }, 'optimizer is adamw'],
  ['squeeze.beta1', 0.5, { 'squeeze.optimizer': 'sgd' }, {}, 'optimizer is sgd'],
  ['train.warmupStart', 0.5, {}, { 'train.warmupEpochs': 2 }, 'warmupEpochs is 0'],
  ['synthesize.iterations', 9, { 'synthesize.method': 'random' }, {}, 'real images'],
  ['synthesize.milestone', 0.5, {}, { 'synthesize.method': 'cda' }, 'keeps the crop scale'],
  ['relabel.combine', 'norm-mean', {}, { 'relabel.ensemble': ['d/b'] }, 'ensemble is empty'],
  ['relabel.keep', 'random-epochs', {}, { 'relabel.pruneRatio': 0.5 }, 'relabel.pruneRatio is 0'],
  ['prune.keep', 'random-batches', { 'prune.pruneRatio': 0 }, {}, 'prune.pruneRatio is 0'],
  ['prune.metric', 'diff', {}, { 'prune.keep': 'metric' }, 'keep is prefix'],
  [
    'prune.end',
    'hard',
    { 'prune.keep': 'metric', 'prune.pruneRatio': 0 },
    { 'prune.keep': 'metric' },
    'pruneRatio is 0',
  ],
  ['prune.fitRecords', 9, {}, { 'prune.codec': 'klt:4' }, 'codec is none'],
  ['train.temperature', 4, { 'train.targets': 'hard' }, {}, 'targets is hard'],
  ['train.lastBatchRule', false, { 'train.draw': 'ordered' }, { 'train.draw': 'auto' }, 'draw is ordered'],
];

describe('an override', () => {
  test.each(CASES)('%s is refused where it is not read', async (key, value, unread, read, why) => {
    loadConfig('quickstart', { ...read, [key]: value });
    const error = await refusal(() => loadConfig('quickstart', { [key]: value, ...unread }));
    expect([error.code, error.details]).toEqual(['E_CONFIG', { key }]);
    expect(error.message).toMatch(
      new RegExp(`^expected no value for ${key} but received .*\\nit would not be read: .*${why}`),
    );
  });

  test('every rule names keys that exist, and has a case', () => {
    const config = loadConfig('quickstart') as unknown as Record<string, Record<string, unknown>>;
    for (const key of RULED_KEYS) {
      const [section, name] = key.split('.') as [string, string];
      expect(config[section], key).toHaveProperty(name);
    }
  });

  test('a flag is told so, and --precision of all stages binds none', async () => {
    const { code, err } = await real(
      'train --config quickstart --images i --labels l --out o --students 2 --draw ordered --no-last-batch-rule',
    );
    expect([code, err]).toEqual([
      2,
      expect.stringContaining('expected no value for train.lastBatchRule but received false'),
    ]);
    loadConfig('quickstart', { 'synthesize.method': 'random', 'synthesize.precision': 'bf16' });
  });
});

test('files, presets and objects may carry what they do not read', () => {
  for (const name of presetNames()) {
    const path = join(scratch(), 'all.json');
    writeFileSync(path, JSON.stringify(loadConfig(name)));
    expect({ ...loadConfig(path) }).toEqual(loadConfig(name));
  }
  expect(parseConfig({ train: { targets: 'hard', temperature: 4 } }).train.temperature).toBe(4);
});

describe('a path beside the embedded digits', () => {
  test('is refused in a file, an object, an override and `data inspect`, not silently trained without', async () => {
    const dir = scratch();
    mkdirSync(join(dir, 'mine'));
    writeFileSync(join(dir, 'c.yaml'), 'dataset: {path: mine}\n'); // whoever forgets the format gets it
    const advice =
      /^expected none, as the digits are embedded, for dataset\.path but received .*mine"\ngive dataset\.format too, one of idx, cifar10, cifar100, folder, tiny-imagenet; or/;
    for (const work of [
      () => loadConfig(join(dir, 'c.yaml')),
      () => parseConfig({ dataset: { path: 'mine' } }),
      () => loadConfig('quickstart', { 'dataset.path': 'mine' }),
    ]) {
      const error = await refusal(work);
      expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringMatching(advice)]);
    }
    loadConfig(join(dir, 'c.yaml'), { 'dataset.format': 'folder' });
    const all = { classes: null, verify: false, skipUnreadable: false };
    expect((await refusal(() => openDataset('digits', 'mine', all))).code).toBe('E_CONFIG');
  });
});
