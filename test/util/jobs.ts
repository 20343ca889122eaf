// The smallest models, stores and job specs, for tests of the binding: three classes of 8x8 grey images, a one-block
// ConvNet, batches of two. Every spec is complete, so that a test changes the one field it is about.

import { onTestFinished } from 'vitest';
import type {
  CollectStatsSpec,
  EvaluateSpec,
  InputSpec,
  LabelSpec,
  ModelSpec,
  NativeImageStore,
  NativeJob,
  NativeModel,
  OnProgress,
  Recipes,
  SynthesizeSpec,
  TrainSpec,
} from '../../src/native.ts';
import { denseCode } from './codes.ts';
import { testImages } from './images.ts';
import { EXACT, native, noCutout, ops, quiet } from './native.ts';
import { f32, f64, i32, u8 } from './tensors.ts';

const SIZE = 8;
const CLASSES = 3;
export const BATCH = 2;
const IMAGES = 6;

export const MODEL: ModelSpec = {
  arch: 'convnet',
  numClasses: CLASSES,
  inChannels: 1,
  inputSize: SIZE,
  options: { stem: 'small', widths: [4], pooling: 'avg' },
  device: 'cpu',
  seed: 1n,
};

export const APPEND = { height: SIZE, width: SIZE, resize: 'none', size: 0, centerCrop: 0 } as const;

/** A model that is disposed when the test ends. */
export function openModel(change: Partial<ModelSpec> = {}): NativeModel {
  const model = native().createModel({ ...MODEL, ...change });
  onTestFinished(() => model.dispose());
  return model;
}

/** A store of images, classes 0 .. 2 in turn, that is disposed when the test ends. */
export function openStore(channels: 1 | 3 = 1, images: number = IMAGES, size: number = SIZE): NativeImageStore {
  const store = native().createImageStore({ channels, device: 'cpu' });
  onTestFinished(() => store.dispose());
  const labels = Int32Array.from({ length: images }, (_, i) => i % CLASSES);
  store.append(testImages(images, size, size, channels), labels, { ...APPEND, height: size, width: size });
  return store;
}

/** S batches of M rows: whole images of a store in turn, nothing flipped or mixed. */
export function wholeImages(steps: number, batch: number, images: number, size: number): Recipes {
  const rows = steps * batch;
  const each = (f: (row: number) => number): number[] => Array.from({ length: rows }, (_, row) => f(row));
  return {
    offset: i32(
      [steps + 1],
      Array.from({ length: steps + 1 }, (_, step) => step * batch),
    ),
    index: i32(
      [rows],
      each((row) => row % images),
    ),
    crop: i32(
      [rows, 4],
      each(() => 0).flatMap(() => [0, 0, size, size]),
    ),
    flip: u8([rows], new Uint8Array(rows)),
    ...noCutout(rows),
    mixKind: u8([rows], new Uint8Array(rows)),
    mixIndex: i32(
      [rows],
      each((row) => row % batch),
    ),
    mixBox: i32([rows, 4], new Int32Array(rows * 4)),
    lambda: f32([rows], new Float32Array(rows).fill(1)),
  };
}

/** Batches of two of the images of openStore. */
export const recipesOf = (steps: number): Recipes => wholeImages(steps, BATCH, IMAGES, SIZE);

export const inputOf = (channels: 1 | 3 = 1, size: number = SIZE): InputSpec => ({
  size,
  normalize: ops().normalizeTable(
    f32([channels], Array(channels).fill(0.5)),
    f32([channels], Array(channels).fill(0.25)),
  ),
});

export const trainSpec = (steps: number): TrainSpec => ({
  ...EXACT,
  recipes: recipesOf(steps),
  input: inputOf(),
  target: { kind: 'hard', smoothing: 0 },
  optimizer: {
    kind: 'adamw',
    lr: f64([steps], new Float64Array(steps).fill(1e-3)),
    momentum: 0,
    beta1: 0.9,
    beta2: 0.999,
    eps: 1e-8,
    weightDecay: 0.01,
    decay: 'all',
  },
  hashPixels: false,
});

export const evaluateSpec = (steps: number): EvaluateSpec => ({
  ...EXACT,
  recipes: recipesOf(steps),
  input: inputOf(),
});

export const statsSpec = (steps: number, model: NativeModel): CollectStatsSpec => ({
  ...evaluateSpec(steps),
  mode: 'exact',
  momentum: 0,
  state: ops().initialClassStats(model, 'exact'),
});

export const labelSpec = (steps: number): LabelSpec => ({
  ...evaluateSpec(steps),
  ...denseCode(steps),
  ensemble: 'mean',
  teacherMode: 'eval',
  hashPixels: true,
});

/** One group of two images of class 1. */
export function synthesizeSpec(steps: number): SynthesizeSpec {
  const images = [2, 1, SIZE, SIZE];
  const zeros = (): Float32Array => new Float32Array(2 * SIZE * SIZE);
  return {
    ...EXACT,
    groups: 1,
    imagesPerGroup: 2,
    labels: i32([2], [1, 1]),
    state: {
      x: f32(
        images,
        zeros().map((_, i) => Math.sin(i)),
      ),
      m: f32(images, zeros()),
      v: f32(images, zeros()),
    },
    step: 0,
    crop: i32([steps, 1, 4], Array(steps).fill([0, 0, SIZE, SIZE]).flat()),
    flip: u8([steps, 1], new Uint8Array(steps)),
    roll: i32([steps, 1, 2], new Int32Array(steps * 2)),
    lr: f64([steps], new Float64Array(steps).fill(0.1)),
    beta1: 0.5,
    beta2: 0.9,
    eps: 1e-8,
    rBn: 1,
    firstBnMultiplier: 10,
    tvL2: 0,
    l2Scale: 0,
    targetMean: f32([1, 4], [0, 0, 0, 0]),
    targetVar: f32([1, 4], [1, 1, 1, 1]),
    clampLow: f32([1], [-2]),
    clampHigh: f32([1], [2]),
    graph: true,
  };
}

/** Every job as a call on a model, a store and a number of steps. */
export const JOBS = {
  train: (model, store, steps, on = quiet) => native().train(model, store, trainSpec(steps), on),
  collectStats: (model, store, steps, on = quiet) => native().collectStats(model, store, statsSpec(steps, model), on),
  synthesize: (model, _store, steps, on = quiet) => native().synthesize(model, synthesizeSpec(steps), on),
  label: (model, store, steps, on = quiet) => native().label([model], store, labelSpec(steps), on),
  evaluate: (model, store, steps, on = quiet) => native().evaluate(model, store, evaluateSpec(steps), on),
  similarity: (model, store, steps, on = quiet) => native().similarity(model, store, evaluateSpec(steps), on),
} as const satisfies Record<
  string,
  (model: NativeModel, store: NativeImageStore, steps: number, on?: OnProgress) => NativeJob<unknown>
>;
export type JobName = keyof typeof JOBS;

/** More steps than any test waits for (tens of seconds). */
const ENDLESS = 100_000;
let endless: TrainSpec | undefined;

/** A job that holds its handles until the test ends or `stop()` is called; resolves with how it ended. */
export function busyJob(model: NativeModel, store: NativeImageStore, on: OnProgress = quiet) {
  endless ??= trainSpec(ENDLESS);
  const job = native().train(model, store, endless, on);
  let ended = false;
  const end = job.promise.then(
    () => 'finished',
    (error: { code?: string }) => error.code ?? String(error),
  );
  void end.then(() => {
    ended = true;
  });
  const stop = async (): Promise<string> => {
    job.cancel();
    return end;
  };
  onTestFinished(async () => {
    await stop();
  });
  return { stop, end, ended: () => ended, cancel: () => job.cancel() };
}

/** Calls work, awaits what it returns, and gives the code of the error thrown: 'ok' if none, the error's name if it has none. */
export async function codeOf(work: () => unknown): Promise<string> {
  try {
    await work();
    return 'ok';
  } catch (thrown) {
    const error = thrown as { code?: string; name?: string };
    return error.code ?? error.name ?? String(thrown);
  }
}
