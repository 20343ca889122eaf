// prune: thins a label store to a pool, re-encodes it, or both, without touching the old one. Kept ids are a pure function
// of numbers unless a metric ranks the records; so pruning a full store gives byte for byte the store that relabel makes
// with the same ratio.
// Source: LPLD; methods 5.2. Metrics: 5.4, with definitions of our own (prune-metric.ts).

import { z } from 'zod';
import { expected, LpldError } from '../errors.ts';
import { type LabelRecords, LabelStore, LabelWriter, type StoredPlan } from '../labels.ts';
import { type LabelPlan, labelPlan, planRows } from '../plan.ts';
import { planFor, planOfStore, pruneKeepOption, pruneRatioOption, storedPlan } from './label-plan.ts';
import { poolOf } from './pool.ts';
import { METRICS, needsClasses, rankByMetric } from './prune-metric.ts';
import { checkRecode, recoderOf, segmentLimit } from './recode.ts';
import { inSegments, throwIfCancelled } from './shared.ts';
import type { Stage, StageContext } from './types.ts';

export const pruneOptions = z.strictObject({
  pruneRatio: pruneRatioOption,
  keep: pruneKeepOption,
  metric: z
    .enum(METRICS)
    .default('confidence')
    .describe('what keep metric ranks records by, a mean over their rows; definitions are ours, see label-format.md'),
  end: z
    .enum(['easy', 'hard'])
    .default('easy')
    .describe('which end of the ranking keep metric keeps; easy: high scores, for cut_ratio low ones'),
  codec: z
    .string()
    .nullable()
    .default(null)
    .describe('re-encode the labels with this codec; none keeps them as they are stored'),
  fitRecords: z.int().min(1).default(64).describe('kept records a codec that learns is fitted to, where codec is set'),
});
type PruneConfig = z.infer<typeof pruneOptions>;

const byMetric = (o: PruneConfig): boolean => o.keep === 'metric' && o.pruneRatio > 0;

/** The plan of the new store, all records of the old one or those that survive, and what labels.json says of it. */
async function planOf(context: StageContext, store: LabelStore): Promise<{ plan: LabelPlan; stored: StoredPlan }> {
  const o = context.config.prune;
  const made = storedPlan(store);
  if (made.pruneRatio !== 0) {
    if (o.pruneRatio === 0) return { plan: planOfStore(store), stored: store.index.plan };
    throw new LpldError(
      'E_MISMATCH',
      expected(
        'labels that were not pruned before',
        'labels',
        `a store pruned with ratio ${made.pruneRatio}`,
        'prune the full store, or relabel with this ratio; ratio 0 only re-encodes',
      ),
    );
  }
  const { fullRecords } = planOfStore(store); // before anything is made of that length: the plan may be a stranger's
  if (fullRecords !== store.numRecords)
    throw new LpldError('E_DATA', expected(`all ${fullRecords} records of its plan`, 'labels', store.numRecords), {
      path: store.artifact.dir,
    });
  const ranking = byMetric(o) ? { ranking: await rankByMetric(context, poolOf(store), o) } : {};
  const rule = o.keep === 'metric' && !byMetric(o) ? 'prefix' : o.keep; // ratio 0 keeps all, and asks nobody
  const plan = labelPlan({ ...made, pruneRatio: o.pruneRatio, keep: rule, seed: BigInt(store.index.seed), ...ranking });
  const { images, batch, epochs, pruneRatio, dropLast, keep } = plan;
  const by = keep === 'metric' ? { metric: o.metric, end: o.end } : {};
  return { plan, stored: { images, batch, epochs, pruneRatio, dropLast, keep, ...by } };
}

/** Reads records of a store by id, all of which it holds. */
function readerOf(store: LabelStore): (recordIds: Int32Array) => Promise<LabelRecords> {
  const position = new Map(Array.from(store.recordIds, (id, i) => [id, i]));
  return (recordIds) => store.readRecords(recordIds.map((id) => position.get(id)!));
}

export const prune: Stage = {
  name: 'prune',
  version: 3,
  summary: 'keep a part of the labels, the pool students draw from, or store them with another codec',
  examples: [
    ['the part of the labels that the config keeps', 'prune --config quickstart --labels d/labels --out d/pool'],
    [
      'all of them, in fewer bytes',
      'prune --config quickstart --labels d/labels --prune-ratio 0 --codec dense:int8 --out d/int8',
    ],
  ],
  inputs: ['labels', 'images'],
  options: pruneOptions,
  needs: ({ prune: o }) => ({
    roles: byMetric(o) && needsClasses(o.metric) ? ['labels', 'images'] : ['labels'],
    dataset: false,
  }),
  identity: ({ prune: { pruneRatio, keep, metric, end, codec, fitRecords } }) => ({
    prune: {
      pruneRatio,
      keep,
      ...(keep === 'metric' ? { metric, end } : {}),
      ...(codec === null ? {} : { codec, fitRecords }),
    },
  }),
  precision: () => 'fp32',
  estimate(config, { classes }) {
    const rows = classes * config.synthesize.ipc * config.relabel.epochs * (1 - config.prune.pruneRatio);
    return { bytes: rows * 2 * classes, seconds: 1 };
  },

  foresee({ prune: { pruneRatio, keep }, relabel, synthesize: { ipc, classes }, seed }, { classNames }) {
    if (relabel.pruneRatio > 0) return; // made pruned, and only re-encoded here
    const counted = keep === 'metric' ? 'prefix' : keep; // as many records
    planFor({ ...relabel, pruneRatio, keep: counted }, ipc * (classes ?? classNames).length, BigInt(seed));
  },

  check({ prune: { codec }, relabel }, native) {
    if (codec !== null && codec !== relabel.codec) checkRecode(native, codec);
  },

  async run(context) {
    const { config, inputs, draft, progress, runtime } = context;
    await using store = await LabelStore.open(inputs.labels!);
    const codec = config.prune.codec ?? store.index.codec;
    const recode = codec === store.index.codec ? null : recoderOf(context, poolOf(store), codec);
    const { plan, stored } = await planOf(context, store);
    const { format: _, shards: __, ...header } = store.index;
    const writer = await LabelWriter.open(draft, { ...header, codec, plan: stored });
    const read = readerOf(store);
    const saved = await writer.readBasis();
    const basis = saved ?? (recode === null ? store.basis : await recode.fit(read, plan.recordIds));
    if (saved === null) await writer.writeBasis(basis);
    const wanted = writer.remaining(plan.recordIds);
    const kept = plan.recordIds.length;
    const offset = kept - wanted.length;
    progress.start(kept, 'record', `keep ${kept} of ${plan.fullRecords}${recode === null ? '' : ` as ${codec}`}`);
    progress.update(offset);
    await inSegments({
      first: 0,
      total: wanted.length,
      limit: segmentLimit(store.index),
      saveSeconds: Number.POSITIVE_INFINITY, // shards are the saved state
      async run(first, last) {
        throwIfCancelled(runtime.signal);
        const records = await read(wanted.slice(first, last));
        await writer.append(recode === null ? records : await recode.encode(records, basis));
        progress.update(offset + last);
        return last;
      },
      save: async () => {},
    });
    await writer.finish();
    progress.finish();
    return { records: kept, rows: planRows(plan).kept, codec, recipes: store.index.recipes };
  },
};
