// The checks of whole jobs: the same inputs through each native job on two devices. scripts/gpu-check.mjs runs them.

import { drawRecipes, drawSynthesis, LABEL_STREAMS } from '../dist/recipe.js';
import { uniforms } from '../dist/rng.js';
import { arrayOf, tensor } from '../dist/tensor.js';

/** @import { Execution, LabelSpec, NativeBinding, SynthesizeSpec, TrainSpec } from '../dist/native.js' */

/** @type {Execution} */
export const EXECUTION = { precision: 'fp32', threads: 1, deterministic: true };
export const CLASSES = 4;
const vector = (values) => tensor('F32', [values.length], Float32Array.from(values));
const constant = (shape, value) => tensor('F32', shape, new Float32Array(shape.reduce((n, d) => n * d, 1)).fill(value));

/** Largest difference of two equally long lists as a share of the largest wanted value. */
export function distance(got, wanted) {
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
export class Side {
  /**
   * @param {NativeBinding} native
   * @param {string} device
   */
  constructor(native, device) {
    this.native = native;
    this.device = device;
  }

  /** @param {{count?: number, height?: number, width?: number, channels?: 1 | 3}} of */
  store({ count = 12, height = 40, width = 31, channels = 3 } = {}) {
    const store = this.native.createImageStore({ channels, device: this.device });
    const pixels = Uint8Array.from(uniforms(3n, 19, 0, 0, count * height * width * channels), (u) =>
      Math.floor(256 * u),
    );
    const labels = Int32Array.from({ length: count }, (_, i) => i % CLASSES);
    store.append(pixels, labels, { height, width, resize: 'none', size: 0, centerCrop: 0 });
    return store;
  }

  model(arch, channels, inputSize, seed = 5n) {
    return this.native.createModel({
      arch,
      numClasses: CLASSES,
      inChannels: channels,
      inputSize,
      options: { stem: 'small', widths: [8, 16], pooling: 'avg' },
      device: this.device,
      seed,
    });
  }
}

/**
 * Three batches of all images under random crops, flips, cutouts and mixes.
 *
 * @param {{count?: number, height?: number, width?: number, inputSize: number, batches?: number, mix?: 'cutmix' | 'mixup'}} of
 */
export function recipes({ count = 12, height = 40, width = 31, inputSize, batches = 3, mix = 'cutmix' }) {
  const list = Array.from({ length: batches }, (_, b) => ({
    indices: Int32Array.from({ length: count }, (_, i) => (i * 5 + b) % count),
    view: b,
    batch: b,
    epoch: 0,
  }));
  /** @type {import('../dist/recipe.js').AugmentSpec} */
  const augment = { crop: { scale: [0.08, 1] }, flip: true, cutout: 0.5, mix };
  return drawRecipes(list, { seed: 11n, augment, sizes: () => [height, width], inputSize, purposes: LABEL_STREAMS });
}

export function input(native, channels, size) {
  const of = (value) => vector(Array.from({ length: channels }, () => value));
  return { size, normalize: native.ops.normalizeTable(of(0.45), of(0.25)) };
}

/**
 * Two groups of three images through `steps` iterations.
 *
 * @returns {SynthesizeSpec}
 */
export function synthesisSpec(side, model, steps) {
  const [groups, n, size] = [2, 3, 32];
  const shape = [groups * n, 3, size, size];
  const each = 3 * size * size;
  const x = new Float32Array(groups * n * each);
  for (let i = 0; i < groups * n; i++) x.set(arrayOf(side.native.ops.normals(2n, 19, i, 0, each), 'F32'), i * each);
  const total = model.normLayers.reduce((sum, layer) => sum + layer.channels, 0);
  const draws = drawSynthesis({
    ...{ seed: 2n, objects: Int32Array.of(0, 1), t0: 0, t1: steps, size },
    scale: () => [0.3, 1],
    ...{ flip: true, rollMin: -4, rollMax: 4 },
  });
  return {
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
    graph: true,
  };
}

/**
 * Three steps on the batches of `recipes`.
 *
 * @param {NativeBinding} native
 * @param {'adamw' | 'sgd'} kind
 * @param {TrainSpec['target']} target
 * @returns {TrainSpec}
 */
export function trainSpec(native, kind, target) {
  const lr = tensor('F64', [3], Float64Array.of(0.01, 0.01, 0.01));
  return {
    ...EXECUTION,
    recipes: recipes({ inputSize: 32 }),
    input: input(native, 3, 32),
    target,
    optimizer: {
      ...{ kind, lr, momentum: 0.9, beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay: 0.01, decay: 'matrices' },
    },
    hashPixels: false,
  };
}

export const quiet = () => {};

/**
 * Each check: what is computed on a side, and how far apart two sides may be (0: equal bytes).
 *
 * @type {{name: string, tolerance: number, run: (side: Side) => number[] | Promise<number[]>}[]}
 */
export const JOB_CHECKS = [
  .../** @type {(1 | 3)[]} */ ([1, 3]).flatMap((channels) =>
    [8, 40, 64].map((size) => ({
      name: `render: crop, resize, flip, cutout and CutMix to ${size} px, ${channels} channels`,
      tolerance: 0,
      run: (/** @type {Side} */ side) => [
        ...side.native.ops.renderBatch(side.store({ channels }), recipes({ inputSize: size }), size).data,
      ],
    })),
  ),
  ...['convnet', 'resnet18', 'resnet50'].map((arch) => ({
    name: `label: dense f16 logits of ${arch}`,
    tolerance: 2e-3, // one rounding of f16 on logits of other convolution algorithms
    /** @param {Side} side */
    async run(side) {
      /** @type {LabelSpec} */
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
        images: null,
        hashPixels: true,
      };
      const labels = await side.native.label([side.model(arch, 3, 32)], side.store(), spec, quiet).promise;
      const coding = { ...spec, ...labels, threads: 1, numClasses: CLASSES };
      return [...arrayOf((await side.native.decode(coding, quiet).promise).logits, 'F32')];
    },
  })),
  .../** @type {('adamw' | 'sgd')[]} */ (['adamw', 'sgd']).map((kind) => ({
    name: `train: losses of three ${kind} steps on hard labels`,
    tolerance: 1e-3,
    /** @param {Side} side */
    async run(side) {
      const spec = trainSpec(side.native, kind, { kind: 'hard', smoothing: 0.1 });
      const { loss } = await side.native.train(side.model('convnet', 3, 32), side.store(), spec, quiet).promise;
      return [...arrayOf(loss, 'F64')];
    },
  })),
  .../** @type {('exact' | 'ema')[]} */ (['exact', 'ema']).map((mode) => ({
    name: `collectStats: ${mode} class statistics of resnet18`,
    tolerance: 1e-3,
    /** @param {Side} side */
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
    /** @param {Side} side */
    async run(side) {
      const model = side.model(arch, 3, 32);
      const { lossCe, lossBn } = await side.native.synthesize(model, synthesisSpec(side, model, 5), quiet).promise;
      return [...arrayOf(lossCe, 'F64'), ...arrayOf(lossBn, 'F64')];
    },
  })),
  {
    name: 'evaluate: loss and top-1 of resnet18',
    tolerance: 1e-3,
    /** @param {Side} side */
    async run(side) {
      const spec = { ...EXECUTION, recipes: recipes({ inputSize: 32 }), input: input(side.native, 3, 32) };
      const { loss, top1 } = await side.native.evaluate(side.model('resnet18', 3, 32), side.store(), spec, quiet)
        .promise;
      return [loss, top1];
    },
  },
];
