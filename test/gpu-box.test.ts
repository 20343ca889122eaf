// What is carried to a machine with a GPU: which packages travel, and what is said where something is missing. That the whole
// works is shown by the rehearsal CONTRIBUTING.md describes, which builds the addon and needs minutes.

import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { packageFolders } from '../scripts/gpu-box-pack.mjs';

const root = join(import.meta.dirname, '..');
const folders: string[] = [];
afterEach(() => {
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
});

test('a package travels with what it needs, nested versions inside their owner, nothing of other platforms', () => {
  const packages = {
    '': { dependencies: { a: '1', b: '1' } },
    'node_modules/a': { dependencies: { b: '2', c: '1' }, optionalDependencies: { 'd-win32': '1' } },
    'node_modules/a/node_modules/b': { dependencies: { c: '1' } },
    'node_modules/b': { dependencies: { a: '1', e: '1' } },
    'node_modules/c': {},
    'node_modules/d-win32': {},
    'node_modules/e': { devDependencies: { f: '1' } },
    'node_modules/f': {},
  };
  const installed = (folder: string): boolean => folder !== 'node_modules/d-win32';
  expect(packageFolders(packages, ['a'], installed)).toEqual(['node_modules/a', 'node_modules/c']);
  expect(packageFolders(packages, ['b'], installed)).toEqual(
    ['a', 'b', 'c', 'e'].map((name) => `node_modules/${name}`),
  );
});

/** The script in a tree of its own. */
function runBox(prepare: (tree: string) => void): { status: number | null; stderr: string } {
  const tree = mkdtempSync(join(tmpdir(), 'lpld-box-'));
  folders.push(tree);
  mkdirSync(join(tree, 'scripts'));
  cpSync(join(root, 'scripts', 'gpu-box.sh'), join(tree, 'scripts', 'gpu-box.sh'));
  prepare(tree);
  const { status, stderr } = spawnSync('bash', ['scripts/gpu-box.sh'], { cwd: tree, encoding: 'utf8' });
  return { status, stderr };
}

test('without .gpu-box, and in a tree with packages of its own, it refuses and touches nothing', () => {
  expect(runBox(() => {})).toEqual({
    status: 4,
    stderr:
      'gpu-box: expected .gpu-box/ in the tree\ngpu-box: where Node is, run: npm run gpu-box; then carry it here\n',
  });
  const occupied = runBox((tree) => {
    mkdirSync(join(tree, '.gpu-box'));
    writeFileSync(join(tree, '.gpu-box', 'box.json'), '{}');
    mkdirSync(join(tree, 'node_modules'));
    writeFileSync(join(tree, 'node_modules', 'kept'), '');
  });
  expect(existsSync(join(folders.at(-1)!, 'node_modules', 'kept'))).toBe(true);
  expect(occupied.status).toBe(4);
  expect(occupied.stderr).toContain('this tree has npm packages of its own');
});
