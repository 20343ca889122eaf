// How fast is one iteration of the BN-matching loop next to eager PyTorch, and next to its convolutions alone? ResNet-18,
// the same weights, images and draws on all sides. Contenders: eager-fp32 (PyTorch as the papers' scripts run it; -tf32 on
// CUDA, where its defaults mean that), eager-bf16 (the same under autocast, channels-last), ours-fp32 or -tf32, ours-bf16, on
// CUDA ours-bf16-launched (without the CUDA graph), and conv-*: PyTorch's bare convolutions, forward and gradient to the
// input, channels-last. Answers: losses of the first iterations; fp32 within 1e-3 of eager's, tf32 and bf16 within 5 %; the
// bare convolutions have none. On CUDA the same images are cut into classes of 50 and of 10: eager takes class after class,
// some of which are timed and stand for all. Ours runs segments as synthesize does, for seconds: its state goes up and down,
// its memory is mapped and its graph is captured once in LONG iterations (on a CPU, in those for IMAGES images). All times
// are of SHORT iterations (on a CPU: of one) of all images.
// Unfair to PyTorch: it pays for one line of JSON a call. Unfair to us: nothing known.

import { join } from 'node:path';
import { drawSynthesis } from '../dist/recipe.js';
import { writeSafetensors } from '../dist/safetensors.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { openSides } from './eager.mjs';
import { vector } from './inputs.mjs';

/** @import { NativeBinding } from '../dist/native.js' */

const CLASSES = 10;
const [R_BN, LR] = [0.05, 0.1];
const COMPARED = 2; // iterations: rounding is amplified by the loop
const [SHORT, LONG] = [20, 100]; // iterations on CUDA
const IMAGES = 240; // of a segment on a CPU: two to four seconds of bf16
const CLASSES_TIMED = 4; // of eager's, on CUDA

/** Stem, px, class groups, images of a group. */
const SETTINGS = {
  smoke: [['small', 32, 1, 4]],
  cpu: [
    ['small', 64, 1, 20],
    ['small', 64, 1, 100],
    ['imagenet', 224, 1, 10],
  ],
  cuda: [
    ['small', 64, 10, 50],
    ['small', 64, 50, 10],
    ['imagenet', 224, 5, 50],
    ['imagenet', 224, 25, 10],
  ],
};

export async function cases({ device, smoke, threads }) {
  const cuda = device !== 'cpu';
  const settings = SETTINGS[smoke ? 'smoke' : cuda ? 'cuda' : 'cpu'];
  const steps = smoke ? 2 : cuda ? SHORT : 1;
  const sides = await openSides(threads, device, 'eager.py');
  const out = [];
  for (const [stem, size, groups, images] of settings)
    out.push(await oneCase({ ...sides, device, threads, stem, size, groups, images, steps, smoke }));
  return out;
}

/** FLOP of one image: every convolution and the head, forward and the gradient to the input; 2 a multiply-add. */
function flopsOf(stem, size) {
  let side = stem === 'small' ? size : Math.ceil(size / 2);
  let sum = 3 * 64 * (stem === 'small' ? 9 : 49) * side ** 2;
  if (stem !== 'small') side = Math.ceil(side / 2);
  let inside = 64;
  for (const [stage, outside] of [64, 128, 256, 512].entries())
    for (const block of [0, 1]) {
      const reduces = stage > 0 && block === 0;
      if (reduces) side = Math.ceil(side / 2);
      sum += (inside * outside * 9 + outside * outside * 9 + (reduces ? inside * outside : 0)) * side ** 2;
      inside = outside;
    }
  return 2 * 2 * (sum + inside * CLASSES);
}

/** @param {{binding: NativeBinding | null, [field: string]: any}} of */
async function oneCase(of) {
  const { binding, missing, eager, folder, device, threads, stem, size, groups, images, steps, smoke } = of;
  const cuda = device !== 'cpu';
  const long = smoke ? steps : cuda ? LONG : Math.max(2, Math.round(IMAGES / (groups * images)));
  const taken = cuda ? Math.min(groups, CLASSES_TIMED) : groups;
  const wide = cuda ? 'tf32' : 'fp32';
  const count = groups * images;
  const work = { imageIterations: count * steps, flops: flopsOf(stem, size) * count * steps };
  // A model of its own for every precision: a run has one, and makes its frozen weights once.
  const made = () => inputsOf({ binding, device, stem, size, groups, images, steps: long });
  const inputs = binding === null ? null : made();
  const zeros = inputs === null ? null : tensor('F32', inputs.x.shape, new Float32Array(count * 3 * size * size));
  let took = 0;
  const refused = new Map(); // contender -> why CUDA made no graph
  const ours = (precision, graph, name, { model, x, labels, targets, draws } = /** @type {any} */ (inputs ?? {})) => ({
    name,
    unavailable: missing,
    work,
    extra: () => (refused.get(name) ? { graphRefused: refused.get(name) } : {}),
    seconds: () => (took * steps) / long,
    async run() {
      const began = process.hrtime.bigint();
      const { lossCe, lossBn, graphRefused } = await binding.synthesize(
        model,
        {
          ...{ precision, threads, deterministic: false, groups, imagesPerGroup: images, labels, step: 0 },
          state: { x, m: zeros, v: zeros },
          ...draws,
          lr: tensor('F64', [long], new Float64Array(long).fill(LR)),
          ...{ beta1: 0.5, beta2: 0.9, eps: 1e-8, rBn: R_BN, firstBnMultiplier: 10, tvL2: 0, l2Scale: 0 },
          ...targets,
          clampLow: vector([-2, -2, -2]),
          clampHigh: vector([2, 2, 2]),
          graph,
        },
        () => {},
      ).promise;
      took = Number(process.hrtime.bigint() - began) / 1e9;
      refused.set(name, graphRefused);
      return compared(arrayOf(lossCe, 'F64'), arrayOf(lossBn, 'F64'), { groups, taken, steps });
    },
  });

  let [peak, asked] = [0, 0];
  const file = join(folder, `${stem}-${size}-${groups}-${images}.safetensors`);
  if (inputs !== null && typeof eager !== 'string') {
    const { model, x, labels, targets, draws } = inputs;
    const weights = Object.fromEntries(Object.entries(model.stateDict()).map(([name, t]) => [`model.${name}`, t]));
    const metadata = { classes: String(CLASSES), stem, rBn: String(R_BN), lr: String(LR) };
    await writeSafetensors(file, { ...weights, x, labels, ...targets, ...draws }, metadata);
    await eager.ask({ load: file });
  }
  const python = (name) => ({
    name,
    unavailable: typeof eager === 'string' ? eager : null,
    work,
    seconds: () => asked,
    async run() {
      const began = process.hrtime.bigint();
      const { losses, peakBytes } = await eager.ask({ from: file, run: name, steps, groups: taken });
      asked = (Number(process.hrtime.bigint() - began) / 1e9) * (name.startsWith('conv') ? 1 : groups / taken);
      peak = peakBytes;
      return Array.from({ length: losses.length / (2 * steps) }, (_, g) =>
        losses.slice(2 * g * steps, 2 * (g * steps + Math.min(COMPARED, steps))),
      ).flat();
    },
    peakBytes: () => peak,
  });
  const half = binding === null ? undefined : made();
  return {
    name: `ResNet-18, ${stem} stem, ${size} px, ${groups === 1 ? '' : `${groups} classes of `}${images} images`,
    contenders: [
      python(`eager-${wide}`),
      python('eager-bf16'),
      ours(wide, true, `ours-${wide}`),
      ours('bf16', true, 'ours-bf16', half),
      ...(cuda ? [ours('bf16', false, 'ours-bf16-launched', half)] : []),
      python(`conv-${wide}`),
      python('conv-bf16'),
    ],
    rates: () => (typeof eager === 'string' ? null : eager.ask({ rates: true })),
    compare(answer, reference, name) {
      if (name.startsWith('conv')) return null;
      if (!answer.every(Number.isFinite)) return 'a loss is not finite';
      if (answer.length !== reference.length) return `${answer.length} losses`;
      const off = answer.map((value, i) => Math.abs(value - reference[i]) / Math.abs(reference[i]));
      const worst = Math.max(...off);
      return worst <= (name.endsWith('fp32') ? 1e-3 : 0.05) ? null : `losses differ by ${(100 * worst).toFixed(2)} %`;
    },
  };
}

/**
 * The first losses of the first `taken` groups out of [S, G], in the order of eager.py: group, iteration, (ce, bn); NaN where
 * any loss is none.
 */
function compared(ce, bn, { groups, taken, steps }) {
  if (![...ce, ...bn].every(Number.isFinite)) return [Number.NaN];
  const out = [];
  for (let g = 0; g < taken; g++)
    for (let t = 0; t < Math.min(COMPARED, steps); t++) out.push(ce[t * groups + g], bn[t * groups + g]);
  return out;
}

/** @param {{binding: NativeBinding, [field: string]: any}} of */
function inputsOf({ binding, device, stem, size, groups, images, steps }) {
  const model = binding.createModel({
    ...{ arch: 'resnet18', numClasses: CLASSES, inChannels: 3, inputSize: size, device, seed: 1n },
    options: { stem, widths: [1], pooling: 'avg' },
  });
  const count = groups * images;
  const each = 3 * size * size;
  const noise = new Float32Array(count * each);
  for (let i = 0; i < count; i++) noise.set(arrayOf(binding.ops.normals(1n, 19, 0, i, each), 'F32'), i * each);
  const channels = model.normLayers.reduce((sum, layer) => sum + layer.channels, 0);
  const constant = (value) => tensor('F32', [groups, channels], new Float32Array(groups * channels).fill(value));
  const draws = drawSynthesis({
    ...{ seed: 1n, objects: Array.from({ length: groups }, (_, g) => g), t0: 0, t1: steps, size },
    scale: () => [0.08, 1],
    ...{ flip: true, rollMin: -4, rollMax: 4 },
  });
  const labels = Int32Array.from({ length: count }, (_, i) => (groups === 1 ? i : Math.floor(i / images)) % CLASSES);
  return {
    model,
    x: tensor('F32', [count, 3, size, size], noise),
    labels: tensor('I32', [count], labels),
    targets: { targetMean: constant(0), targetVar: constant(1) },
    draws,
  };
}
