#!/usr/bin/env node
// Compiles the native addon with cmake-js against the LibTorch that src/libtorch.ts finds, into build/Release.
// Works in a clone and in an installed package; needs the compiled TypeScript (dist/). Arguments of the form
// --CDKEY=VALUE are handed to CMake; --sanitize builds with AddressSanitizer and UBSan into build/sanitize/build, for
// `npm run fuzz -- --sanitize`, and leaves the other build alone. A build with other options starts from an empty build folder, because CMake keeps
// the old ones; build/Release/lpld-build.json, what the loader trusts, exists only after a build that succeeded.
// Output goes to stderr; exit code 4 on every failure.

import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const packageRoot = fileURLToPath(new URL('..', import.meta.url));

/** Folder, below the package's, that an instrumented build takes for its package root. */
export const SANITIZED = 'build/sanitize';

/** What the addon is made of. */
export const NATIVE_SOURCES = ['CMakeLists.txt', 'native', 'binding'];

/** SHA-256 over names and contents of all files under the given paths, in hex. Missing paths count as empty. */
export function hashSources(root, paths) {
  const hash = createHash('sha256');
  const visit = (path) => {
    const full = join(root, path);
    if (!existsSync(full)) return;
    if (statSync(full).isDirectory()) for (const name of readdirSync(full).sort()) visit(`${path}/${name}`);
    else hash.update(`${path}\0`).update(createHash('sha256').update(readFileSync(full)).digest());
  };
  for (const path of paths) visit(path);
  return hash.digest('hex');
}

/** A failure the user can mend; printed without a stack. */
class BuildError extends Error {}

function checkTools(which) {
  /** @type {[string[], string, string][]} */
  const tools = [
    [['c++', 'g++', 'clang++'], 'a C++ compiler', 'g++'],
    [['cmake'], 'CMake', 'cmake'],
    [['ninja', 'make'], 'make or ninja', 'make'],
  ];
  const missing = tools.filter(([names]) => names.every((name) => which(name) === null));
  if (missing.length === 0) return;
  const what = missing.map(([, text]) => text).join(' and ');
  const packages = missing.map(([, , name]) => name).join(' ');
  throw new BuildError(`expected ${what} on PATH but found none\nrun: sudo apt-get install ${packages}`);
}

/** Runs cmake-js; its lines are kept for the log and the steps of the build shown now and then. */
function runCmakeJs(args, env) {
  const child = spawn(process.execPath, [require.resolve('cmake-js/bin/cmake-js'), ...args], {
    cwd: packageRoot,
    env,
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const terminal = process.stderr.isTTY;
  const lines = [];
  let [rest, shownAt, shown] = ['', Date.now(), false];
  const take = (text) => {
    const parts = (rest + text).split('\n');
    rest = parts.pop();
    lines.push(...parts);
    const step = parts.findLast((line) => /^\[ *\d+(\/\d+|%)\]/.test(line));
    if (step === undefined || Date.now() - shownAt < (terminal ? 100 : 20_000)) return;
    [shownAt, shown] = [Date.now(), true];
    const line = step.slice(0, (process.stderr.columns || 120) - 1);
    process.stderr.write(terminal ? `\r\x1b[K${line}` : `${line}\n`);
  };
  for (const stream of [child.stdout, child.stderr]) stream.setEncoding('utf8').on('data', take);
  return new Promise((done, fail) => {
    child.on('error', fail);
    child.on('close', (code) => {
      if (rest !== '') lines.push(rest);
      if (terminal && shown) process.stderr.write('\r\x1b[K');
      done({ code, lines });
    });
  });
}

function writeLog(folder, lines) {
  mkdirSync(join(packageRoot, folder), { recursive: true });
  writeFileSync(join(packageRoot, folder, 'lpld-build.log'), `${lines.join('\n')}\n`);
  return `${folder}/lpld-build.log`;
}

/** Empties a build folder when the options differ from those it was configured with. */
function prepareBuildFolder(build, options) {
  const record = join(build, 'lpld-options.json');
  const text = `${JSON.stringify(options, null, 2)}\n`;
  const configured = ['build.ninja', 'Makefile'].some((name) => existsSync(join(build, name)));
  if (configured && existsSync(record) && readFileSync(record, 'utf8') === text) {
    rmSync(join(build, 'Release', 'lpld-build.json'), { force: true });
    return;
  }
  rmSync(build, { recursive: true, force: true });
  mkdirSync(build, { recursive: true });
  writeFileSync(record, text);
}

async function buildNative(extra, sanitize) {
  const folder = sanitize ? `${SANITIZED}/build` : 'build';
  const build = join(packageRoot, folder);
  const dist = new URL('../dist/libtorch.js', import.meta.url);
  if (!existsSync(dist)) throw new BuildError('the TypeScript has not been compiled\nrun: npm run build:ts');
  const { requireLibtorch, which } = await import(dist.href);
  const libtorch = requireLibtorch();
  checkTools(which);
  if (!libtorch.headers)
    throw new BuildError(`LibTorch in ${libtorch.root} has no include/ to build against\nrun: npx lpld-native install`);

  const cmake = { LIBTORCH: libtorch.root, LPLD_CUDA: sanitize || which('nvcc') === null ? 'OFF' : 'ON' };
  if (sanitize) cmake.LPLD_SANITIZE = 'ON';
  if (which('ccache') !== null) cmake.CMAKE_CXX_COMPILER_LAUNCHER = 'ccache';
  const defines = [...Object.entries(cmake).map(([key, value]) => `--CD${key}=${value}`), ...extra];
  const generator = which('ninja') === null ? 'Unix Makefiles' : 'Ninja';
  prepareBuildFolder(build, { defines, generator, libtorch: libtorch.version, directory: packageRoot });

  // One compiler process can need 1.3 GB; a machine whose memory grows with use reports too little of it.
  const fitting = Math.max(1, Math.min(availableParallelism(), Math.floor(totalmem() / 2 ** 31)));
  const parallel = Number(process.env.CMAKE_BUILD_PARALLEL_LEVEL) || fitting;
  process.stderr.write(
    `building the native addon for LibTorch ${libtorch.version}; the first time takes some minutes\n`,
  );
  const sources = hashSources(packageRoot, NATIVE_SOURCES);
  const env = { CCACHE_SLOPPINESS: 'pch_defines,time_macros', CCACHE_BASEDIR: packageRoot, ...process.env };
  const where = ['--directory', packageRoot, '--out', build];
  const args = ['build', ...where, '-G', generator, '-p', String(parallel), ...defines];
  const { code, lines } = await runCmakeJs(args, env);
  const log = writeLog(folder, lines);
  const addon = join(build, 'Release', 'lpld.node');
  if (code !== 0 || !existsSync(addon)) {
    const isError = (line) => /\berror\b/i.test(line) && !line.startsWith('ERROR OMG');
    const errors = lines.flatMap((line, i) => (isError(line) ? lines.slice(i, i + (/^CMake/.test(line) ? 6 : 1)) : []));
    const shown = errors.length > 0 ? errors.slice(0, 20) : lines.slice(-20);
    throw new BuildError(`building the native addon failed; all of the output is in ${log}\n${shown.join('\n')}`);
  }
  const isBuilt = (name) => existsSync(join(build, 'Release', name));
  const [kernels, graph] = [isBuilt('liblpld_kernels.so'), isBuilt('liblpld_graph.so')];
  const { version, minor, cuda, root: libtorchRoot } = libtorch;
  const record = { libtorchRoot, libtorchVersion: version, minor, cuda, kernels, graph, sources };
  writeFileSync(join(build, 'Release', 'lpld-build.json'), `${JSON.stringify(record, null, 2)}\n`);
  process.stderr.write(
    `built ${folder}/Release/lpld.node${kernels ? ', the CUDA kernels' : ''}${graph ? ', CUDA graphs' : ''}\n`,
  );
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  try {
    const given = process.argv.slice(2);
    const extra = given.filter((argument) => argument !== '--sanitize');
    const unknown = extra.find((argument) => !/^--CD[A-Za-z_]+=/.test(argument));
    if (unknown !== undefined)
      throw new BuildError(`expected --CDKEY=VALUE or --sanitize for an argument but received ${unknown}`);
    await buildNative(extra, given.length > extra.length);
  } catch (e) {
    const expectedFailure = e instanceof BuildError || e?.name === 'LpldError';
    process.stderr.write(`lpld-native: ${expectedFailure ? e.message : (e?.stack ?? e)}\n`);
    process.exit(4);
  }
}
