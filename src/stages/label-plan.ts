// What relabel, prune and the students' pool agree on: the options of a label plan, the plan of a config and of a store,
// and the version of the streams that derived Recipes are drawn from.

import { z } from 'zod';
import { expected, LpldError, toLpldError } from '../errors.ts';
import { LABELS_FILE } from '../label-format.ts';
import type { LabelStore } from '../labels.ts';
import { type LabelPlan, type LabelPlanOptions, labelPlan, planCounts } from '../plan.ts';

/** Version of the Philox streams derived Recipes are drawn from (docs/streams.md). */
export const STREAM_VERSION = 1;

export const planOptions = {
  dropLast: z.boolean().default(true).describe('leave out the short last batch of every label epoch'),
  keep: z
    .enum(['prefix', 'random-epochs', 'random-batches'])
    .default('prefix')
    .describe('which records survive pruning'),
};
export const pruneKeepOption = z
  .enum([...planOptions.keep.unwrap().options, 'metric'])
  .default('prefix')
  .describe('which records survive pruning; metric ranks them by prune.metric');
export const pruneRatioOption = z
  .number()
  .min(0)
  .lt(1)
  .default(0)
  .describe('share of the records thrown away; 0.9 is 10x');

/** The plan a label store's index keeps, and the one the published pool is cut from. */
export function planFor(options: Omit<LabelPlanOptions, 'images' | 'seed'>, images: number, seed: bigint): LabelPlan {
  const { epochs, dropLast, keep, pruneRatio } = options;
  return labelPlan({ images, batch: Math.min(options.batch, images), epochs, pruneRatio, dropLast, keep, seed });
}

/** The plan of a store as its labels.json keeps it; `metric` and `end` stand beside it where keep is metric. */
const storedPlanOptions = z.object({
  images: z.int().min(1),
  batch: z.int().min(1),
  epochs: z.int().min(1),
  pruneRatio: z.number().min(0).lt(1),
  dropLast: z.boolean(),
  keep: z.enum(['prefix', 'random-epochs', 'random-batches', 'metric']),
});

function refuse(store: LabelStore, what: string, name: string, received: unknown): never {
  const path = store.artifact.path(LABELS_FILE);
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
}

/**
 * The plan options a store was made with, all but the seed.
 * @throws {LpldError} E_DATA with details.path for a plan that no store has
 */
export function storedPlan(store: LabelStore): z.infer<typeof storedPlanOptions> {
  const { plan } = store.index;
  const parsed = storedPlanOptions.safeParse(plan);
  return parsed.success ? parsed.data : refuse(store, 'the plan of a label store', 'plan', JSON.stringify(plan));
}

/** What labels.json says is no config of anybody's: E_CONFIG becomes E_DATA of that file. */
export function ofFile<T>({ artifact }: LabelStore, work: () => T): T {
  try {
    return work();
  } catch (thrown) {
    const { code, message } = toLpldError(thrown);
    if (code !== 'E_CONFIG') throw thrown;
    const path = artifact.path(LABELS_FILE);
    throw new LpldError('E_DATA', `${path}: ${message}`, { path }, thrown);
  }
}

/**
 * The plan of a store with the records it holds, whatever chose them.
 * @throws {LpldError} E_DATA with details.path for a plan that no store has, or a record outside it
 */
export function planOfStore(store: LabelStore): LabelPlan {
  const made = storedPlan(store);
  const { recordIds } = store;
  const { kept: _, ...counts } = ofFile(store, () => planCounts({ ...made, keep: 'prefix', pruneRatio: 0 }));
  const last = recordIds.at(-1);
  if (last === undefined || last >= counts.fullRecords)
    refuse(store, `an id below ${counts.fullRecords}`, 'the last record', last);
  return { ...counts, pruneRatio: made.pruneRatio, keep: made.keep, recordIds };
}
