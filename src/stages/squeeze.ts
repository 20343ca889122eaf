// squeeze: a dataset becomes a teacher and its per-class BatchNorm statistics. The real images' life ends here.
// Source: SRe2L (teacher), LPLD (class-wise statistics, forward_once); docs of both modes: native/jobs/collect_stats.h.

import { z } from 'zod';
import { readWeights } from '../interchange/index.ts';
import type { CollectStatsSpec, ModelSpec, NativeModel, TrainSpec } from '../native.ts';
import { drawRecipes, epochOrder, type RecipeBatch, TRAIN_STREAMS } from '../recipe.ts';
import type { TensorMap } from '../tensor.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import { checkTestCrop, type ImageSource, openImages, testTransform, trainTransform } from './images.ts';
import {
  type Architecture,
  architectureOptions,
  checkArch,
  type EpochMeans,
  execution,
  factsOf,
  inputSpec,
  precisionOption,
  savedState,
} from './shared.ts';
import { runSteps, testModel, trainModel } from './steps.ts';
import { augmentOptions, augmentSpec, optimizerOptions } from './training.ts';
import type { Stage, StageContext } from './types.ts';

export const squeezeOptions = z.strictObject({
  ...architectureOptions,
  weights: z
    .string()
    .nullable()
    .default(null)
    .describe('teacher weights to import (.safetensors or .pth) instead of training one'),
  epochs: z.int().min(1).default(20).describe('training epochs'),
  batch: z
    .int()
    .min(1)
    .default(128)
    .describe('images per training step, all where there are fewer; a short last batch is left out'),
  ...optimizerOptions,
  labelSmoothing: z.number().min(0).lt(1).default(0).describe('label smoothing of the cross-entropy'),
  ...augmentOptions,
  stats: z
    .enum(['exact', 'ema', 'none'])
    .default('exact')
    .describe('class statistics: pooled moments, the published running average, or none'),
  statsAugment: z
    .enum(['none', 'train'])
    .default('none')
    .describe('what the statistics pass sees: whole images, or training augmentation'),
  statsViews: z.int().min(1).default(1).describe('passes of the statistics over the training set'),
  statsBatch: z.int().min(1).default(128).describe('images per step of the statistics pass; ema depends on it'),
  statsMomentum: z.number().gt(0).max(1).default(0.1).describe('ema: weight of a new batch'),
  precision: precisionOption,
});

export const squeeze: Stage = {
  name: 'squeeze',
  version: 1,
  summary: 'train or import a teacher and collect its class-wise BatchNorm statistics',
  examples: [
    ['a teacher of the embedded digits, and its statistics', 'squeeze --config quickstart --out d/squeeze'],
    [
      'one trained for longer, whatever stood there',
      'squeeze --config quickstart --epochs 40 --replace --out d/longer',
    ],
    [
      "statistics of a teacher trained elsewhere: torchvision's, and your folder of ImageNet",
      'squeeze --config imagenet-1k-lpld --set dataset.path=imagenet --weights resnet18-f37072fd.pth --out d/resnet18',
    ],
  ],
  inputs: [],
  options: squeezeOptions,
  needs: () => ({ roles: [], dataset: true }),
  identity: ({ squeeze: options, dataset, seed }) => ({
    squeeze: { ...options, weights: options.weights === null ? null : '' }, // their hash is an input
    dataset: { ...dataset, path: '' },
    seed,
  }),
  precision: (config) => config.squeeze.precision,
  estimate(config, { train }) {
    const { bytes, flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    const images = config.squeeze.weights === null ? train * config.squeeze.epochs * 3 : train;
    return {
      bytes: bytes * 4,
      seconds: secondsOf(flops * images, config.squeeze.precision),
    };
  },

  foresee: checkTestCrop,

  check({ squeeze: { arch } }, native) {
    checkArch(native, 'squeeze.arch', arch);
  },

  async run(context) {
    const { config, native, runtime, draft, progress } = context;
    const dataset = context.dataset!;
    const facts = factsOf(dataset, config);
    const { arch, stem, widths, pooling, weights } = config.squeeze;
    const architecture: Architecture = {
      arch,
      numClasses: dataset.classNames.length,
      inChannels: dataset.channels,
      inputSize: facts.inputSize,
      options: { stem, widths, pooling },
    };
    const spec: ModelSpec = { ...architecture, device: runtime.device, seed: BigInt(config.seed) };
    using model = native.createModel(spec);
    if (weights !== null) model.loadStateDict(await readWeights(weights));
    progress.log(`${dataset.name}: ${dataset.train.count} training images of ${dataset.classNames.length} classes`);
    const input = inputSpec(native, facts);

    let curve: EpochMeans | null = null;
    const wantsStats = config.squeeze.stats !== 'none' && !draft.has('stats.safetensors');
    if (weights === null || wantsStats) {
      using images = await openImages(context, dataset.train, dataset.channels, trainTransform(config));
      if (weights === null) curve = await trainTeacher(context, model, images, input);
      if (wantsStats) await draft.writeTensors('stats.safetensors', await collect(context, model, images, input));
    }
    const top1 = await testTeacher(context, model, input);

    await draft.writeTensors('teacher.safetensors', model.stateDict(), { arch });
    await draft.writeJson('model.json', architecture);
    await draft.writeJson('dataset.json', facts);
    if (curve !== null) await draft.writeJson('curves.json', { x: 'epoch', series: [curve.series('training loss')] });
    return {
      teacher: top1,
      classes: dataset.classNames.length,
      images: dataset.train.count,
      stats: config.squeeze.stats,
    };
  },
};

/** Batches of consecutive images of an order that changes from epoch to epoch. */
function epochBatches(
  orderOf: (epoch: number) => Int32Array,
  batch: number,
  perEpoch: number,
): (first: number, last: number) => RecipeBatch[] {
  let orders: { epoch: number; order: Int32Array }[] = []; // two: decoding is ahead of the job by at most one epoch
  const orderAt = (epoch: number): Int32Array => {
    const known = orders.find((known) => known.epoch === epoch)?.order;
    if (known !== undefined) return known;
    const order = orderOf(epoch);
    orders = [...orders.slice(-1), { epoch, order }];
    return order;
  };
  return (first, last) =>
    Array.from({ length: last - first }, (_, i) => {
      const view = Math.floor((first + i) / perEpoch);
      const at = (first + i) % perEpoch;
      return { indices: orderAt(view).slice(at * batch, (at + 1) * batch), view, batch: at, epoch: view };
    });
}

async function trainTeacher(
  context: StageContext,
  model: NativeModel,
  images: ImageSource,
  input: TrainSpec['input'],
): Promise<EpochMeans> {
  const { config, progress } = context;
  const o = config.squeeze;
  const seed = BigInt(config.seed);
  const batch = Math.min(o.batch, images.count);
  const perEpoch = Math.floor(images.count / batch);
  const order = (epoch: number) => epochOrder(seed, TRAIN_STREAMS.order, epoch, images.count);
  const batches = epochBatches(order, batch, perEpoch);
  progress.start(o.epochs * perEpoch, 'step', 'teacher');
  const curve = await trainModel(context, {
    name: 'train',
    number: 0,
    who: 'the teacher',
    model,
    options: o,
    perEpoch,
    images,
    imagesOf: (first, last) => batches(first, last).map((b) => b.indices),
    input,
    limit: Math.max(1, Math.floor(200_000 / batch)),
    batches: ({ sizes, last }, first) => ({
      recipes: drawRecipes(batches(first, last), {
        seed,
        augment: augmentSpec(o),
        sizes,
        inputSize: input.size,
        purposes: TRAIN_STREAMS,
      }),
      target: { kind: 'hard', smoothing: o.labelSmoothing },
    }),
  });
  progress.finish();
  return curve;
}

/** Class statistics of every BatchNorm layer. Passes are numbered after the training epochs: streams never repeat. */
async function collect(
  { config, runtime, native, draft, progress }: StageContext,
  model: NativeModel,
  images: ImageSource,
  input: TrainSpec['input'],
): Promise<TensorMap> {
  const o = config.squeeze;
  const mode = o.stats === 'ema' ? 'ema' : 'exact';
  const seed = BigInt(config.seed);
  const perPass = Math.ceil(images.count / o.statsBatch);
  const total = o.statsViews * perPass;
  const augment =
    o.statsAugment === 'train'
      ? { ...augmentSpec(o), mix: 'none' as const }
      : { crop: null, flip: false, cutout: 0, mix: 'none' as const };
  const order = (view: number) => epochOrder(seed, TRAIN_STREAMS.order, o.epochs + view, images.count);
  const passes = epochBatches(order, o.statsBatch, perPass);
  const batches = (first: number, last: number): RecipeBatch[] =>
    passes(first, last).map((b) => ({ ...b, view: o.epochs + b.view, epoch: o.epochs + b.epoch }));
  const saved = await savedState<{ step: number }>(draft, 'stats');
  let state = saved?.tensors ?? native.ops.initialClassStats(model, mode);
  progress.start(total, 'step', 'class statistics');
  await runSteps(
    { runtime, progress },
    {
      images,
      imagesOf: (first, last) => batches(first, last).map((b) => b.indices),
      first: saved?.json.step ?? 0,
      total,
      limit: Math.max(1, Math.floor(200_000 / o.statsBatch)),
      job({ store, sizes, last, local }, first) {
        const draws = { seed, augment, sizes, inputSize: input.size, purposes: TRAIN_STREAMS };
        const spec: CollectStatsSpec = {
          ...execution(runtime, o.precision),
          recipes: local(drawRecipes(batches(first, last), draws)),
          input,
          mode,
          momentum: o.statsMomentum,
          state,
        };
        return (on) => native.collectStats(model, store, spec, on);
      },
      result(collected) {
        state = collected.state;
      },
      save: (step) => draft.saveState('stats', state, { step }),
    },
  );
  progress.finish();
  return native.ops.finishClassStats(model, mode, state);
}

async function testTeacher(
  context: StageContext,
  model: NativeModel,
  input: TrainSpec['input'],
): Promise<{ top1: number; top5: number } | null> {
  const { config, dataset, progress } = context;
  if (dataset?.test == null) return null;
  using images = await openImages(context, dataset.test, dataset.channels, testTransform(config));
  const { precision, statsBatch: batch } = config.squeeze; // nothing of other sections: the key would not know
  progress.start(Math.ceil(images.count / batch), 'batch', 'test');
  const { top1, top5 } = await testModel(context, { model, images, batch, number: 0, input, precision });
  progress.finish();
  return { top1, top5 };
}
