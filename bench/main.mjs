#!/usr/bin/env node
// Runs benches by name, all without one; USAGE says how. --run and --part are for codecs, which says what they mean.

import { availableParallelism } from 'node:os';
import { parseArgs } from 'node:util';
import { runBench } from './harness.mjs';

/** The table of benches: one file per question, one line per entry. */
const BENCHES = ['codecs', 'kernels', 'norm-act', 'relabel', 'render', 'synthesize', 'tfjs', 'train'];

const USAGE = `npm run bench -- [NAME ...] [flags]

NAME is ${BENCHES.join(', ')}; all of them without one.

  --json           one JSON document as the last line
  --smoke          small inputs, answers compared and nothing timed (with --rounds: timed, too)
  --case TEXT      only cases whose name has the text
  --rounds N       in place of as many as a median wants
  --threads N      on both sides (all cores)
  --device NAME    cpu or cuda:0 (cpu)
  --run DIR        codecs: the run folder whose teacher and labels are taken
  --part NAME      codecs: one of its parts

Contenders in Python run as $PYTHON (python3); where that cannot import torch their rows say so.`;

function parsed() {
  try {
    return parseArgs({
      allowPositionals: true,
      options: {
        help: { type: 'boolean', short: 'h', default: false },
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
  } catch (error) {
    console.error(`${error.message.split('. ')[0]}\n\n${USAGE}`);
    return process.exit(2);
  }
}

const { values, positionals } = parsed();
if (values.help) {
  console.log(USAGE);
  process.exit(0);
}
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
