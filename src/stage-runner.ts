// One stage, from folders to a published artifact: the runtime is settled, inputs and outside data are opened and
// checked, the key is worked out, an artifact of that key is kept, anything else is made in a draft that can be resumed.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { loadedNative, loadNative } from './addon.ts';
import { type Artifact, openArtifact, openDraft, RUN, readJsonFile, type StageHeader, stageKey } from './artifact.ts';
import { hashFile } from './atomic-file.ts';
import type { Config } from './config.ts';
import type { Dataset } from './datasets/types.ts';
import { expected, LpldError, toLpldError } from './errors.ts';
import type { Replacing } from './finished.ts';
import { startMeter } from './meter.ts';
import { whileLocked } from './output-folder.ts';
import type { Node } from './pipeline.ts';
import type { StageProgress } from './progress.ts';
import { checkApart, missingRole, openAs } from './roles.ts';
import { openConfigured, throwIfCancelled } from './stages/shared.ts';
import type { Runtime, Summary } from './stages/types.ts';

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

export interface Prepared {
  readonly inputs: Record<string, Artifact>;
  readonly dataset: Dataset | null;
  readonly header: StageHeader;
}

/** What decides the artifact of a stage, from the ids of what it reads. */
export function headerOf({ stage, config }: Node, inputs: StageHeader['inputs'], runtime: Runtime): StageHeader {
  return {
    stage: stage.name,
    stageVersion: stage.version,
    config: stage.identity(config),
    inputs,
    deviceClass: deviceClass(runtime),
    precision: stage.precision(config),
  };
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
    if (dir === undefined) throw missingRole(role);
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
  return { inputs, dataset: data, header: headerOf(node, ids, runtime) };
}

export async function existing(dir: string): Promise<Artifact | null> {
  return existsSync(join(dir, 'manifest.json')) ? openArtifact(dir) : null;
}

/** The artifact that stands in a folder, if it has the key of this header. */
export async function standing(dir: string, header: StageHeader): Promise<Artifact | null> {
  const found = await existing(dir);
  return found?.manifest.key === stageKey(header) ? found : null;
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

/** One prepared stage and where its artifact goes. */
export interface Making {
  readonly node: Node;
  readonly dir: string;
  readonly prepared: Prepared;
  readonly runtime: Runtime;
  readonly progress: StageProgress;
  readonly replacing?: Replacing;
}

/** What is there already, held against the dataset as it was read now. */
async function kept({ dir, prepared: { header, dataset }, progress }: Making): Promise<Artifact | null> {
  const found = await standing(dir, header);
  if (found === null) return null;
  const notes = await readJsonFile<Record<string, unknown>>(join(dir, RUN)).catch(() => ({}));
  if (!sameContent(dataset, notes, dir))
    progress.log('made before its data was verified: there is no content hash to compare with');
  return found;
}

/** Refuses what native code alone can judge of a stage's config. */
export function checkStage({ stage, config }: Node, runtime: Runtime): void {
  try {
    stage.check?.(config, loadNative(deviceClass(runtime)));
  } catch (thrown) {
    throw toLpldError(thrown); // native errors are plain objects
  }
}

/**
 * Runs one prepared stage into its folder, or keeps what stands there under the same key.
 * @throws {LpldError} E_CONFIG if another process is making that folder, the stage reads from it, or work of another key
 *   stands or was begun there; whatever the stage throws
 */
export async function make(making: Making): Promise<Artifact> {
  const { node, dir, runtime, progress } = making;
  checkApart(dir, Object.fromEntries(Object.entries(making.prepared.inputs).map(([role, { dir }]) => [role, dir])));
  const found = await kept(making);
  if (found !== null) return found;
  throwIfCancelled(runtime.signal);
  if (making.prepared.dataset !== null) node.stage.foresee?.(node.config, making.prepared.dataset);
  checkStage(node, runtime); // both before a folder is made
  return whileLocked(dir, progress, async () => (await kept(making)) ?? finish(making)); // made meanwhile, or to be made
}

/** Makes the artifact in its draft, from where the draft stands. The caller holds the folder. */
export async function finish({ node, dir, prepared, runtime, progress, replacing }: Making): Promise<Artifact> {
  const native = loadNative(deviceClass(runtime));
  const draft = await openDraft(dir, prepared.header, replacing);
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
  if (draft.resumed) progress.log('resuming');
  if (draft.discarded !== null)
    progress.log(`what was begun in ${dir} with another config or other inputs is discarded: ${draft.discarded}`);
  if (draft.replaces !== null) progress.log(`${dir} is replaced when this is done: ${draft.replaces}`);
  let summary: Summary;
  try {
    summary = await node.stage.run({
      config: node.config,
      runtime,
      native,
      inputs: prepared.inputs,
      dataset: prepared.dataset,
      draft,
      progress,
    });
  } catch (thrown) {
    await stop().catch(() => {}); // the disk may be the reason
    const error = toLpldError(thrown); // native errors are plain objects
    if (['E_CONFIG', 'E_MISMATCH', 'E_DATA'].includes(error.code)) await draft.abandonEmpty().catch(() => {});
    throw error;
  }
  await stop();
  return draft.publish(summary);
}
