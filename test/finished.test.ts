// Finished work of another key: a command that would put something else in its place is refused with what differs and
// what to do, and not a byte is touched; on the user's word it is replaced, and stands until the new one is whole.

import { copyFileSync, existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openArtifact, type StageHeader, stageKey } from '../src/artifact.ts';
import type { Config } from '../src/config.ts';
import { importWeights } from '../src/import-weights.ts';
import { mergeShards } from '../src/merge.ts';
import { planPipeline, type RunOptions, runPipeline, runStage, type StageOptions } from '../src/run.ts';
import { writeSafetensors } from '../src/safetensors.ts';
import { exporting, importing } from './util/exchange.ts';
import { refusal } from './util/hostile.ts';
import { idsOf, optionsOf, tiny, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const config = tiny();
const longer = tiny({ squeeze: { epochs: 3 } });
let root = '';
const at = (path: string): string => join(root, path);
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-finished-'));
  await runPipeline(config, optionsOf(at('run')));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A copy of the finished run, or of one folder of it. */
async function copy(folder = ''): Promise<string> {
  const out = join(await mkdtemp(at('copy-')), 'out');
  await cp(join(at('run'), folder), out, { recursive: true, preserveTimestamps: true });
  return out;
}

/** Every file below a folder with its time. */
async function snapshot(dir: string): Promise<Record<string, number>> {
  const files: Record<string, number> = {};
  for (const entry of await readdir(dir, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    files[path] = entry.isFile() ? (await stat(path)).mtimeMs : 0;
  }
  return files;
}

/** Lets an artifact say that it was made otherwise, as another machine or version would have written it. */
async function rewrite(dir: string, change: Partial<StageHeader> & { summary?: unknown }): Promise<void> {
  const path = join(dir, 'manifest.json');
  const otherwise = { ...(JSON.parse(await readFile(path, 'utf8')) as StageHeader), ...change };
  await writeFile(path, JSON.stringify({ ...otherwise, key: stageKey(otherwise) }));
  await openArtifact(dir); // still a good one
}

/** Awaits a refusal that leaves a folder as it was. */
async function kept(dir: string, work: () => Promise<unknown>) {
  const before = await snapshot(join(dir, '..'));
  const error = await refusal(work);
  expect(error.code, error.message).toBe('E_CONFIG');
  expect(await snapshot(join(dir, '..'))).toEqual(before);
  return error;
}

describe('one stage', () => {
  const squeeze = (out: string, of: Config, change: Partial<StageOptions> = {}) =>
    runStage('squeeze', of, { ...optionsOf(out), inputs: {}, ...change });

  test('a trained teacher is not replaced by one of another epoch count, until the user says so', async () => {
    const dir = await copy('squeeze');
    const { id } = await openArtifact(dir);
    const error = await kept(dir, () => squeeze(dir, longer));
    expect(error.details).toEqual({ path: dir, keys: ['squeeze.epochs'] });
    expect(error.message.split('\n')).toEqual([
      `expected a new folder, or what this command made before, for --out but received "${dir}", made otherwise: squeeze.epochs was 2 and is 3`,
      'to keep it, choose another --out; --replace replaces it',
    ]);
    expect((await openArtifact(dir, { verify: true })).id).toBe(id);
    expect((await squeeze(dir, config, { replace: true })).id).toBe(id); // the same key: nothing to replace
    const { manifest } = await squeeze(dir, longer, { replace: true });
    expect(manifest.config).toMatchObject({ squeeze: { epochs: 3 } });
    expect(existsSync(`${dir}.partial`)).toBe(false);
  });

  test('one that was given up stands until the new one is whole, which the same command finishes', async () => {
    const dir = await copy('squeeze');
    const { id } = await openArtifact(dir);
    const controller = new AbortController();
    const { sink } = watching(({ label, done, total }) => {
      if (label === 'teacher' && done > total / 2) controller.abort();
    });
    const stopping = { replace: true, progress: sink, signal: controller.signal };
    expect((await refusal(() => squeeze(dir, longer, stopping))).code).toBe('E_CANCELLED');
    expect((await openArtifact(dir, { verify: true })).id).toBe(id);
    await kept(dir, () => squeeze(dir, longer)); // the draft does not stand for the user's word
    const { sink: log, steps } = watching();
    await squeeze(dir, longer, { replace: true, progress: log });
    const lines = steps.map(({ line }) => line);
    expect(lines).toEqual(expect.arrayContaining(['resuming', `${dir} is replaced when this is done: as asked`]));
    expect((await openArtifact(dir)).manifest.config).toMatchObject({ squeeze: { epochs: 3 } });
  });

  test.each<[string, Partial<StageHeader>, string, string]>([
    ['device', { deviceClass: 'cuda' }, 'device class was "cuda" and is "cpu"', 'give --device cuda, or choose'],
    ['version', { stageVersion: 99 }, 'version of the stage was 99 and is ', 'to keep it, choose'],
    ['dataset', { inputs: { dataset: '1'.repeat(64) } }, 'id of dataset was "111111111111" and is "', 'it, choose'],
    [
      'device and version',
      { deviceClass: 'cuda', stageVersion: 99 },
      'version of the stage was 99 and is 1; device class was "cuda" and is "cpu"',
      'to keep it, choose',
    ],
  ])('made on or from another %s', async (_what, change, words, advice) => {
    const dir = await copy('squeeze');
    await rewrite(dir, change);
    const { message } = await kept(dir, () => squeeze(dir, config));
    expect(message).toContain(`made otherwise: ${words}`);
    expect(message).toContain(advice);
    await squeeze(dir, config, { replace: true });
    expect((await openArtifact(dir)).id).toBe((await openArtifact(at('run/squeeze'))).id);
  });

  test('another precision is told by its key', async () => {
    const dir = await copy('squeeze');
    const error = await kept(dir, () => squeeze(dir, tiny({ squeeze: { precision: 'bf16' } })));
    expect(error.details.keys).toEqual(['squeeze.precision']);
  });

  test('other labels under the same config are another input', async () => {
    const dir = await copy('train');
    const inputs = { images: at('run/synthesize'), labels: at('run/relabel') };
    const error = await kept(dir, () => runStage('train', config, { ...optionsOf(dir), inputs }));
    expect(error.details.keys).toEqual(['id of labels']);
    await runStage('train', config, { ...optionsOf(dir), inputs, replace: true });
  });

  test('a damaged manifest is no licence', async () => {
    const dir = await copy('squeeze');
    await writeFile(join(dir, 'manifest.json'), '{');
    expect((await refusal(() => squeeze(dir, config))).code).toBe('E_DATA');
    expect(await readFile(join(dir, 'manifest.json'), 'utf8')).toBe('{');
  });
});

describe('a run', () => {
  /** Refused by run and by --dry-run alike, before anything is begun. */
  async function refused(out: string, of: Config = config, change: Partial<RunOptions> = {}): Promise<string> {
    const { sink, steps } = watching();
    const { message } = await kept(out, () => runPipeline(of, optionsOf(out, { ...change, progress: sink })));
    expect(steps).toEqual([]);
    expect((await refusal(() => planPipeline(of, optionsOf(out, change)))).message).toBe(message);
    return message;
  }

  test('what a card made is not made again on a CPU', async () => {
    const out = await copy();
    await rewrite(join(out, 'squeeze'), { deviceClass: 'cuda' });
    const message = await refused(out);
    expect(message).toContain(`"${join(out, 'squeeze')}", made otherwise: device class was "cuda" and is "cpu"`);
    expect(message).toMatch(/give --device cuda, or choose another --out; --restart-from squeeze replaces it$/);
    await runPipeline(config, optionsOf(out, { restartFrom: 'squeeze' }));
    expect(await idsOf(out, config)).toEqual(await idsOf(at('run'), config));
  });

  test('nor is one stage in its middle, which --restart-from a later one does not touch', async () => {
    const out = await copy();
    await rewrite(join(out, 'synthesize'), { stageVersion: 1 });
    expect(await refused(out)).toContain('version of the stage was 1 and is 2\n');
    expect(await refused(out, config, { restartFrom: 'train' })).toContain('--restart-from synthesize replaces it');
    await rm(join(out, 'squeeze'), { recursive: true }); // nor is the teacher made first
    expect(await refused(out)).toContain('version of the stage was 1 and is 2\n');
  });

  test('a folder without config.json is known by its artifacts', async () => {
    const out = await copy();
    await rm(join(out, 'config.json'));
    expect(await refused(out, longer)).toContain('squeeze.epochs was 2 and is 3');
    await writeFile(join(out, 'config.json'), JSON.stringify(longer)); // as a single stage leaves it that was restarted
    expect(await refused(out, longer)).toContain('squeeze.epochs was 2 and is 3');
  });

  test('what was made from an artifact that is now another is made anew without a question, the rest is kept', async () => {
    const out = await copy();
    await rewrite(join(out, 'synthesize'), { summary: { made: 'again' } }); // the same key, another id
    const { stages } = await planPipeline(config, optionsOf(out));
    const actions = Object.fromEntries(stages.map(({ folder, action }) => [folder, action]));
    const anew = ['relabel', 'prune', 'train', 'evaluate'];
    expect(actions).toEqual({
      squeeze: 'keep',
      synthesize: 'keep',
      ...Object.fromEntries(anew.map((folder) => [folder, 'run'])),
    });
    const before = await idsOf(out, config);
    const { sink, steps } = watching();
    await runPipeline(config, optionsOf(out, { progress: sink }));
    const after = await idsOf(out, config);
    for (const folder of Object.keys(before)) expect(after[folder] !== before[folder]).toBe(anew.includes(folder));
    const lines = steps.filter(({ line }) => line.includes('is replaced when this is done'));
    expect(lines.map(({ stage }) => stage)).toEqual(anew);
    expect(lines[0]!.line).toContain('the images it was made from was made anew');
  });

  test('--restart-from removes nothing before all is there that it begins with', async () => {
    const out = await copy();
    const nowhere = tiny({ dataset: { format: 'folder', path: at('nowhere') } });
    const noWeights = tiny({ squeeze: { weights: at('nowhere.safetensors') } });
    const noCodec = tiny({ relabel: { codec: 'topk:0:mr' } });
    for (const of of [nowhere, noWeights, noCodec]) {
      const before = await snapshot(out);
      await refusal(() => runPipeline(of, optionsOf(out, { restartFrom: 'squeeze' })));
      expect(await snapshot(out)).toEqual(before);
    }
  });
});

test('a folder that a stage does not read under its config is told', async () => {
  const hard = tiny({ train: { targets: 'hard', epochs: 1 } });
  const inputs = { images: at('run/synthesize'), labels: at('run/prune') };
  const { sink, steps } = watching();
  await runStage('train', hard, { ...optionsOf(at('hard'), { progress: sink }), inputs });
  expect(steps.map(({ line }) => line)).toContain('--labels is not read under this config');
});

describe('what other commands make', () => {
  test('merge', async () => {
    const shards = [at('shard-1'), at('shard-2')];
    for (const [i, out] of shards.entries()) {
      const of = tiny({ synthesize: { shard: `${i + 1}/2` } });
      await runStage('synthesize', of, { ...optionsOf(out), inputs: { teacher: at('run/squeeze') } });
    }
    const other = tiny({ seed: 1 });
    const dir = at('merged');
    await runStage('synthesize', other, { ...optionsOf(dir), inputs: { teacher: at('run/squeeze') } });
    const merge = (replace: boolean) => mergeShards(shards, { ...optionsOf(dir), teacher: at('run/squeeze'), replace });
    expect((await kept(dir, () => merge(false))).details.keys).toEqual(['seed']);
    expect((await merge(true)).id).toBe((await openArtifact(at('run/synthesize'))).id);
    expect((await merge(false)).dir).toBe(dir); // it stands
  });

  test('import of images and of labels; export never replaces', async () => {
    const folder = at('folder');
    await exporting({ format: 'folder', labels: null, images: at('run/synthesize'), out: folder });
    const dir = at('imported');
    const bring = (replace: boolean) => importing({ format: 'folder', dir: folder, images: null, out: dir, replace });
    const first = await bring(false);
    const description = join(folder, 'dataset.json');
    const { mean, ...others } = JSON.parse(readFileSync(description, 'utf8')) as { mean: number[] };
    writeFileSync(description, JSON.stringify({ ...others, mean: mean.map((x) => x / 2) }));
    expect((await kept(dir, () => bring(false))).details.keys).toContain('mean');
    expect((await bring(true)).id).not.toBe(first.id);

    const fkd = { format: 'fkd', images: at('run/synthesize') };
    const [few, many] = [at('fkd-few'), at('fkd-many')];
    await exporting({ ...fkd, labels: at('run/prune'), out: few });
    await exporting({ ...fkd, labels: at('run/relabel'), out: many });
    const labels = at('imported-labels');
    const take = (from: string, replace: boolean) => importing({ ...fkd, dir: from, out: labels, replace });
    await take(few, false);
    expect((await kept(labels, () => take(many, false))).details.keys).toEqual(['id of fkd']);
    expect((await take(many, true)).manifest.summary).toMatchObject({ records: 40 });
    const error = await kept(few, () => exporting({ ...fkd, labels: at('run/relabel'), out: few }));
    expect(error.message).toMatch(/a new or empty folder for --out .*\nchoose another --out, or remove what is there$/);
  });

  test('import weights', async () => {
    await mkdir(at('weights'));
    const [source, other, out] = [
      at('run/squeeze/teacher.safetensors'),
      at('weights/b.safetensors'),
      at('weights/a.safetensors'),
    ];
    const x = { dtype: 'F32', shape: [1], data: new Uint8Array(4) } as const;
    await writeSafetensors(other, { x });
    const made = await importWeights(source, out);
    expect(await importWeights(source, out)).toEqual(made); // the same tensors
    expect((await kept(out, () => importWeights(other, out))).details.path).toBe(out);
    expect(await importWeights(other, out, { replace: true })).toMatchObject({ tensors: 1 });
    copyFileSync(join(import.meta.dirname, 'fixtures', 'teacher.pth'), at('weights/teacher.pth'));
    for (const wrong of ['weights/teacher.pth', 'weights/none', 'weights'])
      await kept(at(wrong), () => importWeights(at('weights/teacher.pth'), at(wrong)));
  });
});
