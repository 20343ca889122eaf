// Scores of records by which `prune.keep: metric` ranks them: means over a record's rows of what the teacher said of them.
// The metrics are those the LPLD paper names; it defines none of them, so the definitions are ours (docs/label-format.md).
// Invariant: scores depend on the store and its images alone, and are saved, so that a resume keeps the same records.
// Source: methods/lpld-sre2l-cda.md 5.4.

import { openSyntheticSet } from '../datasets/synthetic-set.ts';
import type { LabelRecords } from '../labels.ts';
import type { Recipes } from '../native.ts';
import { rankRecords } from '../plan.ts';
import { arrayOf, type TensorView, tensor } from '../tensor.ts';
import { codingRecipes, type Pool } from './pool.ts';
import { decodeRecords, segmentLimit } from './recode.ts';
import { inSegments, savedState, throwIfCancelled } from './shared.ts';
import type { StageContext } from './types.ts';

export const METRICS = ['confidence', 'diff', 'diff_signed', 'correct', 'cut_ratio'] as const;
export type Metric = (typeof METRICS)[number];

/** Whether a metric compares with the class of each image, and so needs the images. */
export const needsClasses = (metric: Metric): boolean => metric === 'diff_signed' || metric === 'correct';

const STATE = 'scores';

/**
 * The mean share of the partner in each record: box area / P^2 for CutMix, the partner's weight for mixup, 0 without mix.
 * @returns F64 [S]
 */
export function cutRatios(recipes: Recipes, inputSize: number): Float64Array {
  const offset = arrayOf(recipes.offset, 'I32');
  const kind = arrayOf(recipes.mixKind, 'U8');
  const box = arrayOf(recipes.mixBox, 'I32');
  const lambda = arrayOf(recipes.lambda, 'F32');
  const area = inputSize * inputSize;
  const covered = (row: number): number => {
    if (kind[row] === 1) return box[4 * row + 2]! * box[4 * row + 3]!;
    return kind[row] === 2 ? (1 - lambda[row]!) * area : 0;
  };
  return Float64Array.from({ length: offset.length - 1 }, (_, record) => {
    let sum = 0; // px of all rows, exact for boxes
    for (let row = offset[record]!; row < offset[record + 1]!; row++) sum += covered(row);
    return sum / (area * (offset[record + 1]! - offset[record]!));
  });
}

/** The class of each row's own image. */
function classesOf(recipes: Recipes, classes: Int32Array): TensorView {
  const own = arrayOf(recipes.index, 'I32').map((image) => classes[image] ?? -1);
  return tensor('I32', [own.length], own);
}

async function scoresOf(
  context: StageContext,
  pool: Pool,
  records: LabelRecords,
  metric: Metric,
  classes: Int32Array | null,
): Promise<Float64Array> {
  const recipes = codingRecipes(pool, records);
  if (metric === 'cut_ratio') return cutRatios(recipes, pool.labels!.index.inputSize);
  const logits = await decodeRecords(context, pool, records);
  const own = classes === null ? null : classesOf(recipes, classes);
  const of = context.native.ops.labelMetrics(logits, own, records.offset);
  const view = { confidence: of.confidence, diff: of.diff, diff_signed: of.diffSigned, correct: of.correct }[metric];
  return arrayOf(view!, 'F64');
}

/**
 * All record ids of a full store, those to keep first at the front; ties by rising id.
 * @param options.end - easy: high scores first, for cut_ratio low ones
 */
export async function rankByMetric(
  context: StageContext,
  pool: Pool,
  options: { readonly metric: Metric; readonly end: 'easy' | 'hard' },
): Promise<Int32Array> {
  const { metric, end } = options;
  const { inputs, draft, progress, runtime } = context;
  const store = pool.labels!;
  const records = store.numRecords;
  const classes = needsClasses(metric) ? (await openSyntheticSet(inputs.images!.dir)).train.labels : null;
  const scores = new Float64Array(records);
  const saved = await savedState<{ done: number }>(draft, STATE);
  if (saved !== null) scores.set(arrayOf(saved.tensors.scores!, 'F64'));
  const save = (done: number) => draft.saveState(STATE, { scores: tensor('F64', [records], scores) }, { done });
  const first = saved?.json.done ?? 0;
  progress.start(records, 'record', `${metric} of every record`);
  progress.update(first);
  await inSegments({
    first,
    total: records,
    limit: segmentLimit(store.index),
    saveSeconds: runtime.saveSeconds,
    async run(from, to) {
      throwIfCancelled(runtime.signal);
      const chosen = Int32Array.from({ length: to - from }, (_, i) => from + i);
      scores.set(await scoresOf(context, pool, await store.readRecords(chosen), metric, classes), from);
      progress.update(to);
      return to;
    },
    save,
  });
  if (first < records) await save(records);
  return rankRecords(scores, (end === 'easy') === (metric !== 'cut_ratio'));
}
