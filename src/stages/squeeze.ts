// squeeze: a dataset becomes a teacher and its per-class BatchNorm statistics. The real images' life ends here.
// Source: SRe2L (teacher), LPLD (class-wise statistics, forward_once); docs of both modes: native/jobs/collect_stats.h.

import { z } from 'zod';
import { readWeights } from '../interchange/index.ts';
import type { CollectStatsSpec, ModelSpec, NativeImageStore, NativeModel, TrainSpec } from '../native.ts';
import { drawRecipes, epochOrder, evaluationRecipes, type RecipeBatch, TRAIN_STREAMS } from '../recipe.ts';
import { arrayOf, type TensorMap } from '../tensor.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import {
  type Architecture,
  architectureOptions,
  EpochMeans,
  execution,
  factsOf,
  inputSpec,
  inSegments,
  loadStore,
  precisionOption,
  runJob,
  savedState,
  storeSizes,
  takePrefix,
  testTransform,
  trainTransform,
  withPrefix,
} from './shared.ts';
import { augmentOptions, augmentSpec, optimizerOptions, optimizerSpec, ratesOf } from './training.ts';
import type { Stage, StageContext } from './types.ts';

export const squeezeOptions = z.strictObject({
  ...architectureOptions,
  weights: z
    .string()
    .nullable()
    .default(null)
    .describe('teacher weights to import (.safetensors or .pth) instead of training one'),
  epochs: z.int().min(1).default(20).describe('training epochs'),
  batch: z.int().min(1).default(128).describe('images per training step; a short last batch is left out'),
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

interface Progressed {
  readonly step: number;
  readonly sums: readonly number[];
}

export const squeeze: Stage = {
  name: 'squeeze',
  version: 1,
  summary: 'train or import a teacher and collect its class-wise BatchNorm statistics',
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
    const model = native.createModel(spec);
    if (weights !== null) model.loadStateDict(await readWeights(weights));
    progress.log(`${dataset.name}: ${dataset.train.count} training images of ${dataset.classNames.length} classes`);
    const input = inputSpec(native, facts);

    let curve: EpochMeans | null = null;
    const wantsStats = config.squeeze.stats !== 'none' && !draft.has('stats.safetensors');
    if (weights === null || wantsStats) {
      const store = await loadStore(native, runtime, dataset.train, dataset.channels, trainTransform(config));
      if (weights === null) curve = await trainTeacher(context, model, store, input);
      if (wantsStats) await draft.writeTensors('stats.safetensors', await collect(context, model, store, input));
      store.dispose();
    }
    const top1 = await testTeacher(context, model, input);

    await draft.writeTensors('teacher.safetensors', model.stateDict(), { arch });
    await draft.writeJson('model.json', architecture);
    await draft.writeJson('dataset.json', facts);
    if (curve !== null) await draft.writeJson('curves.json', { x: 'epoch', series: [curve.series('training loss')] });
    model.dispose();
    return {
      teacher: top1,
      classes: dataset.classNames.length,
      images: dataset.train.count,
      stats: config.squeeze.stats,
    };
  },
};

async function trainTeacher(
  { config, runtime, native, draft, progress }: StageContext,
  model: NativeModel,
  store: NativeImageStore,
  input: TrainSpec['input'],
): Promise<EpochMeans> {
  const o = config.squeeze;
  const seed = BigInt(config.seed);
  const batch = Math.min(o.batch, store.count);
  const perEpoch = Math.floor(store.count / batch);
  const total = o.epochs * perEpoch;
  const lr = ratesOf(o, o.epochs, perEpoch);
  const sizes = storeSizes(store);
  const augment = augmentSpec(o);
  const saved = await savedState<Progressed>(draft, 'train');
  if (saved !== null) {
    model.loadStateDict(takePrefix('model.', saved.tensors));
    model.loadOptimizerState(takePrefix('optimizer.', saved.tensors));
  }
  const curve = new EpochMeans(perEpoch, saved?.json.sums);
  const orders = new Map<number, Int32Array>();
  const order = (epoch: number): Int32Array => {
    if (!orders.has(epoch)) {
      orders.clear(); // one epoch's order is alive at a time
      orders.set(epoch, epochOrder(seed, TRAIN_STREAMS.order, epoch, store.count));
    }
    return orders.get(epoch)!;
  };
  progress.start(total, 'step', 'teacher');
  progress.update(saved?.json.step ?? 0);
  await inSegments({
    first: saved?.json.step ?? 0,
    total,
    limit: Math.max(1, Math.floor(200_000 / batch)),
    saveSeconds: runtime.saveSeconds,
    async run(first, last) {
      const batches: RecipeBatch[] = [];
      for (let step = first; step < last; step++) {
        const epoch = Math.floor(step / perEpoch);
        const at = step % perEpoch;
        batches.push({ indices: order(epoch).slice(at * batch, (at + 1) * batch), view: epoch, batch: at, epoch });
      }
      const recipes = drawRecipes(batches, { seed, augment, sizes, inputSize: input.size, purposes: TRAIN_STREAMS });
      const spec: TrainSpec = {
        ...execution(runtime, o.precision),
        recipes,
        input,
        target: { kind: 'hard', smoothing: o.labelSmoothing },
        optimizer: optimizerSpec(o, lr.slice(first, last)),
        hashPixels: false,
      };
      const result = await runJob(
        runtime.signal,
        (on) => native.train(model, store, spec, on),
        (p) => progress.update(first + p.done, { loss: p.loss }),
      );
      curve.add(first, arrayOf(result.loss, 'F64'), 'the teacher');
      progress.update(last);
    },
    save: (done) =>
      draft.saveState(
        'train',
        { ...withPrefix('model.', model.stateDict()), ...withPrefix('optimizer.', model.optimizerState()) },
        { step: done, sums: curve.sums } satisfies Progressed,
      ),
  });
  // The statistics pass that follows may be interrupted too: it starts from the finished teacher.
  await draft.saveState('train', withPrefix('model.', model.stateDict()), {
    step: total,
    sums: curve.sums,
  } satisfies Progressed);
  progress.finish();
  return curve;
}

/** Class statistics of every BatchNorm layer. Passes are numbered after the training epochs: streams never repeat. */
async function collect(
  { config, runtime, native, draft, progress }: StageContext,
  model: NativeModel,
  store: NativeImageStore,
  input: TrainSpec['input'],
): Promise<TensorMap> {
  const o = config.squeeze;
  const mode = o.stats === 'ema' ? 'ema' : 'exact';
  const seed = BigInt(config.seed);
  const perPass = Math.ceil(store.count / o.statsBatch);
  const sizes = storeSizes(store);
  const augment =
    o.statsAugment === 'train'
      ? { ...augmentSpec(o), mix: 'none' as const }
      : { crop: null, flip: false, cutout: 0, mix: 'none' as const };
  const saved = await savedState<{ step: number }>(draft, 'stats');
  let state = saved?.tensors ?? native.ops.initialClassStats(model, mode);
  progress.start(o.statsViews * perPass, 'step', 'class statistics');
  progress.update(saved?.json.step ?? 0);
  await inSegments({
    first: saved?.json.step ?? 0,
    total: o.statsViews * perPass,
    limit: Math.max(1, Math.floor(200_000 / o.statsBatch)),
    saveSeconds: runtime.saveSeconds,
    async run(first, last) {
      const batches: RecipeBatch[] = [];
      let order: Int32Array | null = null;
      for (let step = first; step < last; step++) {
        const view = o.epochs + Math.floor(step / perPass);
        const at = step % perPass;
        if (order === null || at === 0) order = epochOrder(seed, TRAIN_STREAMS.order, view, store.count);
        batches.push({
          indices: order.slice(at * o.statsBatch, (at + 1) * o.statsBatch),
          view,
          batch: at,
          epoch: view,
        });
      }
      const recipes = drawRecipes(batches, { seed, augment, sizes, inputSize: input.size, purposes: TRAIN_STREAMS });
      const spec: CollectStatsSpec = {
        ...execution(runtime, o.precision),
        recipes,
        input,
        mode,
        momentum: o.statsMomentum,
        state,
      };
      const result = await runJob(
        runtime.signal,
        (on) => native.collectStats(model, store, spec, on),
        (p) => progress.update(first + p.done),
      );
      state = result.state;
      progress.update(last);
    },
    save: (done) => draft.saveState('stats', state, { step: done }),
  });
  progress.finish();
  return native.ops.finishClassStats(model, mode, state);
}

async function testTeacher(
  { config, runtime, native, dataset, progress }: StageContext,
  model: NativeModel,
  input: TrainSpec['input'],
): Promise<{ top1: number; top5: number } | null> {
  if (dataset?.test == null) return null;
  const store = await loadStore(native, runtime, dataset.test, dataset.channels, testTransform(config));
  const { precision, statsBatch: batch } = config.squeeze; // nothing of other sections: the key would not know
  const recipes = evaluationRecipes(store.count, storeSizes(store), batch);
  progress.start(Math.ceil(store.count / batch), 'batch', 'test');
  const spec = { ...execution(runtime, precision), recipes, input };
  const { top1, top5 } = await runJob(
    runtime.signal,
    (on) => native.evaluate(model, store, spec, on),
    (p) => progress.update(p.done),
  );
  progress.update(Math.ceil(store.count / batch));
  progress.finish();
  store.dispose();
  return { top1, top5 };
}
