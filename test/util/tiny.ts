// A pipeline small enough to run in a second: three of the embedded digits at 8 px and a convnet of two narrow blocks.
// One thread and deterministic algorithms, so that equal configs mean equal bytes.

import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { type Artifact, openArtifact } from '../../src/artifact.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { pipelineNodes, stageNamed } from '../../src/pipeline.ts';
import type { ProgressSink } from '../../src/progress.ts';
import { type RunOptions, type RuntimeOptions, runStage } from '../../src/run.ts';
import type { StageName } from '../../src/stages/types.ts';

type Sections = Readonly<Record<string, unknown>>;
const isSection = (value: unknown): value is Sections =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

const TINY: Sections = {
  name: 'tiny',
  dataset: { format: 'digits', classes: [0, 1, 2], inputSize: 8 },
  squeeze: { widths: [4, 4], epochs: 2, batch: 32, lr: 0.01, cropScale: [0.5, 1], flip: false },
  synthesize: { ipc: 2, iterations: 24, cropScale: [0.5, 1], encoding: 'png', groupsPerForward: 1 },
  relabel: { batch: 3, epochs: 20, recordsPerShard: 8 },
  prune: { pruneRatio: 0.5 },
  train: { epochs: 10, lr: 0.01 },
};

/** Sections of the second laid over those of the first. */
const merged = (base: Sections, over: Sections): Sections => {
  const out: Record<string, unknown> = { ...base };
  for (const [key, value] of Object.entries(over)) {
    const under = out[key];
    out[key] = isSection(value) && isSection(under) ? { ...under, ...value } : value;
  }
  return out;
};

/** The tiny config as a file holds it, with some keys changed. */
export const tinySource = (change: Sections = {}): Sections => merged(TINY, change);

export const tiny = (change: Sections = {}): Config => parseConfig(tinySource(change));

export const RUNTIME: RuntimeOptions = {
  device: 'cpu',
  threads: 1,
  memory: 2 ** 30,
  deterministic: true,
  saveSeconds: 0,
};

export interface ProgressStep {
  readonly stage: string;
  readonly label: string;
  readonly what: 'start' | 'update' | 'log';
  readonly done: number;
  readonly total: number;
  readonly line: string;
}

/** A sink that keeps every event and shows it to `see`. */
export function watching(see: (step: ProgressStep) => void = () => {}): { sink: ProgressSink; steps: ProgressStep[] } {
  const steps: ProgressStep[] = [];
  const sink: ProgressSink = {
    stage(stage) {
      let phase = { label: '', total: 0 };
      const add = (what: ProgressStep['what'], done: number, line = ''): void => {
        const step = { stage, ...phase, what, done, line };
        steps.push(step);
        see(step);
      };
      return {
        start(total, _unit, label) {
          phase = { label, total };
          add('start', 0);
        },
        update: (done) => add('update', done),
        log: (line) => add('log', 0, line),
        finish() {},
      };
    },
    close() {},
  };
  return { sink, steps };
}

export function optionsOf(out: string, change: Partial<RunOptions> = {}): RunOptions {
  return {
    out,
    runtime: RUNTIME,
    progress: watching().sink,
    signal: new AbortController().signal,
    verifyData: false,
    ...change,
  };
}

/** Ids of all artifacts of a run folder, by folder. */
export async function idsOf(out: string, config: Config): Promise<Record<string, string>> {
  const ids: Record<string, string> = {};
  for (const { folder } of pipelineNodes(config)) ids[folder] = (await openArtifact(join(out, folder))).id;
  return ids;
}

/** Path and hash of every file of an artifact. */
export const hashesOf = (artifact: Artifact): Record<string, string> =>
  Object.fromEntries(artifact.manifest.files.map((file) => [file.path, file.sha256]));

/** Makes the artifacts of some stages below `dir`, each from the ones before it; folders are named like the stages. */
export async function makeChain(dir: string, config: Config, stages: readonly StageName[]): Promise<void> {
  await mkdir(dir, { recursive: true });
  for (const stage of stages)
    await runStage(stage, config, { ...optionsOf(join(dir, stage)), inputs: inputsIn(dir, stage, stages) });
}

/** Folders of the roles a stage reads, in a folder where makeChain made `stages`. */
export function inputsIn(dir: string, stage: StageName, stages: readonly StageName[]): Record<string, string> {
  const labels = stage !== 'prune' && stages.includes('prune') ? 'prune' : 'relabel';
  const folders: Record<string, string> = { teacher: 'squeeze', images: 'synthesize', labels, students: 'train' };
  return Object.fromEntries(stageNamed(stage).inputs.map((role) => [role, join(dir, folders[role]!)]));
}
