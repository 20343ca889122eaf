// Two processes that make one folder: every command that writes an artifact or an export holds its folder while it works,
// says who does where it is held, and takes it over from a process that is gone.

import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { mergeShards } from '../src/merge.ts';
import { keptOrMade, whileLocked } from '../src/output-folder.ts';
import { runPipeline, runStage } from '../src/run.ts';
import { exporting, importing } from './util/exchange.ts';
import { refusal, scratch } from './util/hostile.ts';
import { idsOf, inputsIn, makeChain, optionsOf, tiny, tinySource, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const lockOf = (out: string): string => `${out}.partial.lock`;

/** A process that is doing something else for as long as the test lasts, and what ends it. */
function living(): { pid: number; kill: () => Promise<void> } {
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  const closed = once(other, 'exit');
  const kill = async (): Promise<void> => {
    other.kill('SIGKILL');
    await closed;
  };
  onTestFinished(kill);
  return { pid: other.pid!, kill };
}

/** Makes a folder look held by another process. */
function hold(out: string, pid: number): void {
  const startedAt = new Date(0).toISOString();
  mkdirSync(dirname(out), { recursive: true });
  writeFileSync(lockOf(out), JSON.stringify({ pid, host: hostname(), startedAt, process: '', token: 'other' }));
}

const silent = { log: () => {} };

describe('whileLocked', () => {
  test('holds the folder while the work is done, makes its parents only, and leaves nothing', async () => {
    const out = join(scratch(), 'new/parents/out');
    const answer = await whileLocked(out, silent, async () => {
      expect(JSON.parse(readFileSync(lockOf(out), 'utf8'))).toMatchObject({ pid: process.pid, host: hostname() });
      expect(existsSync(out)).toBe(false);
      return 7;
    });
    expect(answer).toBe(7);
    expect(readdirSync(dirname(out))).toEqual([]);
    await expect(whileLocked(out, silent, () => Promise.reject(new Error('work')))).rejects.toThrow('work');
    expect(readdirSync(dirname(out))).toEqual([]);
  });

  test('refuses a second call for the same folder, however it is written, and none for another', async () => {
    const root = scratch();
    const before = process.cwd();
    onTestFinished(() => process.chdir(before));
    mkdirSync(join(root, 'out'));
    process.chdir(join(root, 'out'));
    await whileLocked(join(root, 'out'), silent, async () => {
      for (const same of ['.', `${join(root, 'out')}//`, '../out', join(root, 'x/../out')]) {
        const error = await refusal(() => whileLocked(same, silent, async () => {}));
        expect([error.code, error.message]).toEqual([
          'E_CONFIG',
          expect.stringContaining(`folder is in use by pid ${process.pid}`),
        ]);
      }
      expect(await whileLocked(join(root, 'out2'), silent, async () => 'free')).toBe('free');
    });
    expect(readdirSync(root)).toEqual(['out']);
  });

  test('a file that only looks like the lock of the folder is left alone', async () => {
    const root = scratch();
    for (const name of ['out.lock', 'out.partial', 'lock']) writeFileSync(join(root, name), 'mine');
    await whileLocked(join(root, 'out'), silent, async () => {});
    for (const name of ['out.lock', 'out.partial', 'lock']) expect(readFileSync(join(root, name), 'utf8')).toBe('mine');
  });

  test('looks again once it holds the folder: what another process just made is kept', async () => {
    const out = join(scratch(), 'out');
    let looks = 0;
    const kept = async (): Promise<string | null> => (++looks === 2 ? 'theirs' : null);
    expect(await keptOrMade(out, silent, kept, async () => 'ours')).toBe('theirs');
    looks = 2;
    expect(await keptOrMade(out, silent, kept, async () => 'ours')).toBe('ours');
  });
});

const config = tiny();
const CHAIN = ['squeeze', 'synthesize', 'relabel', 'prune', 'train'] as const;
let root = '';
let shard = '';
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'lpld-output-lock-'));
  await makeChain(root, config, CHAIN);
  await exporting({ format: 'folder', images: join(root, 'synthesize'), labels: null, out: join(root, 'folder') });
  shard = join(root, 'shard');
  const inputs = inputsIn(root, 'synthesize', CHAIN);
  await runStage('synthesize', tiny({ synthesize: { shard: '1/1' } }), { ...optionsOf(shard), inputs });
});
afterAll(() => rmSync(root, { recursive: true, force: true }));

type Made = { out: string; sink: ReturnType<typeof watching>['sink'] };
const signal = new AbortController().signal;
const stage =
  (name: Parameters<typeof runStage>[0]) =>
  ({ out, sink: progress }: Made): Promise<unknown> =>
    runStage(name, config, { ...optionsOf(out, { progress }), inputs: inputsIn(root, name, CHAIN) });
const commands: [name: string, make: (made: Made) => Promise<unknown>][] = [
  ...([...CHAIN, 'evaluate'] as const).map((name): [string, (made: Made) => Promise<unknown>] => [name, stage(name)]),
  [
    'merge',
    ({ out, sink }) => mergeShards([shard], { ...optionsOf(out, { progress: sink }), teacher: join(root, 'squeeze') }),
  ],
  [
    'import',
    ({ out, sink: progress }) =>
      importing({ format: 'folder', dir: join(root, 'folder'), images: null, out, progress, signal }),
  ],
  [
    'export',
    ({ out, sink: progress }) =>
      exporting({ format: 'folder', images: join(root, 'synthesize'), labels: null, out, progress, signal }),
  ],
];

describe.each(commands)('%s', (name, make) => {
  test('is refused while a living process makes the folder, and breaks the lock of a dead one with a message', async () => {
    const other = living();
    const out = join(root, `held-${name}`, 'out');
    mkdirSync(join(`${out}.partial`), { recursive: true });
    writeFileSync(join(`${out}.partial`, 'theirs'), 'in the making');
    hold(out, other.pid);
    const { sink, steps } = watching();
    const error = await refusal(() => make({ out, sink }));
    expect([error.code, error.message]).toEqual([
      'E_CONFIG',
      expect.stringContaining(`folder is in use by pid ${other.pid} since`),
    ]);
    expect(error.details).toMatchObject({ path: lockOf(out), pid: other.pid, host: hostname() });
    expect(readdirSync(dirname(out)).sort()).toEqual(['out.partial', 'out.partial.lock']);
    expect(readdirSync(`${out}.partial`)).toEqual(['theirs']);
    await other.kill();
    await make({ out, sink });
    expect(steps.map(({ line }) => line)).toContain(`broke a stale lock on ${out}: process ${other.pid} is gone`);
    expect(readdirSync(dirname(out))).toEqual(['out']);
  });
});

test('a finished artifact of the same key is kept without a lock, in a folder nobody may write to as well', async () => {
  const other = living();
  const out = join(root, 'squeeze');
  const { id } = await openArtifact(out);
  hold(out, other.pid);
  onTestFinished(() => rmSync(lockOf(out)));
  const kept = await runStage('squeeze', config, { ...optionsOf(out), inputs: {} });
  expect(kept.id).toBe(id);
});

test('a stage of a run is refused while another process makes that stage alone', async () => {
  const other = living();
  const out = join(scratch(), 'run');
  await runPipeline(config, optionsOf(out));
  const ids = await idsOf(out, config);
  hold(join(out, 'relabel'), other.pid);
  const error = await refusal(() => runPipeline(config, optionsOf(out, { restartFrom: 'relabel' })));
  expect([error.code, error.details.path]).toEqual(['E_CONFIG', lockOf(join(out, 'relabel'))]);
  expect(await idsOf(out, config)).toEqual(ids); // nothing was removed
  await other.kill();
  await runPipeline(config, optionsOf(out, { restartFrom: 'relabel' }));
  expect(await idsOf(out, config)).toEqual(ids);
  expect(readdirSync(out).filter((entry) => entry.includes('.partial'))).toEqual([]);
});

describe('two processes', () => {
  const program = join(import.meta.dirname, '..', 'dist', 'cli.js');
  const slow = tinySource({ squeeze: { epochs: 150 } });
  const start = (file: string, out: string): ChildProcess & { err: string } => {
    const args = ['squeeze', '--config', file, '--out', out, '--threads', '1', '--deterministic'];
    const child = spawn(process.execPath, [program, ...args, '--progress', 'json', '--save-every', '0']);
    const told = Object.assign(child, { err: '' });
    child.stderr.on('data', (chunk) => {
      told.err += chunk;
    });
    return told;
  };
  const working = async (child: { err: string; exitCode: number | null }): Promise<void> => {
    while (!child.err.includes('"event":"progress"') && child.exitCode === null)
      await new Promise((r) => setTimeout(r, 5));
  };

  test('of two that squeeze into one folder the second is refused by the pid of the first, which finishes', async () => {
    const dir = scratch();
    const [file, out] = [join(dir, 'config.json'), join(dir, 'teacher')];
    writeFileSync(file, JSON.stringify(slow));
    const first = start(file, out);
    const closed = once(first, 'close');
    await working(first);
    const second = start(file, out);
    expect(await once(second, 'close')).toEqual([2, null]);
    expect(second.err).toContain(`folder is in use by pid ${first.pid} since`);
    expect(first.exitCode, 'the first is at work still').toBeNull();
    expect(await closed, first.err).toEqual([0, null]);
    await openArtifact(out, { verify: true });
    expect(readdirSync(dir)).not.toContain(basename(lockOf(out)));
  });

  test('one that is killed leaves a lock that the next breaks with a message; it goes on from the draft', async () => {
    const dir = scratch();
    const [file, out] = [join(dir, 'config.json'), join(dir, 'teacher')];
    writeFileSync(file, JSON.stringify(slow));
    const first = start(file, out);
    const closed = once(first, 'close');
    while (!existsSync(join(`${out}.partial`, '.draft', 'train.safetensors')) && first.exitCode === null)
      await new Promise((r) => setTimeout(r, 5));
    first.kill('SIGKILL');
    await closed;
    expect(readdirSync(dir)).toContain(basename(lockOf(out)));
    const next = start(file, out);
    expect(await once(next, 'close'), next.err).toEqual([0, null]);
    expect(next.err).toContain(`process ${first.pid} is gone`);
    expect(next.err).toContain('resuming');
    expect(readdirSync(dir)).not.toContain(basename(lockOf(out)));
  });
});
