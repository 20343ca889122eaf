#!/usr/bin/env node
// Everything between a fresh clone and the first command, each step only when it is needed: npm packages, compiled
// TypeScript, LibTorch, the native addon. Only Node's own modules are imported, since there is no node_modules yet.
// Nothing is written to stdout; every failure is one message on stderr and exit code 4.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { hashSources, NATIVE_SOURCES } from './build-native.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (...parts) => join(root, ...parts);
const say = (line) => process.stderr.write(`${line}\n`);

class SetupError extends Error {}

/** Runs a command quietly; its output is shown only if it fails. */
function run(what, command, args) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    cwd: root,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
    maxBuffer: 2 ** 28,
  });
  if (status === 0) return;
  const lines = `${stdout ?? ''}${stderr ?? ''}`.split('\n').filter((line) => !/^npm warn|^\s*$/.test(line));
  throw new SetupError(`${what} failed${error == null ? '' : ` (${error.message})`}\n${lines.slice(0, 25).join('\n')}`);
}

function readStamp(path) {
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
}

function checkNode() {
  const [major, minor] = process.versions.node.split('.').map(Number);
  if (major > 20 || (major === 20 && minor >= 19)) return;
  throw new SetupError(`expected Node.js 20.19 or newer but this is ${process.versions.node}`);
}

/** npm ci when node_modules is missing or belongs to another package-lock.json. */
function ensurePackages() {
  const lock = at('package-lock.json');
  const stamp = at('node_modules', '.lpld-packages');
  const wanted = createHash('sha256').update(readFileSync(lock)).digest('hex');
  if (readStamp(stamp) === wanted) return;
  const npmRecord = at('node_modules', '.package-lock.json');
  const byHand = existsSync(npmRecord) && statSync(npmRecord).mtimeMs >= statSync(lock).mtimeMs;
  if (!byHand) {
    say('installing npm packages');
    const npm = process.env.npm_execpath;
    const viaNode = npm !== undefined && /npm-cli\.[cm]?js$/.test(npm);
    const npmRun = (...args) =>
      run(`npm ${args[0]}`, viaNode ? process.execPath : 'npm', [
        ...(viaNode ? [npm] : []),
        ...args,
        '--no-audit',
        '--no-fund',
      ]);
    try {
      npmRun('ci');
    } catch (e) {
      // A registry without some other platform's optional packages makes locks that npm ci calls incomplete.
      if (!/EUSAGE/.test(e.message)) throw e;
      say('package-lock.json is incomplete for npm ci: using npm install');
      npmRun('install', '--no-save');
    }
  }
  writeFileSync(stamp, wanted);
}

/** Compiles src/ into an empty dist/, so that no output of a deleted file stays behind. */
function ensureCompiled() {
  const stamp = at('dist', '.lpld-compiled');
  const wanted = hashSources(root, ['src', 'tsconfig.json', 'package-lock.json']);
  if (readStamp(stamp) === wanted) return;
  say('compiling TypeScript');
  rmSync(at('dist'), { recursive: true, force: true });
  run('tsc', process.execPath, [at('node_modules', 'typescript', 'bin', 'tsc'), '-p', 'tsconfig.json']);
  writeFileSync(stamp, wanted);
}

async function ensureLibtorch() {
  const { locateLibtorch } = await import('../dist/libtorch.js');
  const found = locateLibtorch();
  if (found !== null) return found;
  say('no LibTorch found: installing the CPU build into the per-user cache');
  const { installLibtorch } = await import('../dist/install.js');
  return installLibtorch({ variant: 'cpu', log: say });
}

/** Why the addon has to be built, or null. */
async function addonStale(libtorch) {
  const { listAddons } = await import('../dist/addon.js');
  const addon = listAddons().find((a) => a.minor === libtorch.minor);
  if (addon === undefined) return 'missing';
  const folder = addon.kind === 'build' ? at('build', 'Release') : at('prebuilt', `torch-${addon.minor}`);
  const record = join(folder, 'lpld-build.json');
  if (!existsSync(record)) return 'unrecorded';
  const { sources, cuda } = JSON.parse(readFileSync(record, 'utf8'));
  if (sources !== hashSources(root, NATIVE_SOURCES)) return 'older than its sources';
  return cuda === null && libtorch.cuda !== null ? 'built for the CPU only' : null;
}

function buildAddon() {
  const script = at('scripts', 'build-native.mjs');
  const { status } = spawnSync(process.execPath, [script], { cwd: root, stdio: ['ignore', 2, 2] });
  if (status !== 0) process.exit(4);
}

try {
  checkNode();
  ensurePackages();
  ensureCompiled();
  if ((await addonStale(await ensureLibtorch())) !== null) buildAddon();
} catch (e) {
  const expectedFailure = e instanceof SetupError || e?.name === 'LpldError';
  say(`lpld-native: ${expectedFailure ? e.message : `setting up failed: ${e?.stack ?? e}`}`);
  process.exit(4);
}
