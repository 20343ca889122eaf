// examples/derived-recipe.py, which is docs/streams.md and the section Derived Recipes of docs/label-format.md in plain
// Python: the Recipes it prints against the ones this package draws; and the reader in that page, run as it stands.

import { spawnSync } from 'node:child_process';
import { mkdtemp, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { LabelReader } from '../src/label-reader.ts';
import type { Recipes } from '../src/native.ts';
import { runStage } from '../src/run.ts';
import { arrayOf, type DType } from '../src/tensor.ts';
import { inputsIn, makeChain, optionsOf, tiny } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const tree = join(import.meta.dirname, '..');
const python = process.env.PYTHON ?? 'python3';
const can = (code: string): boolean => spawnSync(python, ['-c', code]).status === 0;

let root = '';
const relabel = (name: string, options: object) =>
  runStage('relabel', tiny({ seed: 2 ** 40 + 7, relabel: { batch: 4, epochs: 5, recordsPerShard: 4, ...options } }), {
    ...optionsOf(join(root, name)),
    inputs: inputsIn(root, 'relabel', []),
  });
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-derived-'));
  await makeChain(root, tiny(), ['squeeze', 'synthesize']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** A tensor of Recipes as nested lists of numbers. */
function listOf(recipes: Recipes, name: keyof Recipes): unknown {
  const { dtype, shape } = recipes[name];
  const flat = Array.from(arrayOf<DType>(recipes[name], dtype) as ArrayLike<number>);
  const [rows = 0, width] = shape;
  return width === undefined ? flat : Array.from({ length: rows }, (_, i) => flat.slice(i * width, (i + 1) * width));
}

describe.skipIf(!can('import json'))('in plain Python', () => {
  test.each([
    ['cutmix', { mix: 'cutmix', cropScale: [0.08, 1], flip: true, dropLast: false }],
    ['mixup', { mix: 'mixup', cropScale: null, flip: false, dropLast: false }],
    ['cutout', { mix: 'none', cropScale: [0.9, 1], flip: true, cutout: 0.5 }],
  ] as const)('%s', async (name, options) => {
    await relabel(name, options);
    await using reader = await LabelReader.open(join(root, name), join(root, 'synthesize'));
    for (const position of [0, 1, reader.numRecords - 1]) {
      const { recipes, recordIds } = await reader.read([position]);
      const args = [join(root, name), join(root, 'synthesize'), String(recordIds[0])];
      const { stdout, stderr } = spawnSync(python, [join(tree, 'examples', 'derived-recipe.py'), ...args], {
        encoding: 'utf8',
      });
      const printed = JSON.parse(stdout || stderr) as Record<string, unknown>;
      printed.lambda = (printed.lambda as number[]).map(Math.fround);
      const { offset: _, ...drawn } = recipes;
      expect(Object.keys(printed).sort()).toEqual(Object.keys(drawn).sort());
      for (const field of Object.keys(drawn) as (keyof Recipes)[])
        expect(printed[field], field).toEqual(listOf(recipes, field));
    }
  });
});

describe.skipIf(!can('import numpy, safetensors'))('the reader in docs/label-format.md', () => {
  test.each(['derived', 'explicit'])('%s Recipes', async (recipes) => {
    await relabel('labels', { recipes });
    const page = await readFile(join(tree, 'docs', 'label-format.md'), 'utf8');
    const code = /```python\n([\s\S]*?)```/.exec(page)![1]!;
    await writeFile(
      join(root, 'reader.py'),
      `${code}print(record, logits.shape, logits.dtype, 'images' in globals())\n`,
    );
    const { stdout, stderr } = spawnSync(python, ['reader.py'], { cwd: root, encoding: 'utf8' });
    expect(stdout, stderr).toBe(`0 (4, 3) float16 ${recipes === 'explicit' ? 'True' : 'False'}\n`);
    await rename(join(root, 'labels'), join(root, `labels-${recipes}`));
  });
});
