// What a run does with every stage of its folder, known before any work: kept, made, or refused, because what stands there
// or was begun there is of another key and was not given up. A stage that reads what is made anew is made anew without a
// question. The invariant: looking changes nothing on the disk.

import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { type Artifact, MANIFEST, type StageHeader, stageKey } from './artifact.ts';
import { begunIn, whyDiscarded } from './begun.ts';
import { type Replacing, whyReplaced } from './finished.ts';
import type { Node } from './pipeline.ts';
import type { RunOptions } from './run-options.ts';
import { type DatasetOnce, existing, headerOf, prepare } from './stage-runner.ts';
import { STAGES } from './stages/index.ts';
import type { Runtime, StageName } from './stages/types.ts';

/** Stages in the order of a run. */
const ORDER = STAGES.map(({ name }) => name);

/** The folders a stage of a run reads, by role. */
export const foldersOf = ({ inputs }: Node, out: string): Record<string, string> =>
  Object.fromEntries(Object.entries(inputs).map(([role, folder]) => [role, join(out, folder)]));

/** Whether a stage is the one a run is restarted from, or a later one. */
export const isRestarted = ({ stage }: Node, from: StageName | undefined): boolean =>
  from !== undefined && ORDER.indexOf(stage.name) >= ORDER.indexOf(from);

/** How a run gives up what is of another key. What it made from its own artifacts goes with those. */
export const replacingIn = ({ stage, inputs }: Node): Replacing => ({
  flag: `--restart-from ${stage.name}`,
  remade: Object.keys(inputs),
});

/**
 * What a run would do with each of its stages.
 *
 * @returns by folder: `keep` what stands, or `run`
 * @throws {LpldError} E_CONFIG for a stage before `restartFrom` that stands or was begun with another config, on another
 *   device, from other data or by another version; E_DATA and E_MISMATCH for what the stages read
 */
export async function fateOf(
  nodes: readonly Node[],
  { out, restartFrom }: Pick<RunOptions, 'out' | 'restartFrom'>,
  runtime: Runtime,
  dataset: DatasetOnce,
): Promise<Map<string, 'keep' | 'run'>> {
  const fate = new Map<string, 'keep' | 'run'>();
  const anew = new Set<string>(); // folders whose artifact will not be the one that stands
  for (const node of nodes) {
    const inputs = Object.values(node.inputs);
    if (isRestarted(node, restartFrom) || inputs.some((folder) => anew.has(folder))) {
      anew.add(node.folder);
      fate.set(node.folder, 'run');
      continue;
    }
    const dir = join(out, node.folder);
    const stand = inputs.every((folder) => existsSync(join(out, folder, MANIFEST)));
    const header = await headerFor(node, out, runtime, dataset, stand);
    const found = await existing(dir);
    const same = found !== null && found.manifest.key === stageKey(header(found.manifest.inputs));
    if (!same && (await replaced(dir, found, header, replacingIn(node)))) anew.add(node.folder);
    fate.set(node.folder, same && inputs.every((folder) => fate.get(folder) !== 'run') ? 'keep' : 'run');
  }
  return fate;
}

type HeaderFrom = (recorded: StageHeader['inputs']) => StageHeader;

/** The header of a stage; where what it reads is yet to be made, from the ids that a record of it has. */
async function headerFor(
  node: Node,
  out: string,
  runtime: Runtime,
  dataset: DatasetOnce,
  stand: boolean,
): Promise<HeaderFrom> {
  if (stand) {
    const { header } = await prepare(node, foldersOf(node, out), runtime, dataset);
    return () => header;
  }
  const data = node.stage.needs(node.config).dataset ? { dataset: (await dataset(node.config)).id } : {};
  return (recorded) => headerOf(node, { ...recorded, ...data }, runtime);
}

/** Whether a finished artifact of another key gives way; refuses one, or a draft, that does not. */
async function replaced(dir: string, found: Artifact | null, header: HeaderFrom, how: Replacing): Promise<boolean> {
  if (found !== null) whyReplaced(dir, { ...found.manifest }, header(found.manifest.inputs), how);
  const begun = await begunIn(`${dir}.partial`);
  if (begun !== null && begun.header.config !== undefined) {
    const now = header(begun.inputs);
    if (begun.key !== stageKey(now)) await whyDiscarded(`${dir}.partial`, begun, now, how);
  } // one that does not say how it was begun is told of when its turn comes
  return found !== null;
}
