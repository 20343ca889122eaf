// What a run refuses before it begins, though the stage it concerns comes late: nothing is made, and the refusal names the
// key. Single stages may have these settings, or refuse them when they are run.

import { existsSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Config } from '../src/config.ts';
import { encodeImage } from '../src/datasets/images.ts';
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
    const path = join(scratch(), 'set');
    for (const [level, name] of ['a', 'b'].entries()) {
      await mkdir(join(path, 'train', name), { recursive: true });
      for (let i = 0; i < 8; i++)
        await writeFile(
          join(path, 'train', name, `${i}.png`),
          await encodeImage(new Uint8Array(64).fill(90 * level + i), 8, 8, 1, 'png'),
        );
    }
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
