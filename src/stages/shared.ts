// What stages have in common: opening the dataset, models in and out of artifacts, running native jobs in segments with
// cancel and saved state.

import { availableParallelism } from 'node:os';
import { z } from 'zod';
import type { Artifact, ArtifactDraft } from '../artifact.ts';
import type { Config } from '../config.ts';
import { nearest, openDataset } from '../datasets/index.ts';
import type { Dataset } from '../datasets/types.ts';
import { expected, LpldError, toLpldError } from '../errors.ts';
import type {
  Execution,
  InputSpec,
  ModelSpec,
  NativeBinding,
  NativeImageStore,
  NativeJob,
  NativeModel,
  OnProgress,
  Precision,
} from '../native.ts';
import { arrayOf, type TensorMap, tensor } from '../tensor.ts';
import { Handles } from './handles.ts';
import type { Runtime } from './types.ts';

export const precisionOption = z
  .enum(['fp32', 'tf32', 'bf16'])
  .default('fp32')
  .describe('arithmetic of convolutions and matrix products; weights, statistics, losses and optimizer stay fp32');

/** What a teacher or a set of images was made from, kept beside it. */
export interface DatasetFacts {
  readonly name: string;
  readonly channels: 1 | 3;
  readonly classNames: readonly string[];
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly inputSize: number;
}

export function factsOf(dataset: Dataset, config: Config): DatasetFacts {
  const { name, channels, classNames } = dataset;
  const mean = config.dataset.mean ?? dataset.mean;
  const std = config.dataset.std ?? dataset.std;
  if (mean.length !== channels || std.length !== channels)
    throw new LpldError(
      'E_CONFIG',
      expected(`${channels} values`, 'dataset.mean and dataset.std', `${mean.length} and ${std.length}`),
    );
  return { name, channels, classNames, mean, std, inputSize: config.dataset.inputSize };
}

/** Opens the config's dataset. @throws {LpldError} E_DATA, E_CONFIG */
export async function openConfigured(config: Config, verify = false): Promise<Dataset> {
  const { format, path, classes, skipUnreadable } = config.dataset;
  if (path === '' && format !== 'digits')
    throw new LpldError(
      'E_CONFIG',
      expected(
        `the folder of a dataset in format ${format}`,
        'dataset.path',
        undefined,
        'give it with --set dataset.path=DIR; `lpld-native data fetch NAME` downloads the known ones',
      ),
      { key: 'dataset.path' },
    );
  return openDataset(format, path, { classes, skipUnreadable, verify });
}

export function inputSpec(native: NativeBinding, facts: Pick<DatasetFacts, 'mean' | 'std' | 'inputSize'>): InputSpec {
  const vector = (values: readonly number[]) => tensor('F32', [values.length], Float32Array.from(values));
  return { size: facts.inputSize, normalize: native.ops.normalizeTable(vector(facts.mean), vector(facts.std)) };
}

export function storeSizes(store: NativeImageStore): Int32Array {
  return arrayOf(store.sizes(), 'I32');
}

export function execution(runtime: Runtime, precision: Precision): Execution {
  return { precision, threads: runtime.threads, deterministic: runtime.deterministic };
}

/** The part of a ModelSpec that belongs to an architecture, as model.json keeps it. */
export type Architecture = Omit<ModelSpec, 'device' | 'seed'>;

export const architectureOptions = {
  arch: z.string().default('convnet').describe('architecture: convnet, resnet18, resnet34, resnet50, resnet101'),
  widths: z
    .array(z.int().min(1))
    .min(1)
    .default([32, 64, 64])
    .describe('convnet: channels of each block; as many blocks as numbers'),
  pooling: z.enum(['avg', 'max']).default('avg').describe('convnet: pooling after each block'),
  stem: z.enum(['imagenet', 'small']).default('small').describe('resnet: 7x7 stride 2 with max pool, or 3x3 stride 1'),
};

/** @throws {LpldError} E_CONFIG for a name that is no architecture's */
export function checkArch(native: NativeBinding, key: string, arch: string): void {
  const known = native.archs();
  if (known.includes(arch)) return;
  const near = nearest(arch, known);
  const advice = near === null ? undefined : `did you mean ${near}?`;
  throw new LpldError('E_CONFIG', expected(`one of ${known.join(', ')}`, key, arch, advice), { key });
}

/** Weights of one student inside a train artifact. */
export const studentFile = (number: number): string => `student-${number}.safetensors`;

/** Loads the model a squeeze artifact holds. The caller disposes it; what throws leaves none. */
export async function loadTeacher(native: NativeBinding, runtime: Runtime, artifact: Artifact): Promise<NativeModel> {
  const architecture = await artifact.readJson<Architecture>('model.json');
  using opening = new Handles();
  const model = opening.add(native.createModel({ ...architecture, device: runtime.device, seed: 0n }));
  model.loadStateDict(await artifact.readTensors('teacher.safetensors'));
  opening.move();
  return model;
}

/** @throws {LpldError} E_CANCELLED once the signal is aborted, whatever its reason */
export function throwIfCancelled(signal: AbortSignal): void {
  if (!signal.aborted) return;
  throw signal.reason instanceof LpldError
    ? signal.reason
    : new LpldError('E_CANCELLED', 'cancelled', {}, signal.reason);
}

/**
 * Runs one native job; an abort of `signal` cancels it at its next step.
 * @throws {LpldError} E_CANCELLED on abort; whatever the job throws
 */
export async function runJob<R>(
  signal: AbortSignal,
  start: (onProgress: OnProgress) => NativeJob<R>,
  onProgress: OnProgress,
): Promise<R> {
  throwIfCancelled(signal);
  const job = start(onProgress);
  const cancel = () => job.cancel();
  signal.addEventListener('abort', cancel, { once: true });
  try {
    return await job.promise;
  } catch (thrown) {
    if (toLpldError(thrown).code === 'E_CANCELLED') throwIfCancelled(signal); // who stopped it says more than where
    throw thrown;
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}

const SEGMENT_SECONDS = 4;

/**
 * Cuts a loop into segments of a few seconds, by the rate seen so far. Results never depend on the cut: state lives in
 * the model or is handed from segment to segment.
 *
 * @param run - does steps from `first` on, at most up to `last`, and says where it stopped; progress of single steps is
 *   its own business
 * @param limit - most steps of one segment (memory)
 * @param save - called between segments, at most every `saveSeconds`, and never after the last
 * @param marks - calls `at` whenever a multiple of `every` steps is done; null for never
 */
export async function inSegments(options: {
  readonly first: number;
  readonly total: number;
  readonly limit: number;
  readonly saveSeconds: number;
  readonly run: (first: number, last: number) => Promise<number>;
  readonly save: (done: number) => Promise<void>;
  readonly marks?: { readonly every: number; readonly at: (done: number) => Promise<void> } | null;
}): Promise<void> {
  const every = options.marks?.every ?? Number.POSITIVE_INFINITY;
  let done = options.first;
  let length = Math.min(options.limit, 8);
  let saved = performance.now();
  let saving = 0;
  while (done < options.total) {
    const most = Math.min(options.total, done + length, every * (Math.floor(done / every) + 1));
    const began = performance.now();
    const last = await options.run(done, most);
    const seconds = (performance.now() - began) / 1000;
    const rate = (last - done) / Math.max(seconds, 1e-3);
    length = Math.max(1, Math.min(options.limit, Math.round(Math.min(rate * SEGMENT_SECONDS, 4 * length))));
    done = last;
    if (done % every === 0) await options.marks?.at(done);
    const since = (performance.now() - saved) / 1000;
    if (done < options.total && since >= Math.max(options.saveSeconds, 10 * saving)) {
      const start = performance.now();
      await options.save(done);
      saved = performance.now();
      saving = (saved - start) / 1000;
    }
  }
}

/** Splits saved state back into the tensors of one owner: `withPrefix` and its inverse. */
export function withPrefix(prefix: string, tensors: TensorMap): TensorMap {
  return Object.fromEntries(Object.entries(tensors).map(([name, t]) => [prefix + name, t]));
}
export function takePrefix(prefix: string, tensors: TensorMap): TensorMap {
  return Object.fromEntries(
    Object.entries(tensors)
      .filter(([name]) => name.startsWith(prefix))
      .map(([name, t]) => [name.slice(prefix.length), t]),
  );
}

/** Loss curve of a training: mean loss of every epoch. Sums are exact to the step, so a resume draws the same curve. */
export class EpochMeans {
  readonly sums: number[];
  readonly #stepsPerEpoch: number;
  constructor(stepsPerEpoch: number, sums: readonly number[] = []) {
    this.#stepsPerEpoch = stepsPerEpoch;
    this.sums = [...sums];
  }
  add(firstStep: number, losses: Float64Array, stage: string): void {
    for (const [i, loss] of losses.entries()) {
      if (!Number.isFinite(loss))
        throw new LpldError(
          'E_DIVERGED',
          `the loss of ${stage} is ${loss} at step ${firstStep + i + 1}\nlower the learning rate`,
          {
            stage,
            step: firstStep + i + 1,
            lastFiniteLoss: i > 0 ? losses[i - 1] : null,
          },
        );
      const epoch = Math.floor((firstStep + i) / this.#stepsPerEpoch);
      this.sums[epoch] = (this.sums[epoch] ?? 0) + loss;
    }
  }
  series(name: string): { name: string; points: [number, number][] } {
    return { name, points: this.sums.map((sum, epoch) => [epoch + 1, sum / this.#stepsPerEpoch]) };
  }
}

/** Saved state may come from a draft that is being resumed; the caller knows what it saved. */
export async function savedState<T>(
  draft: ArtifactDraft,
  name: string,
): Promise<{ tensors: TensorMap; json: T } | null> {
  const state = await draft.loadState(name);
  return state === null ? null : { tensors: state.tensors, json: state.json as T };
}

export function defaultThreads(): number {
  return availableParallelism();
}
