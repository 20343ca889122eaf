#!/usr/bin/env node
// `node scripts/gpu-check.mjs [--device cuda:0] [--json FILE]`: does the device compute what the CPU computes? Every check
// runs the same inputs on both and compares; with --device cpu it is a rehearsal of itself. Needs dist/, the built addon
// and a LibTorch only (no npm packages at run time), so that it can travel to a machine with a GPU and nothing else.
// test/cuda.test.ts runs the same checks. Exit code 1 if one fails.

import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { loadNative } from '../dist/addon.js';
import { drawRecipes, drawSynthesis, LABEL_STREAMS } from '../dist/recipe.js';
import { uniforms } from '../dist/rng.js';
import { arrayOf, tensor } from '../dist/tensor.js';

const EXECUTION = { precision: 'fp32', threads: 1, deterministic: true };
const CLASSES = 4;
const vector = (values) => tensor('F32', [values.length], Float32Array.from(values));
const constant = (shape, value) => tensor('F32', shape, new Float32Array(shape.reduce((n, d) => n * d, 1)).fill(value));

/** Largest difference of two equally long lists as a share of the largest wanted value. */
function distance(got, wanted) {
  if (got.length !== wanted.length) return Number.POSITIVE_INFINITY;
  let off = 0;
  let scale = 0;
  for (let i = 0; i < wanted.length; i++) {
    off = Math.max(off, Number.isFinite(got[i]) ? Math.abs(got[i] - wanted[i]) : Number.POSITIVE_INFINITY);
    scale = Math.max(scale, Math.abs(wanted[i]));
  }
  return off / (scale || 1);
}

/** Everything a check needs, made on one device from the same streams. */
class Side {
  constructor(native, device) {
    this.native = native;
    this.device = device;
  }

  store({ count = 12, height = 40, width = 31, channels = 3 } = {}) {
    const store = this.native.createImageStore({ channels, device: this.device });
    const pixels = Uint8Array.from(uniforms(3n, 19, 0, 0, count * height * width * channels), (u) =>
      Math.floor(256 * u),
    );
    const labels = Int32Array.from({ length: count }, (_, i) => i % CLASSES);
    store.append(pixels, labels, { height, width, resize: 'none', size: 0, centerCrop: 0 });
    return store;
  }

  model(arch, channels, inputSize) {
    const options = { stem: 'small', widths: [8, 16], pooling: 'avg' };
    return this.native.createModel({
      arch,
      numClasses: CLASSES,
      inChannels: channels,
      inputSize,
      options,
      device: this.device,
      seed: 5n,
    });
  }
}

function recipes({ count = 12, height = 40, width = 31, inputSize, batches = 3 }) {
  const list = Array.from({ length: batches }, (_, b) => ({
    indices: Int32Array.from({ length: count }, (_, i) => (i * 5 + b) % count),
    view: b,
    batch: b,
    epoch: 0,
  }));
  const augment = { crop: { scale: [0.08, 1] }, flip: true, cutout: 0.5, mix: 'cutmix' };
  return drawRecipes(list, { seed: 11n, augment, sizes: () => [height, width], inputSize, purposes: LABEL_STREAMS });
}

function input(native, channels, size) {
  const of = (value) => vector(Array.from({ length: channels }, () => value));
  return { size, normalize: native.ops.normalizeTable(of(0.45), of(0.25)) };
}

const quiet = () => {};

/** Each check: what is computed on a side, and how far apart two sides may be (0: equal bytes). */
const CHECKS = [
  ...[1, 3].flatMap((channels) =>
    [8, 40, 64].map((size) => ({
      name: `render: crop, resize, flip, cutout and CutMix to ${size} px, ${channels} channels`,
      tolerance: 0,
      run: (side) => [
        ...side.native.ops.renderBatch(side.store({ channels }), recipes({ inputSize: size }), size).data,
      ],
    })),
  ),
  ...['convnet', 'resnet18', 'resnet50'].map((arch) => ({
    name: `label: dense f16 logits of ${arch}`,
    tolerance: 2e-3, // one rounding of f16 on logits of other convolution algorithms
    async run(side) {
      const spec = {
        ...EXECUTION,
        recipes: recipes({ inputSize: 32 }),
        input: input(side.native, 3, 32),
        ensemble: 'mean',
        teacherMode: 'eval',
        codec: 'dense:f16',
        basis: {},
        recordIds: tensor('I32', [3], Int32Array.of(0, 1, 2)),
        seed: 0n,
        hashPixels: true,
      };
      const labels = await side.native.label([side.model(arch, 3, 32)], side.store(), spec, quiet).promise;
      const coding = { ...spec, ...labels, threads: 1, numClasses: CLASSES };
      return [...arrayOf((await side.native.decode(coding, quiet).promise).logits, 'F32')];
    },
  })),
  ...['adamw', 'sgd'].map((kind) => ({
    name: `train: losses of three ${kind} steps on hard labels`,
    tolerance: 1e-3,
    async run(side) {
      const lr = tensor('F64', [3], Float64Array.of(0.01, 0.01, 0.01));
      const optimizer = {
        kind,
        lr,
        momentum: 0.9,
        beta1: 0.9,
        beta2: 0.999,
        eps: 1e-8,
        weightDecay: 0.01,
        decay: 'matrices',
      };
      const target = { kind: 'hard', smoothing: 0.1 };
      const spec = {
        ...EXECUTION,
        recipes: recipes({ inputSize: 32 }),
        input: input(side.native, 3, 32),
        target,
        optimizer,
        hashPixels: false,
      };
      const { loss } = await side.native.train(side.model('convnet', 3, 32), side.store(), spec, quiet).promise;
      return [...arrayOf(loss, 'F64')];
    },
  })),
  ...['exact', 'ema'].map((mode) => ({
    name: `collectStats: ${mode} class statistics of resnet18`,
    tolerance: 1e-3,
    async run(side) {
      const model = side.model('resnet18', 3, 32);
      const state = side.native.ops.initialClassStats(model, mode);
      const spec = {
        ...EXECUTION,
        recipes: recipes({ inputSize: 32 }),
        input: input(side.native, 3, 32),
        mode,
        momentum: 0.1,
        state,
      };
      const result = await side.native.collectStats(model, side.store(), spec, quiet).promise;
      const stats = side.native.ops.finishClassStats(model, mode, result.state);
      return Object.keys(stats)
        .filter((name) => name !== 'count')
        .sort()
        .flatMap((name) => [...arrayOf(stats[name], 'F32')]);
    },
  })),
  ...['convnet', 'resnet18'].map((arch) => ({
    name: `synthesize: losses of five iterations through ${arch}`,
    tolerance: 1e-3,
    async run(side) {
      const [groups, n, size, steps] = [2, 3, 32, 5];
      const model = side.model(arch, 3, size);
      const shape = [groups * n, 3, size, size];
      const each = 3 * size * size;
      const x = new Float32Array(groups * n * each);
      for (let i = 0; i < groups * n; i++) x.set(arrayOf(side.native.ops.normals(2n, 19, i, 0, each), 'F32'), i * each);
      const total = model.normLayers.reduce((sum, layer) => sum + layer.channels, 0);
      const draws = drawSynthesis({
        seed: 2n,
        objects: Int32Array.of(0, 1),
        t0: 0,
        t1: steps,
        size,
        scale: () => [0.3, 1],
        flip: true,
        rollMin: -4,
        rollMax: 4,
      });
      const spec = {
        ...EXECUTION,
        ...draws,
        groups,
        imagesPerGroup: n,
        labels: tensor('I32', [groups * n], Int32Array.of(0, 0, 0, 1, 1, 1)),
        state: { x: tensor('F32', shape, x), m: constant(shape, 0), v: constant(shape, 0) },
        step: 0,
        lr: tensor('F64', [steps], new Float64Array(steps).fill(0.05)),
        ...{ beta1: 0.5, beta2: 0.9, eps: 1e-8, rBn: 0.05, firstBnMultiplier: 10, tvL2: 0, l2Scale: 0 },
        targetMean: constant([groups, total], 0.1),
        targetVar: constant([groups, total], 0.9),
        clampLow: vector([-2, -2, -2]),
        clampHigh: vector([2, 2, 2]),
      };
      const { lossCe, lossBn } = await side.native.synthesize(model, spec, quiet).promise;
      return [...arrayOf(lossCe, 'F64'), ...arrayOf(lossBn, 'F64')];
    },
  })),
  {
    name: 'evaluate: loss and top-1 of resnet18',
    tolerance: 1e-3,
    async run(side) {
      const spec = { ...EXECUTION, recipes: recipes({ inputSize: 32 }), input: input(side.native, 3, 32) };
      const { loss, top1 } = await side.native.evaluate(side.model('resnet18', 3, 32), side.store(), spec, quiet)
        .promise;
      return [loss, top1];
    },
  },
];

/**
 * The checks of a device against the CPU.
 *
 * @param {string} device - cpu or cuda:N
 * @returns {{name: string, run: () => Promise<{distance: number, tolerance: number}>}[]}
 */
export function deviceChecks(device) {
  const native = loadNative(device === 'cpu' ? 'cpu' : 'cuda');
  return CHECKS.map(({ name, tolerance, run }) => ({
    name,
    async run() {
      const wanted = await run(new Side(native, 'cpu'));
      const got = await run(new Side(native, device));
      return { distance: distance(got, wanted), tolerance };
    },
  }));
}

async function main() {
  const { values } = parseArgs({
    options: { device: { type: 'string', default: 'cuda:0' }, json: { type: 'string' } },
  });
  const rows = [];
  for (const { name, run } of deviceChecks(values.device)) {
    const began = performance.now();
    const result = await run().catch((error) => ({
      distance: Number.POSITIVE_INFINITY,
      tolerance: 0,
      error: error.message,
    }));
    const passed = result.distance <= result.tolerance;
    rows.push({ name, passed, ...result, seconds: (performance.now() - began) / 1000 });
    console.log(
      `${passed ? 'ok    ' : 'FAILED'} ${name}: ${result.error ?? `${result.distance.toExponential(2)} of ${result.tolerance}`}`,
    );
  }
  const failed = rows.filter((row) => !row.passed).length;
  if (values.json) writeFileSync(values.json, `${JSON.stringify({ device: values.device, rows }, null, 2)}\n`);
  console.log(`${values.device}: ${rows.length - failed} passed, ${failed} failed`);
  process.exitCode = failed === 0 ? 0 : 1;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main();
