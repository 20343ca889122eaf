#!/usr/bin/env node
// `node scripts/gpu-probe.mjs [--tools] [--device cuda:0] [--out DIR]`: every CUDA kernel against its emulation on the host,
// byte for byte and without LibTorch (scripts/gpu-probe.cpp); --tools: a quick part of it under each tool of compute-sanitizer
// instead. Needs the built libraries, and nvcc; with --device cpu it rehearses itself with g++ and the emulation on both
// sides, and no tool. DIR receives probe.json or sanitizer.json. Exit code 1 where a byte differs or a tool found an error; a
// tool that cannot run is said, not failed.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { judged } from './gpu-box-steps.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (...parts) => join(root, ...parts);
const EMULATION = at('build', 'emulation', 'liblpld_emulation.so');
const TOOLS = ['memcheck', 'racecheck', 'synccheck', 'initcheck'];
const SECONDS = 40; // a run may take

const { values } = parseArgs({
  options: {
    tools: { type: 'boolean', default: false },
    device: { type: 'string', default: 'cuda:0' },
    out: { type: 'string', default: process.env.OUT ?? '' },
  },
});
const cuda = values.device !== 'cpu';
const kernels = cuda ? at('build', 'Release', 'liblpld_kernels.so') : EMULATION;

function run(command, args, seconds) {
  const { status, error, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: 1000 * seconds,
    maxBuffer: 1 << 26,
  });
  return { status, text: `${stdout ?? ''}${stderr ?? ''}${error?.message ?? ''}` };
}

function write(name, result) {
  if (values.out === '') return;
  mkdirSync(values.out, { recursive: true });
  writeFileSync(join(values.out, name), `${JSON.stringify({ device: values.device, ...result }, null, 2)}\n`);
}

/** Both libraries on every case. @returns {number} exit code */
function compared(program) {
  const { status, text } = run(program, [kernels, EMULATION], SECONDS);
  const lines = text.split('\n').filter((line) => line.startsWith('{'));
  const rows = lines.map((line) => JSON.parse(line)).filter((row) => row.case !== undefined);
  const wrong = rows.filter(({ differ }) => differ > 0);
  const ended = status === 0 || status === 1 ? '' : text.trim().split('\n').at(-1);
  write('probe.json', { cases: rows.length, wrong, ended });
  for (const { case: name, bytes, differ } of wrong) console.log(`FAILED ${name}: ${differ} of ${bytes} bytes differ`);
  console.log(`probe: ${rows.length} cases, ${wrong.length} differ${ended === '' ? '' : `; ended: ${ended}`}`);
  return status === 0 && rows.length > 0 ? 0 : 1;
}

/** A quick part of them under each tool. @returns {number} exit code */
function underTools(program) {
  const tools = {};
  for (const tool of cuda ? TOOLS : []) {
    tools[tool] = judged(run('compute-sanitizer', ['--tool', tool, program, kernels, EMULATION, 'quick'], SECONDS));
    const { errors, why, text } = tools[tool];
    console.log([`${tool}: ${errors === null ? `not run: ${why}` : `${errors} errors`}`, ...(text ?? [])].join('\n'));
    write('sanitizer.json', { tools });
  }
  const ran = Object.values(tools).filter(({ errors }) => errors !== null);
  const found = ran.reduce((sum, { errors }) => sum + errors, 0);
  console.log(`sanitizer: ${ran.length} of ${TOOLS.length} tools ran and found ${found} errors`);
  return found > 0 ? 1 : 0;
}

const folder = mkdtempSync(join(tmpdir(), 'lpld-probe-'));
try {
  const program = join(folder, 'probe');
  const flags = ['-std=c++20', '-O1', '-I', at('native'), at('scripts', 'gpu-probe.cpp'), '-o', program, '-ldl'];
  const built = cuda ? run('nvcc', ['-DLPLD_PROBE_CUDA', ...flags], 120) : run('g++', flags, 120);
  if (built.status !== 0) throw new Error(`the probe does not compile: ${built.text.trim()}`);
  process.exitCode = values.tools ? underTools(program) : compared(program);
} finally {
  rmSync(folder, { recursive: true, force: true });
}
