// What a call that runs something is told besides its config. A caller of the API gives what it cares about; everything
// left out is settled here, once, at the door of the call: auto device, all threads, no progress, no cancel.

import { availableMemory } from 'node:process';
import { cudaDriver, cudaObstacle } from './cuda.ts';
import { locateLibtorch } from './libtorch.ts';
import { noProgress, type ProgressSink } from './progress.ts';
import { defaultThreads } from './stages/shared.ts';
import type { Runtime, StageName } from './stages/types.ts';

/** Where and how to compute. Nothing here is part of a config; only device class and precision reach an artifact's key. */
export interface RuntimeOptions {
  /** `auto` (default) takes a GPU that can be used. Asked for and not usable is E_DEVICE. */
  readonly device?: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;
  /** CPU threads; null (default): all. */
  readonly threads?: number | null;
  /** Budget in bytes for stored images and class groups; null (default): most of what is free. */
  readonly memory?: number | null;
  /** Bit-equal results for equal inputs on this machine, slower. Default: false. */
  readonly deterministic?: boolean;
  /** Least seconds between two saves of resumable state; null (default): 20. */
  readonly saveSeconds?: number | null;
  /** Iterations of synthesis between two pictures of the images in the making; null (default): none. */
  readonly snapshotEvery?: number | null;
}

/** What every call that runs stages may be told. */
export interface CallOptions {
  readonly runtime?: RuntimeOptions;
  /** Hears of every stage: `createProgress(...)`, or an object of your own. Default: nobody does. */
  readonly progress?: ProgressSink;
  /** Its abort stops the work after the step it is at: E_CANCELLED, and what is done is kept for the next call. */
  readonly signal?: AbortSignal;
  /** Hash every byte of the dataset, and refuse other content than was read before. Default: false. */
  readonly verifyData?: boolean;
}

export interface RunOptions extends CallOptions {
  /** The run folder. What is whole in it under an equal config and equal inputs is kept, what was begun is resumed. */
  readonly out: string;
  /**
   * Run this stage and all later ones again, with a config that may differ from there on: the user's word that what stands
   * there may go. Without it nothing is replaced but what was made from an artifact that is itself another now.
   */
  readonly restartFrom?: StageName;
}

export interface StageOptions extends CallOptions {
  /** Folder of the artifact. What stands or was begun there with another config or other inputs is refused. */
  readonly out: string;
  /**
   * The user's word that such work may go: what was begun is discarded, what is finished stands until the new artifact is
   * whole. What another stage made is never replaced. Default: false.
   */
  readonly replace?: boolean;
  /** Role -> folder of a finished artifact: teacher, images, labels, students, as the stage needs them. */
  readonly inputs: Readonly<Record<string, string>>;
}

/** Options with nothing left out. */
export type Settled<Options extends CallOptions> = Options & Required<CallOptions>;

const NEVER = new AbortController().signal;

/** Fills in what a caller left out. */
export function settled<Options extends CallOptions>(options: Options): Settled<Options> {
  return { runtime: {}, progress: noProgress, signal: NEVER, verifyData: false, ...options };
}

/** Settles what was left open: the device that can be used, all threads, most of the free memory. */
export function resolveRuntime(options: CallOptions): Runtime {
  const { runtime, signal, verifyData } = settled(options);
  const { device = 'auto' } = runtime;
  const asked = device === 'cuda' ? 'cuda:0' : device;
  const auto = () => (cudaObstacle(cudaDriver(), locateLibtorch()?.cuda ?? null) === null ? 'cuda:0' : 'cpu');
  return {
    device: asked === 'auto' ? auto() : asked,
    threads: runtime.threads ?? defaultThreads(),
    memory: runtime.memory ?? Math.floor(0.8 * availableMemory()),
    deterministic: runtime.deterministic ?? false,
    saveSeconds: runtime.saveSeconds ?? 20,
    snapshotEvery: runtime.snapshotEvery ?? null,
    verifyData,
    signal,
  };
}
