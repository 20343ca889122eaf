#!/usr/bin/env node
// `npm run gpu-check -- [--device cuda:0] [--out DIR] [--seed N] [--only PART]... [--limit SECONDS]`: all that only a GPU can
// answer, in one command. Parts: checks (jobs on the device against the CPU; our kernels and ATen's against float64; a CUDA
// graph against launched iterations; one that breaks its process takes no other with it), a bench's name, quickstart. --checks
// is --only checks; --limit is what each part may take. DIR (default $OUT, else none) receives checks.json, bench.json (one
// entry a bench, kept from call to call) and quickstart.json. With --device cpu it rehearses itself: the same parts on small
// inputs. The checks need dist/, the built addon and a LibTorch only; where npm's packages or Python are missing, what needs
// them says so. Exit code 1 if a part fails, 4 without the device. test/cuda.test.ts runs the checks, test/gpu-box.test.ts
// what happens around them.

import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadNative } from '../dist/addon.js';
import { distance, JOB_CHECKS, Side, synthesisSpec } from './gpu-check-jobs.mjs';
import { kernelChecks, loopChecks } from './gpu-check-kernels.mjs';
import { LABEL_CHECKS } from './gpu-check-labels.mjs';
import { breaksContext, collectRows } from './gpu-check-rows.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
/** Seconds each may take. */
const BENCHES = { kernels: 90, synthesize: 420, relabel: 240, train: 180, codecs: 240, render: 60 };
/** A run that takes seconds on two cores. */
const SHORT_RUN = ['squeeze.epochs=1', 'synthesize.iterations=20', 'relabel.epochs=20', 'train.epochs=20'];

/**
 * The checks of a device: jobs against the CPU, ops against float64, the loop against itself.
 *
 * @param {string} device - cpu or cuda:N
 * @param {bigint} seed - of the ops' inputs
 * @returns {{name: string, run: () => Promise<{distance: number, tolerance: number}>}[]}
 */
export function deviceChecks(device, seed = 1n) {
  const native = loadNative(device === 'cpu' ? 'cpu' : 'cuda');
  const jobs = [...JOB_CHECKS, ...LABEL_CHECKS].map(({ name, tolerance, run }) => ({
    name,
    async run() {
      const wanted = await run(new Side(native, 'cpu'));
      const got = await run(new Side(native, device));
      return { distance: distance(got, wanted), tolerance };
    },
  }));
  // it is a deterministic job: from then on LibTorch fills new tensors with NaN
  const poison = {
    name: CONTEXT,
    async run() {
      const side = new Side(native, device);
      const model = side.model('convnet', 3, 32);
      await native.synthesize(model, synthesisSpec(side, model, 1), () => {}).promise;
      return { distance: 0, tolerance: 0 };
    },
  };
  return [...jobs, poison, ...kernelChecks(native, device, seed), ...loopChecks(native, device)];
}

const CONTEXT = 'a deterministic job, for the checks below';

/** The child of runChecks, see gpu-check-rows.mjs: the checks from one on. */
async function childChecks(device, seed, from) {
  const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
  const checks = deviceChecks(device, seed);
  say({ info: loadNative().info(), names: checks.map(({ name }) => name) });
  const context = checks.findIndex(({ name }) => name === CONTEXT);
  if (from > context) await checks[context].run();
  for (const [i, { name, run }] of checks.entries()) {
    if (i < from) continue;
    say({ begin: i });
    const began = performance.now();
    /** @type {{distance: number | null, tolerance: number, error?: string}} */
    const result = await run().catch((error) => ({ distance: null, tolerance: 0, error: error.message }));
    const passed = result.distance !== null && result.distance <= result.tolerance;
    say({ row: { name, passed, ...result, seconds: (performance.now() - began) / 1000 } });
    if (breaksContext(result.error)) process.exit(0);
  }
  say({ done: true });
}

/** Runs the checks in children; checks.json grows with every row. @returns {Promise<number>} exit code */
async function runChecks(device, seed, limit, write) {
  console.log(`inputs of ops from --seed ${seed}`);
  const start = (from) =>
    spawn(
      process.execPath,
      [fileURLToPath(import.meta.url), '--device', device, '--seed', String(seed), '--from', String(from)],
      { stdio: ['ignore', 'pipe', 'inherit'] },
    );
  /** @type {Parameters<typeof collectRows>[1]} */
  const show = ({ name, passed, distance, tolerance, error }, { info, rows }) => {
    const off = distance === null ? 'no finite number' : distance.toExponential(2); // JSON has no other numbers
    console.log(`${passed ? 'ok    ' : 'FAILED'} ${name}: ${error ?? `${off} of ${tolerance}`}`);
    write('checks.json', { device, seed: String(seed), info, rows });
  };
  const { code, rows, left } = await collectRows(start, show, performance.now() + 1000 * limit);
  if (code !== 0) return code;
  const failed = rows.filter((row) => !row.passed).length;
  const late = left === 0 ? '' : `, ${left} not run: no time left`;
  console.log(`${device}: ${rows.length - failed} checks passed, ${failed} failed${late}`);
  return failed + left === 0 ? 0 : 1;
}

/** Runs a command of the package; the last line of its output is its JSON document. */
function command(args, seconds) {
  const began = performance.now();
  const { status, stdout, stderr, error } = spawnSync(process.execPath, args, {
    cwd: root,
    encoding: 'utf8',
    timeout: 1000 * seconds,
    maxBuffer: 1 << 26,
  });
  const problem = error?.message ?? (status === 0 ? null : `exit code ${status}: ${stderr.trim().split('\n').at(-1)}`);
  let json = null;
  try {
    json = JSON.parse(stdout.trim().split('\n').at(-1));
  } catch {} // a command that failed may have written none
  return { problem, json, seconds: (performance.now() - began) / 1000 };
}

/** Images x iterations a second of ours-bf16 with classes of 10 images, as a share of that with classes of 50. */
export function ipcShares(rows) {
  const rate = (row) => row.imageIterationsPerSecond;
  return rows
    .filter((row) => row.contender === 'ours-bf16' && rate(row) > 0 && / classes of 10 images/.test(row.case))
    .flatMap((small) => {
      const prefix = small.case.replace(/\d+ classes of 10 images/, '');
      const large = rows.find(
        (row) => row.contender === small.contender && row.case.startsWith(prefix) && row !== small && rate(row) > 0,
      );
      return large === undefined ? [] : [{ case: prefix.replace(/, $/, ''), ipc10ToIpc50: rate(small) / rate(large) }];
    });
}

async function main() {
  const { values } = parseArgs({
    options: {
      device: { type: 'string', default: 'cuda:0' },
      out: { type: 'string', default: process.env.OUT ?? '' },
      seed: { type: 'string', default: String(Date.now()) },
      checks: { type: 'boolean', default: false },
      only: { type: 'string', multiple: true },
      limit: { type: 'string', default: '600' },
      from: { type: 'string' }, // of a child: the first check it runs
    },
  });
  const { device, out } = values;
  if (values.from !== undefined) return childChecks(device, BigInt(values.seed), Number(values.from));
  const parts = ['checks', ...Object.keys(BENCHES), 'quickstart'];
  const wanted = values.checks ? ['checks'] : (values.only ?? parts);
  const unknown = wanted.filter((part) => !parts.includes(part));
  if (unknown.length > 0 || !(Number(values.limit) > 0)) {
    const what = unknown.length > 0 ? `one of ${parts.join(', ')} for --only` : 'seconds for --limit';
    console.error(`gpu-check: expected ${what} but received ${unknown.join(', ') || values.limit}`);
    process.exitCode = 2;
    return;
  }
  const write = (name, value) => {
    if (out === '') return;
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, name), `${JSON.stringify(value, null, 2)}\n`);
  };
  process.exitCode = 0;
  const failedIf = (problem) => {
    if (problem) process.exitCode = 1;
  };
  if (wanted.includes('checks'))
    process.exitCode = await runChecks(device, BigInt(values.seed), Number(values.limit), write);
  if (process.exitCode === 4) return;

  const within = (seconds) => Math.min(seconds, Number(values.limit));
  for (const [name, seconds] of Object.entries(BENCHES).filter(([name]) => wanted.includes(name))) {
    const smoke = device === 'cpu' ? ['--smoke', '--rounds', '1'] : [];
    const result = command(['bench/main.mjs', name, '--json', '--device', device, ...smoke], within(seconds));
    const shares = name === 'synthesize' && result.json !== null ? ipcShares(result.json.rows) : [];
    const file = join(out, 'bench.json');
    const others = out !== '' && existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')) : {};
    write('bench.json', { ...others, [name]: { ...result, shares } });
    const count = result.json === null ? 'no rows' : `${result.json.rows.length} rows`;
    console.log(`bench ${name}: ${[result.problem, count].filter(Boolean).join('; ')}, ${result.seconds.toFixed(0)} s`);
    for (const row of result.json?.rows ?? []) console.log(`  ${JSON.stringify(row)}`);
    for (const share of shares) console.log(`  ${JSON.stringify(share)}`);
    failedIf(result.problem);
  }
  if (!wanted.includes('quickstart')) return;
  const folder = mkdtempSync(join(tmpdir(), 'lpld-gpu-check-'));
  try {
    const short = device === 'cpu' ? SHORT_RUN.flatMap((setting) => ['--set', setting]) : [];
    const quick = ['dist/cli.js', 'run', 'quickstart', '--out', folder, '--device', device, '--json', ...short];
    const result = command(quick, within(600));
    write('quickstart.json', result);
    console.log(`quickstart: ${result.problem ?? 'ran to the end'}, ${result.seconds.toFixed(0)} s`);
    failedIf(result.problem);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  try {
    await main();
  } catch (error) {
    if (error.code !== 'E_DEVICE') throw error;
    console.error(`gpu-check: ${error.message}`);
    process.exitCode = 4;
  }
}
