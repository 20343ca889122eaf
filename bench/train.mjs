// How fast does a student train on stored soft labels next to PyTorch as the papers' validation scripts run it (bench/train.py)?
// The same first weights, pixels, labels (dense:f16) and AdamW on all sides. Contenders: eager-fp32 (-tf32 on CUDA, where
// PyTorch's defaults mean that), eager-bf16 (autocast, channels-last), ours-fp32 or -tf32, ours-bf16. Answers: losses of the
// first steps; fp32 within 1e-3 of eager's, tf32 and bf16 within 5 %. Times are of jobs of so many steps, each side going on
// from where its last one ended; `train` runs jobs of seconds.
// Unfair to us: our steps replay crops, flips and CutMix and decode the labels; PyTorch's pixels and logits are there already,
// as if its loader cost nothing. Unfair to PyTorch: nothing known (its time is taken in its own process).

import { join } from 'node:path';
import { writeSafetensors } from '../dist/safetensors.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { trainSpec } from './codec-steps.mjs';
import { openSides } from './eager.mjs';
import { fromHalves, halfTable, noiseStore, someBatches, vector } from './inputs.mjs';

/** @import { NativeBinding } from '../dist/native.js' */

const COMPARED = 2; // steps: AdamW's first ones are nearly signs, which amplify rounding
const SETTINGS = {
  smoke: [{ arch: 'resnet18', stem: 'small', widths: [1], size: 32, channels: 3, classes: 10, rows: 4, steps: 2 }],
  cpu: [
    { arch: 'convnet', stem: 'small', widths: [32, 32, 32], size: 28, channels: 1, classes: 10, rows: 50, steps: 100 },
    {
      arch: 'convnet',
      stem: 'small',
      widths: [128, 128, 128],
      size: 32,
      channels: 3,
      classes: 100,
      rows: 50,
      steps: 30,
    },
    { arch: 'resnet18', stem: 'small', widths: [1], size: 64, channels: 3, classes: 200, rows: 50, steps: 4 },
    { arch: 'resnet18', stem: 'imagenet', widths: [1], size: 224, channels: 3, classes: 1000, rows: 25, steps: 8 },
  ],
  cuda: [
    { arch: 'resnet18', stem: 'small', widths: [1], size: 64, channels: 3, classes: 200, rows: 100, steps: 20 },
    { arch: 'resnet18', stem: 'imagenet', widths: [1], size: 224, channels: 3, classes: 1000, rows: 256, steps: 8 },
  ],
};

export async function cases({ device, smoke, threads }) {
  const cuda = device !== 'cpu';
  const sides = await openSides(threads, device, 'train.py');
  const out = [];
  for (const setting of SETTINGS[smoke ? 'smoke' : cuda ? 'cuda' : 'cpu'])
    out.push(await oneCase({ ...setting, ...sides, device, threads }));
  return out;
}

/** @param {any} of */
async function oneCase(of) {
  /** @type {{binding: NativeBinding | null, [field: string]: any}} */
  const { binding, missing, eager, folder, device, arch, stem, widths, size, channels, classes, rows } = of;
  const wide = device === 'cpu' ? 'fp32' : 'tf32';
  const name = `${arch === 'convnet' ? `ConvNet ${widths.join('-')}` : `ResNet-18, ${stem} stem`}, ${size} px, ${rows} images, ${classes} classes`;
  const student = () =>
    binding?.createModel({
      ...{ arch, numClasses: classes, inChannels: channels, inputSize: size, device, seed: 1n },
      options: { stem, widths, pooling: 'avg' },
    });
  const inputs = binding === null ? null : await inputsOf(binding, of);
  const file = join(folder, `${name.replace(/\W+/g, '-')}.safetensors`);
  if (inputs !== null && typeof eager !== 'string') await hand(binding, file, student(), inputs, of);
  const ours = (precision, model = student()) => ({
    name: `ours-${precision}`,
    unavailable: missing,
    async run() {
      const { loss } = await binding.train(model, inputs.store, { ...inputs.spec, precision }, () => {}).promise;
      return [...arrayOf(loss, 'F64')];
    },
  });
  let answer = null;
  const python = (precision) => ({
    name: `eager-${precision}`,
    unavailable: typeof eager === 'string' ? eager : null,
    seconds: () => answer.seconds,
    async run() {
      answer = await eager.ask({ from: file, run: `eager-${precision}` });
      return answer.losses;
    },
    peakBytes: () => answer.peakBytes,
  });
  return {
    name,
    contenders: [python(wide), python('bf16'), ours(wide), ours('bf16')],
    compare(losses, reference, title) {
      const off = losses.slice(0, COMPARED).map((loss, i) => Math.abs(loss - reference[i]) / Math.abs(reference[i]));
      const worst = Math.max(...off);
      return worst <= (title.endsWith('fp32') ? 1e-3 : 0.05) ? null : `losses differ by ${(100 * worst).toFixed(3)} %`;
    },
  };
}

/**
 * The job of all steps. Its labels are drawn: as good as a teacher's for how long a step takes.
 *
 * @param {NativeBinding} binding
 */
async function inputsOf(binding, { device, threads, size, channels, classes, rows, steps }) {
  const drawn = arrayOf(binding.ops.normals(1n, 19, 1, 0, steps * rows * classes), 'F32');
  const logits = tensor(
    'F32',
    [steps * rows, classes],
    Float32Array.from(drawn, (x) => 4 * x),
  );
  const recordIds = tensor(
    'I32',
    [steps],
    Int32Array.from({ length: steps }, (_, i) => i),
  );
  const recipes = someBatches({ batches: steps, count: rows, size, inputSize: size });
  const code = { codec: 'dense:f16', basis: {}, recordIds, seed: 0n, images: null };
  const coding = { ...code, threads, numClasses: classes, recipes, logits, features: null };
  const labels = { ...code, ...(await binding.encode(coding, () => {}).promise) };
  const spec = trainSpec(binding, { recipes, steps, channels, size, threads, labels });
  const store = noiseStore(binding, { count: rows, size, channels, classes, device });
  /** @type {'all'} */
  const decay = 'all'; // as torch.optim.AdamW does
  return { store, spec: { ...spec, optimizer: { ...spec.optimizer, decay } } };
}

/**
 * The same for bench/train.py.
 *
 * @param {NativeBinding} binding
 */
async function hand(binding, file, model, { store, spec }, { arch, stem, widths, size, classes, rows, steps }) {
  const { recipes, input, target, optimizer } = spec;
  const pixels = binding.ops.renderBatch(store, recipes, size);
  const logits = fromHalves(arrayOf(target.tensors.logits, 'F16'), halfTable());
  const weights = Object.fromEntries(Object.entries(model.stateDict()).map(([name, t]) => [`model.${name}`, t]));
  const channels = pixels.shape[1];
  const table = arrayOf(input.normalize, 'F32'); // of each channel's level 0 .. 255
  const level = (value) => vector(Array.from({ length: channels }, (_, c) => table[256 * c + value]));
  const lr = arrayOf(optimizer.lr, 'F64')[0];
  await writeSafetensors(
    file,
    {
      ...weights,
      pixels: { ...pixels, shape: [steps, rows, ...pixels.shape.slice(1)] },
      logits: tensor('F32', [steps, rows, classes], logits),
      black: level(0),
      white: level(255),
    },
    {
      ...{ arch, stem, widths: JSON.stringify(widths), classes: String(classes) },
      ...{ lr: String(lr), eps: String(optimizer.eps), decay: String(optimizer.weightDecay) },
      temperature: String(target.temperature),
    },
  );
}
