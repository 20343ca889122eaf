#!/usr/bin/env node

// What bf16 does to soft labels: `node scripts/compare-precision.mjs TEACHER FORMAT PATH [ROWS]` asks a squeeze artifact's
// teacher about augmented, mixed views of a dataset's test images (its training images where it has none) in fp32 and in
// bf16 and prints one JSON document: mean KL(fp32 || other) in nats at several temperatures and the largest of a row, the
// share of rows with the same argmax. For scale, the same of fp32 logits stored as dense:f16 and as dense:int8.

import { loadNative } from '../dist/addon.js';
import { openDataset } from '../dist/datasets/index.js';
import { arrayOf, openArtifact, tensor } from '../dist/index.js';
import { labelPlan, recordBatches } from '../dist/plan.js';
import { drawRecipes, LABEL_STREAMS } from '../dist/recipe.js';
import { loadStore } from '../dist/stages/images.js';
import { inputSpec, loadTeacher, storeSizes } from '../dist/stages/shared.js';

/** @import { AnswerSpec, Precision } from '../dist/native.js' */
/** @import { Runtime } from '../dist/stages/types.js' */

const [TEMPERATURES, SEED, BATCH] = [[20, 4, 1], 0n, 50];
const [dir, format, path, rows = '10000'] = process.argv.slice(2);
/** @type {Runtime} */
const runtime = {
  ...{ device: 'cpu', threads: 2, memory: 4 * 2 ** 30, deterministic: false, signal: new AbortController().signal },
  ...{ saveSeconds: 20, snapshotEvery: null, verifyData: false },
};
const native = loadNative('cpu');
const artifact = await openArtifact(dir);
const facts = await artifact.readJson('dataset.json');
const model = await loadTeacher(native, runtime, artifact);
const dataset = await openDataset(format, path, { classes: null, verify: false, skipUnreadable: false });
const store = await loadStore({ native, runtime }, dataset.test ?? dataset.train, dataset.channels);
const input = inputSpec(native, facts);
const epochs = Math.ceil(Number(rows) / store.count);
const plan = labelPlan({
  ...{ images: store.count, batch: BATCH, epochs, pruneRatio: 0, dropLast: true, keep: 'prefix', seed: SEED },
});
const recordIds = plan.recordIds.slice(0, Math.floor(Number(rows) / BATCH));
const recipes = drawRecipes(recordBatches(plan, SEED, recordIds), {
  ...{ seed: SEED, sizes: storeSizes(store), inputSize: input.size, purposes: LABEL_STREAMS },
  augment: { crop: { scale: [0.5, 1] }, flip: true, cutout: 0, mix: 'cutmix' },
});
/** @type {Omit<AnswerSpec, 'precision'>} */
const asked = {
  ...{ threads: 2, deterministic: false, ensemble: 'mean', teacherMode: 'eval' },
  ...{ recipes, input, features: false },
};
const quiet = () => {};
/** @param {Precision} precision */
const ask = async (precision) => (await native.answer([model], store, { ...asked, precision }, quiet).promise).logits;
const wide = await ask('fp32');
const answers = {
  bf16: await ask('bf16'),
  f16: await stored('dense:f16', wide),
  int8: await stored('dense:int8', wide),
};

async function stored(codec, logits) {
  const coding = {
    codec,
    basis: {},
    seed: SEED,
    threads: 2,
    numClasses: facts.classNames.length,
    recipes,
  };
  const ids = { recordIds: tensor('I32', [recordIds.length], recordIds) };
  const encoded = await native.encode({ ...coding, ...ids, logits, features: null }, quiet).promise;
  return (await native.decode({ ...coding, ...ids, ...encoded }, quiet).promise).logits;
}

/** log softmax of a row at a temperature, in float64. */
function logShares(row, temperature) {
  const top = Math.max(...row);
  const scaled = Array.from(row, (value) => (value - top) / temperature);
  const total = Math.log(scaled.reduce((sum, value) => sum + Math.exp(value), 0));
  return scaled.map((value) => value - total);
}

function compare(other) {
  const [a, b, classes] = [arrayOf(wide, 'F32'), arrayOf(other, 'F32'), wide.shape[1]];
  const of = (values, i) => values.subarray(i * classes, (i + 1) * classes);
  const count = wide.shape[0];
  const out = { kl: {}, worstKl: {}, sameArgmax: 0 };
  for (const temperature of TEMPERATURES) {
    const kl = Array.from({ length: count }, (_, i) => {
      const [p, q] = [logShares(of(a, i), temperature), logShares(of(b, i), temperature)];
      return p.reduce((sum, logP, k) => sum + Math.exp(logP) * (logP - q[k]), 0);
    });
    out.kl[temperature] = kl.reduce((sum, value) => sum + value, 0) / count;
    out.worstKl[temperature] = kl.reduce((worst, value) => Math.max(worst, value), 0);
  }
  const best = (values, i) => of(values, i).indexOf(Math.max(...of(values, i)));
  for (let i = 0; i < count; i++) out.sameArgmax += best(a, i) === best(b, i) ? 1 : 0;
  return { ...out, sameArgmax: out.sameArgmax / count };
}

console.log(
  JSON.stringify({
    teacher: artifact.id,
    dataset: dataset.name,
    rows: wide.shape[0],
    ...Object.fromEntries(Object.entries(answers).map(([name, logits]) => [name, compare(logits)])),
  }),
);
