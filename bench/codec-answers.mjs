// Teachers' answers for the codec bench: of a real teacher about a run's distilled images under the Recipes of its labels,
// and of heads of full size with random weights. A source is {name, classes, fit, measured, whole, teacher, seed, storeRows}:
// `fit` and `measured` are {recordIds, recipes, logits, features} of disjoint records, `whole` answers about whole images.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openSyntheticSet } from '../dist/datasets/synthetic-set.js';
import { LabelStore, loadConfig, noProgress, openArtifact, runStage } from '../dist/index.js';
import { labelPlan, recordBatches } from '../dist/plan.js';
import { drawRecipes, evaluationRecipes, LABEL_STREAMS } from '../dist/recipe.js';
import { normals } from '../dist/rng.js';
import { loadStore } from '../dist/stages/images.js';
import { poolOf } from '../dist/stages/pool.js';
import { inputSpec, loadTeacher, storeSizes } from '../dist/stages/shared.js';
import { augmentSpec } from '../dist/stages/training.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { modelSpec } from './inputs.mjs';

/** @import { AnswerSpec, NativeBinding } from '../dist/native.js' */
/** @import { AugmentSpec } from '../dist/recipe.js' */
/** @import { Runtime, StageName } from '../dist/stages/types.js' */

const FIT_RECORDS = 64;
const quiet = () => {};

/** Squeeze, images and labels of a quickstart cut down to seconds: a real teacher of 97 % or so. @returns the run's folder */
export async function smallRun(threads) {
  const dir = mkdtempSync(join(tmpdir(), 'lpld-bench-codecs-'));
  process.once('exit', () => rmSync(dir, { recursive: true, force: true }));
  const config = loadConfig('quickstart', {
    'squeeze.epochs': 3,
    'synthesize.iterations': 60,
    'relabel.mix': 'cutmix',
  });
  const made = {};
  /** @type {[StageName, string][]} */
  const steps = [
    ['squeeze', 'teacher'],
    ['synthesize', 'images'],
    ['relabel', 'labels'],
  ];
  for (const [stage, role] of steps) {
    await runStage(stage, config, {
      runtime: { device: 'cpu', threads, memory: null, deterministic: false },
      ...{ progress: noProgress, signal: new AbortController().signal, verifyData: false },
      ...{ inputs: { ...made }, out: join(dir, stage) },
    });
    made[role] = join(dir, stage);
  }
  return dir;
}

/**
 * The answers of a run folder's teacher: folders squeeze, synthesize and relabel.
 *
 * @param {NativeBinding} binding
 * @param {string} dir
 */
export async function realSource(binding, dir, { threads, smoke }) {
  const [squeeze, synthesize, relabel] = await Promise.all(
    ['squeeze', 'synthesize', 'relabel'].map((stage) => openArtifact(join(dir, stage))),
  );
  /** @type {Runtime} */
  const runtime = {
    ...{
      device: 'cpu',
      threads,
      memory: Number.POSITIVE_INFINITY,
      deterministic: false,
      signal: new AbortController().signal,
    },
    ...{ saveSeconds: 20, snapshotEvery: null, verifyData: false },
  };
  const labels = await LabelStore.open(relabel);
  await labels.close();
  const { seed, augment, plan: stored } = poolOf(labels);
  const plan = labelPlan({ ...stored, keep: 'prefix', pruneRatio: 0, seed });
  const facts = await squeeze.readJson('dataset.json');
  const set = await openSyntheticSet(synthesize.dir);
  const store = await loadStore({ native: binding, runtime }, set.train, set.channels);
  const teacher = await loadTeacher(binding, runtime, squeeze);
  const sizes = storeSizes(store);
  const input = inputSpec(binding, facts);
  const ask = (recipes) => {
    /** @type {AnswerSpec} */
    const spec = {
      ...{ precision: 'fp32', threads, deterministic: false, ensemble: 'mean', teacherMode: 'eval' },
      ...{ input, recipes, features: true },
    };
    return binding.answer([teacher], store, spec, quiet).promise;
  };
  const records = async (first, count) => {
    const recordIds = plan.recordIds.slice(first, first + count);
    const options = { seed, augment: augmentSpec(augment), sizes, inputSize: facts.inputSize, purposes: LABEL_STREAMS };
    const recipes = drawRecipes(recordBatches(plan, seed, recordIds), options);
    return { recordIds, recipes, ...(await ask(recipes)) };
  };
  const count = Math.min(smoke ? 8 : FIT_RECORDS, plan.fullRecords >> 1);
  const [fit, measured] = [await records(0, count), await records(count, count)];
  const whole = await ask(evaluationRecipes(store.count, sizes, plan.batch));
  const name = `${facts.name}, ${plan.images} distilled images, real teacher`;
  return {
    name,
    classes: facts.classNames.length,
    fit,
    measured,
    whole,
    teacher,
    seed,
    storeRows: plan.epochs * plan.images,
  };
}

const D = 512;
const IMAGES = 20;
const BATCH = 10;
const EPOCHS = 300; // over which a basis is spread
const FIT = 100; // records

/** Rows of features [n, D] through a head: logits [n, K]. */
function headOf(weight, features, classes) {
  const rows = features.length / D;
  const logits = new Float32Array(rows * classes);
  for (let row = 0; row < rows; row++)
    for (let k = 0; k < classes; k++) {
      let sum = 0;
      for (let d = 0; d < D; d++) sum += weight[k * D + d] * features[row * D + d];
      logits[row * classes + k] = sum;
    }
  return { logits: tensor('F32', [rows, classes], logits), features: tensor('F32', [rows, D], features) };
}

/**
 * A head of K classes over 512 features. Features of an image are |normal|; those of a view are its image's and its partner's,
 * by their shares, plus half as much noise; weights are normal, sized for logits of standard deviation 3.
 *
 * @param {NativeBinding} binding
 * @param {number} classes - K
 * @param {{records: number, images?: number, batch?: number}} size
 */
export function syntheticSource(binding, classes, { records, images: count = IMAGES, batch = BATCH }) {
  const teacher = binding.createModel(modelSpec({ arch: 'resnet18', classes, size: 64, device: 'cpu' }));
  const weight = Float32Array.from(normals(3n, 19, 0, 0, classes * D), (value) => (3 * value) / Math.sqrt(D));
  const state = teacher.stateDict();
  const bias = tensor('F32', [classes], new Float32Array(classes));
  teacher.loadStateDict({ ...state, 'fc.weight': tensor('F32', [classes, D], weight), 'fc.bias': bias });
  const images = normals(3n, 19, 1, 0, count * D).map(Math.abs);
  const plan = labelPlan({
    ...{ images: count, batch, epochs: EPOCHS, pruneRatio: 0, dropLast: true, keep: 'prefix', seed: 3n },
  });
  const sizes = new Int32Array(2 * count).fill(64);
  /** @type {AugmentSpec} */
  const augment = { crop: { scale: [0.08, 1] }, flip: true, cutout: 0, mix: 'cutmix' };
  const part = (first, many) => {
    const recordIds = plan.recordIds.slice(first, first + many);
    const options = { seed: 3n, augment, sizes, inputSize: 64, purposes: LABEL_STREAMS };
    const recipes = drawRecipes(recordBatches(plan, 3n, recordIds), options);
    const [index, partner] = [arrayOf(recipes.index, 'I32'), arrayOf(recipes.mixIndex, 'I32')];
    const [share, offset] = [arrayOf(recipes.lambda, 'F32'), arrayOf(recipes.offset, 'I32')];
    const noise = normals(3n, 19, 2, first, index.length * D);
    const features = new Float32Array(index.length * D);
    for (let record = 0; record < many; record++)
      for (let row = offset[record]; row < offset[record + 1]; row++) {
        const [own, other] = [index[row] * D, index[offset[record] + partner[row]] * D];
        for (let d = 0; d < D; d++)
          features[row * D + d] = Math.abs(
            share[row] * images[own + d] + (1 - share[row]) * images[other + d] + noise[row * D + d] / 2,
          );
      }
    return { recordIds, recipes, ...headOf(weight, features, classes) };
  };
  const fitted = Math.ceil((FIT * BATCH) / batch);
  const [fit, measured] = [part(0, fitted), part(fitted, records)];
  const whole = headOf(weight, images, classes);
  const name = `${classes} classes, 512 features, random head`;
  return { name, classes, fit, measured, whole, teacher, seed: 3n, storeRows: count * EPOCHS };
}
