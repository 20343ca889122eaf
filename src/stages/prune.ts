// prune: thins a label store to a pool without touching the old one. Kept ids are a pure function of numbers, so pruning
// a full store gives byte for byte the store that relabel makes with the same ratio.
// Source: LPLD; methods 5.2.

import { z } from 'zod';
import { expected, LpldError } from '../errors.ts';
import { LabelStore, LabelWriter } from '../labels.ts';
import { labelPlan, planRows } from '../plan.ts';
import { planOptions, pruneRatioOption, storedPlan } from './label-plan.ts';
import { throwIfCancelled } from './shared.ts';
import type { Stage } from './types.ts';

export const pruneOptions = z.strictObject({
  pruneRatio: pruneRatioOption,
  keep: planOptions.keep,
});

/** Records read and written at a time. */
const CHUNK = 256;

export const prune: Stage = {
  name: 'prune',
  version: 1,
  summary: 'keep a part of the labels: the pool students draw from',
  inputs: ['labels'],
  options: pruneOptions,
  needs: () => ({ roles: ['labels'], dataset: false }),
  identity: ({ prune: options }) => ({ prune: options }),
  precision: () => 'fp32',
  estimate(config, { classes }) {
    const rows = classes * config.synthesize.ipc * config.relabel.epochs * (1 - config.prune.pruneRatio);
    return { bytes: rows * 2 * classes, seconds: 1 };
  },

  async run({ config, inputs, draft, progress, runtime }) {
    const { pruneRatio, keep } = config.prune;
    await using store = await LabelStore.open(inputs.labels!);
    const made = storedPlan(store.index);
    if (made.pruneRatio !== 0)
      throw new LpldError(
        'E_MISMATCH',
        expected(
          'labels that were not pruned before',
          'labels',
          `a store pruned with ratio ${made.pruneRatio}`,
          'prune the full store, or relabel with this ratio',
        ),
      );
    const plan = labelPlan({ ...made, pruneRatio, keep, seed: BigInt(store.index.seed) });
    const { format: _, shards: __, ...header } = store.index;
    const { images, batch, epochs, dropLast } = made;
    const writer = await LabelWriter.open(draft, {
      ...header,
      plan: { images, batch, epochs, pruneRatio, dropLast, keep },
    });
    await writer.writeBasis(store.basis);
    const position = new Map(Array.from(store.recordIds, (id, i) => [id, i]));
    const wanted = writer.remaining(plan.recordIds);
    const kept = plan.recordIds.length;
    const offset = kept - wanted.length;
    progress.start(kept, 'record', `keep ${kept} of ${plan.fullRecords}`);
    progress.update(offset);
    for (let first = 0; first < wanted.length; first += CHUNK) {
      throwIfCancelled(runtime.signal);
      const ids = wanted.slice(first, first + CHUNK);
      await writer.append(await store.readRecords(ids.map((id) => position.get(id)!)));
      progress.update(offset + first + ids.length);
    }
    await writer.finish();
    progress.finish();
    return {
      records: plan.recordIds.length,
      rows: planRows(plan).kept,
      codec: store.index.codec,
      recipes: store.index.recipes,
    };
  },
};
