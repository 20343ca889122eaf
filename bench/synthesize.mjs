// What does one iteration of the BN-matching loop cost in fp32 and in bf16? Contenders: ours-fp32, ours-bf16. Answers:
// the losses of three iterations, bf16 within 5 % of fp32. PyTorch contenders are not here yet.

import { drawSynthesis } from '../dist/recipe.js';
import { arrayOf, tensor } from '../dist/tensor.js';
import { native, vector } from './inputs.mjs';

const NETS = {
  convnet: { arch: 'convnet', options: { stem: 'small', widths: [32, 64, 64], pooling: 'avg' } },
  resnet18: { arch: 'resnet18', options: { stem: 'small', widths: [32], pooling: 'avg' } },
};

export async function cases({ device, smoke, threads }) {
  const binding = native(device);
  const settings = smoke
    ? [['convnet', 16, 4, 1]]
    : [
        ['convnet', 28, 10, 10],
        ['resnet18', 64, 2, 10],
      ];
  return settings.map(([net, size, groups, n]) => {
    const model = binding.createModel({
      ...NETS[net],
      numClasses: 10,
      inChannels: 3,
      inputSize: size,
      device,
      seed: 1n,
    });
    const images = groups * n;
    const each = 3 * size * size;
    const noise = new Float32Array(images * each);
    for (let i = 0; i < images; i++) noise.set(arrayOf(binding.ops.normals(1n, 19, i, 0, each), 'F32'), i * each);
    const shape = [images, 3, size, size];
    const zeros = () => tensor('F32', shape, new Float32Array(images * each));
    const total = model.normLayers.reduce((sum, layer) => sum + layer.channels, 0);
    const steps = 3;
    const draws = drawSynthesis({
      seed: 1n,
      objects: Int32Array.from({ length: groups }, (_, g) => g),
      t0: 0,
      t1: steps,
      size,
      scale: () => [0.08, 1],
      flip: true,
      rollMin: -4,
      rollMax: 4,
    });
    const spec = (precision) => ({
      precision,
      threads,
      deterministic: false,
      groups,
      imagesPerGroup: n,
      labels: tensor(
        'I32',
        [images],
        Int32Array.from({ length: images }, (_, i) => Math.floor(i / n)),
      ),
      state: { x: tensor('F32', shape, noise), m: zeros(), v: zeros() },
      step: 0,
      ...draws,
      lr: tensor('F64', [steps], new Float64Array(steps).fill(0.1)),
      beta1: 0.5,
      beta2: 0.9,
      eps: 1e-8,
      rBn: 0.05,
      firstBnMultiplier: 10,
      tvL2: 0,
      l2Scale: 0,
      targetMean: tensor('F32', [groups, total], new Float32Array(groups * total)),
      targetVar: tensor('F32', [groups, total], new Float32Array(groups * total).fill(1)),
      clampLow: vector([-2, -2, -2]),
      clampHigh: vector([2, 2, 2]),
    });
    const run = async (precision) => {
      const { lossCe, lossBn } = await binding.synthesize(model, spec(precision), () => {}).promise;
      return [...arrayOf(lossCe, 'F64'), ...arrayOf(lossBn, 'F64')];
    };
    return {
      name: `${net} ${size} px, ${groups} groups x ${n} images, ${steps} iterations`,
      contenders: ['fp32', 'bf16'].map((precision) => ({ name: `ours-${precision}`, run: () => run(precision) })),
      compare(answer, reference) {
        const off = Math.max(...answer.map((value, i) => Math.abs(value - reference[i]) / Math.abs(reference[i])));
        return off <= 0.05 ? null : `losses differ by ${(100 * off).toFixed(1)} %`;
      },
    };
  });
}
