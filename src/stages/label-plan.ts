// What relabel, prune and the students' pool agree on: the options of a label plan, the plan of a config and of a store,
// and the version of the streams that derived Recipes are drawn from.

import { z } from 'zod';
import type { LabelsIndex } from '../labels.ts';
import { type LabelPlan, type LabelPlanOptions, labelPlan } from '../plan.ts';

/** Version of the Philox streams derived Recipes are drawn from (docs/streams.md). */
export const STREAM_VERSION = 1;

export const planOptions = {
  dropLast: z.boolean().default(true).describe('leave out the short last batch of every label epoch'),
  keep: z
    .enum(['prefix', 'random-epochs', 'random-batches'])
    .default('prefix')
    .describe('which records survive pruning'),
};
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

/** The plan options a store was made with, all but the seed. */
export function storedPlan(index: LabelsIndex): Omit<LabelPlanOptions, 'seed'> {
  return index.plan as unknown as Omit<LabelPlanOptions, 'seed'>;
}
