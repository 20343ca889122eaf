// One forward of synthesis: some groups of images optimised together from noise, in resumable segments, then written as
// image files with their thinned losses. The loop itself is native/jobs/synthesize.cpp. Source: methods 0.5.

import { encodeImage } from '../datasets/images.ts';
import { imageName } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import type { Forward } from '../groups.ts';
import { methodNamed, type SynthesisGroup } from '../methods/index.ts';
import type { NativeModel, NormLayer, SynthesizeResult, SynthesizeSpec } from '../native.ts';
import { drawSynthesis } from '../recipe.ts';
import { Purpose } from '../rng.ts';
import { cropScale, learningRates } from '../schedule.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../tensor.ts';
import { type DatasetFacts, execution, inSegments, runJob, savedState } from './shared.ts';
import { ForwardLosses, lossFile } from './synthesis-losses.ts';
import { writeSnapshot } from './synthesis-snapshot.ts';
import type { StageContext } from './types.ts';

export interface SynthesisRun {
  readonly context: StageContext;
  readonly model: NativeModel;
  readonly stats: TensorMap; // per class; empty where only global targets are matched
  readonly running: TensorMap; // the teacher's state dict
  readonly facts: DatasetFacts;
  readonly told: Set<string>; // what the log has said, once for all forwards
}

interface PixelState {
  readonly x: TensorView;
  readonly m: TensorView;
  readonly v: TensorView;
}

/**
 * Optimises the images of one forward from noise, then writes them and the thinned losses.
 *
 * @param position - forwards made before this one, of those this run makes
 * @throws {LpldError} E_DIVERGED once a loss or an image is not finite: the last state that was stays with the draft
 */
export async function makeForward(
  { context, model, stats, running, facts, told }: SynthesisRun,
  forward: Forward,
  position: number,
): Promise<void> {
  const { config, native, runtime, draft, progress } = context;
  const o = config.synthesize;
  const { groups } = forward;
  const [size, seed] = [facts.inputSize, BigInt(config.seed)];
  const images = groups.flatMap((group) => group.images);

  const saved = await savedState<{ forward: number; groups: number; step: number }>(draft, 'images');
  const fits = saved?.json.forward === forward.first && saved.json.groups === groups.length;
  const resumed = fits ? saved : null;
  let state: PixelState = resumed
    ? { x: resumed.tensors.x!, m: resumed.tensors.m!, v: resumed.tensors.v! }
    : initialState(context, images, facts.channels, size);
  const losses = new ForwardLosses(o.iterations, groups.length, model.normLayers.length, resumed?.tensors);
  const save = (step: number): Promise<void> =>
    draft.saveState(
      'images',
      { ...state, ...losses.tensors() },
      { forward: forward.first, groups: groups.length, step },
    );
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
      const { graphRefused } = result;
      if (graphRefused !== null && !told.has(graphRefused)) {
        progress.log(`CUDA made no graph of an iteration, they are launched one by one: ${graphRefused}`);
        told.add(graphRefused);
      }
      const broken = losses.keep(result, t0);
      if (broken !== null || !isUsable(result.state)) {
        await save(t0);
        const group = groups[broken?.group ?? 0]!;
        throw diverged(draft.statePath('images'), t0, broken?.iteration ?? t1, group);
      }
      state = result.state;
      return t1;
    },
    save,
    marks:
      runtime.snapshotEvery === null || position > 0
        ? null
        : {
            every: runtime.snapshotEvery,
            at: (done) => writeSnapshot(context, pixelsOf(context, facts, state.x), images, { size, ...facts }, done),
          },
  });
  await writeImages(context, facts, images, state.x);
  await draft.writeTensors(lossFile(forward), losses.tensors());
}

/** Whether a state may be gone on from. */
function isUsable({ x, m, v }: PixelState): boolean {
  return [x, m, v].every((view) => arrayOf(view, 'F32').every(Number.isFinite));
}

function diverged(path: string, good: number, iteration: number, { images }: SynthesisGroup): LpldError {
  const { classId } = images[0]!;
  const what = `the synthesis of class ${classId} is not finite any more at iteration ${iteration}`;
  const advice = `lower synthesize.lr or synthesize.rBn and begin again (run: --restart-from synthesize); the images after iteration ${good} are kept in ${path}`;
  const details = { stage: 'synthesize', class: classId, iteration, lastGoodIteration: good, path };
  return new LpldError('E_DIVERGED', `${what}\n${advice}`, details);
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

/** U8 [N, P, P, C] of normalised images. */
function pixelsOf({ native }: StageContext, { mean, std }: DatasetFacts, x: TensorView): Uint8Array {
  const vector = (values: readonly number[]) => tensor('F32', [values.length], Float32Array.from(values));
  return native.ops.toPixels(x, vector(mean), vector(std)).data;
}

/** QUIRK(last-iterate): upstream's "store best" is dead code and the last iterate is saved; kept. */
async function writeImages(
  context: StageContext,
  facts: DatasetFacts,
  images: readonly { classId: number; id: number }[],
  x: TensorView,
): Promise<void> {
  const { encoding } = context.config.synthesize;
  const pixels = pixelsOf(context, facts, x);
  const each = pixels.length / images.length;
  const size = facts.inputSize;
  const files = await Promise.all(
    images.map(async ({ classId, id }, i): Promise<[string, Uint8Array]> => {
      const bytes = pixels.subarray(i * each, (i + 1) * each);
      return [imageName(classId, id, encoding), await encodeImage(bytes, size, size, facts.channels, encoding)];
    }),
  );
  await context.draft.writeFiles(files);
}
