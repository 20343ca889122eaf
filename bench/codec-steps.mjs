// Decode against a student's steps, for bench/codecs.mjs. On the CPU: records decoded by themselves beside a job of training.
// On CUDA the CPU decodes while the device still works at the step before, so what counts is how much longer the same steps
// take on a codec's labels than on dense:f16: the share of a step is that difference, and may come out below zero by noise.

import { arrayOf, DTYPE_BYTES, elements, tensor } from '../dist/tensor.js';
import { modelSpec, noiseStore, someBatches } from './inputs.mjs';

/** @import { NativeBinding, Recipes, TrainSpec } from '../dist/native.js' */

const quiet = () => {};
export const sizeOf = ({ dtype, shape }) => DTYPE_BYTES[dtype] * elements(shape);
export const sumOf = (tensors) => Object.values(tensors).reduce((sum, t) => sum + sizeOf(t), 0);

/**
 * A student's steps on the given labels.
 *
 * @param {NativeBinding} binding
 * @param {{recipes: Recipes, steps: number, channels: number, size: number, threads: number, labels: any}} of
 * @returns {TrainSpec}
 */
export function trainSpec(binding, { recipes, steps, channels, size, threads, labels }) {
  const row = (value) => tensor('F32', [channels], new Float32Array(channels).fill(value));
  const lr = tensor('F64', [steps], new Float64Array(steps).fill(1e-3));
  return {
    ...{ precision: 'fp32', threads, deterministic: false, hashPixels: false, recipes },
    input: { size, normalize: binding.ops.normalizeTable(row(0.5), row(0.25)) },
    target: { kind: 'soft', temperature: 20, teacherTemperature: 20, lossScale: 1, ...labels },
    optimizer: {
      ...{ kind: 'adamw', lr, momentum: 0.9, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01 },
      decay: 'matrices',
    },
  };
}

const channelsOf = (arch) => (arch === 'convnet' ? 1 : 3);

/**
 * Decode of 50 rows a step against a job of so many student's steps (which decode dense:f16 themselves).
 *
 * @param {NativeBinding} binding
 */
export async function stepCase(binding, { arch, classes, size, source, threads, steps }, prepared) {
  const [channels, device] = [channelsOf(arch), 'cpu'];
  const all = Math.min(50 * steps, source.measured.logits.shape[0]);
  const rows = all / steps;
  const coded = await prepared(firstRows(source, all));
  const store = noiseStore(binding, { count: rows, size, channels, classes, device });
  const model = binding.createModel(modelSpec({ arch, classes, size, device }));
  const recordIds = tensor(
    'I32',
    [steps],
    Int32Array.from({ length: steps }, (_, i) => i),
  );
  const logits = tensor('F16', [all, classes], new Uint16Array(all * classes));
  const code = { codec: 'dense:f16', basis: {}, recordIds, seed: 0n, images: null };
  const recipes = someBatches({ batches: steps, count: rows, size, inputSize: size });
  const labels = { ...code, tensors: { logits }, blobs: null };
  const spec = trainSpec(binding, { recipes, steps, channels, size, threads, labels });
  const step = () => binding.train(model, store, spec, quiet).promise;
  return {
    name: `decode against a step, ${arch}, ${size} px, ${rows} rows of ${classes}, jobs of ${steps}`,
    contenders: [
      { name: 'training step', run: step },
      ...coded.map(({ codec, decode }) => ({
        name: codec,
        run: decode,
        extra: ({ ratioMedian }) => ({ shareOfStep: 1 / ratioMedian }),
        text: ({ ratioMedian }) => `${(100 / ratioMedian).toPrecision(2)} % of the step`,
      })),
    ],
    compare: (_answer, _reference, title) => coded.find(({ codec }) => codec === title).wrong,
  };
}

/**
 * A job of steps on the source's own records, on each codec's labels.
 *
 * @param {NativeBinding} binding
 */
export async function trainingCase(binding, { device, arch, classes, size, source, threads, smoke }, prepared) {
  const channels = channelsOf(arch);
  const offset = arrayOf(source.measured.recipes.offset, 'I32');
  const steps = Math.min(smoke ? 2 : 16, offset.length - 1);
  const one = firstRows(source, offset[steps]);
  const coded = await prepared(one);
  const { recipes } = one.measured;
  const count = 1 + arrayOf(recipes.index, 'I32').reduce((a, b) => Math.max(a, b), 0);
  const store = noiseStore(binding, { count, size, channels, classes, device });
  const model = binding.createModel(modelSpec({ arch, classes, size, device }));
  const job = (labels) => () =>
    binding.train(model, store, trainSpec(binding, { recipes, steps, channels, size, threads, labels }), quiet).promise;
  const plain = coded.find(({ codec }) => codec === 'dense:f16');
  return {
    name: `decode in a step, ${arch}, ${size} px, ${offset[1]} rows of ${classes}, jobs of ${steps}`,
    contenders: [
      { name: 'on dense:f16', run: job(plain.labels) },
      ...coded
        .filter((each) => each !== plain)
        .map(({ codec, labels }) => ({
          name: codec,
          run: job(labels),
          extra: ({ ratioMedian }) => ({ shareOfStep: 1 / ratioMedian - 1 }),
          text: ({ ratioMedian }) => `${(100 / ratioMedian - 100).toFixed(1)} % of the step`,
        })),
    ],
    compare: (_answer, _reference, title) => coded.find(({ codec }) => codec === title).wrong,
  };
}

/** The first records of a source's measured part, of `rows` rows together. */
function firstRows(source, rows) {
  const { recordIds, recipes, logits, features } = source.measured;
  const offset = arrayOf(recipes.offset, 'I32');
  const records = offset.indexOf(rows);
  const cut = (view) => ({
    ...view,
    shape: [rows, ...view.shape.slice(1)],
    data: view.data.slice(0, (sizeOf(view) / view.shape[0]) * rows),
  });
  const fields = Object.entries(recipes).map(([name, view]) => [name, name === 'offset' ? view : cut(view)]);
  const measured = {
    recordIds: recordIds.slice(0, records),
    recipes: { ...Object.fromEntries(fields), offset: tensor('I32', [records + 1], offset.slice(0, records + 1)) },
    logits: cut(logits),
    features: cut(features),
  };
  return { ...source, measured };
}
