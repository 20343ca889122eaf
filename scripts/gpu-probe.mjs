#!/usr/bin/env node
// `node scripts/gpu-probe.mjs [--device cuda:0] [--out DIR]`: every CUDA kernel against its emulation on the host, byte for byte
// and without LibTorch (scripts/gpu-probe.cpp), then a quick part of it under each tool of compute-sanitizer that runs here.
// Needs the built libraries, and nvcc; with --device cpu it rehearses itself with g++ and the emulation on both sides. DIR
// receives probe.json. Exit code 1 where a byte differs or a tool found an error; a tool that cannot run is said, not failed.

import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const root = fileURLToPath(new URL('..', import.meta.url));
const at = (...parts) => join(root, ...parts);
const EMULATION = at('build', 'emulation', 'liblpld_emulation.so');
const TOOLS = ['memcheck', 'racecheck', 'synccheck', 'initcheck'];
const SECONDS = 60; // a tool may take

const { values } = parseArgs({
  options: { device: { type: 'string', default: 'cuda:0' }, out: { type: 'string', default: process.env.OUT ?? '' } },
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

/** What a run under a tool says: its count of errors, or why there is none. */
function judged({ status, text }) {
  const summary = /ERROR SUMMARY: (\d+) error|RACECHECK SUMMARY: (\d+) hazard/.exec(text);
  const finished = /"cases": \d+/.test(text);
  if (summary === null || !finished)
    return { errors: null, why: text.trim().split('\n').at(-1) ?? `exit code ${status}` };
  const errors = Number(summary[1] ?? summary[2]);
  return errors === 0
    ? { errors }
    : {
        errors,
        text: text
          .split('\n')
          .filter((line) => line.startsWith('====='))
          .slice(0, 60),
      };
}

const folder = mkdtempSync(join(tmpdir(), 'lpld-probe-'));
try {
  const program = join(folder, 'probe');
  const flags = ['-std=c++20', '-O1', '-I', at('native'), at('scripts', 'gpu-probe.cpp'), '-o', program, '-ldl'];
  const built = cuda ? run('nvcc', ['-DLPLD_PROBE_CUDA', ...flags], 120) : run('g++', flags, 120);
  if (built.status !== 0) throw new Error(`the probe does not compile: ${built.text.trim()}`);
  const plain = run(program, [kernels, EMULATION], SECONDS);
  const lines = plain.text.split('\n').filter((line) => line.startsWith('{'));
  const rows = lines.map((line) => JSON.parse(line));
  const wrong = rows.filter(({ differ }) => differ > 0);
  const cases = rows.filter((row) => row.case !== undefined).length;
  const ended = plain.status === 0 || plain.status === 1 ? '' : plain.text.trim().split('\n').at(-1);
  const tools = {};
  if (cuda && ended === '')
    for (const tool of TOOLS)
      tools[tool] = judged(run('compute-sanitizer', ['--tool', tool, program, kernels, EMULATION, 'quick'], SECONDS));
  const result = { device: values.device, cases, wrong, ended, tools };
  if (values.out !== '') {
    mkdirSync(values.out, { recursive: true });
    writeFileSync(join(values.out, 'probe.json'), `${JSON.stringify(result, null, 2)}\n`);
  }
  for (const { case: name, bytes, differ } of wrong) console.log(`FAILED ${name}: ${differ} of ${bytes} bytes differ`);
  for (const [tool, { errors, why, text }] of Object.entries(tools))
    console.log([`${tool}: ${errors === null ? `not run: ${why}` : `${errors} errors`}`, ...(text ?? [])].join('\n'));
  const found = Object.values(tools).reduce((sum, { errors }) => sum + (errors ?? 0), 0);
  const ran = Object.values(tools).filter(({ errors }) => errors !== null).length;
  const said = cuda ? `, ${ran} of ${TOOLS.length} tools ran and found ${found} errors` : '';
  console.log(`probe: ${cases} cases, ${wrong.length} differ${said}${ended === '' ? '' : `; ended: ${ended}`}`);
  process.exitCode = wrong.length + found > 0 || ended !== '' || cases === 0 ? 1 : 0;
} finally {
  rmSync(folder, { recursive: true, force: true });
}
