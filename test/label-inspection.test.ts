// `inspect` on label stores: every byte of the folder by purpose, in --json and as a table, and the teacher beside it,
// given or found in the run folder.

import { readdirSync, statSync } from 'node:fs';
import { mkdtemp, rename, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { loadServices } from '../src/cli/load.ts';
import { inspectLabels, type LabelInspection } from '../src/label-inspection.ts';
import { runStage } from '../src/run.ts';
import { elements } from '../src/tensor.ts';
import { cli } from './util/cli.ts';
import { refusal } from './util/hostile.ts';
import { inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

let root = '';
const at = (...parts: string[]) => join(root, ...parts);
const make = (stage: 'relabel' | 'prune', folder: string, options: object, inputs: Record<string, string>) =>
  runStage(stage, tiny({ [stage]: options }), { ...optionsOf(at(folder)), inputs });
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-inspect-'));
  await makeChain(root, tiny(), ['squeeze', 'synthesize', 'relabel', 'prune']);
  const given = inputsIn(root, 'relabel', []);
  await make('relabel', 'random/relabel', { codec: 'features', recipes: 'explicit' }, given);
  await make('prune', 'random/prune', { pruneRatio: 0.5 }, { labels: at('random/relabel') });
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** inspect with the services of the program, not fakes. */
async function inspected(...argv: string[]) {
  const { openArtifact: open, inspectLabels: inspect } = await loadServices();
  return cli(['inspect', ...argv], { openArtifact: open, inspectLabels: inspect });
}

describe.each([
  ['relabel', 'dense:f16', 40],
  ['prune', 'dense:f16', 20],
  ['random/relabel', 'features', 40],
  ['random/prune', 'features', 20],
])('%s', (folder, codec, records) => {
  test('--json reports every byte of the folder', async () => {
    const { code, out } = await inspected(at(folder), '--json');
    expect(code).toBe(0);
    const told = JSON.parse(out) as LabelInspection;
    expect(told).toMatchObject({ records, images: 6, classes: 3, codec });
    const { payload, recipes, index, basis, container, file } = told.bytes;
    const disk = readdirSync(at(folder)).filter((name) => !['manifest.json', 'run.json'].includes(name));
    expect(file).toBe(disk.reduce((sum, name) => sum + statSync(at(folder, name)).size, 0));
    expect(payload + recipes + index + basis + container).toBe(file);
    expect(payload).toBe(records * 3 * 2 * (codec === 'features' ? 16 : 3)); // 3 rows a record, 16 features or 3 classes
    expect(recipes).toBe(codec === 'features' ? 65 * 3 * records : 0);
    expect(basis).toBe(codec === 'features' ? 4 * (3 * 16 + 3) : 0);
    expect(told.fullStore).toBe(20 * 6 * (2 * 3 + (codec === 'features' ? 65 : 0)));
    expect(told.compression).toBeCloseTo(told.fullStore / file, 12);
    expect(told.bytesPerImage).toBeCloseTo(file / 6, 12);
  });

  test('the teacher that answered is found in the run folder and weighed at one byte a number', async () => {
    const teacher = await openArtifact(at('squeeze'));
    const weights = Object.values(await teacher.readTensors('teacher.safetensors'));
    const int8Bytes = weights.reduce((sum, { shape }) => sum + elements(shape), 0);
    const wanted = { id: teacher.id, int8Bytes };
    expect((await inspectLabels(at(folder), null))!.teacher).toEqual(wanted);
    expect((await inspectLabels(at(folder), at('squeeze')))!.teacher).toEqual(wanted);
  });

  test('the table for people has a line for every part, its bytes and the comparisons', async () => {
    const { out } = await inspected(at(folder));
    const told = (await inspectLabels(at(folder), null))!;
    for (const [part, bytes] of Object.entries(told.bytes)) expect(out).toMatch(new RegExp(`^${part} +${bytes} `, 'm'));
    expect(out).toContain(`${records} records of 6 images, 3 classes, codec ${codec}`);
    expect(out).toContain('the teacher itself as int8');
    expect(out).toContain('--verify hashes every file');
  });
});

test('a run folder: stores tell their bytes, the other artifacts their sum', async () => {
  const { artifacts } = JSON.parse((await inspected(root, '--json')).out) as { artifacts: Record<string, unknown>[] };
  const kinds = artifacts.map(({ stage, bytes }) => [stage, typeof bytes]);
  expect(kinds).toEqual([
    ['prune', 'object'],
    ['prune', 'object'],
    ['relabel', 'object'],
    ['relabel', 'object'],
    ['squeeze', 'number'],
    ['synthesize', 'number'],
  ]);
});

describe('the teacher', () => {
  test('of other labels, or what is none, is E_MISMATCH', async () => {
    const other = at('other');
    await runStage('squeeze', tiny({ seed: 1 }), { ...optionsOf(other), inputs: {} });
    for (const folder of [other, at('synthesize')])
      for (const labels of ['relabel', 'prune']) {
        const error = await refusal(() => inspectLabels(at(labels), folder));
        expect(error.code).toBe('E_MISMATCH');
        expect(error.message).toContain('--teacher');
      }
    await rm(other, { recursive: true });
  });

  test('that is nowhere is not told', async () => {
    await rename(at('squeeze'), at('elsewhere'));
    try {
      expect((await inspectLabels(at('prune'), null))!.teacher).toBe(null);
      expect((await inspectLabels(at('prune'), at('elsewhere')))!.teacher).not.toBe(null);
      expect((await inspected(at('prune'))).out).not.toContain('int8');
    } finally {
      await rename(at('elsewhere'), at('squeeze'));
    }
  });
});

test('an artifact that is no label store has no such report', async () => {
  expect(await inspectLabels(at('squeeze'), null)).toBe(null);
  expect(JSON.parse((await inspected(at('synthesize'), '--json')).out)).not.toHaveProperty('compression');
});
