// What is carried to a machine with a GPU: which packages travel, what is said where something is missing, and that a check
// which ends its process takes no other with it. That the whole works is shown by the rehearsal CONTRIBUTING.md describes,
// which builds the addon and needs minutes.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { packageFolders } from '../scripts/gpu-box-pack.mjs';
import { judged, stepsOf } from '../scripts/gpu-box-steps.mjs';
import { ipcShares } from '../scripts/gpu-check.mjs';
import { collectRows } from '../scripts/gpu-check-rows.mjs';

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

test('a second call goes on where the first ended: what was not begun, then what failed; names are taken as they are', () => {
  const all = ['build', 'checks', 'bench', 'run', 'tests'];
  expect(stepsOf(all, [], {})).toEqual(all);
  const before = { build: 'ok', checks: 'failed: exit code 1', bench: 'ok' };
  expect(stepsOf(all, [], before)).toEqual(['build', 'run', 'tests', 'checks']);
  expect(stepsOf(all, ['bench', 'checks'], before)).toEqual(['build', 'checks', 'bench']);
});

test("a tool's errors count though they ended the program; without any, only a program that came to its end is sound", () => {
  const end = '{"cases": 3, "wrong": 0}';
  expect(judged({ status: 0, text: `${end}\n========= ERROR SUMMARY: 0 errors` })).toEqual({ errors: 0 });
  expect(judged({ status: 0, text: `${end}\n========= RACECHECK SUMMARY: 0 hazards displayed` })).toEqual({
    errors: 0,
  });
  const text = '========= Invalid __global__ read of size 4\nprobe: launched\n========= ERROR SUMMARY: 2 errors';
  expect(judged({ status: 4, text })).toEqual({
    errors: 2,
    text: ['========= Invalid __global__ read of size 4', '========= ERROR SUMMARY: 2 errors'],
  });
  const refused = 'Error: Device not supported\n========= ERROR SUMMARY: 0 errors';
  expect(judged({ status: 1, text: refused })).toMatchObject({ errors: null });
  expect(judged({ status: null, text: 'spawnSync compute-sanitizer ENOENT' })).toEqual({
    errors: null,
    why: 'spawnSync compute-sanitizer ENOENT',
  });
});

test('the rate of small classes is a share of that of large ones in the same case; rows without a rate have none', () => {
  const row = (title: string, contender: string, imageIterationsPerSecond?: number) => ({
    ...{ case: title, contender },
    ...(imageIterationsPerSecond === undefined ? {} : { imageIterationsPerSecond }),
  });
  const rows = [
    row('64 px, 10 classes of 50 images', 'ours-bf16', 4000),
    row('64 px, 50 classes of 10 images', 'ours-bf16', 3000),
    row('64 px, 50 classes of 10 images', 'ours-tf32', 10),
    row('224 px, 5 classes of 50 images', 'ours-bf16', 500),
    row('224 px, 25 classes of 10 images', 'ours-bf16'),
  ];
  expect(ipcShares(rows)).toEqual([{ case: '64 px', ipc10ToIpc50: 0.75 }]);
});

/** Children that answer as gpu-check's do; the second check ends its process, the fourth breaks the device's context. */
function child(from: number, ends: string): ChildProcess {
  const script = `
    const say = (line) => console.log(JSON.stringify(line));
    const names = ['a', 'b', 'c', 'd', 'e'];
    say({ info: { from: ${from} }, names });
    for (let i = ${from}; i < names.length; i++) {
      say({ begin: i });
      if (i === 1) { ${ends} }
      say({ row: { name: names[i], passed: i !== 3, seconds: process.pid } });
      if (i === 3) process.exit(0);
    }
    say({ done: true });`;
  return spawn(process.execPath, ['-e', script], { stdio: ['ignore', 'pipe', 'ignore'] });
}

test('every check has its row, whatever ends a process: a signal, an exit, a broken context', async () => {
  for (const [ends, error] of [
    ["process.kill(process.pid, 'SIGSEGV'); setTimeout(() => {}, 1e6); break;", 'its process ended with SIGSEGV'],
    ['process.exit(7)', 'its process ended with exit code 7'],
  ] as const) {
    const seen: string[] = [];
    const { code, rows } = await collectRows(
      (from) => child(from, ends),
      (row) => seen.push(row.name),
    );
    expect(code).toBe(0);
    expect(seen).toEqual(['a', 'b', 'c', 'd', 'e']);
    expect(rows.map(({ passed }) => passed)).toEqual([true, false, true, false, true]);
    expect(rows[1]).toMatchObject({ name: 'b', error });
    expect(new Set(rows.map(({ seconds }) => seconds)).size).toBe(4);
  }
});

test('where not even the first child begins, its exit code is the answer', async () => {
  const failing = () => spawn(process.execPath, ['-e', 'process.exit(4)'], { stdio: ['ignore', 'pipe', 'ignore'] });
  expect(await collectRows(failing, () => {})).toEqual({ code: 4, rows: [], left: 0 });
});

test('a check that hangs is ended at the limit, and what comes after it is counted', async () => {
  const hanging = (from: number) => child(from, 'setTimeout(() => {}, 1e6); break;');
  const { code, rows, left } = await collectRows(hanging, () => {}, performance.now() + 6000);
  expect(rows.map(({ passed }) => passed)).toEqual([true, false]);
  expect(rows[1]!.error).toBe('its process ended with SIGKILL');
  expect({ code, left }).toEqual({ code: 0, left: 3 });
});
