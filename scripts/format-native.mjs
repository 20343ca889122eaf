#!/usr/bin/env node
// Formats the C++ and CUDA sources with clang-format; --check only reports. Without clang-format nothing is checked,
// and that is said: the style of C++ never stands in the way of a machine that lacks the tool.

import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const check = process.argv.includes('--check');

const files = ['native', 'binding']
  .filter((folder) => existsSync(join(root, folder)))
  .flatMap((folder) => readdirSync(join(root, folder), { recursive: true }).map((name) => join(folder, name)))
  .filter((name) => /\.(h|hpp|cpp|cu|cuh)$/.test(name))
  .sort();

if (spawnSync('clang-format', ['--version'], { stdio: 'ignore' }).status !== 0)
  process.stderr.write('clang-format not found: C++ format not checked\n');
else if (files.length > 0) {
  const mode = check ? ['--dry-run', '-Werror'] : ['-i'];
  const { status } = spawnSync('clang-format', [...mode, '--style=file', ...files], {
    cwd: root,
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) {
    process.stderr.write('C++ sources are not formatted: run npm run format\n');
    process.exit(1);
  }
}
