// What a run refuses before it begins, though the stage it concerns comes late: nothing is made, and the refusal names the
// key. Single stages may have these settings, or refuse them when they are run.

import { existsSync } from 'node:fs';
import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Config } from '../src/config.ts';
import { encodeImage } from '../src/datasets/images.ts';
import { LpldError } from '../src/errors.ts';
import { planPipeline, runPipeline } from '../src/run.ts';
import { refusal, scratch } from './util/hostile.ts';
import { optionsOf, tiny, watching } from './util/tiny.ts';

/** Refuses before any stage begins. */
async function refused(config: Config, code: string, dry = true): Promise<string> {
  const out = join(scratch(), 'run');
  const { sink, steps } = watching();
  const error = await refusal(() => runPipeline(config, optionsOf(out, { progress: sink })));
  expect([error.code, steps], error.message).toEqual([code, []]);
  for (const name of ['squeeze', 'squeeze.partial', 'config.json']) expect(existsSync(join(out, name))).toBe(false);
  if (dry) expect((await refusal(() => planPipeline(config, optionsOf(out)))).message).toBe(error.message);
  return error.message;
}

/** Two classes of eight images of 8 px in each split. */
async function folderOf(splits: readonly string[]): Promise<string> {
  const path = join(scratch(), 'set');
  for (const split of splits)
    for (const [level, name] of ['a', 'b'].entries()) {
      await mkdir(join(path, split, name), { recursive: true });
      for (let i = 0; i < 8; i++) {
        const image = await encodeImage(new Uint8Array(64).fill(90 * level + i), 8, 8, 1, 'png');
        await writeFile(join(path, split, name, `${i}.png`), image);
      }
    }
  return path;
}

describe('refused at once', () => {
  test.each<[string, Parameters<typeof tiny>[0], RegExp]>([
    [
      'labels pruned twice',
      { relabel: { pruneRatio: 0.5 } },
      /0, as relabel\.pruneRatio is 0\.5, for prune\.pruneRatio/,
    ],
    ['a shard', { synthesize: { shard: '1/2' } }, /for synthesize\.shard .*\n.*merge/],
    [
      'class statistics that nobody collects',
      { squeeze: { stats: 'none' } },
      /exact or ema for squeeze\.stats .*\n.*lpld/,
    ],
    ['a pool without a record', { prune: { pruneRatio: 0.999 } }, /leaves one record for pruneRatio/],
    ['labels without a record', { relabel: { pruneRatio: 0.999 }, prune: { pruneRatio: 0 } }, /leaves one record/],
    [
      'test images cut larger than they are',
      { dataset: { testResize: 12, testCrop: 14 } },
      /at most dataset\.testResize \(12\)/,
    ],
    [
      'a control of more images than a class has',
      { controls: ['random'], synthesize: { ipc: 390 } },
      /at most 376, the images of class 0 \(0\), for synthesize\.ipc but received 390/,
    ],
  ])('%s', async (_what, change, words) => {
    expect(await refused(tiny(change), 'E_CONFIG')).toMatch(words);
  });

  test.each<[string, Parameters<typeof tiny>[0], RegExp]>([
    ['an unknown codec', { relabel: { codec: 'dense:f61' } }, /codec/],
    ['a codec prune cannot write', { prune: { codec: 'features' } }, /codec of logits alone for prune\.codec/],
    ['an unknown student', { train: { arch: 'resnet19' } }, /for train\.arch .*\ndid you mean resnet1?\d+\?/],
    [
      'students of more blocks than the images hold',
      { train: { widths: [4, 4, 4, 4] } },
      /16 px for a convnet of depth 4 but received 8/,
    ],
    ['an unknown teacher', { squeeze: { arch: 'convnets' } }, /for squeeze\.arch .*\ndid you mean convnet\?/],
  ])('%s, which native code knows', async (_what, change, words) => {
    expect(await refused(tiny(change), 'E_CONFIG', false)).toMatch(words);
  });

  test('a further teacher that is not there', async () => {
    expect(await refused(tiny({ relabel: { ensemble: [join(scratch(), 'none')] } }), 'E_DATA')).toContain(
      'no such folder',
    );
  });

  test('a dataset without test images', async () => {
    const path = await folderOf(['train']);
    const config = tiny({ dataset: { format: 'folder', path, classes: null, inputSize: 8 } });
    expect(await refused(config, 'E_DATA')).toContain('evaluation needs real test images');
  });
});

test('a stage that matches no class statistics needs none, and a store made pruned is re-encoded', async () => {
  for (const change of [
    { squeeze: { stats: 'none' }, synthesize: { targets: 'global' } },
    { squeeze: { stats: 'none' }, synthesize: { method: 'sre2l' } },
    { relabel: { pruneRatio: 0.5 }, prune: { pruneRatio: 0, codec: 'dense:int8' } },
  ])
    expect((await planPipeline(tiny(change), optionsOf(join(scratch(), 'run')))).stages.length).toBeGreaterThan(4);
});

test('an unreadable image ends a run that binds nobody: the advice of its refusal is taken in the same folder', async () => {
  const path = await folderOf(['train', 'val']);
  const out = join(scratch(), 'run');
  const broken = join(path, 'train', 'a', '3.png');
  await truncate(broken, 60);
  const of = (skipUnreadable: boolean) =>
    tiny({ dataset: { format: 'folder', path, classes: null, inputSize: 8, skipUnreadable }, squeeze: { batch: 4 } });
  const error = await refusal(() => runPipeline(of(false), optionsOf(out)));
  expect([error.code, error.message]).toEqual(['E_DATA', expect.stringContaining('--set dataset.skipUnreadable=true')]);
  expect(error.message).toContain(broken);
  expect((await runPipeline(of(true), optionsOf(out))).stages.length).toBeGreaterThan(4);
});

test('who stops a run while its images are read is told so', async () => {
  const controller = new AbortController();
  const reason = new LpldError('E_CANCELLED', 'stopped by Ctrl-C');
  const { sink } = watching(({ line }) => {
    if (line.startsWith('digits: ')) controller.abort(reason);
  });
  const error = await refusal(() =>
    runPipeline(tiny(), optionsOf(join(scratch(), 'run'), { progress: sink, signal: controller.signal })),
  );
  expect(error).toBe(reason);
});
