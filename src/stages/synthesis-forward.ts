// One forward of synthesis: some groups of images optimised together from noise, in resumable segments, then written as
// image files with their thinned losses. The loop itself is native/jobs/synthesize.cpp. Source: methods 0.5.

import { encodeImage } from '../datasets/images.ts';
import { imageName } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import { methodNamed, type SynthesisGroup } from '../methods/index.ts';
import type { NativeModel, NormLayer, SynthesizeResult, SynthesizeSpec } from '../native.ts';
import { drawSynthesis } from '../recipe.ts';
import { Purpose } from '../rng.ts';
import { cropScale, learningRates } from '../schedule.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../tensor.ts';
import { type DatasetFacts, execution, inSegments, runJob, savedState } from './shared.ts';
import type { StageContext } from './types.ts';

export interface Forward {
  readonly number: number;
  readonly groups: readonly SynthesisGroup[]; // all with equally many images
}

/** Where a forward keeps its losses; written last, so its presence says that the forward is done. */
export const lossFile = ({ number }: Forward): string => `losses/${String(number).padStart(5, '0')}.safetensors`;

export interface SynthesisRun {
  readonly context: StageContext;
  readonly model: NativeModel;
  readonly stats: TensorMap; // per class; empty where only global targets are matched
  readonly running: TensorMap; // the teacher's state dict
  readonly facts: DatasetFacts;
}

/** Optimises the images of one forward from noise, then writes them and the thinned losses. */
export async function makeForward(
  { context, model, stats, running, facts }: SynthesisRun,
  forward: Forward,
  position: number,
): Promise<void> {
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
    ? { x: resumed.tensors.x!, m: resumed.tensors.m!, v: resumed.tensors.v! }
    : initialState(context, images, facts.channels, size);
  const ce = resumed ? arrayOf(resumed.tensors.ce!, 'F64').slice() : new Float64Array(rows * groups.length);
  const bn = resumed ? arrayOf(resumed.tensors.bn!, 'F64').slice() : new Float64Array(rows * groups.length);
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
          curriculum: methodNamed(o.method).curriculum ? o.curriculum : 'constant',
          milestone: o.milestone,
          min: o.cropScale[0],
          max: o.cropScale[1],
          iterations: o.iterations,
        });
  const targets = gatherTargets(model.normLayers, stats, running, groups);
  const bounds = clampBounds(facts);

  progress.update(position * o.iterations + (resumed?.json.step ?? 0));
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
        graph: true,
      };
      const result: SynthesizeResult = await runJob(
        runtime.signal,
        (on) => native.synthesize(model, spec, on),
        (p) => progress.update(position * o.iterations + t0 + p.done, { loss: p.loss }),
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

/** Target rows of every group, layers side by side: F32 [G, sum of C_l]; class statistics or the teacher's running ones. */
function gatherTargets(
  layers: readonly NormLayer[],
  stats: TensorMap,
  running: TensorMap,
  groups: readonly SynthesisGroup[],
): { targetMean: TensorView; targetVar: TensorView } {
  const total = layers.reduce((sum, layer) => sum + layer.channels, 0);
  const target = { mean: new Float32Array(groups.length * total), var: new Float32Array(groups.length * total) };
  let first = 0;
  for (const { name, channels } of layers) {
    for (const moment of ['mean', 'var'] as const)
      for (const [g, { target: whose }] of groups.entries()) {
        const source = whose === 'global' ? running[`${name}.running_${moment}`] : stats[`${name}.${moment}`];
        if (source === undefined || source.shape.at(-1) !== channels)
          throw new LpldError(
            'E_MISMATCH',
            expected(
              `${moment} of ${channels} channels`,
              `statistics of ${name}`,
              source ? `[${source.shape}]` : 'none',
            ),
          );
        const row = whose === 'global' ? 0 : whose.classId;
        target[moment].set(arrayOf(source, 'F32').subarray(row * channels, (row + 1) * channels), g * total + first);
      }
    first += channels;
  }
  const shape = [groups.length, total];
  return { targetMean: tensor('F32', shape, target.mean), targetVar: tensor('F32', shape, target.var) };
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
export async function lossCurves(
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
    x: 'iteration',
    series: [
      { name: 'cross-entropy', points: points(sums.ce) },
      { name: 'BN distance', points: points(sums.bn) },
    ],
  });
  return { lossCe: sums.ce.at(-1)! / groups, lossBn: sums.bn.at(-1)! / groups };
}
