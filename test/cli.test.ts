// The commands on fake services: help, run and the commands around it, and what each hands on and prints.

import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Services } from '../src/cli/services.ts';
import { cli, failing, report } from './util/cli.ts';

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
      { replace: false },
    ]);
    expect((await cli(['report', 'r', '--compare', 'x', 'y'])).calls[0]).toEqual(['remakeReport', 'r', ['x', 'y']]);
    const page = await cli(['report', 'a', 'b', '--out', 'c.html']);
    expect(page.calls[0]).toEqual(['compareSets', ['a', 'b'], 'c.html']);
    for (const wrong of [
      ['a', 'b'],
      ['a', '--out', 'c.html'],
      ['a', 'b', '--out', 'c.html', '--compare', 'd'],
    ])
      expect(await cli(['report', ...wrong])).toMatchObject({ code: 2, calls: [] });
  });

  test.each([
    ['squeeze', '--config', 'q', '--out', 'o'],
    ['merge', 's1', '--teacher', 't', '--out', 'o'],
    ['import', 'd', '--format', 'fkd', '--images', 'i', '--out', 'o'],
    ['import', 'weights', 'a.pth', '--out', 'b.safetensors'],
  ])('%s takes --replace, which is off', async (...argv) => {
    for (const [flag, replace] of [
      [[], false],
      [['--replace'], true],
    ] as const)
      expect((await cli([...argv, ...flag])).calls.at(-1)!.at(-1)).toMatchObject({ replace });
  });

  test('merge hands shards, teacher and folder on', async () => {
    const { calls, out } = await cli(['merge', 's1', 's2', '--teacher', 't', '--out', 'o', '--threads', '3']);
    expect(calls[0]).toMatchObject(['mergeShards', ['s1', 's2'], { teacher: 't', out: 'o', runtime: { threads: 3 } }]);
    expect(out).toContain('synthesize (version 1, cpu, fp32)');
    expect((await cli(['merge', 's1', '--out', 'o'])).code).toBe(2);
  });

  test('import --format hands everything on, and `import weights` keeps its own --out', async () => {
    const argv = ['import', 'd', '--format', 'fkd', '--images', 'i', '--out', 'o'];
    const { calls, out } = await cli([...argv, '--input-size', '64', '--json']);
    expect(calls).toMatchObject([
      ['importData', { dir: 'd', format: 'fkd', images: 'i', out: 'o', inputSize: 64, signal: { aborted: false } }],
    ]);
    expect(JSON.parse(out)).toMatchObject({ dir: 'o', stage: 'import' });
    expect((await cli(argv)).calls[0]![1]).toMatchObject({ inputSize: null });
    for (const missing of ['--format', '--out']) {
      const at = argv.indexOf(missing);
      const { code, err } = await cli([...argv.slice(0, at), ...argv.slice(at + 2)]);
      expect([code, err]).toEqual([2, expect.stringContaining(`a value for ${missing}`)]);
    }
    expect(await cli(['import', ...argv.slice(2)])).toMatchObject({ code: 2 });
    expect(await cli([...argv, '--input-size', '0'])).toMatchObject({ code: 2 });
    expect((await cli([...argv.slice(0, 3), 'npz', ...argv.slice(4)])).err).toMatch(/fkd/);
    expect((await cli(['import', 'weights', 'a.pth'])).code).toBe(2);
  });

  test('export hands everything on and says what was written', async () => {
    const argv = ['export', '--format', 'fkd', '--labels', 'l', '--images', 'i', '--out', 'o'];
    const { calls, out } = await cli(argv);
    expect(calls).toMatchObject([['exportData', { format: 'fkd', labels: 'l', images: 'i', out: 'o' }]]);
    expect(out).toBe('o: 12 records as fkd, 2.00 KiB in 13 files\n');
    const images = await cli(['export', '--format', 'folder', '--images', 'i', '--out', 'o', '--shard-size', '1K']);
    expect(images.calls[0]![1]).toMatchObject({ labels: null, shardBytes: 1024 });
    expect(images.out).toContain('12 images as folder');
    expect((await cli([...argv, '--shard-size', 'x'])).err).toMatch(/--shard-size/);
    expect((await cli(['export', '--format', 'npz', '--images', 'i', '--out', 'o'])).err).toMatch(/fkd, folder/);
    expect((await cli(['export', '--images', 'i', '--out', 'o'])).code).toBe(2);
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
      expect(one.out).toContain('2.00 KiB in 1 file\n');
    } finally {
      await rm(dir, { recursive: true });
    }
  });
});
