// What scripts/gpu-box.sh does once Node is there. Steps, all without names, what is worth most first: build (the addon, the
// kernels, the graph; skipped if they are up to date, run first whatever is named), probe (every kernel against its
// emulation), checks (gpu-check --checks), kernels and synthesize (benches), quickstart, relabel, train, codecs, render (benches),
// sanitizer (the probe under compute-sanitizer), tests (of the device). Each has a time limit, all together --limit seconds, so that a machine that ends a
// command after ten minutes still sees the table. The same call again goes on: steps not begun come first, then those that
// failed, and what has ended well is left out. DIR (default $OUT, else none) receives what the steps write as JSON, box.json
// (how each ended) and log.txt: eight files. Exit code 1 if a step fails, 4 without LibTorch.

import { spawn, spawnSync } from 'node:child_process';
import { appendFileSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { requireLibtorch } from '../dist/libtorch.js';
import { hashSources, NATIVE_SOURCES } from './build-native.mjs';
import { stepsOf } from './gpu-box-steps.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (...parts) => join(root, ...parts);
const read = (path) => JSON.parse(readFileSync(path, 'utf8'));
const TESTED = ['test/cuda.test.ts'];
const GPU_CHECK = 'scripts/gpu-check.mjs';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    device: { type: 'string', default: 'cuda:0' },
    limit: { type: 'string', default: '570' },
    out: { type: 'string', default: process.env.OUT ?? '' },
  },
});
const { device, out } = values;
const until = performance.now() + 1000 * Number(values.limit);
const remaining = () => (until - performance.now()) / 1000;
const outArgs = out === '' ? [] : ['--out', out];

/** What the last line of a text that fits says, or nothing. */
const lastLine = (pattern) => (text) =>
  text
    .split('\n')
    .findLast((line) => pattern.test(line))
    ?.trim() ?? '';
/** A step that is a part of gpu-check. */
const part = (name, seconds, pattern) => ({
  seconds,
  args: (limit) => [GPU_CHECK, '--only', name, '--device', device, '--limit', String(Math.floor(limit)), ...outArgs],
  note: lastLine(pattern),
});
const vitest = ['node_modules/vitest/vitest.mjs', 'run', ...TESTED, '--reporter=dot', '--reporter=json'];
/** The arguments of Node, the seconds, and what the table takes from the output. */
const STEPS = {
  build: { seconds: Number.POSITIVE_INFINITY, args: () => ['scripts/build-native.mjs'], note: lastLine(/^built /) },
  probe: {
    seconds: 60,
    args: () => ['scripts/gpu-probe.mjs', '--device', device, ...outArgs],
    note: lastLine(/^probe:/),
  },
  checks: part('checks', 240, /checks passed/),
  kernels: part('kernels', 90, /^bench kernels:/),
  synthesize: part('synthesize', 420, /^bench synthesize:/),
  quickstart: part('quickstart', 300, /^quickstart:/),
  relabel: part('relabel', 240, /^bench relabel:/),
  train: part('train', 180, /^bench train:/),
  codecs: part('codecs', 240, /^bench codecs:/),
  render: part('render', 60, /^bench render:/),
  sanitizer: {
    seconds: 180,
    args: () => ['scripts/gpu-probe.mjs', '--tools', '--device', device, ...outArgs],
    note: lastLine(/^sanitizer:/),
  },
  tests: {
    seconds: 240,
    args: () => [...vitest, `--outputFile=${join(out === '' ? at('build') : out, 'tests.json')}`],
    note: lastLine(/Tests .*(passed|failed)/),
  },
};

function log(text) {
  process.stdout.write(text);
  if (out !== '') appendFileSync(join(out, 'log.txt'), text);
}

/** Why the addon needs no build, or null. */
function builtAlready(libtorch) {
  const file = at('build', 'Release', 'lpld-build.json');
  if (!existsSync(file)) return null;
  const { libtorchRoot, sources } = read(file);
  const fresh = libtorchRoot === libtorch.root && sources === hashSources(root, NATIVE_SOURCES);
  return fresh ? 'up to date' : null;
}

/** How the steps of earlier calls ended on these sources and this device; `write` remembers one more. */
function memory(box) {
  const file = at('node_modules', '.lpld-box', 'steps.json');
  const key = `${box.commit} ${device} ${hashSources(root, [...NATIVE_SOURCES, 'scripts', 'bench', 'test'])}`;
  const known = existsSync(file) ? read(file) : { key: '', steps: {} };
  const steps = known.key === key ? known.steps : {};
  const write = (step, status) => {
    steps[step] = status;
    if (existsSync(at('node_modules', '.lpld-box'))) writeFileSync(file, JSON.stringify({ key, steps }));
  };
  return { steps, write };
}

/** Runs a step to its end or its limit. @returns {Promise<{status: string, seconds: number, note: string}>} */
function runStep({ seconds, args, note }, env) {
  const limit = Math.min(seconds, remaining());
  const began = performance.now();
  const child = spawn(process.execPath, args(limit), { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
  let text = '';
  let late = false;
  const stop = (signal) => () => {
    late = true;
    child.kill(signal);
  };
  // gpu-check ends its own children at the limit: what is stopped here is late in spite of that
  const timers = [setTimeout(stop('SIGTERM'), 1000 * (limit + 3)), setTimeout(stop('SIGKILL'), 1000 * (limit + 8))];
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding('utf8').on('data', (data) => {
      text += data;
      log(data);
    });
  return new Promise((done) => {
    child.on('error', (error) => done({ status: `failed: ${error.message}`, seconds: 0, note: '' }));
    child.on('close', (code, signal) => {
      for (const timer of timers) clearTimeout(timer);
      const status = late ? 'too late' : code === 0 ? 'ok' : `failed: ${signal ?? `exit code ${code}`}`;
      done({ status, seconds: (performance.now() - began) / 1000, note: note(text) });
    });
  });
}

/** The GPU in the driver's own words, null where nothing answers. */
function gpu() {
  const { status, stdout } = spawnSync(
    'nvidia-smi',
    ['--query-gpu=name,driver_version,memory.total', '--format=csv,noheader'],
    {
      encoding: 'utf8',
      timeout: 20_000,
    },
  );
  return status === 0 ? stdout.trim() : null;
}

function table(rows) {
  const lines = rows.map(({ step, status, seconds, note }) => [step, status, `${seconds.toFixed(0)} s`, note]);
  const widths = [0, 1, 2].map((i) => Math.max(...lines.map((line) => line[i].length)));
  return lines
    .map((line) =>
      line
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

async function main() {
  const unknown = positionals.filter((name) => !Object.hasOwn(STEPS, name));
  if (unknown.length > 0 || !(Number(values.limit) > 0)) {
    const [wanted, got] =
      unknown.length > 0 ? [Object.keys(STEPS).join(', '), unknown.join(', ')] : ['seconds', values.limit];
    console.error(`gpu-box: expected ${wanted} for ${unknown.length > 0 ? 'a step' : '--limit'} but received ${got}`);
    return 2;
  }
  const box = read(at('.gpu-box', 'box.json'));
  if (box.sources !== hashSources(root, ['src'])) {
    console.error('gpu-box: src/ is not what .gpu-box was packed from\nwhere Node is, run: npm run gpu-box');
    return 4;
  }
  const libtorch = requireLibtorch();
  if (out !== '') mkdirSync(out, { recursive: true });
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: availableParallelism(),
    gpu: gpu(),
    node: process.version,
  };
  const head = { ...box, device, machine, libtorch: { version: libtorch.version, cuda: libtorch.cuda } };
  log(`${JSON.stringify(head)}\n`);
  const env = {
    ...process.env,
    LIBTORCH: libtorch.root,
    CMAKE_BUILD_PARALLEL_LEVEL: String(availableParallelism()),
    NO_COLOR: '1',
  };

  const rows = [];
  const before = memory(box);
  for (const step of stepsOf(Object.keys(STEPS), positionals, before.steps)) {
    const work = STEPS[step];
    log(`== ${step}\n`);
    const built = step === 'build' ? builtAlready(libtorch) : null;
    const broken = rows[0] !== undefined && rows[0].status !== 'ok' ? 'not run: no build' : null;
    const skipped = broken ?? (remaining() < 10 ? 'not run: no time left' : null);
    const result =
      built !== null
        ? { status: 'ok', seconds: 0, note: built }
        : skipped !== null
          ? { status: skipped, seconds: 0, note: '' }
          : await runStep(work, env);
    rows.push({ step, ...result });
    if (skipped === null) before.write(step, result.status);
    if (out !== '') writeFileSync(join(out, 'box.json'), `${JSON.stringify({ ...head, steps: rows }, null, 2)}\n`);
  }
  log(`== ${head.commit}, LibTorch ${libtorch.version}, ${machine.gpu ?? 'no GPU'}, ${device}\n${table(rows)}\n`);
  return rows.every(({ status }) => status === 'ok') ? 0 : 1;
}

try {
  process.exitCode = await main();
} catch (error) {
  if (error.code !== 'E_DEVICE') throw error;
  console.error(`gpu-box: ${error.message}`);
  process.exitCode = 4;
}
