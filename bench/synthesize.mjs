// How fast is one iteration of the BN-matching loop next to eager PyTorch, and next to its convolutions alone? ResNet-18,
// one group of images (a class of LPLD), the same weights, images and draws on all sides. Contenders: eager-fp32 (PyTorch
// as the papers' scripts run it), eager-bf16 (the same under autocast, channels-last), ours-fp32, ours-bf16, and conv-fp32,
// conv-bf16: PyTorch's bare convolutions, forward and gradient to the input, channels-last. Answers: losses of the
// iterations; fp32 within 1e-3 of eager-fp32, bf16 within 5 %; the bare convolutions have none.
// Unfair to PyTorch: it pays for one line of JSON a call. Unfair to us: nothing known.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { drawSynthesis } from '../dist/recipe.js';
import { writeSafetensors } from '../dist/safetensors.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { startEager } from './eager.mjs';
import { native, vector } from './inputs.mjs';

const CLASSES = 10;
const [R_BN, LR] = [0.05, 0.1];

export async function cases({ device, smoke, threads }) {
  const binding = native(device);
  const eager = await startEager(threads);
  const folder = mkdtempSync(join(tmpdir(), 'lpld-bench-'));
  process.once('exit', () => {
    if (typeof eager !== 'string') eager.close();
    rmSync(folder, { recursive: true, force: true });
  });
  const settings = smoke
    ? [['small', 32, 4]]
    : [
        ['small', 64, 20],
        ['small', 64, 100],
        ['imagenet', 224, 10],
      ];
  const out = [];
  for (const [stem, size, images] of settings)
    out.push(await oneCase({ binding, eager, folder, device, threads, stem, size, images, steps: smoke ? 2 : 1 }));
  return out;
}

async function oneCase({ binding, eager, folder, device, threads, stem, size, images, steps }) {
  const spec = { arch: 'resnet18', options: { stem, widths: [1], pooling: 'avg' } };
  const model = binding.createModel({ ...spec, numClasses: CLASSES, inChannels: 3, inputSize: size, device, seed: 1n });
  const shape = [images, 3, size, size];
  const each = 3 * size * size;
  const noise = new Float32Array(images * each);
  for (let i = 0; i < images; i++) noise.set(arrayOf(binding.ops.normals(1n, 19, 0, i, each), 'F32'), i * each);
  const channels = model.normLayers.reduce((sum, layer) => sum + layer.channels, 0);
  const constant = (value) => tensor('F32', [1, channels], new Float32Array(channels).fill(value));
  const targets = { targetMean: constant(0), targetVar: constant(1) };
  const scale = () => [0.08, 1];
  const draws = drawSynthesis({
    seed: 1n,
    objects: [0],
    t0: 0,
    t1: steps,
    size,
    scale,
    flip: true,
    rollMin: -4,
    rollMax: 4,
  });
  const x = tensor('F32', shape, noise);
  const zeros = () => tensor('F32', shape, new Float32Array(noise.length));
  const labels = tensor(
    'I32',
    [images],
    Int32Array.from({ length: images }, (_, i) => i % CLASSES),
  );

  const ours = (precision) => async () => {
    const { lossCe, lossBn } = await binding.synthesize(
      model,
      {
        ...{ precision, threads, deterministic: false, groups: 1, imagesPerGroup: images, labels, step: 0 },
        state: { x, m: zeros(), v: zeros() },
        ...draws,
        lr: tensor('F64', [steps], new Float64Array(steps).fill(LR)),
        ...{ beta1: 0.5, beta2: 0.9, eps: 1e-8, rBn: R_BN, firstBnMultiplier: 10, tvL2: 0, l2Scale: 0 },
        ...targets,
        clampLow: vector([-2, -2, -2]),
        clampHigh: vector([2, 2, 2]),
      },
      () => {},
    ).promise;
    const [ce, bn] = [arrayOf(lossCe, 'F64'), arrayOf(lossBn, 'F64')];
    return [...ce].flatMap((value, t) => [value, bn[t]]);
  };

  let peak = 0;
  const file = join(folder, `${stem}-${size}-${images}.safetensors`);
  if (typeof eager !== 'string') {
    const weights = Object.fromEntries(Object.entries(model.stateDict()).map(([name, t]) => [`model.${name}`, t]));
    const metadata = { classes: String(CLASSES), stem, rBn: String(R_BN), lr: String(LR) };
    await writeSafetensors(file, { ...weights, x, labels, ...targets, ...draws }, metadata);
    await eager.ask({ load: file });
  }
  const python = (name) => ({
    name,
    unavailable: typeof eager === 'string' ? eager : null,
    async run() {
      const { losses, peakBytes } = await eager.ask({ from: file, run: name, steps });
      peak = peakBytes;
      return losses;
    },
    peakBytes: () => peak,
  });
  return {
    name: `ResNet-18, ${stem} stem, ${size} px, ${images} images`,
    contenders: [
      python('eager-fp32'),
      python('eager-bf16'),
      { name: 'ours-fp32', run: ours('fp32') },
      { name: 'ours-bf16', run: ours('bf16') },
      python('conv-fp32'),
      python('conv-bf16'),
    ],
    compare(answer, reference, name) {
      if (name.startsWith('conv')) return null;
      const off = Math.max(...answer.map((value, i) => Math.abs(value - reference[i]) / Math.abs(reference[i])));
      return off <= (name.endsWith('bf16') ? 0.05 : 1e-3) ? null : `losses differ by ${(100 * off).toFixed(2)} %`;
    },
  };
}
