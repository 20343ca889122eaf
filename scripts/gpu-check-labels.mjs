// The checks of what surrounds a label: what teachers answer, the pixels both sides see, and every codec decoded on the device
// inside a training step. Labels are made on the CPU, so that both sides train on the same bytes.

import { evaluationRecipes } from '../dist/recipe.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { CLASSES, EXECUTION, input, quiet, recipes, Side, trainSpec } from './gpu-check-jobs.mjs';

/** @import { AnswerSpec, LabelSpec, NativeBinding, Precision } from '../dist/native.js' */

/** One of each kind, all modes of topk; rates that keep and drop coefficients of four classes. */
const CODECS = [
  ...['dense:f16', 'dense:int8', 'dense:int4', 'topk:2:mr', 'topk:2:ms', 'topk:2:mrs', 'features'],
  ...['klt:2', 'klt:mse=0.0001', 'delta:2', 'delta:mse=0.0001'],
];

const recordIds = tensor('I32', [3], Int32Array.of(0, 1, 2));

/**
 * @param {Side} side
 * @param {Partial<AnswerSpec>} change
 * @returns {AnswerSpec}
 */
const answerSpec = (side, change) => ({
  ...EXECUTION,
  recipes: recipes({ inputSize: 32 }),
  input: input(side.native, 3, 32),
  ...{ ensemble: 'mean', teacherMode: 'eval', features: false },
  ...change,
});

/** Logits, and features where they are asked for. */
async function answers(side, models, change = {}) {
  const { logits, features } = await side.native.answer(models, side.store(), answerSpec(side, change), quiet).promise;
  return [...arrayOf(logits, 'F32'), ...(features === null ? [] : arrayOf(features, 'F32'))];
}

/** A soft target of one codec, encoded on the CPU. @param {NativeBinding} native */
async function softTarget(native, codec) {
  const cpu = new Side(native, 'cpu');
  const [teacher, store] = [cpu.model('convnet', 3, 32), cpu.store()];
  const asked = answerSpec(cpu, { features: true });
  const ask = (of) => native.answer([teacher], store, { ...asked, recipes: of }, quiet).promise;
  const [sample, whole] = [await ask(asked.recipes), await ask(evaluationRecipes(12, () => [40, 31], 12))];
  const coding = { recipes: asked.recipes, codec, basis: {}, recordIds, seed: 3n, threads: 1, numClasses: CLASSES };
  const needs = native.codecNeeds(codec);
  const fit = { ...coding, sample: needs.sample ? sample : null, whole: needs.whole ? whole : null };
  const { basis } = await native.fitCodec([teacher], fit, quiet).promise;
  const { logits, features } = sample;
  const records = { logits, features: needs.features ? features : null };
  const { tensors, blobs } = await native.encode({ ...coding, basis, ...records }, quiet).promise;
  const code = { codec, basis, recordIds, seed: 3n, images: null, tensors, blobs };
  return { kind: /** @type {const} */ ('soft'), temperature: 2, teacherTemperature: 1, lossScale: 1, ...code };
}

const hexDigits = (hash) => [...hash].map((digit) => Number.parseInt(digit, 16));

/** @type {{name: string, tolerance: number, run: (side: Side) => Promise<number[]>}[]} */
export const LABEL_CHECKS = [
  {
    // TF32 would be off by 1e-3
    name: 'answer: fp32 logits and features of resnet50',
    tolerance: 1e-4,
    run: (side) => answers(side, [side.model('resnet50', 3, 32)], { features: true }),
  },
  {
    name: 'answer: batches mixed by mixup',
    tolerance: 1e-4,
    run: (side) => answers(side, [side.model('convnet', 3, 32)], { recipes: recipes({ inputSize: 32, mix: 'mixup' }) }),
  },
  {
    name: 'answer: a teacher in train mode',
    tolerance: 1e-4,
    run: (side) => answers(side, [side.model('resnet18', 3, 32)], { teacherMode: 'train' }),
  },
  {
    name: 'answer: two teachers, norms made equal',
    tolerance: 1e-4,
    run: (side) =>
      answers(side, [side.model('resnet18', 3, 32), side.model('convnet', 3, 32)], { ensemble: 'norm-mean' }),
  },
  .../** @type {Precision[]} */ (['tf32', 'bf16']).map((precision) => ({
    name: `answer: ${precision} logits of resnet18`,
    tolerance: 0.05,
    run: (/** @type {Side} */ side) => answers(side, [side.model('resnet18', 3, 32)], { precision }),
  })),
  {
    name: 'replay: train and label see the same pixels, by their hash',
    tolerance: 0,
    async run(side) {
      const { native } = side;
      const model = side.model('convnet', 3, 32);
      const spec = { ...trainSpec(native, 'sgd', { kind: 'hard', smoothing: 0 }), hashPixels: true };
      /** @type {LabelSpec} */
      const asked = {
        ...{ ...answerSpec(side, {}), codec: 'dense:f16', basis: {}, recordIds, seed: 0n, images: null },
        hashPixels: true,
      };
      const trained = await native.train(model, side.store(), spec, quiet).promise;
      const labelled = await native.label([model], side.store(), asked, quiet).promise;
      return [...hexDigits(trained.pixelHash), ...hexDigits(labelled.pixelHash)];
    },
  },
  ...CODECS.map((codec) => ({
    name: `train: losses of three steps on labels of ${codec}, decoded on the device`,
    tolerance: 1e-3,
    /** @param {Side} side */
    async run(side) {
      const spec = trainSpec(side.native, 'sgd', await softTarget(side.native, codec));
      const student = side.model('convnet', 3, 32, 6n); // not the teacher's weights: a loss near zero is all rounding
      const { loss } = await side.native.train(student, side.store(), spec, quiet).promise;
      return [...arrayOf(loss, 'F64')];
    },
  })),
  .../** @type {Precision[]} */ (['fp32', 'bf16']).map((precision) => ({
    name: `train: losses of three ${precision} steps of resnet18`,
    tolerance: precision === 'fp32' ? 5e-3 : 0.05, // batches of 12 in 17 BatchNorms
    /** @param {Side} side */
    async run(side) {
      const spec = { ...trainSpec(side.native, 'sgd', { kind: 'hard', smoothing: 0.1 }), precision };
      const { loss } = await side.native.train(side.model('resnet18', 3, 32), side.store(), spec, quiet).promise;
      return [...arrayOf(loss, 'F64')];
    },
  })),
  {
    name: 'similarity: within-class cosines of resnet18',
    tolerance: 1e-4,
    async run(side) {
      const spec = { ...EXECUTION, recipes: recipes({ inputSize: 32 }), input: input(side.native, 3, 32) };
      const model = side.model('resnet18', 3, 32);
      const { similarity } = await side.native.similarity(model, side.store(), spec, quiet).promise;
      return [...arrayOf(similarity, 'F64')];
    },
  },
];
