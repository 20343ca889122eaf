#!/usr/bin/env node
// `npm run fuzz -- [--target NAME,...] [--count N] [--seed S]`: damaged files of every kind this package reads, made from
// good ones by seeded dice. Whatever happens must be an answer or an LpldError that says the file is at fault: no other
// exception, crash, hang, rush of memory, and no file outside the output folder. Cases run in child processes, so that a
// crash is a finding and not the end. --sanitize uses the build of `build-native.mjs --sanitize`. Needs dist/ and the addon.
// A finding names its case; `--from INDEX --count 1 --seed S` repeats it, and its files are left in build/fuzz/.

import { execFileSync, fork, spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';
import { SANITIZED } from './build-native.mjs';

const packageRoot = fileURLToPath(new URL('..', import.meta.url));
export const TARGETS = ['store', 'safetensors', 'pickle', 'image', 'json', 'archive', 'native', 'calls'];
const CHUNK = 5000; // cases of one process
const STUCK_MS = 20_000; // without a new case
const MOST_FINDINGS = 20;

/** The instrumented addon's package root: its own dist/, and fixtures that load it from there. */
function sanitizedRoot() {
  const root = join(packageRoot, SANITIZED);
  if (!existsSync(join(root, 'build', 'Release', 'lpld-build.json')))
    throw new Error('there is no instrumented build\nrun: node scripts/build-native.mjs --sanitize');
  for (const folder of ['dist', 'test/fixtures'])
    cpSync(join(packageRoot, folder), join(root, folder), { recursive: true, force: true });
  cpSync(join(packageRoot, 'package.json'), join(root, 'package.json'));
  return root;
}

/** The environment of a process with the sanitizers' library in front; LibTorch's own leaks are none of ours. */
export function sanitizedEnv() {
  const library = (name) => execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim();
  return {
    ...process.env,
    LD_PRELOAD: [library('libasan.so'), library('libstdc++.so')].join(' '),
    ASAN_OPTIONS: 'detect_leaks=0:allocator_may_return_null=1:max_allocation_size_mb=4096:detect_odr_violation=0',
    UBSAN_OPTIONS: 'halt_on_error=1:print_stacktrace=1',
  };
}

/** Runs cases [from, to) in one child. @returns what it said, and the case it died at if it did */
function runChild(job, env) {
  const child = fork(new URL('fuzz/worker.mjs', import.meta.url), [JSON.stringify(job)], {
    execArgv: ['--max-old-space-size=1024'],
    env,
    stdio: ['ignore', 'ignore', 'pipe', 'ipc'],
  });
  let [stderr, stuck, last] = ['', false, ''];
  child.stderr.setEncoding('utf8').on('data', (text) => {
    stderr = `${stderr}${text}`.slice(-20_000);
  });
  const at = () => (existsSync(job.mark) ? readFileSync(job.mark, 'utf8').trim() : '');
  const watch = setInterval(() => {
    stuck = at() === last && at() !== '';
    last = at();
    if (stuck) child.kill('SIGKILL');
  }, STUCK_MS);
  const found = [];
  let done = null;
  child.on('message', (/** @type {any} */ message) => {
    if (message.failure) found.push(message.failure);
    if (message.done) done = message.done;
  });
  return new Promise((resolve, reject) => {
    child.on('error', reject);
    child.on('close', (code, signal) => {
      clearInterval(watch);
      if (done !== null && code === 0) return resolve({ found, done, died: null });
      const where = at() === '' ? null : Number(at());
      const how = stuck ? `no end after ${STUCK_MS / 1000} s` : `the process ended with ${signal ?? code}`;
      resolve({ found, done: null, died: { index: where, wrong: `${how}\n${stderr}` } });
    });
  });
}

function add(total, { cases, accepted, codes, slowest, peak }) {
  total.cases += cases;
  total.accepted += accepted;
  for (const [code, n] of Object.entries(codes)) total.refused[code] = (total.refused[code] ?? 0) + n;
  if (slowest.seconds > total.slowest.seconds) total.slowest = slowest;
  total.peakMiB = Math.max(total.peakMiB, Math.round(peak / 2 ** 20));
}

/** Runs a target's cases, a chunk per process. */
async function runTarget(target, options, log) {
  const { count, seed, first, root, env, saveTo } = options;
  const dir = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'lpld-fuzz-'));
  const total = { target, seed, cases: 0, accepted: 0, refused: {}, slowest: { seconds: 0, index: 0 }, peakMiB: 0 };
  const findings = [];
  const tell = ({ index, wrong, saved }) =>
    log(`FINDING ${target} --seed ${seed} --from ${index} --count 1 (${saved ?? 'build/fuzz/'})\n${wrong}`);
  const began = performance.now();
  try {
    for (let from = first; from < first + count && findings.length < MOST_FINDINGS; ) {
      const to = Math.min(first + count, from + CHUNK);
      const room = mkdtempSync(join(dir, 'chunk-'));
      const mark = join(dir, 'mark');
      rmSync(mark, { force: true });
      const job = {
        root: pathToFileURL(`${root}/`).href,
        target,
        seed,
        from,
        to,
        dir: room,
        mark,
        saveTo,
        only: false,
      };
      const { found, done, died } = await runChild({ ...job, sanitized: options.sanitize }, env);
      findings.push(...found);
      found.forEach(tell);
      if (done !== null) add(total, done);
      if (died !== null && died.index === null) throw new Error(`${target} did not start: ${died.wrong}`);
      if (died !== null) {
        findings.push(died);
        tell(died);
        await runChild({ ...job, from: died.index, to: died.index + 1, only: true }, env); // only leaves its files
        total.cases += died.index + 1 - from;
      }
      from = died === null ? to : died.index + 1;
      rmSync(room, { recursive: true, force: true });
      log(`${target}: ${from - first} of ${count}, ${findings.length} findings`);
    }
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
  return { ...total, seconds: (performance.now() - began) / 1000, findings };
}

/** The calls of test/fixtures/hostile-calls.mjs, each in a process of its own. @returns a result like a target's */
function runCalls({ root, env }, log) {
  const script = join(root, 'test', 'fixtures', 'hostile-calls.mjs');
  const began = performance.now();
  const run = (args) => spawnSync(process.execPath, [script, ...args], { env, encoding: 'utf8', timeout: 120_000 });
  const names = JSON.parse(run([]).stdout);
  const total = {
    target: 'calls',
    cases: names.length,
    accepted: 0,
    refused: {},
    slowest: { seconds: 0, index: 0 },
    peakMiB: 0,
  };
  const findings = [];
  for (const [index, name] of names.entries()) {
    const { status, signal, stdout, stderr } = run([name]);
    if (status !== 0) {
      findings.push({ index, wrong: `${name}: ended with ${signal ?? status}\n${stderr}`, saved: null });
      log(`FINDING calls ${findings.at(-1).wrong}`);
    } else {
      const { code } = JSON.parse(stdout);
      if (code === undefined) total.accepted += 1;
      else total.refused[code] = (total.refused[code] ?? 0) + 1;
    }
  }
  log(`calls: ${names.length}, ${findings.length} findings`);
  return { ...total, seconds: (performance.now() - began) / 1000, findings };
}

async function main() {
  const { values } = parseArgs({
    options: {
      target: { type: 'string', default: 'all' },
      count: { type: 'string', default: '10000' },
      seed: { type: 'string', default: '1' },
      from: { type: 'string', default: '0' },
      sanitize: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
    },
  });
  const targets = values.target === 'all' ? TARGETS : values.target.split(',');
  const unknown = targets.find((target) => !TARGETS.includes(target));
  if (unknown !== undefined)
    throw new Error(`expected one of ${TARGETS.join(', ')} for --target but received ${unknown}`);
  const saveTo = join(packageRoot, 'build', 'fuzz');
  mkdirSync(saveTo, { recursive: true });
  const options = {
    count: Number(values.count),
    seed: Number(values.seed),
    first: Number(values.from),
    sanitize: values.sanitize,
    root: values.sanitize ? sanitizedRoot() : packageRoot,
    env: values.sanitize ? sanitizedEnv() : process.env,
    saveTo,
  };
  const log = (line) => process.stderr.write(`${line}\n`);
  const results = [];
  for (const target of targets) {
    const result = target === 'calls' ? runCalls(options, log) : await runTarget(target, options, log);
    results.push(result);
  }
  if (values.json) process.stdout.write(`${JSON.stringify(results)}\n`);
  else
    for (const { target, cases, accepted, refused, slowest, peakMiB, seconds, findings } of results)
      process.stdout.write(
        `${target}: ${cases} cases in ${seconds.toFixed(0)} s, ${accepted} read, refused ${JSON.stringify(refused)}, slowest ` +
          `${slowest.seconds.toFixed(2)} s (case ${slowest.index}), peak ${peakMiB} MiB, ${findings.length} findings\n`,
      );
  if (results.some(({ findings }) => findings.length > 0)) process.exitCode = 1;
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href)
  await main().catch((error) => {
    process.stderr.write(`fuzz: ${error.message}\n`);
    process.exitCode = 4;
  });
