#!/usr/bin/env node
// Compares the loss curves of two synthesize artifacts made with the same seed and draws (say fp32 and bf16):
// `node scripts/compare-losses.mjs A B` prints one JSON document. Differences are |b - a| / a of each group's BN distance R
// and of its cross-entropy. Artifacts keep every iteration up to 200 iterations, and thinned curves beyond.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { arrayOf, openArtifact } from '../dist/index.js';

const [a, b] = await Promise.all(process.argv.slice(2, 4).map((dir) => openArtifact(dir)));
const FIRST = 20;
const worst = { bn: [], ce: [] }; // by row of the curves, over all groups
const last = { a: [], b: [], offs: [] };
for (const name of readdirSync(join(a.dir, 'losses')).sort()) {
  const [of, other] = await Promise.all([a, b].map((artifact) => artifact.readTensors(`losses/${name}`)));
  for (const key of ['bn', 'ce']) {
    const [rows, groups] = of[key].shape;
    const [x, y] = [arrayOf(of[key], 'F64'), arrayOf(other[key], 'F64')];
    for (let i = 0; i < x.length; i++) {
      const row = Math.floor(i / groups);
      const off = Math.abs(y[i] - x[i]) / x[i];
      worst[key][row] = Math.max(worst[key][row] ?? 0, off);
      if (key === 'bn' && row === rows - 1) {
        last.a.push(x[i]);
        last.b.push(y[i]);
        last.offs.push(off);
      }
    }
  }
}
const mean = (values) => values.reduce((sum, v) => sum + v, 0) / values.length;
const short = (values) => values.map((v) => Number(v.toExponential(1)));
console.log(
  JSON.stringify({
    groups: last.a.length,
    rows: worst.bn.length,
    bnWorstByIteration: short(worst.bn.slice(0, FIRST)),
    ceWorstByIteration: short(worst.ce.slice(0, FIRST)),
    bnWorstOfAll: Math.max(...worst.bn),
    finalBn: {
      a: mean(last.a),
      b: mean(last.b),
      ofMeans: mean(last.b) / mean(last.a) - 1,
      worst: Math.max(...last.offs),
    },
  }),
);
