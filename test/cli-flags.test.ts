// Flags: those derived from options tables, the global ones, what reaches a stage, and what is refused.

import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { flagsOf, parseBytes } from '../src/cli/options.ts';
import { stageNamed } from '../src/pipeline.ts';
import { STAGES } from '../src/stages/index.ts';
import { cli } from './util/cli.ts';

describe('stage commands', () => {
  const overrides = async (...argv: string[]): Promise<unknown> => {
    const { calls, err } = await cli(['squeeze', '--config', 'tiny', '--out', 'x', ...argv]);
    expect(err).toBe('');
    return calls.find(([name]) => name === 'loadConfig')![2];
  };

  test('flags that are not given override nothing', async () => expect(await overrides()).toEqual({}));

  test.each([
    [['--epochs', '7'], { 'squeeze.epochs': 7 }],
    [['--lr=1e-3'], { 'squeeze.lr': 0.001 }],
    [['--stats-augment', 'train'], { 'squeeze.statsAugment': 'train' }],
    [['--warmup', 'none'], { 'squeeze.warmup': null }],
    [['--warmup', '2.5'], { 'squeeze.warmup': 2.5 }],
    [['--weights', 'none'], { 'squeeze.weights': null }],
    [['--weights', 'none.pth'], { 'squeeze.weights': 'none.pth' }],
    [['--widths', '8,16,32'], { 'squeeze.widths': [8, 16, 32] }],
    [['--scale', '0.5,1'], { 'squeeze.scale': [0.5, 1] }],
    [['--no-cutmix'], { 'squeeze.cutmix': false }],
    [['--cutmix'], { 'squeeze.cutmix': true }],
    [['--exact'], { 'squeeze.exact': true }],
    [['--crop-min-scale', '0.2'], { 'squeeze.crop.minScale': 0.2 }],
    [['--call', 'b'], { 'squeeze.teacherName': 'b' }],
    [['--seed', '3', '--precision', 'bf16'], { seed: 3, 'squeeze.precision': 'bf16' }],
    [['--set', 'dataset.path=a=b', '--set', 'model.widths=[1, 2]'], { 'dataset.path': 'a=b', 'model.widths': [1, 2] }],
  ])('%j', async (argv, expected) => expect(await overrides(...argv)).toEqual(expected));

  test('lists of class ids may be written as ranges, other lists may not', () => {
    const flags = flagsOf('synthesize', stageNamed('synthesize').options);
    const read = (text: string): unknown =>
      flags.find(({ attribute }) => attribute === 'classes')!.options[0]!.parseArg!(text, undefined);
    expect(read('0-3,17')).toEqual({ value: [0, 1, 2, 3, 17] });
    expect(read('5-5')).toEqual({ value: [5] });
    expect(read('none')).toEqual({ value: null });
    for (const wrong of ['3-1', '1-', '-2', 'a-b', '0-99999999']) expect(() => read(wrong)).toThrow(/--classes/);
    const widths = flagsOf('squeeze', stageNamed('squeeze').options).find(({ attribute }) => attribute === 'widths')!;
    expect(() => widths.options[0]!.parseArg!('8-16', undefined)).toThrow(/--widths/);
  });

  test('--shard takes I/N', async () => {
    const [flag] = flagsOf('synthesize', stageNamed('synthesize').options).filter(
      ({ attribute }) => attribute === 'shard',
    );
    expect(flag!.options[0]!.parseArg!('2/8', undefined)).toEqual({ value: '2/8' });
    for (const wrong of ['2', '2/', 'a/8', '2/8/1'])
      expect(() => flag!.options[0]!.parseArg!(wrong, undefined)).toThrow();
  });

  test.each([
    ['--epochs', '0', 'integer 1 to 1000'],
    ['--epochs', '1.5', 'integer 1 to 1000'],
    ['--epochs', '', 'integer 1 to 1000'],
    ['--lr', '0', 'number > 0'],
    ['--lr', 'Infinity', 'number > 0'],
    ['--stats-augment', 'some', 'none | train'],
    ['--widths', '8,x', 'list of integer >= 1'],
    ['--scale', '0.5', 'list of 2, each number,'],
    ['--device', 'gpu', 'auto, cpu, cuda or cuda:N'],
    ['--threads', '0', 'integer >= 1'],
    ['--memory', '-1', 'a size such as 8G or 512M'],
    ['--seed', '1e3', 'integer >= 0'],
    ['--snapshot-every', '0', 'integer >= 1'],
    ['--save-every', '-1', 'a number >= 0'],
    ['--save-every', '', 'a number >= 0'],
    ['--save-every', '20s', 'a number >= 0'],
    ['--save-every', 'Infinity', 'a number >= 0'],
    ['--weights', '', 'string matching ^[\\w./-]+$ or none'],
    ['--set', 'novalue', 'key=value'],
  ])('%s %j is refused by name with what is allowed', async (flag, value, allowed) => {
    const { code, out, err, calls } = await cli(['squeeze', '--config', 'c', '--out', 'x', flag, value]);
    expect({ code, out, calls }).toEqual({ code: 2, out: '', calls: [] });
    expect(err).toContain(
      `lpld-native: E_CONFIG: expected ${allowed} for ${flag} but received ${JSON.stringify(value)}\n`,
    );
  });

  test('inputs by role, the runtime and the folder reach the stage; the artifact is one JSON line', async () => {
    const argv = [
      'train',
      '--config',
      'c',
      '--out',
      'o',
      '--images',
      'i',
      '--labels',
      'l',
      '--threads',
      '2',
      '--memory',
      '8G',
    ];
    const { code, out, calls } = await cli([
      ...argv,
      '--device',
      'cuda:1',
      '--deterministic',
      '--json',
      '--verify-data',
    ]);
    expect(code).toBe(0);
    const [, stage, , options] = calls.find(([name]) => name === 'runStage')!;
    expect(stage).toBe('train');
    expect(options).toMatchObject({
      out: 'o',
      inputs: { images: 'i', labels: 'l' },
      runtime: { device: 'cuda:1', threads: 2, memory: 8 * 2 ** 30, deterministic: true },
      verifyData: true,
    });
    expect(out.trimEnd().split('\n')).toHaveLength(1);
    expect(JSON.parse(out)).toMatchObject({ stage: 'train', dir: 'o', bytes: 2048, summary: { top1: 0.5 } });
  });

  test.each([
    [[], null],
    [['--save-every', '0'], 0],
    [['--save-every', '2.5'], 2.5],
    [['--save-every=120'], 120],
  ])('%j: the least seconds between saves reach the run and a stage', async (argv, saveSeconds) => {
    const run = await cli(['run', 'q', ...argv]);
    expect(run.calls.find(([name]) => name === 'runPipeline')![2]).toMatchObject({ runtime: { saveSeconds } });
    const stage = await cli(['squeeze', '--config', 'c', '--out', 'o', ...argv]);
    expect(stage.calls.find(([name]) => name === 'runStage')![3]).toMatchObject({ runtime: { saveSeconds } });
    expect([run.code, stage.code]).toEqual([0, 0]);
  });

  test('a stage whose config or folder is missing is a usage error that names the option', async () => {
    const { code, err } = await cli(['squeeze', '--out', 'x']);
    expect(code).toBe(2);
    expect(err).toContain('--config <preset|file>');
  });
});

describe('flags from an options table', () => {
  test('an option named like a global flag is set by the global flag alone', async () => {
    expect((await cli(['run', 'x', '--precision', 'bf16'])).calls[0]).toEqual([
      'loadConfig',
      'x',
      { 'squeeze.precision': 'bf16' },
    ]);
  });

  test('a union takes each of its forms', () => {
    const table = z.object({
      size: z
        .union([z.literal('auto'), z.int().min(1)])
        .default('auto')
        .describe('size'),
    });
    const [flag] = flagsOf('s', table);
    const parse = (text: string): unknown => flag!.options[0]!.parseArg!(text, undefined);
    expect([parse('auto'), parse('12')]).toEqual([{ value: 'auto' }, { value: 12 }]);
    expect(() => parse('big')).toThrow('expected auto or integer >= 1 for --size but received "big"');
  });

  /** The one flag of a table of one option: its value of a text, and its syntax and help. */
  const flagFor = (field: z.ZodType) => {
    const [option] = flagsOf('s', z.object({ size: field }))[0]!.options;
    return {
      parse: (text: string): unknown => (option!.parseArg!(text, undefined as unknown) as { value: unknown }).value,
      shown: `${option!.flags} ${option!.description}`,
    };
  };

  test.each([
    [
      'string',
      z.string().nullable().default(null),
      ['none', null],
      ['nonesuch', 'nonesuch'],
      '<value>',
      'string or none',
    ],
    ['number', z.number().nullable().default(null), ['none', null], ['1e-2', 0.01], '<x>', 'number or none'],
    ['integer', z.int().min(1).nullable().default(null), ['null', null], ['3', 3], '<n>', 'integer >= 1 or none'],
    ['choice', z.enum(['a', 'b']).nullable().default(null), ['none', null], ['a', 'a'], '<value>', 'a | b or none'],
    [
      'list',
      z.array(z.int()).nullable().default(null),
      ['none', null],
      ['1,2', [1, 2]],
      '<a,b,...>',
      'list of integer or none',
    ],
    ['switch', z.boolean().nullable().default(null), ['none', null], ['false', false], '<value>', 'boolean or none'],
  ] as const)(
    'a nullable %s takes none and its own values, and says so',
    (_what, field, none, own, syntax, allowed) => {
      const { parse, shown } = flagFor(field.describe('size'));
      expect([parse(none[0]), parse(own[0])]).toEqual([none[1], own[1]]);
      expect(shown).toBe(`--size ${syntax} size (${allowed}; default: none)`);
    },
  );

  test('a choice that is called none stays that choice', () => {
    expect(flagFor(z.enum(['none', 'train'])).parse('none')).toBe('none');
    expect(flagFor(z.string()).parse('none')).toBe('none');
  });

  test('every flag of the stages whose help offers none takes it as null', () => {
    const flags = STAGES.flatMap(({ name, options }) => flagsOf(name, options));
    const nullable = flags.filter(({ options: [option] }) => / or none[;)]/.test(option!.description));
    for (const { path, options } of nullable)
      expect(options[0]!.parseArg!('none', undefined), path).toEqual({ value: null });
    const paths = nullable.map(({ path }) => path);
    expect(paths).toEqual(
      expect.arrayContaining(['squeeze.weights', 'train.arch', 'synthesize.classes', 'relabel.cropScale']),
    );
  });

  test.each([
    ['8G', 8 * 2 ** 30],
    ['512m', 2 ** 29],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['4096', 4096],
    ['2KB', 2048],
  ])('%s is %d bytes', (text, bytes) => expect(parseBytes(text)).toBe(bytes));
});
