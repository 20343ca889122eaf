// synthesize: the teacher and its statistics become a few images per class. Several classes share a forward (a group
// plan, computed once and written to the manifest); statistics, losses and draws stay per group.
// Source: methods 0.5 (loop), 3.3 (LPLD), DESIGN 6.3 (groups). The loop is native/jobs/synthesize.cpp.

import { z } from 'zod';
import { encodeImage } from '../datasets/images.ts';
import { imageName, type SetDescription } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import { classesPerForward, groupPlan, selectGroups } from '../groups.ts';
import { METHODS, type SynthesisGroup } from '../methods/index.ts';
import type { NativeModel, NormLayer, SynthesizeResult, SynthesizeSpec } from '../native.ts';
import { drawSynthesis } from '../recipe.ts';
import { Purpose, permutation } from '../rng.ts';
import { cropScale, learningRates } from '../schedule.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../tensor.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import {
  type DatasetFacts,
  execution,
  factsOf,
  inSegments,
  loadStore,
  loadTeacher,
  precisionOption,
  runJob,
  savedState,
  trainTransform,
} from './shared.ts';
import type { Stage, StageContext } from './types.ts';

export const synthesizeOptions = z.strictObject({
  method: z
    .enum(METHODS.map((m) => m.name) as [string, ...string[]])
    .default('lpld')
    .describe('how images are made'),
  ipc: z.int().min(1).default(10).describe('images per class'),
  iterations: z.int().min(1).default(1000).describe('optimisation steps of every image'),
  batch: z.int().min(1).default(100).describe('most images of a class optimised together'),
  lr: z.number().positive().default(0.1).describe('Adam learning rate, cosine to 0 without warm-up'),
  beta1: z.number().min(0).lt(1).default(0.5).describe('Adam: decay of the first moment'),
  beta2: z.number().min(0).lt(1).default(0.9).describe('Adam: decay of the second moment'),
  eps: z.number().positive().default(1e-8).describe('Adam: added to the denominator'),
  rBn: z.number().min(0).default(0.05).describe('weight of the BatchNorm matching loss'),
  firstBnMultiplier: z.number().min(0).default(10).describe('weight of the first BatchNorm layer within it'),
  tvL2: z.number().min(0).default(0).describe('weight of the total variation prior'),
  l2Scale: z.number().min(0).default(0).describe('weight of the L2 prior'),
  cropScale: z
    .tuple([z.number().gt(0).max(1), z.number().gt(0).max(1)])
    .nullable()
    .default([0.08, 1])
    .describe('area of the crop of an iteration as a share of the image; whole images when none'),
  flip: z.boolean().default(true).describe('flip with probability one half'),
  rollMin: z.int().default(-4).describe('least circular shift of both axes, px'),
  rollMax: z.int().default(4).describe('largest circular shift of both axes, px'),
  classes: z
    .array(z.int().min(0))
    .nullable()
    .default(null)
    .describe('make only these classes; whole groups of the plan'),
  classesPerForward: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('classes that share a forward; sized to memory and cache when none'),
  encoding: z
    .enum(['jpeg', 'png'])
    .default('jpeg')
    .describe('image files: JPEG quality 75 4:2:0 as published, or lossless PNG'),
  precision: precisionOption,
});

/** Past this many pixels in a forward a CPU gets slower per image: the activations leave the cache. */
const CACHE_PIXELS = 20 * 64 * 64;

export const synthesize: Stage = {
  name: 'synthesize',
  version: 1,
  summary: 'make a few synthetic images per class from the teacher and its statistics',
  inputs: ['teacher'],
  options: synthesizeOptions,
  needs: (config) =>
    methodOf(config.synthesize.method).source === 'real'
      ? { roles: [], dataset: true }
      : { roles: ['teacher'], dataset: false },
  identity({ synthesize: options, dataset, seed }) {
    if (methodOf(options.method).source === 'synthetic') return { synthesize: options, seed };
    const { method, ipc, encoding, classes } = options;
    return { synthesize: { method, ipc, encoding, classes }, dataset: { ...dataset, path: '' }, seed };
  },
  precision: (config) => (methodOf(config.synthesize.method).source === 'real' ? 'fp32' : config.synthesize.precision),
  estimate(config) {
    const { ipc, iterations, precision } = config.synthesize;
    const images = 10 * ipc;
    const { flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    return {
      bytes: images * 0.6 * config.dataset.inputSize ** 2,
      seconds: secondsOf(2 * flops * images * iterations, precision),
      note: 'for 10 classes',
    };
  },
  run: (context) =>
    methodOf(context.config.synthesize.method).source === 'real' ? takeReal(context) : optimise(context),
};

function methodOf(name: string) {
  return METHODS.find((method) => method.name === name)!;
}

/** The control: `ipc` real images per class, cut to the stored size and encoded like synthetic ones. */
async function takeReal({ config, native, runtime, draft, dataset, progress }: StageContext): Promise<void> {
  const { ipc, classes: wanted, encoding } = config.synthesize;
  const facts = factsOf(dataset!, config);
  const { train } = dataset!;
  const byClass: number[][] = facts.classNames.map(() => []);
  for (const [index, label] of train.labels.entries()) byClass[label]!.push(index);
  const classes = (wanted ?? [...byClass.keys()]).slice().sort((a, b) => a - b);
  const chosen = new Map<number, { classId: number; id: number }>();
  for (const classId of classes) {
    const members = byClass[classId] ?? [];
    if (members.length < ipc)
      throw new LpldError(
        'E_CONFIG',
        expected(`at most ${members.length} images of class ${classId}`, 'synthesize.ipc', ipc),
      );
    const order = permutation(BigInt(config.seed), Purpose.realSubset, classId, 0, members.length);
    for (let id = 0; id < ipc; id++) chosen.set(members[order[id]!]!, { classId, id });
  }
  progress.start(chosen.size, 'image', 'real images');
  const transform =
    config.dataset.storedSize > 0
      ? trainTransform(config)
      : { resize: 'exact' as const, size: facts.inputSize, centerCrop: 0 };
  const store = await loadStore(native, runtime, train, facts.channels, transform, new Set(chosen.keys()));
  const positions = [...chosen.keys()].sort((a, b) => a - b);
  const files: [string, Uint8Array][] = [];
  for (const [position, index] of positions.entries()) {
    const { classId, id } = chosen.get(index)!;
    const image = store.image(position);
    const [height, width] = image.shape as [number, number];
    files.push([
      imageName(classId, id, encoding),
      await encodeImage(image.data, height, width, facts.channels, encoding),
    ]);
    progress.update(position + 1);
  }
  const size = store.image(0).shape[0]!;
  store.dispose();
  await draft.writeFiles(files);
  await draft.writeJson('set.json', description(facts, size, classes, ipc, encoding));
  progress.finish();
  await draft.publish({ method: 'random', images: chosen.size, ipc, size });
}

function description(
  facts: DatasetFacts,
  size: number,
  classes: readonly number[],
  ipc: number,
  encoding: 'jpeg' | 'png',
): SetDescription {
  const { channels, classNames, mean, std } = facts;
  return {
    channels,
    size,
    classNames: [...classNames],
    mean: [...mean],
    std: [...std],
    classes: [...classes],
    ipc,
    encoding,
  };
}

interface Forward {
  readonly number: number;
  readonly groups: readonly SynthesisGroup[]; // all with equally many images
}

async function optimise(context: StageContext): Promise<void> {
  const { config, native, runtime, inputs, draft, progress } = context;
  const o = config.synthesize;
  const teacher = inputs['teacher']!;
  const facts = await teacher.readJson<DatasetFacts>('dataset.json');
  if (!teacher.has('stats.safetensors'))
    throw new LpldError(
      'E_MISMATCH',
      expected('a teacher with class statistics', 'teacher', teacher.dir, 'squeeze it with --stats exact or ema'),
    );
  const stats = await teacher.readTensors('stats.safetensors');
  const model = await loadTeacher(native, runtime, teacher);

  const size = facts.inputSize;
  const all = [...facts.classNames.keys()];
  const planned = await savedState<{ perForward: number }>(draft, 'plan'); // a resume may find other memory free
  const perForward =
    planned?.json.perForward ??
    o.classesPerForward ??
    classesPerForward({
      ipc: Math.min(o.ipc, o.batch),
      bytesPerImage: activationBytes(config.squeeze, size),
      memory: runtime.memory / 2,
      cacheImages: runtime.device === 'cpu' ? Math.max(1, Math.floor(CACHE_PIXELS / (size * size))) : null,
    });
  if (planned === null) await draft.saveState('plan', {}, { perForward });
  const plan = groupPlan({ classIds: all, classesPerForward: perForward });
  const chosen = selectGroups(plan, o.classes === null ? 'all' : { classes: o.classes });
  const forwards: Forward[] = [];
  for (const f of chosen) {
    const groups = methodOf(o.method).groups(plan.forwards[f]!, { ipc: o.ipc, batch: o.batch, numClasses: all.length });
    for (const n of new Set(groups.map((group) => group.images.length)))
      forwards.push({ number: forwards.length, groups: groups.filter((group) => group.images.length === n) });
  }
  progress.start(
    forwards.length * o.iterations,
    'iteration',
    `${forwards.length} forwards of up to ${perForward} classes`,
  );
  const run = { context, model, stats, facts };
  for (const forward of forwards) {
    if (!draft.has(lossFile(forward))) await makeForward(run, forward);
    progress.update((forward.number + 1) * o.iterations);
  }
  const classes = chosen.flatMap((f) => plan.forwards[f]!).sort((a, b) => a - b);
  await draft.writeJson('set.json', description(facts, size, classes, o.ipc, o.encoding));
  const summary = await curves(draft, forwards, o.iterations);
  progress.finish();
  model.dispose();
  await draft.publish({
    method: o.method,
    images: classes.length * o.ipc,
    ipc: o.ipc,
    size,
    groupPlan: plan.forwards,
    ...summary,
  });
}

/** Activations kept for the backward pass and their gradients, per image: about three floats per activation. */
function activationBytes(
  net: { arch: string; widths: readonly number[]; stem: 'imagenet' | 'small' },
  size: number,
): number {
  const floats =
    net.arch === 'convnet'
      ? net.widths.reduce((sum, w, i) => sum + 3 * w * (size >> i) ** 2, 0)
      : 64 * 40 * (net.stem === 'small' ? size : size / 4) ** 2;
  return Math.ceil(4 * 3 * floats) + 64 * size * size;
}

const lossFile = ({ number }: Forward): string => `losses/${String(number).padStart(5, '0')}.safetensors`;

interface Run {
  readonly context: StageContext;
  readonly model: NativeModel;
  readonly stats: TensorMap;
  readonly facts: DatasetFacts;
}

/** Optimises the images of one forward from noise, then writes them and the thinned losses. */
async function makeForward({ context, model, stats, facts }: Run, forward: Forward): Promise<void> {
  const { config, native, runtime, draft, progress } = context;
  const o = config.synthesize;
  const { groups } = forward;
  const [size, seed] = [facts.inputSize, BigInt(config.seed)];
  const images = groups.flatMap((group) => group.images);
  const stride = lossStride(o.iterations);
  const rows = Math.ceil(o.iterations / stride);

  const saved = await savedState<{ forward: number; step: number }>(draft, 'images');
  const resumed = saved !== null && saved.json.forward === forward.number ? saved : null;
  let state = resumed
    ? { x: resumed.tensors['x']!, m: resumed.tensors['m']!, v: resumed.tensors['v']! }
    : initialState(context, images, facts.channels, size);
  const ce = resumed ? arrayOf(resumed.tensors['ce']!, 'F64').slice() : new Float64Array(rows * groups.length);
  const bn = resumed ? arrayOf(resumed.tensors['bn']!, 'F64').slice() : new Float64Array(rows * groups.length);
  const lr = learningRates({
    kind: 'cosine',
    base: o.lr,
    epochs: o.iterations,
    stepsPerEpoch: 1,
    per: 'step',
    warmupEpochs: 0,
    warmupStart: 1,
  });
  const scale =
    o.cropScale === null
      ? null
      : cropScale({
          curriculum: 'constant',
          milestone: 0,
          min: o.cropScale[0],
          max: o.cropScale[1],
          iterations: o.iterations,
        });
  const targets = gatherTargets(model.normLayers, stats, groups);
  const bounds = clampBounds(facts);

  progress.update(forward.number * o.iterations + (resumed?.json.step ?? 0));
  await inSegments({
    first: resumed?.json.step ?? 0,
    total: o.iterations,
    limit: 4096,
    saveSeconds: runtime.saveSeconds,
    async run(t0, t1) {
      const draws = drawSynthesis({
        seed,
        objects: groups.map((g) => g.object),
        t0,
        t1,
        size,
        scale,
        flip: o.flip,
        rollMin: o.rollMin,
        rollMax: o.rollMax,
      });
      const spec: SynthesizeSpec = {
        ...execution(runtime, o.precision),
        groups: groups.length,
        imagesPerGroup: groups[0]!.images.length,
        labels: tensor(
          'I32',
          [images.length],
          Int32Array.from(images, (image) => image.classId),
        ),
        state,
        step: t0,
        ...draws,
        lr: tensor('F64', [t1 - t0], lr.slice(t0, t1)),
        beta1: o.beta1,
        beta2: o.beta2,
        eps: o.eps,
        rBn: o.rBn,
        firstBnMultiplier: o.firstBnMultiplier,
        tvL2: o.tvL2,
        l2Scale: o.l2Scale,
        ...targets,
        ...bounds,
      };
      const result: SynthesizeResult = await runJob(
        runtime.signal,
        (on) => native.synthesize(model, spec, on),
        (p) => progress.update(forward.number * o.iterations + t0 + p.done, { loss: p.loss }),
      );
      state = result.state;
      keepLosses(arrayOf(result.lossCe, 'F64'), arrayOf(result.lossBn, 'F64'), t0, groups, stride, ce, bn);
    },
    save: (step) =>
      draft.saveState(
        'images',
        { ...state, ce: tensor('F64', [rows, groups.length], ce), bn: tensor('F64', [rows, groups.length], bn) },
        { forward: forward.number, step },
      ),
  });
  await writeImages(context, facts, images, state.x);
  await draft.writeTensors(lossFile(forward), {
    ce: tensor('F64', [rows, groups.length], ce),
    bn: tensor('F64', [rows, groups.length], bn),
  });
}

/** N(0, 1) in normalised space, Philox purpose 19: object = class, view = image of the class. */
function initialState(
  { native, config }: StageContext,
  images: readonly { classId: number; id: number }[],
  channels: number,
  size: number,
) {
  const shape = [images.length, channels, size, size];
  const each = channels * size * size;
  const x = new Float32Array(images.length * each);
  for (const [i, { classId, id }] of images.entries())
    x.set(arrayOf(native.ops.normals(BigInt(config.seed), Purpose.synthesisNoise, classId, id, each), 'F32'), i * each);
  const zeros = () => tensor('F32', shape, new Float32Array(x.length));
  return { x: tensor('F32', shape, x), m: zeros(), v: zeros() };
}

/** Target rows of every group, layers side by side: F32 [G, sum of C_l]. */
function gatherTargets(
  layers: readonly NormLayer[],
  stats: TensorMap,
  groups: readonly SynthesisGroup[],
): { targetMean: TensorView; targetVar: TensorView } {
  const total = layers.reduce((sum, layer) => sum + layer.channels, 0);
  const mean = new Float32Array(groups.length * total);
  const variance = new Float32Array(groups.length * total);
  let first = 0;
  for (const { name, channels } of layers) {
    for (const [suffix, target] of [
      ['mean', mean],
      ['var', variance],
    ] as const) {
      const rows = stats[`${name}.${suffix}`];
      if (rows === undefined || rows.shape[1] !== channels)
        throw new LpldError(
          'E_MISMATCH',
          expected(`${name}.${suffix} [K, ${channels}]`, 'class statistics', rows ? `[${rows.shape}]` : 'none'),
        );
      const values = arrayOf(rows, 'F32');
      for (const [g, group] of groups.entries()) {
        if (group.target === 'global')
          throw new LpldError('E_INTERNAL', expected('class targets', 'synthesize', 'global ones'));
        const { classId } = group.target;
        target.set(values.subarray(classId * channels, (classId + 1) * channels), g * total + first);
      }
    }
    first += channels;
  }
  const shape = [groups.length, total];
  return { targetMean: tensor('F32', shape, mean), targetVar: tensor('F32', shape, variance) };
}

/** The colours that exist, in normalised space: -m/s and (1-m)/s per channel. */
function clampBounds({ mean, std }: DatasetFacts): { clampLow: TensorView; clampHigh: TensorView } {
  const vector = (f: (m: number, s: number) => number) =>
    tensor(
      'F32',
      [mean.length],
      Float32Array.from(mean, (m, c) => f(m, std[c]!)),
    );
  return { clampLow: vector((m, s) => -m / s), clampHigh: vector((m, s) => (1 - m) / s) };
}

/** Losses are kept every `stride` iterations, and the last. */
function lossStride(iterations: number): number {
  return Math.max(1, Math.ceil(iterations / 200));
}

function keepLosses(
  ceNew: Float64Array,
  bnNew: Float64Array,
  t0: number,
  groups: readonly SynthesisGroup[],
  stride: number,
  ce: Float64Array,
  bn: Float64Array,
): void {
  const width = groups.length;
  for (let i = 0; i < ceNew.length / width; i++)
    for (let g = 0; g < width; g++) {
      const [a, b] = [ceNew[i * width + g]!, bnNew[i * width + g]!];
      if (!Number.isFinite(a + b))
        throw new LpldError(
          'E_DIVERGED',
          `the synthesis loss of class ${groups[g]!.images[0]!.classId} is not finite at iteration ${t0 + i + 1}\nlower synthesize.lr or synthesize.rBn`,
          {
            stage: 'synthesize',
            class: groups[g]!.images[0]!.classId,
            iteration: t0 + i + 1,
          },
        );
      const row = Math.floor((t0 + i) / stride);
      ce[row * width + g] = a; // the last iteration of the row's stride stays
      bn[row * width + g] = b;
    }
}

async function writeImages(
  { config, native, draft }: StageContext,
  facts: DatasetFacts,
  images: readonly { classId: number; id: number }[],
  x: TensorView,
): Promise<void> {
  const { encoding } = config.synthesize;
  const vector = (values: readonly number[]) => tensor('F32', [values.length], Float32Array.from(values));
  const pixels = native.ops.toPixels(x, vector(facts.mean), vector(facts.std)); // [N, P, P, C]
  const each = pixels.data.length / images.length;
  const size = facts.inputSize;
  const files = await Promise.all(
    images.map(async ({ classId, id }, i): Promise<[string, Uint8Array]> => {
      const bytes = pixels.data.subarray(i * each, (i + 1) * each);
      return [imageName(classId, id, encoding), await encodeImage(bytes, size, size, facts.channels, encoding)];
    }),
  );
  await draft.writeFiles(files);
}

/** Mean losses over all groups for the report, and their last values for the manifest. */
async function curves(
  draft: StageContext['draft'],
  forwards: readonly Forward[],
  iterations: number,
): Promise<{ lossCe: number; lossBn: number }> {
  const stride = lossStride(iterations);
  const rows = Math.ceil(iterations / stride);
  const sums = { ce: new Float64Array(rows), bn: new Float64Array(rows) };
  let groups = 0;
  for (const forward of forwards) {
    const losses = await draft.readTensors(lossFile(forward));
    const width = forward.groups.length;
    groups += width;
    for (const name of ['ce', 'bn'] as const)
      for (const [i, value] of arrayOf(losses[name]!, 'F64').entries()) sums[name][Math.floor(i / width)]! += value;
  }
  const points = (values: Float64Array): [number, number][] =>
    [...values].map((sum, row) => [Math.min((row + 1) * stride, iterations), sum / groups]);
  await draft.writeJson('curves.json', {
    series: [
      { name: 'cross-entropy', points: points(sums.ce) },
      { name: 'BN distance', points: points(sums.bn) },
    ],
  });
  return { lossCe: sums.ce.at(-1)! / groups, lossBn: sums.bn.at(-1)! / groups };
}
