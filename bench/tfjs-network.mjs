// The network cases: a ConvNet of three blocks of width 32 with BatchNorm statistics and weights unlike their defaults, ten
// images, the same floats on both sides. Answers: fp32 within 1e-4 (two orders of summation), bf16 within 5 % (eight bits of
// significand through three blocks), as relative Euclidean distance. Unfair to us: the matching call also takes in its
// images and Adam's state and does Adam's step; the labelling call also replays crops of bytes and encodes to f16.

import { evaluationRecipes } from '../dist/recipe.js';
import { uniforms } from '../dist/rng.js';
import { arrayOf, elements, tensor } from '../dist/tensor.js';
import { distance, noiseStore, vector } from './inputs.mjs';
import { tfjsContenders } from './tfjs-backend.mjs';

/** @import { AnswerSpec, NativeBinding } from '../dist/native.js' */

const [CLASSES, WIDTHS, SIZE] = [10, [32, 32, 32], 28];
const FIRST_BN_MULTIPLIER = 10;
const R_BN = 0.05;
const BETA1 = 0.5;
const LIMIT = { fp32: 1e-4, bf16: 0.05 };

const draw = (object, count, low) => Float32Array.from(uniforms(1n, 19, object, 0, count), (u) => low + u);

/**
 * A teacher whose BatchNorms are not the identity.
 *
 * @param {NativeBinding} binding
 * @returns the model and its weights as typed arrays by name
 */
function createTeacher(binding, device) {
  const model = binding.createModel({
    ...{ arch: 'convnet', numClasses: CLASSES, inChannels: 1, inputSize: SIZE, device, seed: 1n },
    options: { stem: 'small', widths: WIDTHS, pooling: 'avg' },
  });
  const state = { ...model.stateDict() };
  const low = { weight: 0.5, bias: -0.5, running_mean: -0.5, running_var: 0.5 };
  for (const [i, { name, channels }] of model.normLayers.entries())
    for (const [k, [field, from]] of Object.entries(low).entries())
      state[`${name}.${field}`] = vector(draw(100 + 4 * i + k, channels, from));
  model.loadStateDict(state);
  return { model, weights: (name) => arrayOf(state[name], 'F32') };
}

/** [O, I, H, W] -> tfjs's [H, W, I, O]. */
function filter(weight, outputs) {
  const inputs = weight.length / outputs / 9;
  const data = weight.map((_, at) => {
    const [o, i, place] = [at % outputs, Math.floor(at / outputs) % inputs, Math.floor(at / outputs / inputs)];
    return weight[(o * inputs + i) * 9 + place];
  });
  return { shape: [3, 3, inputs, outputs], data };
}

/** [K, C*H*W] -> [H*W*C, K]: the order in which tfjs flattens. */
function classifierOf(weights, channels) {
  const [weight, bias] = [weights('classifier.weight'), weights('classifier.bias')];
  const features = weight.length / CLASSES;
  const area = features / channels;
  const data = weight.map((_, at) => {
    const [k, row] = [at % CLASSES, Math.floor(at / CLASSES)];
    return weight[k * features + (row % channels) * area + Math.floor(row / channels)];
  });
  return { weight: { shape: [features, CLASSES], data }, bias: { shape: [CLASSES], data: bias } };
}

/** Each block's convolution, and its BatchNorm as x * scale + shift. */
function blocks(weights) {
  return WIDTHS.map((width, i) => {
    const norm = (field) => weights(`features.${i}.norm.${field}`);
    const [gamma, beta, mean, variance] = ['weight', 'bias', 'running_mean', 'running_var'].map(norm);
    const scale = gamma.map((g, c) => g / Math.sqrt(variance[c] + 1e-5));
    const shift = beta.map((b, c) => b - mean[c] * scale[c]);
    const row = (data) => ({ shape: [width], data });
    const weight = filter(weights(`features.${i}.conv.weight`), width);
    return { weight, bias: row(weights(`features.${i}.conv.bias`)), scale: row(scale), shift: row(shift) };
  });
}

/** Without a look at the BatchNorm's input, it is part of the convolution before it. */
function folded({ weight, bias, scale, shift }) {
  const [s, outputs] = [scale.data, scale.data.length];
  return {
    weight: { ...weight, data: weight.data.map((w, at) => w * s[at % outputs]) },
    bias: { ...bias, data: bias.data.map((b, c) => b * s[c] + shift.data[c]) },
  };
}

const compareFields = (answer, reference, name) => {
  const limit = LIMIT[name.endsWith('bf16') ? 'bf16' : 'fp32'];
  for (const field of Object.keys(reference)) {
    const off = distance(answer[field], reference[field]);
    if (!(off <= limit)) return `${field} differs by ${off}`;
  }
  return null;
};

/**
 * Loss and pixel gradient of one iteration of the matching loop: cross-entropy plus R_BN times the BN distances.
 *
 * @param {NativeBinding} binding
 */
export function matchCase(binding, { device, threads, smoke }) {
  const count = smoke ? 4 : 10;
  const { model, weights } = createTeacher(binding, device);
  const shape = [count, 1, SIZE, SIZE];
  const x = draw(1, elements(shape), -0.5);
  const labels = Int32Array.from({ length: count }, (_, i) => i % CLASSES);
  const channels = WIDTHS.reduce((sum, width) => sum + width, 0);
  const [targetMean, targetVar] = [draw(2, channels, -0.5), draw(3, channels, 0.5)];
  const zeros = () => tensor('F32', shape, new Float32Array(x.length));
  const spec = {
    ...{ threads, deterministic: false, groups: 1, imagesPerGroup: count, step: 0 },
    labels: tensor('I32', [count], labels),
    state: { x: tensor('F32', shape, x), m: zeros(), v: zeros() },
    crop: tensor('I32', [1, 1, 4], Int32Array.of(0, 0, SIZE, SIZE)),
    flip: tensor('U8', [1, 1], Uint8Array.of(0)),
    roll: tensor('I32', [1, 1, 2], Int32Array.of(0, 0)),
    lr: tensor('F64', [1], Float64Array.of(0.1)),
    ...{ beta1: BETA1, beta2: 0.9, eps: 1e-8, rBn: R_BN, firstBnMultiplier: FIRST_BN_MULTIPLIER },
    ...{ tvL2: 0, l2Scale: 0, clampLow: vector([-2]), clampHigh: vector([2]), graph: true },
    targetMean: tensor('F32', [1, channels], targetMean),
    targetVar: tensor('F32', [1, channels], targetVar),
  };
  const ours = (precision) => async () => {
    const { state, lossCe, lossBn } = await binding.synthesize(model, { ...spec, precision }, () => {}).promise;
    const loss = arrayOf(lossCe, 'F64')[0] + R_BN * arrayOf(lossBn, 'F64')[0];
    return { loss: [loss], m: arrayOf(state.m, 'F32') };
  };
  const layers = blocks(weights).map((block, i) => {
    const slice = (targets) => ({ shape: [WIDTHS[i]], data: targets.slice(32 * i, 32 * (i + 1)) });
    const multiplier = i === 0 ? FIRST_BN_MULTIPLIER : 1;
    return { ...block, mean: slice(targetMean), variance: slice(targetVar), multiplier };
  });
  const nhwc = { shape: [count, SIZE, SIZE, 1], data: x }; // one channel: the same bytes
  const input = { x: nhwc, labels, layers, classifier: classifierOf(weights, WIDTHS.at(-1)), rBn: R_BN };
  return {
    name: `BN matching and its pixel gradient, ConvNet-D3, ${count} images of ${SIZE} px`,
    contenders: [
      ...tfjsContenders('match', input, { threads, smoke }),
      { name: 'ours-fp32', run: ours('fp32') },
      { name: 'ours-bf16', run: ours('bf16') },
    ],
    /** Ours gives Adam's first moment after one step from zero: (1 - beta1) times the gradient. */
    compare(answer, reference, name) {
      const gradient = ({ loss, dx, m }) => ({ loss, dx: dx ?? m.map((value) => value / (1 - BETA1)) });
      return compareFields(gradient(answer), gradient(reference), name);
    },
  };
}

/**
 * Logits of a batch by a frozen teacher: ours from stored bytes, tfjs from floats.
 *
 * @param {NativeBinding} binding
 */
export function logitsCase(binding, { device, threads, smoke }) {
  const count = smoke ? 4 : 10;
  const { model, weights } = createTeacher(binding, device);
  const store = noiseStore(binding, { count, size: SIZE, channels: 1, classes: CLASSES, device });
  const normalize = binding.ops.normalizeTable(vector([0.5]), vector([0.25]));
  const table = arrayOf(normalize, 'F32');
  /** @type {Omit<AnswerSpec, 'precision'>} */
  const spec = {
    ...{ threads, deterministic: false, ensemble: 'mean', teacherMode: 'eval', features: false },
    recipes: evaluationRecipes(count, () => [SIZE, SIZE], count),
    input: { size: SIZE, normalize },
  };
  const ours = (precision) => async () => ({
    logits: arrayOf((await binding.answer([model], store, { ...spec, precision }, () => {}).promise).logits, 'F32'),
  });
  const pixels = Array.from({ length: count }, (_, i) => [...store.image(i).data]).flat();
  const x = { shape: [count, SIZE, SIZE, 1], data: Float32Array.from(pixels, (level) => table[level]) };
  const input = { x, layers: blocks(weights).map(folded), classifier: classifierOf(weights, WIDTHS.at(-1)) };
  return {
    name: `teacher logits, ConvNet-D3, ${count} images of ${SIZE} px`,
    contenders: [
      ...tfjsContenders('logits', input, { threads, smoke }),
      { name: 'ours-fp32', run: ours('fp32') },
      { name: 'ours-bf16', run: ours('bf16') },
    ],
    compare(answer, reference, name) {
      const off = distance(answer.logits, reference.logits);
      return off <= (name.endsWith('bf16') ? LIMIT.bf16 : LIMIT.fp32) ? null : `logits differ by ${off}`;
    },
  };
}
