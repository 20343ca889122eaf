import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { z } from 'zod';
import { COMMANDS } from '../src/cli/commands.ts';
import { main } from '../src/cli/main.ts';
import { flagsOf, parseBytes } from '../src/cli/options.ts';
import type { Services } from '../src/cli/services.ts';
import { LpldError } from '../src/errors.ts';
import { fakeServices } from './util/cli-fakes.mjs';
import { fakeReport } from './util/run-folder.ts';

const report = fakeReport('runs/quickstart');

interface Outcome {
  code: number;
  out: string;
  err: string;
  calls: unknown[][];
}

async function cli(argv: string[], change: Partial<Services> = {}, env: Record<string, string> = {}): Promise<Outcome> {
  const { services, calls } = fakeServices(report, change) as unknown as { services: Services; calls: unknown[][] };
  let out = '';
  let err = '';
  const stdout = {
    write: (text: string) => {
      out += text;
    },
  };
  const stderr = {
    write: (text: string) => {
      err += text;
    },
    isTTY: false,
  } as never;
  const code = await main(argv, COMMANDS, async () => services, { stdout, stderr, env });
  return { code, out, err, calls };
}

const failing = (error: unknown): Partial<Services> => ({
  runPipeline: () => Promise.reject(error),
});

describe('help', () => {
  test('lists the stages with their summaries in order, on stdout', async () => {
    const { code, out, err } = await cli(['--help']);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    const squeeze = out.indexOf('train a teacher and take its statistics');
    expect(squeeze).toBeGreaterThan(0);
    expect(out.indexOf('train students')).toBeGreaterThan(squeeze);
    expect(out).toContain('squeeze -> train');
  });

  test('every option of every command has help text', async () => {
    for (const command of [
      '',
      'run',
      'squeeze',
      'train',
      'inspect',
      'doctor',
      'install',
      'report',
      'data fetch',
      'data inspect',
      'import weights',
    ]) {
      const { code, out } = await cli([...command.split(' ').filter(Boolean), '--help']);
      expect(code).toBe(0);
      const options = out
        .split(/\n\n/)
        .filter((part) => /^(Global )?Options:/.test(part))
        .join('\n');
      const items = options
        .split(/\n(?= {2}-)/)
        .slice(1)
        .map((item) => item.replace(/\s+/g, ' ').trim());
      expect(items.length).toBeGreaterThan(3);
      for (const item of items) expect(item, `${command}: ${item}`).toMatch(/^-\S+(, --\S+)?( <[^>]+>)? \S+ \S+/);
    }
  });

  test('a stage shows type, range and default of its options', async () => {
    const text = (await cli(['squeeze', '--help'])).out.replace(/\s+/g, ' ');
    expect(text).toContain('--epochs <n> passes over the training images (integer 1 to 1000; default: 20)');
    expect(text).toContain('--lr <x> largest learning rate (number > 0; default: 0.002)');
    expect(text).toContain(
      '--stats-augment <value> how images are augmented for statistics (none | train; default: none)',
    );
    expect(text).toContain('--widths <a,b,...> channels of each block (list of integer >= 1; default: 32,64)');
    expect(text).toContain('--no-cutmix turn off: mix images (default: on)');
    expect(text).toContain('--crop-min-scale <x>');
    expect(text).toContain('--call <value>');
    expect(text).not.toMatch(/--hidden|--teacher-name/);
    expect(text.match(/--precision/g)).toHaveLength(1);
  });

  test('no command is a usage error whose help is not on stdout', async () => {
    const { code, out, err } = await cli([]);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain('Usage: lpld-native');
  });

  test('--version', async () => expect(await cli(['--version'])).toMatchObject({ code: 0, out: '1.2.3\n' }));
});

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

  test.each([
    ['--epochs', '0', 'integer 1 to 1000'],
    ['--epochs', '1.5', 'integer 1 to 1000'],
    ['--epochs', '', 'integer 1 to 1000'],
    ['--lr', '0', 'number > 0'],
    ['--lr', 'Infinity', 'number > 0'],
    ['--stats-augment', 'some', 'none | train'],
    ['--widths', '8,x', 'list of integer >= 1'],
    ['--scale', '0.5', 'number, number'],
    ['--device', 'gpu', 'auto, cpu, cuda or cuda:N'],
    ['--threads', '0', 'integer >= 1'],
    ['--memory', '-1', 'a size such as 8G or 512M'],
    ['--seed', '1e3', 'integer >= 0'],
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

  test.each([
    ['8G', 8 * 2 ** 30],
    ['512m', 2 ** 29],
    ['1.5 GiB', 1.5 * 2 ** 30],
    ['4096', 4096],
    ['2KB', 2048],
  ])('%s is %d bytes', (text, bytes) => expect(parseBytes(text)).toBe(bytes));
});

describe('run', () => {
  test('--json: the report is one document and the last line of stdout, progress is elsewhere', async () => {
    const { code, out, err } = await cli(['run', 'quickstart', '--json'], {
      runPipeline: async (_, { progress }) => {
        const stage = progress.stage('squeeze');
        stage.start(1, 'steps', 'teacher');
        stage.update(1);
        return report;
      },
    });
    expect(code).toBe(0);
    expect(JSON.parse(out)).toEqual(report);
    expect(err).toContain('squeeze: 1/1 steps');
  });

  test('prints the headline and where the report is; the folder follows the name of the config', async () => {
    const { out, calls } = await cli(['run', 'quickstart', '--quiet']);
    expect(out).toContain('97.2 % ± 0.3');
    expect(out).toContain(join('runs', 'quickstart', 'report.html'));
    expect(calls[1]![2]).toMatchObject({
      out: join('runs', 'quickstart'),
      verifyData: false,
      runtime: { device: 'auto' },
    });
  });

  test('--restart-from is checked and handed on', async () => {
    expect((await cli(['run', 'q', '--restart-from', 'train'])).calls[1]![2]).toMatchObject({ restartFrom: 'train' });
    const { code, err } = await cli(['run', 'q', '--restart-from', 'trian']);
    expect(code).toBe(2);
    expect(err).toMatch(/squeeze, train/);
  });

  test('--dry-run plans and runs nothing', async () => {
    const { out, calls } = await cli(['run', 'q', '--dry-run', '--json']);
    expect(JSON.parse(out)).toMatchObject({ out: join('runs', 'q'), stages: [{ name: 'squeeze', action: 'run' }] });
    expect(calls.map(([name]) => name)).toEqual(['loadConfig', 'planPipeline']);
  });

  test.each([
    ['plain', /^squeeze: /],
    ['json', /^{"event":"start"/],
    ['none', /^$/],
  ])('--progress %s', async (mode, form) => {
    const runPipeline: Services['runPipeline'] = async (_, { progress }) => {
      progress.stage('squeeze').start(1, 'steps', 'teacher');
      return report;
    };
    expect((await cli(['run', 'q', '--progress', mode], { runPipeline })).err).toMatch(form);
  });

  test('leaves no signal handler behind', async () => {
    const before = process.listenerCount('SIGINT') + process.listenerCount('SIGTERM');
    await cli(['run', 'q']);
    await cli(['run', 'q'], failing(new Error('x')));
    expect(process.listenerCount('SIGINT') + process.listenerCount('SIGTERM')).toBe(before);
  });
});

describe('errors', () => {
  test.each([
    ['E_CONFIG', 2],
    ['E_DATA', 3],
    ['E_MISMATCH', 3],
    ['E_DEVICE', 4],
    ['E_DIVERGED', 5],
    ['E_CANCELLED', 130],
    ['E_INTERNAL', 1],
  ] as const)('%s exits with %d', async (code, exit) => {
    expect((await cli(['run', 'q'], failing(new LpldError(code, 'x')))).code).toBe(exit);
  });

  test('one clear line with the facts the message lacks, advice below, no stack', async () => {
    const error = new LpldError('E_DATA', 'broken image a.png\nremove it', {
      path: 'set/b',
      bytes: 3,
      image: 'a.png',
      list: [1],
    });
    const { err, out } = await cli(['run', 'q'], failing(error));
    expect(err).toBe('lpld-native: E_DATA: broken image a.png (path: set/b, bytes: 3)\nremove it\n');
    expect(out).toBe('');
  });

  test('the stack and the cause only with LPLD_DEBUG', async () => {
    const error = new LpldError('E_INTERNAL', 'lost', {}, new Error('the cause'));
    expect((await cli(['run', 'q'], failing(error))).err).toMatch(
      /^lpld-native: E_INTERNAL: lost\nthis is a fault .*LPLD_DEBUG=1.*\n$/,
    );
    const { err } = await cli(['run', 'q'], failing(error), { LPLD_DEBUG: '1' });
    expect(err).toMatch(/\n {4}at .*\n/);
    expect(err).toContain('the cause');
  });

  test('--json: the error is the one document of stdout', async () => {
    const { out, code } = await cli(['run', 'q', '--json'], failing(new LpldError('E_DATA', 'm', { path: 'p' })));
    expect(code).toBe(3);
    expect(JSON.parse(out)).toEqual({ error: { code: 'E_DATA', message: 'm', details: { path: 'p' } } });
    expect(JSON.parse((await cli(['run', '--json', '--nonsense'])).out)).toMatchObject({ error: { code: 'E_CONFIG' } });
  });

  test.each([
    [['run', 'q', '--dryrun'], '--dry-run'],
    [['squeeze', '--config', 'c', '--out', 'o', '--epoch', '3'], '--epochs'],
    [['sqeeze'], 'squeeze'],
    [['data', 'lsit'], 'list'],
    [['run', 'q', '--jsno'], '--json'],
  ])('%j is answered with what was meant', async (argv, meant) => {
    const { code, err, out } = await cli(argv);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^lpld-native: E_CONFIG: unknown (option|command) /);
    expect(err).toContain(`did you mean ${meant}?`);
  });

  test('after E_CANCELLED it says how to go on, quoted for a shell and without starting over', async () => {
    const argv = ['run', "it's.yaml", '--restart-from', 'train', '--out', 'a b'];
    const { err } = await cli(argv, failing(new LpldError('E_CANCELLED', 'stopped')));
    expect(err).toContain(`to go on: lpld-native run 'it'\\''s.yaml' --out 'a b'\n`);
  });

  test('services that cannot be loaded are an error like any other', async () => {
    let err = '';
    const stderr = {
      write: (text: string) => {
        err += text;
      },
    } as never;
    const io = { stdout: { write: () => {} }, stderr, env: {} };
    const code = await main(['run', 'q'], COMMANDS, () => Promise.reject(new Error('gone')), io);
    expect(code).toBe(1);
    expect(err).toContain('lpld-native: E_INTERNAL: gone');
  });
});

describe('other commands', () => {
  test('doctor exits with 4 where something is missing, its findings on stdout', async () => {
    expect(await cli(['doctor'])).toMatchObject({ code: 4, out: 'no LibTorch\n' });
    expect(JSON.parse((await cli(['doctor', '--json'])).out)).toMatchObject({ ok: false });
  });

  test('install takes one variant', async () => {
    const { calls } = await cli(['install', '--cpu', '--from', 'torch.whl', '--force']);
    expect(calls[0]![1]).toMatchObject({ variant: 'cpu', from: 'torch.whl', force: true });
    expect((await cli(['install', '--cpu', '--cuda'])).code).toBe(2);
    expect((await cli(['install'])).calls[0]![1]).not.toHaveProperty('variant');
  });

  test('data list, fetch and inspect', async () => {
    expect((await cli(['data', 'list'])).out).toMatch(/idx +MNIST and its like[\s\S]*mnist +digits/);
    const fetched = await cli(['data', 'fetch', 'mnist', '--out', 'd', '--mirror', 'http://m/']);
    expect(fetched.calls[0]).toMatchObject(['fetchDataset', 'mnist', 'd', { mirror: 'http://m/' }]);
    expect(fetched.out).toContain('--set dataset.format=idx --set dataset.path=d');
    const { out } = await cli(['data', 'inspect', 'd', '--format', 'idx', '--json']);
    expect(JSON.parse(out)).toMatchObject({
      train: 3,
      test: 0,
      classes: [
        { name: 'a', train: 2 },
        { name: 'b', train: 1 },
      ],
    });
  });

  test('presets list and show', async () => {
    expect((await cli(['presets', 'list'])).out).toMatch(/quickstart +about quickstart\ntiny +about tiny\n$/);
    expect((await cli(['presets', 'show', 'tiny'])).out).toContain('name: tiny\n');
  });

  test('import weights and report hand their paths on', async () => {
    expect((await cli(['import', 'weights', 'a.pth', '--out', 'b.safetensors'])).calls[0]).toEqual([
      'importWeights',
      'a.pth',
      'b.safetensors',
    ]);
    expect((await cli(['report', 'r', '--compare', 'x', 'y'])).calls[0]).toEqual(['remakeReport', 'r', ['x', 'y']]);
  });

  test('inspect tells an artifact from a run folder, and neither is E_DATA', async () => {
    const dir = await mkdtemp(join(tmpdir(), 'lpld-cli-'));
    try {
      expect(await cli(['inspect', dir])).toMatchObject({ code: 3 });
      expect((await cli(['inspect', join(dir, 'none')])).code).toBe(3);
      for (const folder of ['squeeze', 'random/train', '.draft']) {
        await mkdir(join(dir, folder), { recursive: true });
        await writeFile(join(dir, folder, 'manifest.json'), '{}');
      }
      const whole = await cli(['inspect', dir, '--verify', '--json']);
      expect(JSON.parse(whole.out)).toMatchObject({
        verified: true,
        artifacts: [{ dir: join(dir, 'random/train') }, { dir: join(dir, 'squeeze') }],
      });
      expect(whole.calls[0]).toEqual(['openArtifact', join(dir, 'random/train'), { verify: true }]);
      const one = await cli(['inspect', join(dir, 'squeeze')]);
      expect(one.out).toContain('squeeze (version 1, cpu, fp32)');
      expect(one.out).toContain('2.00 KiB in 1 files');
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
