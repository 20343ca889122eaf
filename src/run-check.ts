// What a run can refuse before any work: settings of a late stage that cannot be met would otherwise cost the hours of the
// stages before it. Only the config, the dataset's list of files, the folders it names and tables of names are asked.

import type { Config } from './config.ts';
import type { Dataset } from './datasets/types.ts';
import { expected, LpldError } from './errors.ts';
import type { Node } from './pipeline.ts';
import { openAs } from './roles.ts';

function refuse(what: string, key: string, received: unknown, advice: string): never {
  throw new LpldError('E_CONFIG', expected(what, key, received, advice), { key });
}

/** Settings that single stages may have, but no run. */
function checkTogether({ relabel, prune, synthesize }: Config): void {
  if (relabel.pruneRatio > 0 && prune.pruneRatio > 0)
    refuse(
      `0, as relabel.pruneRatio is ${relabel.pruneRatio},`,
      'prune.pruneRatio',
      prune.pruneRatio,
      'labels are pruned once: while they are made, or afterwards',
    );
  if (synthesize.shard !== null)
    refuse('none in a run', 'synthesize.shard', synthesize.shard, 'make shards with synthesize, join them with merge');
}

/**
 * Refuses a run that would fail late.
 *
 * @param nodes - the stages that would run
 * @throws {LpldError} E_CONFIG for settings that exclude each other; whatever the stages foresee, and what opening further
 *   inputs of theirs throws
 */
export async function checkRun(nodes: readonly Node[], dataset: Dataset): Promise<void> {
  for (const { stage, config } of nodes) {
    checkTogether(config);
    for (const { dir, like, key } of Object.values(stage.needs(config).further ?? {})) await openAs(like, dir, key);
    stage.foresee?.(config, dataset);
  }
}
