// The loop of jobs over images: segments of steps, their images, one native job each, progress, cancel and saved state;
// and the two things done with it in more than one stage: training a model and testing one.
// The invariant: neither the cut into segments nor where the images come from shows in a result.

import type { EvaluateSpec, NativeJob, NativeModel, OnProgress, TrainSpec } from '../native.ts';
import { evaluationRecipes } from '../recipe.ts';
import { arrayOf, tensor } from '../tensor.ts';
import type { ImageSource, ImagesOf, SegmentImages } from './images.ts';
import { EpochMeans, execution, inSegments, runJob, savedState, takePrefix, withPrefix } from './shared.ts';
import { type OptimizerConfig, optimizerSpec, ratesOf } from './training.ts';
import type { StageContext } from './types.ts';

interface Progress extends Pick<StageContext, 'runtime'> {
  readonly progress: Pick<StageContext['progress'], 'update'>;
}

/**
 * Runs steps [first, total) of a job over the images of a source.
 *
 * @param loop.done - steps shown as done before step 0
 * @param loop.limit - most steps of one segment (memory)
 * @param loop.job - makes the job of steps [first, images.last)
 * @param loop.result - takes its answer
 * @param loop.save - as in inSegments
 * @throws {LpldError} what the images or the job throw
 */
export async function runSteps<R>(
  { runtime, progress }: Progress,
  loop: {
    readonly images: ImageSource;
    readonly imagesOf: ImagesOf;
    readonly first: number;
    readonly total: number;
    readonly limit: number;
    readonly done?: number;
    readonly job: (images: SegmentImages, first: number) => JobStart<R> | Promise<JobStart<R>>;
    readonly result: (result: R, first: number) => void | Promise<void>;
    readonly save: (done: number) => Promise<void>;
  },
): Promise<void> {
  const { images, imagesOf, first, total, limit, done = 0, save } = loop;
  await using feed = images.feed(imagesOf, total);
  const run = async (from: number, to: number): Promise<number> => {
    const segment = await feed.segment(from, to);
    const start = await loop.job(segment, from);
    const result = await runJob(runtime.signal, start, (p) => progress.update(done + from + p.done, { loss: p.loss }));
    await loop.result(result, from);
    progress.update(done + segment.last);
    return segment.last;
  };
  progress.update(done + first);
  await inSegments({ first, total, limit, saveSeconds: runtime.saveSeconds, run, save });
}
export type JobStart<R> = (onProgress: OnProgress) => NativeJob<R>;

/**
 * Trains a model, from its saved state if there is one.
 *
 * @param run.name - of the saved state; @param run.number - whose it is: another number's is left alone
 * @param run.who - for messages of divergence
 * @param run.batches - Recipes (over indices of the split) and targets of steps [first, images.last)
 * @returns the loss curve
 * @throws {LpldError} E_DIVERGED, and what the images or the job throw
 */
export async function trainModel(
  { native, runtime, draft, progress }: StageContext,
  run: {
    readonly name: string;
    readonly number: number;
    readonly who: string;
    readonly model: NativeModel;
    readonly options: OptimizerConfig & Pick<TrainSpec, 'precision'> & { readonly epochs: number };
    readonly perEpoch: number;
    readonly images: ImageSource;
    readonly imagesOf: ImagesOf;
    readonly input: TrainSpec['input'];
    readonly limit: number;
    readonly batches: (
      images: SegmentImages,
      first: number,
    ) => Promise<Pick<TrainSpec, 'recipes' | 'target'>> | Pick<TrainSpec, 'recipes' | 'target'>;
  },
): Promise<EpochMeans> {
  const { name, number, who, model, options, perEpoch, images, imagesOf, input, limit } = run;
  const total = options.epochs * perEpoch;
  const lr = ratesOf(options, options.epochs, perEpoch);
  const found = await savedState<{ number: number; step: number; sums: number[] }>(draft, name);
  const saved = found?.json.number === number ? found : null;
  if (saved !== null) {
    model.loadStateDict(takePrefix('model.', saved.tensors));
    model.loadOptimizerState(takePrefix('optimizer.', saved.tensors));
  }
  const curve = new EpochMeans(perEpoch, saved?.json.sums);
  const save = (step: number): Promise<void> =>
    draft.saveState(
      name,
      { ...withPrefix('model.', model.stateDict()), ...withPrefix('optimizer.', model.optimizerState()) },
      { number, step, sums: curve.sums },
    );
  await runSteps(
    { runtime, progress },
    {
      images,
      imagesOf,
      first: saved?.json.step ?? 0,
      total,
      limit,
      done: number * total,
      async job(segment, first) {
        const { recipes, target } = await run.batches(segment, first);
        const spec: TrainSpec = {
          ...execution(runtime, options.precision),
          recipes: segment.local(recipes),
          target,
          input,
          optimizer: optimizerSpec(options, lr.slice(first, segment.last)),
          hashPixels: false,
        };
        return (on) => native.train(model, segment.store, spec, on);
      },
      result: ({ loss }, first) => curve.add(first, arrayOf(loss, 'F64'), who),
      save,
    },
  );
  await save(total); // what follows may be interrupted too: it starts from the finished model
  return curve;
}

export interface Scores {
  readonly count: number;
  readonly top1: number; // share in [0, 1]
  readonly top5: number;
  readonly loss: number; // mean cross-entropy
}

/**
 * Tests a model on every image of a source, in order.
 *
 * @param test.number - models tested before it, for progress
 * @throws {LpldError} what the images or the job throw
 */
export async function testModel(
  { native, runtime, progress }: Pick<StageContext, 'native' | 'runtime' | 'progress'>,
  test: {
    readonly model: NativeModel;
    readonly images: ImageSource;
    readonly batch: number;
    readonly number: number;
    readonly input: EvaluateSpec['input'];
    readonly precision: EvaluateSpec['precision'];
  },
): Promise<Scores> {
  const { model, images, batch, number, input, precision } = test;
  const { count } = images;
  const total = Math.ceil(count / batch);
  const indices = (first: number, last: number): Int32Array =>
    Int32Array.from({ length: Math.min(count, last * batch) - first * batch }, (_, i) => first * batch + i);
  let [top1, top5, loss] = [0, 0, 0];
  await runSteps(
    { runtime, progress },
    {
      images,
      imagesOf: (first, last) => Array.from({ length: last - first }, (_, i) => indices(first + i, first + i + 1)),
      first: 0,
      total,
      limit: total,
      done: number * total,
      job({ store, sizes, last, local }, first) {
        const here = indices(first, last);
        const sizeOf = (i: number): readonly [number, number] =>
          typeof sizes === 'function' ? sizes(here[i]!) : [sizes[2 * here[i]!]!, sizes[2 * here[i]! + 1]!];
        const recipes = local({
          ...evaluationRecipes(here.length, sizeOf, batch),
          index: tensor('I32', [here.length], here),
        });
        const spec: EvaluateSpec = { ...execution(runtime, precision), recipes, input };
        return (on) => native.evaluate(model, store, spec, on);
      },
      result({ hits, stepLoss }) {
        const counts = arrayOf(hits, 'I32');
        for (let i = 0; i < counts.length; i += 2) {
          top1 += counts[i]!;
          top5 += counts[i + 1]!;
        }
        for (const sum of arrayOf(stepLoss, 'F64')) loss += sum;
      },
      save: async () => {},
    },
  );
  return { count, top1: top1 / count, top5: top5 / count, loss: loss / count };
}
