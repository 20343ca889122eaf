// A value that a config does not allow is refused with what is allowed, in the words of the flag of the same key.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { flagsOf } from '../src/cli/options.ts';
import { loadConfig, parseConfig } from '../src/config.ts';
import { type Leaf, leafAt, range } from '../src/option-text.ts';
import { pruneOptions } from '../src/stages/prune.ts';
import { refusal } from './util/hostile.ts';

const leafOf = (field: z.ZodType): Leaf => z.toJSONSchema(field, { io: 'input' }) as Leaf;

describe('a refused value', () => {
  const cropScale = 'list of 2, each number > 0 and <= 1, or none for synthesize.cropScale';

  test.each<[string, unknown, string]>([
    ['too big', { prune: { pruneRatio: 1.2 } }, 'number >= 0 and < 1 for prune.pruneRatio but received 1.2'],
    ['too small', { squeeze: { epochs: 0 } }, 'integer >= 1 for squeeze.epochs but received 0'],
    ['at an open end', { synthesize: { lr: 0 } }, 'number > 0 for synthesize.lr but received 0'],
    ['not whole', { squeeze: { epochs: 1.5 } }, 'integer >= 1 for squeeze.epochs but received 1.5'],
    ['not finite', { squeeze: { lr: Number.NaN } }, 'number > 0 for squeeze.lr but received NaN'],
    ['text for a number', { squeeze: { epochs: '7' } }, 'integer >= 1 for squeeze.epochs but received "7"'],
    ['text for a switch', { synthesize: { flip: 'yes' } }, 'boolean for synthesize.flip but received "yes"'],
    ['a number for a text', { train: { arch: 5 } }, 'string or none for train.arch but received 5'],
    ['null where it is no choice', { squeeze: { epochs: null } }, 'integer >= 1 for squeeze.epochs but received null'],
    ['no choice', { squeeze: { stats: 'some' } }, 'exact | ema | none for squeeze.stats but received "some"'],
    ['no choice, in a list', { controls: ['random', 'x'] }, 'random | random-soft for controls[1] but received "x"'],
    ['one number of a list', { squeeze: { widths: [8, -1] } }, 'integer >= 1 for squeeze.widths[1] but received -1'],
    ['an empty list', { squeeze: { widths: [] } }, 'non-empty list of integer >= 1 for squeeze.widths but received []'],
    ['a short tuple', { synthesize: { cropScale: [0.5] } }, `${cropScale} but received [ 0.5 ]`],
    ['a long tuple', { synthesize: { cropScale: [0.5, 1, 1] } }, `${cropScale} but received [ 0.5, 1, 1 ]`],
    ['text for a tuple', { synthesize: { cropScale: '1' } }, `${cropScale} but received "1"`],
    [
      'a number of a tuple',
      { synthesize: { cropScale: [0.5, 2] } },
      'number > 0 and <= 1 for synthesize.cropScale[1] but received 2',
    ],
    [
      'a crop that shrinks',
      { relabel: { cropScale: [1, 0.5] } },
      'min <= max for relabel.cropScale but received [ 1, 0.5 ]',
    ],
    ['no roll', { synthesize: { rollMin: 9 } }, 'at least rollMin (9) for synthesize.rollMax but received 4'],
    ['no shard', { synthesize: { shard: 'x' } }, 'I/N such as 2/8 or none for synthesize.shard but received "x"'],
    ['a mapping for a number', { squeeze: { epochs: { a: [1] } } }, 'but received { a: [ 1 ] }'],
    ['a text of other characters', { name: 'a b' }, 'string matching ^[\\w.-]+$ for name but received "a b"'],
    ['a number for a section', { squeeze: 5 }, 'object for squeeze but received 5'],
    ['a text for everything', 'squeeze', 'object for config but received "squeeze"'],
  ])('%s', async (_what, values, message) => {
    const error = await refusal(() => parseConfig(values));
    expect(error.code).toBe('E_CONFIG');
    expect(error.message).toMatch(/^expected [^\n]+$/);
    expect(error.message.slice('expected '.length)).toSatisfy((text: string) => text.endsWith(message));
  });

  test.each([
    ['', 'nothing'],
    ['- a\n', '["a"]'],
    ['7', '7'],
  ])('a file that holds %j', async (text, received) => {
    const path = join(mkdtempSync(join(tmpdir(), 'lpld-config-')), 'c.yaml');
    writeFileSync(path, text);
    const error = await refusal(() => loadConfig(path));
    expect([error.code, error.message]).toEqual([
      'E_CONFIG',
      expect.stringMatching(/^expected a mapping of sections for .*\n.*presets show/),
    ]);
    expect(error.message).toContain(`but received ${received}\n`);
    rmSync(dirname(path), { recursive: true });
  });

  test('carries its key', async () => {
    const { details } = await refusal(() => parseConfig({ prune: { pruneRatio: 1.2 } }));
    expect(details).toEqual({ key: 'prune.pruneRatio' });
  });

  test('reads as that of its flag', async () => {
    const key = 'prune.pruneRatio';
    const [option] = flagsOf('prune', pruneOptions).find(({ path }) => path === key)!.options;
    const flag = await refusal(() => option!.parseArg!('1.2', undefined));
    const set = await refusal(() => loadConfig('quickstart', { [key]: 1.2 }));
    expect(set.message).toBe(flag.message.replace('--prune-ratio', key).replace('"1.2"', '1.2'));
  });

  test('is printed on one line, however much of it there is and whatever is in it', async () => {
    const loop: unknown[] = Array(200).fill('a\nb');
    loop.push(loop, 5n);
    const { message } = await refusal(() => parseConfig({ squeeze: { epochs: loop } }));
    expect(message).toMatch(/^expected integer >= 1 for squeeze.epochs but received \[ 'a\\nb', .{1,200}\.\.\.$/);
  });
});

test('paths of a file are relative to it, those of an override and of a preset to where the program was started', () => {
  const folder = mkdtempSync(join(tmpdir(), 'lpld-config-'));
  const path = join(folder, 'c.json');
  const dataset = { format: 'folder', path: 'sets/a' };
  const relabel = { ensemble: ['d/b', '/c'] };
  writeFileSync(path, JSON.stringify({ dataset, squeeze: { weights: 'w.pth' }, relabel }));
  const config = loadConfig(path);
  expect([config.dataset.path, config.squeeze.weights]).toEqual([join(folder, 'sets/a'), join(folder, 'w.pth')]);
  expect(config.relabel.ensemble).toEqual([join(folder, 'd/b'), '/c']);
  expect(loadConfig(path, { 'dataset.path': 'x' }).dataset.path).toBe('x');
  expect(loadConfig('fashion-mnist', { 'dataset.path': 'x' }).dataset.path).toBe('x');
  rmSync(folder, { recursive: true });
});

describe('range', () => {
  test.each([
    ['integer 1 to 3', z.int().min(1).max(3)],
    ['integer', z.int()],
    ['number > 0 and <= 1', z.number().gt(0).max(1)],
    ['number >= 0 and < 1', z.number().min(0).lt(1)],
    ['number -1 to 1', z.number().min(-1).max(1)],
    ['string', z.string()],
    ['string or none', z.string().nullable()],
    ['string matching ^a+$ or none', z.string().regex(/^a+$/).nullable()],
    ['integer >= 1 or none', z.int().min(1).nullable()],
    ['a | b or none', z.enum(['a', 'b']).nullable()],
    ['auto or integer >= 1', z.union([z.literal('auto'), z.int().min(1)])],
    ['list of a | b', z.array(z.enum(['a', 'b']))],
    ['non-empty list of number', z.array(z.number()).min(1)],
    ['number, integer >= 0', z.tuple([z.number(), z.int().min(0)])],
  ])('%s', (words, field) => expect(range(leafOf(field))).toBe(words));
});

describe('leafAt', () => {
  const schema = leafOf(
    z.object({ a: z.object({ b: z.array(z.int()).nullable(), c: z.tuple([z.string(), z.int()]).nullable() }) }),
  );

  test.each([
    [[], 'object'],
    [['a', 'b'], 'list of integer or none'],
    [['a', 'b', 7], 'integer'],
    [['a', 'c', 0], 'string'],
    [['a', 'c', 1], 'integer'],
  ] as const)('%j is %s', (path, words) => expect(range(leafAt(schema, path)!)).toBe(words));

  test.each([[['z']], [['a', 'b', 'length']], [['a', 'c', 2]], [['a', 'b', 0, 'x']]])('%j is nowhere', (path) =>
    expect(leafAt(schema, path)).toBeUndefined(),
  );
});
