// Everything commands call, behind one interface: tests pass fakes, and each module is imported only by the command that
// needs it, so that --help, doctor, presets, inspect and data list never load the native addon.

import type { z } from 'zod';
import type { Config } from '../config.ts';
import type { FetchOptions, Source } from '../datasets/fetch.ts';
import type { Dataset, DatasetFormat, DatasetOptions } from '../datasets/types.ts';
import type { Exported, ExportOptions } from '../export.ts';
import type { ImportOptions } from '../import.ts';
import type { ImportedWeights } from '../import-weights.ts';
import type { InstallOptions } from '../install.ts';
import type { LabelInspection } from '../label-inspection.ts';
import type { LibtorchLocation } from '../libtorch.ts';
import type { MergeOptions } from '../merge.ts';
import type { RunReport } from '../report/index.ts';
import type { PlannedStage } from '../report/table.ts';
import type { RunOptions, Settled, StageOptions } from '../run-options.ts';
import type { Example, StageName } from '../stages/types.ts';

export type { RunOptions, RuntimeOptions, Settled, StageOptions } from '../run-options.ts';

/** What flags and help need of a stage. */
export interface StageTable {
  readonly name: StageName;
  readonly summary: string;
  readonly examples: readonly Example[];
  readonly inputs: readonly string[];
  readonly options: z.ZodObject;
}

/** The part of an Artifact that is printed. */
export interface MadeArtifact {
  readonly dir: string;
  readonly id: string;
  readonly manifest: {
    readonly stage: string;
    readonly summary: unknown;
    readonly files: readonly { readonly path: string; readonly bytes: number; readonly sha256: string }[];
    readonly inputs: Readonly<Record<string, string>>;
    readonly stageVersion: number;
    readonly deviceClass: string;
    readonly precision: string;
  };
}

export interface Diagnosis {
  readonly ok: boolean;
  readonly report: object; // machine-readable
  readonly text: string; // the same for people
}

export interface Services {
  readonly version: string;
  readonly stages: readonly StageTable[];
  presetNames(): Promise<readonly string[]>;
  /** @throws {LpldError} E_CONFIG: unknown preset or key (with the nearest one), value out of range */
  loadConfig(source: string, overrides: Readonly<Record<string, unknown>>): Promise<Config>;
  runPipeline(config: Config, options: Settled<RunOptions>): Promise<RunReport>;
  planPipeline(config: Config, options: Settled<RunOptions>): Promise<{ readonly stages: readonly PlannedStage[] }>;
  runStage(stage: StageName, config: Config, options: Settled<StageOptions>): Promise<MadeArtifact>;
  /** Joins the artifacts of `synthesize --shard I/N`. */
  mergeShards(dirs: readonly string[], options: MergeOptions): Promise<MadeArtifact>;
  openArtifact(dir: string, options: { verify: boolean }): Promise<MadeArtifact>;
  /** Bytes of a label store by purpose; null for another artifact. `teacher`: folder to compare with, null to look. */
  inspectLabels(artifact: MadeArtifact, teacher: string | null): Promise<LabelInspection | null>;
  doctor(): Promise<Diagnosis>;
  install(options: InstallOptions): Promise<Pick<LibtorchLocation, 'root' | 'version' | 'cuda'>>;
  formats(): Promise<readonly DatasetFormat[]>;
  openDataset(format: string, path: string, options: DatasetOptions): Promise<Dataset>;
  fetchDataset(name: string, out: string, options: FetchOptions): Promise<Dataset>;
  /** What `data fetch` knows. */
  sources(): Promise<readonly Pick<Source, 'name' | 'summary' | 'format'>[]>;
  /** Reads weights of any known format and writes them to `out` as safetensors. */
  importWeights(file: string, out: string, options: { readonly replace: boolean }): Promise<ImportedWeights>;
  /** Writes one page with the images of several run folders side by side. */
  compareSets(folders: readonly string[], out: string): Promise<string>;
  /** Formats of `export` and of `import --format`. */
  exchangeFormats(): {
    readonly exports: readonly { readonly name: string; readonly summary: string; readonly holds: string }[];
    readonly imports: readonly { readonly name: string; readonly summary: string; readonly holds: string }[];
  };
  exportData(options: ExportOptions): Promise<Exported>;
  importData(options: ImportOptions): Promise<MadeArtifact>;
  remakeReport(out: string, compare: readonly string[]): Promise<string>;
}
