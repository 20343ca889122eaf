// What a stage is: a function from config and artifacts to one artifact.

import type { z } from 'zod';
import type { Artifact, ArtifactDraft } from '../artifact.ts';
import type { Config } from '../config.ts';
import type { Dataset } from '../datasets/types.ts';
import type { NativeBinding, Precision } from '../native.ts';
import type { StageProgress } from '../progress.ts';

export type StageName = 'squeeze' | 'synthesize' | 'relabel' | 'prune' | 'train' | 'evaluate';

/** How to compute; never part of a result's identity except device class and precision (which the stage key holds). */
export interface Runtime {
  readonly device: string; // 'cpu' or 'cuda:N', resolved
  readonly threads: number;
  readonly memory: number; // budget in bytes
  readonly deterministic: boolean;
  /** Least seconds between two saves of resumable state. */
  readonly saveSeconds: number;
  /** Iterations of synthesis between two pictures of the images in the making; null for none. */
  readonly snapshotEvery: number | null;
  /** Hash every byte of outside data, and compare with what was seen before. */
  readonly verifyData: boolean;
  readonly signal: AbortSignal;
}

export interface StageContext {
  /** The whole resolved config; a stage reads its own section, `dataset` and `seed`. */
  readonly config: Config;
  readonly runtime: Runtime;
  readonly native: NativeBinding;
  /** Finished artifacts this stage was given, by role: teacher, images, labels, students. */
  readonly inputs: Readonly<Record<string, Artifact>>;
  /** Outside data the stage named in `data()`, opened; null for a stage that reads none. */
  readonly dataset: Dataset | null;
  /** The artifact being made. Holds saved state of an interrupted run, if any. */
  readonly draft: ArtifactDraft;
  readonly progress: StageProgress;
}

/** Deterministic facts about an artifact, JSON, kept in its manifest. */
export type Summary = Readonly<Record<string, unknown>>;

/** Sizes of the dataset a run is about, for estimates. */
export interface Counts {
  readonly train: number;
  readonly test: number;
  readonly classes: number;
}

export interface Estimate {
  readonly bytes: number; // on disk, of the artifact
  readonly seconds: number; // rough, on this machine
}

/** Artifacts the config itself names: role -> folder, the role whose makers may have made it, and the config's key. */
export type FurtherInputs = Readonly<
  Record<string, { readonly dir: string; readonly like: string; readonly key: string }>
>;

/** A command line of the program, without its name and without quotes, and what it is for. */
export type Example = readonly [what: string, line: string];

export interface Stage {
  readonly name: StageName;
  /** Raised whenever the same config and inputs would give another artifact. */
  readonly version: number;
  readonly summary: string; // one line for --help
  readonly examples: readonly Example[]; // end of --help: with all folders the config named there needs
  readonly inputs: readonly string[]; // roles
  /** The options table: type, default, range, help, flag and check of every option. */
  readonly options: z.ZodObject;
  /** Roles that this config needs; the others may be absent. */
  needs(config: Config): {
    readonly roles: readonly string[];
    readonly dataset: boolean;
    readonly further?: FurtherInputs;
  };
  /** The part of the config that decides the artifact: goes into the manifest and the stage key. */
  identity(config: Config): Readonly<Record<string, unknown>>;
  precision(config: Config): Precision;
  /** Writes the artifact's files into the draft; what it returns is published with them. */
  run(context: StageContext): Promise<Summary>;
  estimate(config: Config, counts: Counts): Estimate;
  /**
   * Refuses, before a run begins, what this stage would refuse when its turn comes: by the config and the files of the
   * dataset alone. @throws {LpldError} E_CONFIG, E_DATA
   */
  foresee?(config: Config, dataset: Dataset): void;
  /** Refuses what only native code can judge, before a draft is touched. @throws {LpldError} E_CONFIG */
  check?(config: Config, native: NativeBinding): void;
}
