#!/usr/bin/env node
// `npm run bench -- [NAME...] [--json] [--smoke] [--rounds N] [--threads N] [--device cpu|cuda:0] [--case TEXT]
// [--run DIR] [--part NAME]`: runs benches by name, all without one; --case: those cases whose name has the text; --smoke: small
// inputs, answers only, and with --rounds timed so often as well; --rounds: in place of as many as a median wants. --run and
// --part are for codecs, which says what they mean.

import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { runBench } from './harness.mjs';

/** The table of benches: one file per question, one line per entry. */
const BENCHES = ['codecs', 'kernels', 'norm-act', 'relabel', 'render', 'synthesize', 'tfjs'];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: 'boolean', default: false },
    smoke: { type: 'boolean', default: false },
    rounds: { type: 'string' },
    threads: { type: 'string', default: String(availableParallelism()) },
    device: { type: 'string', default: 'cpu' },
    run: { type: 'string' },
    part: { type: 'string' },
    case: { type: 'string', default: '' },
  },
});
const unknown = positionals.filter((name) => !BENCHES.includes(name));
if (unknown.length > 0) {
  console.error(`expected one of ${BENCHES.join(', ')} for the bench but received ${unknown.join(', ')}`);
  process.exit(2);
}
// Single ops take their threads from LibTorch's default, read when it is loaded; jobs are told.
process.env.OMP_NUM_THREADS = values.threads;
const rounds = values.rounds === undefined ? undefined : Number(values.rounds);
if (rounds !== undefined && !(Number.isInteger(rounds) && rounds > 0)) {
  console.error(`expected an integer above 0 for --rounds but received ${values.rounds}`);
  process.exit(2);
}
const options = { ...values, threads: Number(values.threads), rounds };
let agreed = true;
for (const name of positionals.length > 0 ? positionals : BENCHES) {
  const { cases } = await import(`./${name}.mjs`);
  const wanted = (await cases(options)).filter((each) => each.name.includes(values.case));
  if (wanted.length === 0) console.error(`${name}: no case has '${values.case}' in its name`);
  agreed = (await runBench(name, wanted, options)) && agreed;
}
process.exit(agreed ? 0 : 1); // a Python child would keep the process waiting
