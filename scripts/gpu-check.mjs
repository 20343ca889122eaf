#!/usr/bin/env node
// `npm run gpu-check -- [--device cuda:0] [--out DIR] [--seed N] [--checks]`: all that only a GPU can answer, in one command.
// Jobs on the device against the CPU; our kernels and ATen's against float64; a CUDA graph against launched iterations; then,
// without --checks, the benches and one run of the quickstart. DIR (default $OUT, else none) receives checks.json and
// bench-<name>.json. With --device cpu it rehearses itself. The checks need dist/, the built addon and a LibTorch only; where
// npm's packages or Python are missing, what needs them says so. Exit code 1 if a check fails, 4 without
// the device.
// test/cuda.test.ts runs the checks.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadNative } from '../dist/addon.js';
import { distance, JOB_CHECKS, Side, synthesisSpec } from './gpu-check-jobs.mjs';
import { kernelChecks, loopChecks } from './gpu-check-kernels.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const BENCHES = { synthesize: 420, 'norm-act': 120, render: 120 }; // seconds each may take

/**
 * The checks of a device: jobs against the CPU, ops against float64, the loop against itself.
 *
 * @param {string} device - cpu or cuda:N
 * @param {bigint} seed - of the ops' inputs
 * @returns {{name: string, run: () => Promise<{distance: number, tolerance: number}>}[]}
 */
export function deviceChecks(device, seed = 1n) {
  const native = loadNative(device === 'cpu' ? 'cpu' : 'cuda');
  const jobs = JOB_CHECKS.map(({ name, tolerance, run }) => ({
    name,
    async run() {
      const wanted = await run(new Side(native, 'cpu'));
      const got = await run(new Side(native, device));
      return { distance: distance(got, wanted), tolerance };
    },
  }));
  // it is a deterministic job: from then on LibTorch fills new tensors with NaN
  const poison = {
    name: 'a deterministic job, for the checks below',
    async run() {
      const side = new Side(native, device);
      const model = side.model('convnet', 3, 32);
      await native.synthesize(model, synthesisSpec(side, model, 1), () => {}).promise;
      return { distance: 0, tolerance: 0 };
    },
  };
  return [...jobs, poison, ...kernelChecks(native, device, seed), ...loopChecks(native, device)];
}

async function runChecks(device, seed) {
  const rows = [];
  for (const { name, run } of deviceChecks(device, seed)) {
    const began = performance.now();
    /** @type {{distance: number, tolerance: number, error?: string}} */
    const result = await run().catch((error) => ({
      distance: Number.POSITIVE_INFINITY,
      tolerance: 0,
      error: error.message,
    }));
    const passed = result.distance <= result.tolerance;
    rows.push({ name, passed, ...result, seconds: (performance.now() - began) / 1000 });
    console.log(
      `${passed ? 'ok    ' : 'FAILED'} ${name}: ${result.error ?? `${result.distance.toExponential(2)} of ${result.tolerance}`}`,
    );
  }
  return rows;
}

/** Runs a command of the package and shows it; the last line of its output is its JSON document. */
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
function ipcShares(rows) {
  const rate = (row) => row.imageIterationsPerSecond;
  return rows
    .filter((row) => row.contender === 'ours-bf16' && / classes of 10 images/.test(row.case))
    .flatMap((small) => {
      const prefix = small.case.replace(/\d+ classes of 10 images/, '');
      const large = rows.find(
        (row) => row.contender === small.contender && row.case.startsWith(prefix) && row !== small,
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
    },
  });
  const { device, out } = values;
  const write = (name, value) => {
    if (out === '') return;
    mkdirSync(out, { recursive: true });
    writeFileSync(join(out, name), `${JSON.stringify(value, null, 2)}\n`);
  };
  console.log(`inputs of ops from --seed ${values.seed}`);
  const rows = await runChecks(device, BigInt(values.seed));
  const failed = rows.filter((row) => !row.passed).length;
  write('checks.json', { device, seed: values.seed, info: loadNative().info(), rows });
  console.log(`${device}: ${rows.length - failed} checks passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
  if (values.checks) return;

  for (const [name, seconds] of Object.entries(BENCHES)) {
    const smoke = device === 'cpu' ? ['--smoke'] : []; // a rehearsal measures nothing
    const result = command(['bench/main.mjs', name, '--json', '--device', device, ...smoke], seconds);
    const shares = name === 'synthesize' && result.json !== null ? ipcShares(result.json.rows) : [];
    write(`bench-${name}.json`, { ...result, shares });
    console.log(
      `bench ${name}: ${result.problem ?? `${result.json.rows.length} rows`}, ${result.seconds.toFixed(0)} s`,
    );
    for (const row of result.json?.rows ?? []) console.log(`  ${JSON.stringify(row)}`);
    for (const share of shares) console.log(`  ${JSON.stringify(share)}`);
  }
  const folder = mkdtempSync(join(tmpdir(), 'lpld-gpu-check-'));
  try {
    const quick = ['dist/cli.js', 'run', 'quickstart', '--out', folder, '--device', device, '--json'];
    const result = command(device === 'cpu' ? [...quick, '--dry-run'] : quick, 600);
    write('quickstart.json', result);
    console.log(`quickstart: ${result.problem ?? 'ran to the end'}, ${result.seconds.toFixed(0)} s`);
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
