// Unfinished work of another key: a command that would throw it away is refused with what differs and what to do, and goes
// on with nothing touched; where nothing is lost it is discarded, which the log says.

import { cp, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openDraft, type StageHeader, stageKey } from '../src/artifact.ts';
import type { Config } from '../src/config.ts';
import { changesTold, DECIDING, differingKeys } from '../src/differences.ts';
import { planPipeline, type RunOptions, runPipeline, runStage, type StageOptions } from '../src/run.ts';
import { header } from './util/draft-child.ts';
import { refusal, scratch } from './util/hostile.ts';
import { idsOf, makeChain, optionsOf, type ProgressStep, tiny, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const config = tiny();
let root = '';
const at = (path: string): string => join(root, path);
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-begun-'));
  await makeChain(at('chain'), config, ['squeeze']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Runs something until a phase is half done, as Ctrl-C would stop it. */
async function stopped(phase: RegExp, work: (change: Partial<RunOptions>) => Promise<unknown>): Promise<void> {
  const controller = new AbortController();
  const { sink } = watching(({ what, stage, label, done, total }) => {
    if (what === 'update' && phase.test(`${stage}: ${label}`) && done >= total / 2) controller.abort();
  });
  expect((await refusal(() => work({ progress: sink, signal: controller.signal }))).code).toBe('E_CANCELLED');
}

/** Every file below a folder with its time. */
async function snapshot(dir: string): Promise<Record<string, number>> {
  const files: Record<string, number> = {};
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true }))
    if (entry.isFile()) {
      const path = join(entry.parentPath, entry.name);
      files[path] = (await stat(path)).mtimeMs;
    }
  return files;
}

/** Lets a draft say that it was begun otherwise. */
async function rewrite(partial: string, change: Partial<StageHeader>): Promise<void> {
  const path = join(partial, '.draft', 'key.json');
  const before = JSON.parse(await readFile(path, 'utf8')) as StageHeader;
  const otherwise = { ...before, ...change };
  await writeFile(path, JSON.stringify({ ...otherwise, key: stageKey(otherwise) }));
}

const logs = (steps: readonly ProgressStep[]): string[] => steps.map(({ line }) => line).filter((line) => line !== '');

describe('one stage', () => {
  const synthesize = (out: string, of: Config, change: Partial<StageOptions> = {}) =>
    runStage('synthesize', of, { ...optionsOf(at(out), change), inputs: { teacher: at('chain/squeeze') } });

  test('half made images are not thrown away for another flag, and the first flags finish them', async () => {
    const whole = await synthesize('whole', config);
    await stopped(/./, (change) => synthesize('images', config, change));
    const before = await snapshot(at('images.partial'));
    expect(Object.keys(before).length).toBeGreaterThan(2);
    const other = tiny({ synthesize: { iterations: 30 } });
    const error = await refusal(() => synthesize('images', other));
    expect([error.code, error.details]).toEqual([
      'E_CONFIG',
      { path: at('images.partial'), keys: ['synthesize.iterations'] },
    ]);
    const [first, advice] = error.message.split('\n');
    expect(first).toBe(
      `the unfinished ${at('images.partial')} was begun otherwise: synthesize.iterations was 24 and is 30`,
    );
    expect(advice).toBe(
      'to go on with it, run the command it was begun with; --replace discards it; or choose another --out',
    );
    expect(await snapshot(at('images.partial'))).toEqual(before);
    const { sink, steps } = watching();
    expect((await synthesize('images', config, { progress: sink })).id).toBe(whole.id);
    expect(logs(steps)).toContain('resuming');
  });

  test('the folder removed, or the work given up, the other flags begin anew', async () => {
    const other = tiny({ synthesize: { iterations: 6 } });
    for (const replace of [false, true]) {
      const out = `again-${replace}`;
      await stopped(/./, (change) => synthesize(out, config, change));
      if (!replace) await rm(at(`${out}.partial`), { recursive: true });
      const { manifest } = await synthesize(out, other, { replace });
      expect(manifest.config).toMatchObject({ synthesize: { iterations: 6 } });
    }
  });
});

describe('a draft of another key', () => {
  const other = { ...header, precision: 'bf16' };
  const begin = async (): Promise<string> => {
    const dir = join(scratch(), 'a');
    await openDraft(dir, header);
    return dir;
  };

  test('without a whole file or saved tensors is discarded', async () => {
    const dir = await begin();
    expect((await openDraft(dir, other)).discarded).toBe('it held nothing yet');
    const planned = await openDraft(dir, other);
    await planned.saveState('plan', {}, { groups: 3 });
    expect((await openDraft(dir, header)).discarded).not.toBeNull();
    expect((await openDraft(dir, header)).discarded).toBeNull(); // its own
  });

  test.each([
    ['a whole file', async (dir: string) => (await openDraft(dir, header)).writeFile('a.bin', new Uint8Array(1))],
    [
      'saved tensors',
      async (dir: string) => {
        const x = { dtype: 'U8', shape: [1], data: new Uint8Array(1) } as const;
        await (await openDraft(dir, header)).saveState('loop', { x }, {});
      },
    ],
    ['a saved state that is damaged', (dir: string) => writeFile(`${dir}.partial/.draft/loop.safetensors`, 'x')],
  ])('with %s is refused, whatever its key.json says', async (_what, fill) => {
    const dir = await begin();
    await fill(dir);
    for (const damage of [null, '{"key": "x"}', '{', '[1]', 'null', '3', '{"inputs": 1e999, "key": 1}']) {
      if (damage !== null) await writeFile(`${dir}.partial/.draft/key.json`, damage);
      const before = await snapshot(`${dir}.partial`);
      const error = await refusal(() => openDraft(dir, other, { remade: ['teacher'] }));
      expect(error.code).toBe('E_CONFIG');
      const words = damage === null ? 'precision was "fp32" and is "bf16"' : 'with what is not recorded';
      expect(error.message).toContain(`was begun otherwise: ${words}\n`);
      expect(await snapshot(`${dir}.partial`)).toEqual(before);
    }
  });

  test('made from an artifact that was itself remade in its place is discarded', async () => {
    const dir = join(scratch(), 'a');
    const [old, now] = ['1', '2'].map((digit) => ({ ...header, inputs: { teacher: digit.repeat(64) } }));
    await (await openDraft(dir, old!)).writeFile('a.bin', new Uint8Array(1));
    expect((await refusal(() => openDraft(dir, now!))).message).toContain(
      'id of teacher was "111111111111" and is "222222222222"',
    );
    expect((await openDraft(dir, now!, { remade: ['teacher'] })).discarded).toContain('teacher it was made from');
  });
});

describe('a run', () => {
  const half = async (phase: RegExp): Promise<string> => {
    const out = join(await mkdtemp(at('run-')), 'out');
    await stopped(phase, (change) => runPipeline(config, optionsOf(out, change)));
    return out;
  };
  /** Refused before anything is begun or removed; the first config then goes on. */
  async function refusedAtOnce(out: string, of: Config, change: Partial<RunOptions> = {}): Promise<string> {
    const before = await snapshot(out);
    const { sink, steps } = watching();
    const error = await refusal(() => runPipeline(of, optionsOf(out, { ...change, progress: sink })));
    expect([error.code, steps]).toEqual(['E_CONFIG', []]);
    expect((await refusal(() => planPipeline(of, optionsOf(out, change)))).message).toBe(error.message);
    expect(await snapshot(out)).toEqual(before);
    return error.message;
  }

  test('a half trained teacher is kept when a later stage is restarted with a config that changes it', async () => {
    const out = await half(/^squeeze: teacher$/);
    const other = tiny({ squeeze: { epochs: 3 } });
    const message = await refusedAtOnce(out, other, { restartFrom: 'train' });
    expect(message).toContain('squeeze.epochs was 2 and is 3');
    expect(message).toContain('--restart-from squeeze discards it');
    const { sink, steps } = watching();
    await runPipeline(config, optionsOf(out, { progress: sink }));
    expect(logs(steps)).toContain('resuming');
    const whole = at('whole-run');
    await runPipeline(config, optionsOf(whole));
    expect(await idsOf(out, config)).toEqual(await idsOf(whole, config));
  });

  test('what another version or device began is kept, and --restart-from discards it', async () => {
    const out = await half(/^synthesize/);
    const draft = join(out, 'synthesize.partial');
    await rewrite(draft, { deviceClass: 'cuda' });
    expect(await refusedAtOnce(out, config)).toContain('to go on with it, give --device cuda;');
    await rewrite(draft, { stageVersion: 1 });
    await cp(out, at('upgraded'), { recursive: true, preserveTimestamps: true });
    await rm(join(out, 'squeeze'), { recursive: true }); // nor is the teacher made first
    for (const folder of [out, at('upgraded')]) {
      const message = await refusedAtOnce(folder, config);
      expect(message).toContain('version of the stage was 1 and is 2; device class was "cuda" and is "cpu"');
      expect(message).toContain('--restart-from synthesize discards it');
    }
    await runPipeline(config, optionsOf(at('upgraded'), { restartFrom: 'synthesize' }));
    expect(Object.keys(await idsOf(at('upgraded'), config))).toContain('evaluate');
  });

  test('what was made from a teacher that is no more is discarded, and the log says so', async () => {
    const out = await half(/^synthesize/);
    await rewrite(join(out, 'synthesize.partial'), { inputs: { teacher: '1'.repeat(64) } });
    const { sink, steps } = watching();
    await runPipeline(config, optionsOf(out, { progress: sink }));
    expect(logs(steps)).toContainEqual(expect.stringContaining('the teacher it was made from was made anew'));
  });
});

test('differingKeys looks into sections, compares lists whole and leaves out what changes no result', () => {
  const other = { ...config, name: 'x', description: 'y', controls: [] };
  expect(differingKeys(config, other, DECIDING)).toEqual([]);
  expect(differingKeys(config, other)).toEqual(['name', 'description']);
  const changed = tiny({ seed: 1, squeeze: { widths: [4, 5] }, train: { students: 2 } });
  const keys = differingKeys(config, changed, DECIDING);
  expect(keys).toEqual(['seed', 'squeeze.widths', 'train.students']);
  expect(changesTold(config, changed, keys)).toMatch(
    /^seed was 0 and is 1; squeeze\.widths was \[4,4\] and is \[4,5\]; /,
  );
  expect(changesTold({}, {}, ['a', 'b', 'c', 'd', 'e', 'f', 'g'])).toMatch(/; and 2 more$/);
});
