// Runs stages: one alone, or the whole pipeline of a config into one run folder that is locked, resumable and never runs
// an unchanged stage twice.

import { existsSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { type Artifact, MANIFEST, readJsonFile } from './artifact.ts';
import { guarded, writeFileAtomic } from './atomic-file.ts';
import type { Config } from './config.ts';
import { changesTold, DECIDING, differingKeys } from './differences.ts';
import { LpldError } from './errors.ts';
import { LabelStore } from './labels.ts';
import { makeFolder, whileLocked } from './output-folder.ts';
import { labelsFolder, type Node, pipelineNodes, stageNamed } from './pipeline.ts';
import { labelReport, type RunReport, type Score, type StageReport, writeReport } from './report/index.ts';
import { checkRun } from './run-check.ts';
import { fateOf, foldersOf, isRestarted, replacingIn } from './run-fate.ts';
import { lockRun } from './run-lock.ts';
import { type RunOptions, resolveRuntime, type Settled, type StageOptions, settled } from './run-options.ts';
import { checkStage, type DatasetOnce, datasetOnce, existing, make, prepare } from './stage-runner.ts';
import { STAGES } from './stages/index.ts';
import type { Runtime, StageName } from './stages/types.ts';

export type { CallOptions, RunOptions, RuntimeOptions, StageOptions } from './run-options.ts';
export { resolveRuntime } from './run-options.ts';

/**
 * Runs one stage.
 * @throws {LpldError} E_CONFIG for a missing role or an `out` that was made otherwise, E_MISMATCH for artifacts that do not belong together, and the stage's own
 */
export async function runStage(name: StageName, config: Config, given: StageOptions): Promise<Artifact> {
  const options = settled(given);
  const runtime = resolveRuntime(options);
  const node: Node = { stage: stageNamed(name), folder: name, config, inputs: {} };
  const prepared = await prepare(node, options.inputs, runtime, datasetOnce(runtime));
  const progress = options.progress.stage(name);
  for (const role of Object.keys(options.inputs))
    if (!Object.hasOwn(prepared.inputs, role)) progress.log(`--${role} is not read under this config`);
  const replacing = { replace: options.replace ?? false };
  return make({ node, dir: options.out, prepared, runtime, progress, replacing });
}

/**
 * Refuses another config than the one the run folder was begun with, unless stages are to be run again. A config that no
 * stage was begun with binds nobody, and a dataset may move: its id tells whether it is the same.
 */
async function checkConfig(config: Config, options: RunOptions, dataset: DatasetOnce): Promise<void> {
  const { out } = options;
  const path = join(out, 'config.json');
  const there = (folder: string): boolean =>
    existsSync(join(out, folder)) || existsSync(join(out, `${folder}.partial`));
  if (options.restartFrom !== undefined || !existsSync(path)) return;
  if (!pipelineNodes(config).some(({ folder }) => there(folder))) return;
  const before = await readJsonFile<Config>(path);
  const keys = differingKeys(before, config, DECIDING);
  if (keys.length === 0) return;
  if (keys.length === 1 && keys[0] === 'dataset.path') {
    const made = await existing(join(out, 'squeeze'));
    if (made !== null && made.manifest.inputs.dataset === (await dataset(config)).id) return;
  }
  const first =
    STAGES.find((stage) =>
      keys.some((key) => key === 'seed' || key.startsWith('dataset') || key.startsWith(`${stage.name}.`)),
    )?.name ?? 'squeeze';
  throw new LpldError(
    'E_CONFIG',
    `the run folder ${options.out} was begun with another config: ${changesTold(before, config, keys)}\nuse --restart-from ${first}, or another --out`,
    { keys, path },
  );
}

const toRun = (nodes: readonly Node[], fate: ReadonlyMap<string, 'keep' | 'run'>): Node[] =>
  nodes.filter(({ folder }) => fate.get(folder) === 'run');

/**
 * Removes the artifacts of the stages a run is restarted from, once all is there that they are made again from: a config
 * that cannot be run costs nothing.
 */
async function restart(
  nodes: readonly Node[],
  options: Settled<RunOptions>,
  runtime: Runtime,
  dataset: DatasetOnce,
): Promise<void> {
  const again = nodes.filter((node) => isRestarted(node, options.restartFrom));
  const folders = again.map(({ folder }) => folder);
  for (const node of again) {
    const inputs = Object.values(node.inputs);
    if (inputs.every((folder) => !folders.includes(folder) && existsSync(join(options.out, folder, MANIFEST))))
      await prepare(node, foldersOf(node, options.out), runtime, dataset);
  }
  for (const folder of folders) {
    const dir = join(options.out, folder);
    await whileLocked(dir, options.progress.stage(folder), async () => {
      for (const path of [dir, `${dir}.partial`]) await guarded(path, () => rm(path, { recursive: true, force: true }));
    });
  }
}

/** What a run would do, stage by stage, without doing it. */
export async function planPipeline(
  config: Config,
  options: RunOptions,
): Promise<{
  stages: { name: string; folder: string; action: 'run' | 'keep'; bytes: number; seconds: number }[];
}> {
  const runtime = resolveRuntime(options);
  const dataset = datasetOnce(runtime);
  await checkConfig(config, options, dataset);
  const nodes = pipelineNodes(config);
  const fate = await fateOf(nodes, options, runtime, dataset);
  const data = await dataset(config);
  await checkRun(toRun(nodes, fate), data);
  const counts = { train: data.train.count, test: data.test?.count ?? 0, classes: data.classNames.length };
  const stages = nodes.map(({ stage, folder, config: of }) => {
    return { name: stage.name, folder, action: fate.get(folder)!, ...stage.estimate(of, counts) };
  });
  return { stages };
}

/**
 * Runs all stages of a config into one run folder and writes report.json and report.html.
 * @throws {LpldError} E_CONFIG for a folder in use, or made or begun with another config, on another device or from other
 *   data; whatever a stage throws
 */
export async function runPipeline(config: Config, given: RunOptions): Promise<RunReport> {
  const options = settled(given);
  await makeFolder(options.out);
  const lock = lockRun(options.out);
  try {
    if (lock.message !== null) options.progress.stage('run').log(lock.message);
    const runtime = resolveRuntime(options);
    const dataset = datasetOnce(runtime);
    await checkConfig(config, options, dataset);
    const nodes = pipelineNodes(config);
    const wanted = toRun(nodes, await fateOf(nodes, options, runtime, dataset));
    await checkRun(wanted, await dataset(config));
    for (const node of wanted) checkStage(node, runtime);
    if (options.restartFrom !== undefined) await restart(nodes, options, runtime, dataset);
    await writeFileAtomic(join(options.out, 'config.json'), [
      new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`),
    ]);
    const made = new Map<string, Artifact>();
    for (const node of nodes) {
      const prepared = await prepare(node, foldersOf(node, options.out), runtime, dataset);
      const [dir, progress] = [join(options.out, node.folder), options.progress.stage(node.folder)];
      made.set(node.folder, await make({ node, dir, prepared, runtime, progress, replacing: replacingIn(node) }));
    }
    const report = await reportOf(config, options.out, made);
    await writeReport(options.out, report);
    return report;
  } finally {
    lock.release();
  }
}

async function reportOf(config: Config, out: string, made: ReadonlyMap<string, Artifact>): Promise<RunReport> {
  const summary = <T>(folder: string): T | undefined => made.get(folder)?.manifest.summary as T | undefined;
  const teacher = summary<{ teacher: { top1: number } | null }>('squeeze')?.teacher;
  const labels = made.get(labelsFolder(config))!;
  await using store = await LabelStore.open(labels);
  const images = made.get('synthesize')!.manifest.files.filter((file) => file.path.startsWith('images/'));
  const stages: StageReport[] = [];
  for (const [folder, artifact] of made) {
    const run = JSON.parse(await readFile(join(artifact.dir, 'run.json'), 'utf8')) as {
      seconds?: number;
      peakBytes?: number;
    };
    stages.push({
      name: artifact.manifest.stage,
      folder,
      seconds: run.seconds ?? 0,
      peakBytes: run.peakBytes ?? 0,
      id: artifact.id,
    });
  }
  const [random, randomSoft] = [summary<Score>('random-hard/evaluate'), summary<Score>('random/evaluate')];
  return {
    teacher: { top1: teacher?.top1 ?? Number.NaN },
    student: summary<Score>('evaluate')!,
    ...(random === undefined ? {} : { random }),
    ...(randomSoft === undefined ? {} : { randomSoft }),
    images: { bytes: images.reduce((sum, file) => sum + file.bytes, 0), count: images.length },
    labels: labelReport(store.bytes(), store.numRecords),
    stages,
    out,
    config,
  };
}
