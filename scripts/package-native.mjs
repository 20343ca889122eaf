#!/usr/bin/env node
// Makes the prebuilt addon for the LibTorch minor found here: prebuilt/torch-<minor>/prebuilds/linux-x64/. prebuildify
// builds through binding/tools/node-gyp (our stand-in, which calls build-native.mjs), strips, and names the file.
// Output goes to stderr; exit code 4 on failure.

import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));

async function packageNative() {
  const dist = new URL('../dist/libtorch.js', import.meta.url);
  if (!existsSync(dist)) throw new Error('the TypeScript has not been compiled: run npm run build:ts');
  const { requireLibtorch } = await import(dist.href);
  const libtorch = requireLibtorch();
  const out = join('prebuilt', `torch-${libtorch.minor}`);
  rmSync(join(root, out), { recursive: true, force: true });
  mkdirSync(join(root, out), { recursive: true });
  const standIn = join(root, 'binding', 'tools', 'node-gyp');
  const args = ['--napi', '--strip', '--tag-libc', '--out', out, '--node-gyp', standIn];
  const { status } = spawnSync(process.execPath, [require.resolve('prebuildify/bin.js'), ...args], {
    cwd: root,
    env: { ...process.env, LIBTORCH: libtorch.root },
    stdio: ['ignore', 2, 2],
  });
  if (status !== 0) {
    rmSync(join(root, out), { recursive: true, force: true });
    throw new Error('prebuildify failed');
  }
  // prebuildify moved lpld.node away: the record goes with it.
  copyFileSync(join(root, 'build', 'Release', 'lpld-build.json'), join(root, out, 'lpld-build.json'));
  rmSync(join(root, 'build', 'Release', 'lpld-build.json'));
  const { findAddon } = await import('../dist/addon.js');
  process.stderr.write(`packaged ${findAddon(libtorch.minor).path}\n`);
}

try {
  await packageNative();
} catch (e) {
  process.stderr.write(`lpld-native: ${e.message}\n`);
  process.exit(4);
}
