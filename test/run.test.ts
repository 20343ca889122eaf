// The pipeline as a whole, in this process: one run folder, nothing run twice, changes refused by name, restarts, the
// lock, --dry-run, run.json and the reports.

import { spawnSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { encodeImage } from '../src/datasets/images.ts';
import { pipelineNodes } from '../src/pipeline.ts';
import { planPipeline, runPipeline } from '../src/run.ts';
import { LOCK_FILE, lockRun } from '../src/run-lock.ts';
import { refusal } from './util/hostile.ts';
import { idsOf, optionsOf, tiny, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const config = tiny({ controls: ['random', 'random-soft'], train: { students: 2 } });
const folders = pipelineNodes(config).map((node) => node.folder);
let root = '';
let serial = 0;
let finished = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-run-'));
  finished = join(root, 'finished');
  await runPipeline(config, optionsOf(finished));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A copy of the finished run folder, times kept. */
async function copy(): Promise<string> {
  const out = join(root, `copy-${serial++}`);
  await cp(finished, out, { recursive: true, preserveTimestamps: true });
  return out;
}

/** Every file below a folder with its time and size. */
async function snapshot(out: string): Promise<Record<string, string>> {
  const files: Record<string, string> = {};
  for (const entry of await readdir(out, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    const { mtimeMs, size } = await stat(path);
    if (entry.isFile()) files[path.slice(out.length + 1)] = `${mtimeMs} ${size}`;
  }
  return files;
}

/** Artifact files only: reports and config.json are written by every run. */
const artifactsIn = (files: Record<string, string>): Record<string, string> =>
  Object.fromEntries(Object.entries(files).filter(([path]) => path.includes('/')));

describe('a finished run', () => {
  test('a call that leaves out progress, signal and runtime meets the same artifacts', async () => {
    const out = await copy();
    const before = artifactsIn(await snapshot(out));
    const report = await runPipeline(config, { out });
    expect(artifactsIn(await snapshot(out))).toEqual(before); // kept: precision and device class are the same
    expect(report.stages).toHaveLength(folders.length);
    const { stages } = await planPipeline(config, { out });
    expect(stages.map(({ action }) => action)).toEqual(folders.map(() => 'keep'));
  });

  test('has every stage, both controls, the reports and no leftovers', async () => {
    const report = JSON.parse(await readFile(join(finished, 'report.json'), 'utf8')) as Record<
      string,
      { top1: number }
    >;
    for (const part of ['teacher', 'student', 'random', 'randomSoft'])
      expect(report[part]!.top1 >= 0 && report[part]!.top1 <= 1, part).toBe(true);
    const html = await readFile(join(finished, 'report.html'), 'utf8');
    expect(html).toContain('<html');
    expect(html).toContain('data:image/png');
    const names = (await readdir(finished)).sort();
    const stages = [...new Set(folders.map((folder) => folder.split('/')[0]!))];
    expect(names).toEqual([...stages, 'config.json', 'report.html', 'report.json'].sort());
    expect(Object.keys(await snapshot(finished)).filter((path) => /partial|\.draft|tmp-/.test(path))).toEqual([]);
  });

  test('says seconds and peak memory of every stage', async () => {
    for (const folder of folders) {
      const run = JSON.parse(await readFile(join(finished, folder, 'run.json'), 'utf8')) as Record<string, unknown>;
      expect(run.seconds, folder).toBeGreaterThan(0);
      expect(run.peakBytes, folder).toBeGreaterThan(10 * 2 ** 20);
      expect(run).toMatchObject({ device: 'cpu', threads: 1, node: process.version });
    }
  });

  test('is not run again: same ids, no file of an artifact touched, no stage begun', async () => {
    const out = await copy();
    const before = artifactsIn(await snapshot(out));
    const { sink, steps } = watching();
    await runPipeline(config, optionsOf(out, { progress: sink }));
    expect(artifactsIn(await snapshot(out))).toEqual(before);
    expect(steps).toEqual([]);
  });

  test('a stage whose artifact is gone is made again, equal, and the rest is kept', async () => {
    const out = await copy();
    const ids = await idsOf(out, config);
    await rm(join(out, 'relabel'), { recursive: true });
    const { sink, steps } = watching();
    await runPipeline(config, optionsOf(out, { progress: sink }));
    expect(await idsOf(out, config)).toEqual(ids);
    expect([...new Set(steps.map((step) => step.stage))]).toEqual(['relabel']);
  });
});

describe('another config', () => {
  test('is refused with the keys that differ, what they were, and what to do; nothing is touched', async () => {
    const out = await copy();
    const before = await snapshot(out);
    const other = tiny({ controls: ['random', 'random-soft'], train: { students: 2, lr: 0.02, epochs: 11 } });
    const error = await refusal(() => runPipeline(other, optionsOf(out)));
    expect(error.code).toBe('E_CONFIG');
    expect(error.details.keys).toEqual(['train.epochs', 'train.lr']);
    expect(error.message).toContain('train.lr was 0.01 and is 0.02');
    expect(error.message).toContain('--restart-from train');
    expect(await snapshot(out)).toEqual(before);
  });

  test('a run that was refused before anything was begun binds no config', async () => {
    const out = join(root, 'refused-first');
    const nowhere = tiny({ dataset: { format: 'folder', path: join(root, 'nowhere') } });
    expect((await refusal(() => runPipeline(nowhere, { out }))).code).toBe('E_DATA');
    expect((await planPipeline(config, { out })).stages).toHaveLength(folders.length);
  });

  test('a dataset that moved is the same, another one at a new place is not', async () => {
    const folder = (path: string) => tiny({ dataset: { format: 'folder', path: join(root, path), inputSize: 8 } });
    for (const [path, shift] of [
      ['here', 0],
      ['other', 3],
    ] as const)
      for (const [name, level] of [
        ['0', 20],
        ['1', 120],
        ['2', 220],
      ] as const) {
        const put = (i: number) => encodeImage(new Uint8Array(64).fill(level + i + shift), 8, 8, 1, 'png');
        for (let i = 0; i < 16 + shift; i++) {
          await mkdir(join(root, path, 'train', name), { recursive: true });
          await writeFile(join(root, path, 'train', name, `${i}.png`), await put(i));
          await mkdir(join(root, path, 'val', name), { recursive: true });
          await writeFile(join(root, path, 'val', name, `${i}.png`), await put(i));
        }
      }
    const out = join(root, 'moving');
    await runPipeline(folder('here'), { ...optionsOf(out) });
    const before = artifactsIn(await snapshot(out));
    await cp(join(root, 'here'), join(root, 'there'), { recursive: true });
    await runPipeline(folder('there'), { ...optionsOf(out) });
    expect(artifactsIn(await snapshot(out))).toEqual(before);
    const error = await refusal(() => runPipeline(folder('other'), { ...optionsOf(out) }));
    expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringContaining('dataset.path was')]);
  });

  test('a damaged config.json is E_DATA with its path', async () => {
    const out = await copy();
    await writeFile(join(out, 'config.json'), '{"seed": ');
    const error = await refusal(() => runPipeline(config, optionsOf(out)));
    expect(error.code).toBe('E_DATA');
    expect(error.details.path).toBe(join(out, 'config.json'));
  });

  test('--restart-from runs the stage and the later ones again and keeps the earlier ones', async () => {
    const out = await copy();
    const [ids, before] = [await idsOf(out, config), await snapshot(out)];
    const other = tiny({ controls: ['random', 'random-soft'], train: { students: 2, lr: 0.02 } });
    const { sink, steps } = watching();
    await runPipeline(other, optionsOf(out, { restartFrom: 'train', progress: sink }));
    const again = folders.filter((folder) => /train|evaluate/.test(folder));
    expect([...new Set(steps.map((step) => step.stage))].sort()).toEqual([...again].sort());
    const [newIds, after] = [await idsOf(out, other), await snapshot(out)];
    for (const folder of folders) {
      if (again.includes(folder)) expect(newIds[folder], folder).not.toBe(ids[folder]);
      else expect(after[`${folder}/manifest.json`], folder).toBe(before[`${folder}/manifest.json`]);
    }
    const { sink: second, steps: none } = watching();
    await runPipeline(other, optionsOf(out, { progress: second })); // the folder belongs to the new config now
    expect(none).toEqual([]);
  });

  test('--restart-from with the same config gives the same ids', async () => {
    const out = await copy();
    await runPipeline(config, optionsOf(out, { restartFrom: 'relabel' }));
    expect(await idsOf(out, config)).toEqual(await idsOf(finished, config));
  });

  test('--restart-from refuses when an earlier stage changes, and nothing is removed', async () => {
    const out = await copy();
    const before = await snapshot(out);
    const other = tiny({ controls: ['random', 'random-soft'], synthesize: { iterations: 25 }, train: { students: 2 } });
    const error = await refusal(() => runPipeline(other, optionsOf(out, { restartFrom: 'train' })));
    expect(error.code).toBe('E_CONFIG');
    expect(error.message).toContain('--restart-from synthesize');
    expect(await snapshot(out)).toEqual(before);
  });
});

describe('the lock', () => {
  test('of a living process is respected, and a run works once it is gone', async () => {
    const out = await copy();
    const lock = lockRun(out);
    const error = await refusal(() => runPipeline(config, optionsOf(out)));
    expect(error.code).toBe('E_CONFIG');
    expect(error.message).toContain(`pid ${process.pid}`);
    lock.release();
    await runPipeline(config, optionsOf(out));
    expect(await readdir(out)).not.toContain(LOCK_FILE);
  });

  test('of a dead process is broken with a message', async () => {
    const out = await copy();
    const { pid } = spawnSync(process.execPath, ['-e', '']);
    const lock = { pid, host: hostname(), startedAt: new Date(0).toISOString(), process: '', token: 'gone' };
    await writeFile(join(out, LOCK_FILE), JSON.stringify(lock));
    const { sink, steps } = watching();
    await runPipeline(config, optionsOf(out, { progress: sink }));
    expect(steps.map((step) => step.line).join('\n')).toMatch(
      new RegExp(`broke a stale lock .*process ${pid} is gone`),
    );
  });

  test('is given back after a failure', async () => {
    const out = join(root, 'failed');
    const error = await refusal(() => runPipeline(tiny({ squeeze: { arch: 'no-such-net' } }), optionsOf(out)));
    expect(error.code).toBe('E_CONFIG');
    expect(await readdir(out)).not.toContain(LOCK_FILE);
  });
});

describe('--dry-run', () => {
  const actions = async (out: string, of = config, change = {}): Promise<Record<string, string>> => {
    const { stages } = await planPipeline(of, optionsOf(out, change));
    for (const { bytes, seconds } of stages) expect(bytes > 0 && seconds > 0).toBe(true);
    return Object.fromEntries(stages.map(({ folder, action }) => [folder, action]));
  };
  const all = (action: (folder: string) => string) =>
    Object.fromEntries(folders.map((folder) => [folder, action(folder)]));

  test('of a new folder runs everything and makes no folder', async () => {
    const out = join(root, 'nothing');
    expect(await actions(out)).toEqual(all(() => 'run'));
    expect(await readdir(root)).not.toContain('nothing');
  });

  test('of a finished folder keeps everything and touches nothing', async () => {
    const before = await snapshot(finished);
    expect(await actions(finished)).toEqual(all(() => 'keep'));
    expect(await snapshot(finished)).toEqual(before);
  });

  test('says what a restart and what a missing artifact cost', async () => {
    const later = all((folder) => (/train|evaluate/.test(folder) ? 'run' : 'keep'));
    expect(await actions(finished, config, { restartFrom: 'train' })).toEqual(later);
    const out = await copy();
    await rm(join(out, 'prune'), { recursive: true });
    const missing = all((folder) => (['prune', 'train', 'evaluate'].includes(folder) ? 'run' : 'keep'));
    expect(await actions(out)).toEqual(missing);
  });
});
