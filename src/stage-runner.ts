// One stage, from folders to a published artifact: the runtime is settled, inputs and outside data are opened and
// checked, the key is worked out, an artifact of that key is kept, anything else is made in a draft that can be resumed.

import { constants, existsSync } from 'node:fs';
import { access, mkdir, stat } from 'node:fs/promises';
import { dirname, join, resolve } from 'node:path';
import { availableMemory } from 'node:process';
import { loadedNative, loadNative } from './addon.ts';
import { type Artifact, openArtifact, openDraft, RUN, readJsonFile, type StageHeader, stageKey } from './artifact.ts';
import { guarded, hashFile } from './atomic-file.ts';
import type { Config } from './config.ts';
import { cudaDriver, cudaObstacle } from './cuda.ts';
import type { Dataset } from './datasets/types.ts';
import { expected, LpldError, toLpldError } from './errors.ts';
import { locateLibtorch } from './libtorch.ts';
import { startMeter } from './meter.ts';
import type { Node } from './pipeline.ts';
import type { ProgressSink } from './progress.ts';
import { defaultThreads, openConfigured, throwIfCancelled } from './stages/shared.ts';
import type { Runtime, StageName, Summary } from './stages/types.ts';

export interface RuntimeOptions {
  readonly device: 'auto' | 'cpu' | 'cuda' | `cuda:${number}`;
  readonly threads: number | null;
  readonly memory: number | null; // bytes
  readonly deterministic: boolean;
  /** Least seconds between two saves of resumable state; null: 20. */
  readonly saveSeconds?: number | null;
  /** Iterations of synthesis between two pictures of the images in the making; null: none. */
  readonly snapshotEvery?: number | null;
}

export interface RunOptions {
  readonly out: string;
  readonly runtime: RuntimeOptions;
  readonly restartFrom?: StageName;
  readonly progress: ProgressSink;
  readonly signal: AbortSignal;
  readonly verifyData: boolean;
}

export interface StageOptions extends Omit<RunOptions, 'restartFrom'> {
  readonly inputs: Readonly<Record<string, string>>; // role -> folder of a finished artifact
}

/** Stages whose artifacts may play a role. */
const ROLES: Readonly<Record<string, readonly (StageName | 'import-images' | 'import-labels')[]>> = {
  teacher: ['squeeze'],
  images: ['synthesize', 'import-images'],
  labels: ['relabel', 'prune', 'import-labels'],
  students: ['train'],
};

/** Settles what was left open: the device that can be used, all threads, most of the free memory. */
export function resolveRuntime(options: RunOptions | StageOptions): Runtime {
  const { runtime, signal, verifyData } = options;
  const asked = runtime.device === 'cuda' ? 'cuda:0' : runtime.device;
  const auto = () => (cudaObstacle(cudaDriver(), locateLibtorch()?.cuda ?? null) === null ? 'cuda:0' : 'cpu');
  return {
    device: asked === 'auto' ? auto() : asked,
    threads: runtime.threads ?? defaultThreads(),
    memory: runtime.memory ?? Math.floor(0.8 * availableMemory()),
    deterministic: runtime.deterministic,
    saveSeconds: runtime.saveSeconds ?? 20,
    snapshotEvery: runtime.snapshotEvery ?? null,
    verifyData,
    signal,
  };
}

const deviceClass = (runtime: Runtime): 'cpu' | 'cuda' => (runtime.device === 'cpu' ? 'cpu' : 'cuda');

/** Opens outside data once per run, whatever the number of stages that read it. */
export type DatasetOnce = (config: Config) => Promise<Dataset>;
export function datasetOnce(runtime: Runtime): DatasetOnce {
  let opened: Promise<Dataset> | null = null;
  return (config) => {
    opened ??= openConfigured(config, runtime.verifyData);
    return opened;
  };
}

interface Prepared {
  readonly inputs: Record<string, Artifact>;
  readonly dataset: Dataset | null;
  readonly header: StageHeader;
}

/** Opens an artifact that may play a role. @throws {LpldError} E_DATA, or E_MISMATCH naming where the folder came from */
async function openAs(role: string, dir: string, name: string): Promise<Artifact> {
  const artifact = await openArtifact(dir);
  const makers = ROLES[role]!;
  if (!makers.includes(artifact.manifest.stage as StageName))
    throw new LpldError(
      'E_MISMATCH',
      expected(`an artifact of ${makers.join(' or ')}`, name, `one of ${artifact.manifest.stage}`),
      { path: dir },
    );
  return artifact;
}

/** Opens and checks what a stage reads and works out its key. */
export async function prepare(
  node: Node,
  folders: Readonly<Record<string, string>>,
  runtime: Runtime,
  dataset: DatasetOnce,
): Promise<Prepared> {
  const { stage, config } = node;
  const needs = stage.needs(config);
  const inputs: Record<string, Artifact> = {};
  for (const role of needs.roles) {
    const dir = folders[role];
    if (dir === undefined)
      throw new LpldError('E_CONFIG', expected(`the folder of ${role}`, `--${role}`, 'nothing'), { role });
    inputs[role] = await openAs(role, dir, `--${role}`);
  }
  for (const [role, { dir, like, key }] of Object.entries(needs.further ?? {}))
    inputs[role] = await openAs(like, dir, key);
  const ids: Record<string, string> = Object.fromEntries(
    Object.entries(inputs).map(([role, artifact]) => [role, artifact.id]),
  );
  const data = needs.dataset ? await dataset(config) : null;
  if (data !== null) ids.dataset = data.id;
  const { weights } = config.squeeze;
  if (stage.name === 'squeeze' && weights !== null) {
    if (!existsSync(weights))
      throw new LpldError('E_DATA', expected('a file of weights', 'squeeze.weights', weights), { path: weights });
    ids.weights = await hashFile(weights);
  }
  const { labels, images } = inputs;
  if (labels !== undefined) {
    const madeFrom = labels.manifest.inputs.images;
    if (images !== undefined && madeFrom !== images.id)
      throw new LpldError(
        'E_MISMATCH',
        expected(
          `labels of the images ${images.id.slice(0, 12)}`,
          'labels',
          `labels of ${madeFrom?.slice(0, 12)}`,
          'relabel these images, or give the images the labels were made from',
        ),
        {
          labels: labels.dir,
          images: images.dir,
        },
      );
    if (images === undefined && madeFrom !== undefined) ids.images = madeFrom; // a pruned store still says whose labels it holds
  }
  const header: StageHeader = {
    stage: stage.name,
    stageVersion: stage.version,
    config: stage.identity(config),
    inputs: ids,
    deviceClass: deviceClass(runtime),
    precision: stage.precision(config),
  };
  return { inputs, dataset: data, header };
}

/**
 * Makes a folder to write into, with its parents, one by one: Node's recursive mkdir tells of a read-only file system as
 * of a missing folder.
 * @throws {LpldError} E_DEVICE if it cannot be made or written; E_CONFIG if a file is in the way
 */
export async function makeFolder(dir: string): Promise<void> {
  await guarded(dir, async () => {
    if (!existsSync(dir)) {
      await makeFolder(dirname(resolve(dir)));
      await mkdir(dir).catch((e: { code?: string }) => {
        if (e.code !== 'EEXIST') throw e; // made by somebody else meanwhile
      });
    }
    if (!(await stat(dir)).isDirectory())
      throw new LpldError('E_CONFIG', expected('a folder', '--out', dir, 'a file of that name is in the way'), {
        path: dir,
      });
    await access(dir, constants.W_OK);
  });
}

export async function existing(dir: string): Promise<Artifact | null> {
  return existsSync(join(dir, 'manifest.json')) ? openArtifact(dir) : null;
}

/**
 * Compares the content of a verified dataset with what run.json says was read before under the same id.
 * @returns false where a verified dataset meets notes of an unverified one
 * @throws {LpldError} E_DATA naming the dataset if the content is another
 */
function sameContent(dataset: Dataset | null, notes: Record<string, unknown>, dir: string): boolean {
  if (dataset?.content === undefined) return true;
  const before = (notes.data as { content?: string } | undefined)?.content;
  if (before === undefined || before === dataset.content) return before !== undefined;
  throw new LpldError(
    'E_DATA',
    expected(
      `content ${before.slice(0, 12)}, which ${dir} was made from,`,
      `dataset ${dataset.name}`,
      `content ${dataset.content.slice(0, 12)} under the same names and sizes`,
      'restore the files, or choose another --out for the changed ones',
    ),
    { dataset: dataset.name, id: dataset.id, before, content: dataset.content },
  );
}

/** Runs one prepared stage into `dir`, or keeps what stands there under the same key. */
export async function make(
  node: Node,
  dir: string,
  prepared: Prepared,
  runtime: Runtime,
  progress: ProgressSink,
): Promise<Artifact> {
  const found = await existing(dir);
  const stageProgress = progress.stage(node.folder);
  if (found !== null && found.manifest.key === stageKey(prepared.header)) {
    const notes = await readJsonFile<Record<string, unknown>>(join(dir, RUN)).catch(() => ({}));
    if (!sameContent(prepared.dataset, notes, dir))
      stageProgress.log('made before its data was verified: there is no content hash to compare with');
    return found;
  }
  throwIfCancelled(runtime.signal);
  const native = loadNative(deviceClass(runtime));
  try {
    node.stage.check?.(node.config, native);
  } catch (thrown) {
    throw toLpldError(thrown); // native errors are plain objects
  }
  await makeFolder(dirname(dir));
  const draft = await openDraft(dir, prepared.header);
  const meter = startMeter();
  const stop = async (): Promise<void> => {
    const machine = {
      device: runtime.device,
      threads: runtime.threads,
      node: process.version,
      libtorch: loadedNative()?.libtorch.version ?? null,
    };
    await draft.note({ ...meter(), ...machine });
  };
  const { dataset } = prepared;
  sameContent(dataset, draft.notes, dir);
  if (dataset?.content !== undefined) await draft.note({ data: { name: dataset.name, content: dataset.content } });
  if (draft.resumed) stageProgress.log('resuming');
  let summary: Summary;
  try {
    summary = await node.stage.run({
      config: node.config,
      runtime,
      native,
      inputs: prepared.inputs,
      dataset: prepared.dataset,
      draft,
      progress: stageProgress,
    });
  } catch (thrown) {
    await stop().catch(() => {}); // the disk may be the reason
    throw toLpldError(thrown); // native errors are plain objects
  }
  await stop();
  return draft.publish(summary);
}
