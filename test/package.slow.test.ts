// The package as users get it: a prebuild is made in a copy of the tree, the tarball is packed, installed into an empty
// project (where there is no build/ folder) and used through import, require and the command line.

import { execFileSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { packageRoot, requireLibtorch } from '../src/libtorch.ts';

const folder = mkdtempSync(join(tmpdir(), 'lpld-package-'));
const tree = join(folder, 'tree');
const project = join(folder, 'project');
const env = { ...process.env, LIBTORCH: requireLibtorch().root, npm_config_update_notifier: 'false' };
const run = (cwd: string, command: string, ...args: string[]): string =>
  execFileSync(command, args, { cwd, env, encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 1 << 26 });

beforeAll(() => {
  mkdirSync(tree);
  for (const name of [
    'package.json',
    'CMakeLists.txt',
    'native',
    'binding',
    'scripts',
    'dist',
    'data',
    'docs',
    'README.md',
    'LICENSE',
  ])
    cpSync(join(packageRoot, name), join(tree, name), { recursive: true });
  cpSync(join(packageRoot, 'src', 'presets'), join(tree, 'src', 'presets'), { recursive: true });
  symlinkSync(join(packageRoot, 'node_modules'), join(tree, 'node_modules'));
  run(tree, process.execPath, 'scripts/package-native.mjs');
  run(tree, 'npm', 'pack', '--pack-destination', folder);
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz'))!;
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), '{"name": "empty", "private": true}\n');
  run(project, 'npm', 'install', '--no-audit', '--no-fund', '--prefer-offline', join(folder, tarball));
  rmSync(tree, { recursive: true, force: true }); // nothing may reach back into it
}, 900_000);

afterAll(() => rmSync(folder, { recursive: true, force: true }));

const installed = join(project, 'node_modules', 'lpld-native');

test('the tarball holds a prebuild for this LibTorch minor and no build folder', () => {
  expect(existsSync(join(installed, 'build'))).toBe(false);
  expect(existsSync(join(installed, 'prebuilt', `torch-${requireLibtorch().minor}`, 'prebuilds'))).toBe(true);
});

test('import and require load the prebuilt addon and compute with it', () => {
  const use =
    'const { shape, data } = loadNative().ops.normals(1n, 19, 0, 0, 6); console.log(JSON.stringify([shape, data.length]));';
  writeFileSync(join(project, 'a.mjs'), `import { loadNative } from 'lpld-native';\n${use}\n`);
  writeFileSync(join(project, 'b.cjs'), `const { loadNative } = require('lpld-native');\n${use}\n`);
  for (const file of ['a.mjs', 'b.cjs']) expect(JSON.parse(run(project, process.execPath, file))).toEqual([[6], 24]);
});

test('the command line runs a small pipeline on the embedded digits', () => {
  const sets = [
    'squeeze.epochs=1',
    'synthesize.ipc=2',
    'synthesize.iterations=5',
    'relabel.batch=10',
    'relabel.epochs=4',
    'train.epochs=2',
    'train.students=1',
    'prune.pruneRatio=0.5',
    'controls=[]',
  ];
  const out = run(
    project,
    'npx',
    'lpld-native',
    'run',
    'quickstart',
    '--out',
    'out',
    '--json',
    '--quiet',
    ...sets.flatMap((s) => ['--set', s]),
  );
  const report = JSON.parse(out.trimEnd().split('\n').at(-1)!) as {
    student: { top1: number };
    images: { count: number };
  };
  expect(report.images.count).toBe(20);
  expect(report.student.top1).toBeGreaterThan(0);
  expect(existsSync(join(project, 'out', 'report.html'))).toBe(true);
});
