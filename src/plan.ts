// Which label records exist, which images each holds, and which record every student step reads: pure functions of
// numbers and the seed. A record is named epoch * batchesPerEpoch + batch before any label is made.
// Invariant: but for a metric, the kept ids depend on the plan alone, so pruning before labelling and pruning after it keep
// the same pool.
// Source: LPLD relabel_and_validate (generate_soft_label_pruning.py, utils_pruning.py); pool sizes: test/plan.test.ts.

import { expected, LpldError } from './errors.ts';
import { epochOrder, LABEL_STREAMS, type RecipeBatch } from './recipe.ts';
import { integers, Purpose, permutation, type Seed } from './rng.ts';

export type Keep = 'prefix' | 'random-epochs' | 'random-batches' | 'metric';
export type Draw = 'with-replacement' | 'permutation' | 'ordered' | 'whole-epochs';

export interface LabelPlanOptions {
  readonly images: number; // N
  readonly batch: number; // B
  readonly epochs: number; // E label epochs
  readonly pruneRatio: number; // share thrown away, in [0, 1)
  /** Leave out the short last batch of every epoch. */
  readonly dropLast: boolean;
  /** The first records; whole label epochs chosen at random; records chosen at random; those a metric ranks first. */
  readonly keep: Keep;
  readonly seed: Seed;
  /** For 'metric': all record ids of the plan, those to keep first. */
  readonly ranking?: Int32Array;
}

export interface LabelPlan {
  readonly images: number;
  readonly batch: number;
  readonly epochs: number;
  readonly pruneRatio: number;
  readonly dropLast: boolean;
  readonly keep: Keep;
  readonly batchesPerEpoch: number; // nb
  readonly fullRecords: number; // E * nb
  readonly recordIds: Int32Array; // kept, ascending
}

function requireCount(value: number, name: string, least: number): void {
  if (!(Number.isInteger(value) && value >= least))
    throw new LpldError('E_CONFIG', expected(`an integer of at least ${least}`, name, value), { key: name });
}

/**
 * Record ids in the order of their scores, ties by rising id: a ranking for keep 'metric'.
 * @param scores - finite, one per record of the full plan
 */
export function rankRecords(scores: Float64Array, largestFirst: boolean): Int32Array {
  const sign = largestFirst ? -1 : 1;
  const ids = Int32Array.from(scores.keys());
  return ids.sort((a, b) => sign * Math.sign(scores[a]! - scores[b]!) || a - b);
}

/** Ids 0 .. n-1 a permutation puts first, ascending. */
function chosen(seed: Seed, n: number, count: number): Int32Array {
  return permutation(seed, Purpose.keep, 0, 0, n).slice(0, count).sort();
}

function rankedFirst(ranking: Int32Array | undefined, records: number, kept: number): Int32Array {
  if (ranking?.length !== records)
    throw new LpldError('E_INTERNAL', expected(`a ranking of ${records} records`, 'labelPlan', ranking?.length));
  return ranking.slice(0, kept).sort();
}

/**
 * The counts of a plan, without the list of its records: what a store of any size can be asked at once.
 * @throws {LpldError} E_CONFIG for counts below one, a ratio outside [0, 1), no full batch, an empty pool
 */
export function planCounts(options: Omit<LabelPlanOptions, 'seed'>): Omit<LabelPlan, 'recordIds'> & { kept: number } {
  const { images, batch, epochs, pruneRatio, dropLast, keep } = options;
  requireCount(images, 'images', 1);
  requireCount(batch, 'batch', 1);
  requireCount(epochs, 'epochs', 1);
  if (!(pruneRatio >= 0 && pruneRatio < 1))
    throw new LpldError('E_CONFIG', expected('a share in [0, 1)', 'pruneRatio', pruneRatio), { key: 'pruneRatio' });
  const batchesPerEpoch = dropLast ? Math.floor(images / batch) : Math.ceil(images / batch);
  if (batchesPerEpoch === 0)
    throw new LpldError('E_CONFIG', expected(`at most ${images} images`, 'batch', batch, 'or set dropLast to false'));
  const fullRecords = epochs * batchesPerEpoch;
  if (fullRecords >= 2 ** 31) throw new LpldError('E_CONFIG', expected('fewer than 2^31 records', 'epochs', epochs));
  const whole = keep === 'random-epochs';
  const kept = Math.floor((1 - pruneRatio) * (whole ? epochs : fullRecords));
  if (kept === 0)
    throw new LpldError(
      'E_CONFIG',
      expected(
        `a ratio that leaves one ${whole ? 'epoch' : 'record'}`,
        'pruneRatio',
        pruneRatio,
        whole
          ? `there are ${epochs} label epochs: lower it, or raise relabel.epochs`
          : `${epochs} label epochs of ${batchesPerEpoch} batches are ${fullRecords} records: lower it, raise relabel.epochs, or lower relabel.batch`,
      ),
      { key: 'pruneRatio', epochs, batchesPerEpoch },
    );
  return { images, batch, epochs, pruneRatio, dropLast, keep, batchesPerEpoch, fullRecords, kept };
}

/**
 * Decides which label records will exist.
 *
 * The pool holds floor((1 - pruneRatio) * (E * nb)) records, in double arithmetic as the published code computes it
 * ((1 - 0.9) * 23400 gives 2339). keep 'random-epochs' holds floor((1 - pruneRatio) * E) whole epochs instead. Random
 * choices are nested: a higher ratio keeps a subset.
 *
 * QUIRK(drop-last): upstream keeps the short batch at 1x and drops it when pruning; changed: dropLast alone decides.
 * QUIRK(extra-epoch): upstream writes one label epoch too many at 1x and at exact multiples; changed: only what is kept.
 *
 * @throws {LpldError} E_CONFIG for counts below one, a ratio outside [0, 1), no full batch, an empty pool
 * @source LPLD generate_soft_label_pruning.py and train_FKD_label_pruning_batch.py (pool sizes)
 */
export function labelPlan(options: LabelPlanOptions): LabelPlan {
  const { keep, seed, epochs } = options;
  const { kept, ...counts } = planCounts(options);
  const { batchesPerEpoch, fullRecords } = counts;
  let recordIds: Int32Array;
  if (keep === 'prefix') recordIds = Int32Array.from({ length: kept }, (_, id) => id);
  else if (keep === 'random-batches') recordIds = chosen(seed, fullRecords, kept);
  else if (keep === 'metric') recordIds = rankedFirst(options.ranking, fullRecords, kept);
  else {
    const keptEpochs = chosen(seed, epochs, kept);
    const first = (i: number) => keptEpochs[Math.floor(i / batchesPerEpoch)]! * batchesPerEpoch;
    recordIds = Int32Array.from({ length: kept * batchesPerEpoch }, (_, i) => first(i) + (i % batchesPerEpoch));
  }
  return { ...counts, recordIds };
}

/** Label rows (images) of one record: B, or the remainder in the last batch of an epoch when it is kept. */
export function recordRows(plan: LabelPlan, recordId: number): number {
  return Math.min(plan.batch, plan.images - (recordId % plan.batchesPerEpoch) * plan.batch);
}

/** Label rows of all kept records and of the unpruned store of the same plan. Their ratio is the pruning factor. */
export function planRows(plan: LabelPlan): { readonly kept: number; readonly full: number } {
  let kept = 0;
  for (const id of plan.recordIds) kept += recordRows(plan, id);
  return { kept, full: plan.epochs * Math.min(plan.images, plan.batchesPerEpoch * plan.batch) };
}

/**
 * The batches of some records, ready for drawRecipes: record r holds images order[b B .. (b + 1) B) of label epoch
 * floor(r / nb), b = r mod nb, and its draws are keyed by that epoch and batch.
 *
 * @param recordIds - ids of the full plan, in any order, repeats allowed
 * @returns one batch per id, in the order of recordIds
 * @throws {LpldError} E_INTERNAL for an id outside [0, fullRecords)
 */
export function recordBatches(plan: LabelPlan, seed: Seed, recordIds: ArrayLike<number>): RecipeBatch[] {
  const { images, batchesPerEpoch, fullRecords } = plan;
  const byEpoch = new Map<number, number[]>(); // one permutation per epoch met, and only one alive at a time
  for (let at = 0; at < recordIds.length; at++) {
    const id = recordIds[at]!;
    if (!(Number.isInteger(id) && id >= 0 && id < fullRecords))
      throw new LpldError('E_INTERNAL', expected(`an id in [0, ${fullRecords})`, 'record', id));
    const epoch = Math.floor(id / batchesPerEpoch);
    const positions = byEpoch.get(epoch);
    if (positions === undefined) byEpoch.set(epoch, [at]);
    else positions.push(at);
  }
  const out = new Array<RecipeBatch>(recordIds.length);
  for (const [epoch, positions] of byEpoch) {
    const order = epochOrder(seed, LABEL_STREAMS.order, epoch, images);
    for (const at of positions) {
      const id = recordIds[at]!;
      const batch = id % batchesPerEpoch;
      const first = batch * plan.batch;
      out[at] = { indices: order.slice(first, first + recordRows(plan, id)), view: epoch, batch, epoch };
    }
  }
  return out;
}

export interface PoolDrawOptions {
  readonly plan: LabelPlan;
  readonly epoch: number; // student epoch, u32
  readonly draw: Draw;
  readonly seed: Seed;
  readonly batchesPerEpoch: number; // steps of a student epoch
  /** Read by 'with-replacement' only: never train on the last batch of a label epoch. */
  readonly lastBatchRule: boolean;
}

/**
 * The records of one student epoch.
 *
 * with-replacement: independent uniform draws. permutation: the pool in random order, again and again in new orders
 * while it is shorter than the epoch. ordered: consecutive records from epoch * batchesPerEpoch on, wrapping, so that a
 * full pool replays label epoch e at student epoch e. whole-epochs: one label epoch of those the pool holds whole, drawn
 * uniformly and replayed in its order. Philox purpose 21, object = student epoch.
 *
 * @returns positions in plan.recordIds, I32 [batchesPerEpoch]
 * @throws {LpldError} E_CONFIG for less than one step, or whole-epochs where the pool holds none
 * @source LPLD train_FKD_label_pruning_batch.py, granularity batch_to_epoch, metric random; whole-epochs: granularity
 *   epoch (methods 5.3); permutation: LPQLD
 */
export function poolDraws(options: PoolDrawOptions): Int32Array {
  const { plan, epoch, draw, seed, batchesPerEpoch: steps } = options;
  requireCount(steps, 'batchesPerEpoch', 1);
  const pool = plan.recordIds.length;
  if (draw === 'ordered') return Int32Array.from({ length: steps }, (_, i) => (epoch * steps + i) % pool);
  if (draw === 'permutation') {
    const out = new Int32Array(steps);
    for (let pass = 0; pass * pool < steps; pass++) {
      const order = permutation(seed, Purpose.poolDraw, epoch, pass, pool);
      out.set(order.subarray(0, Math.min(pool, steps - pass * pool)), pass * pool);
    }
    return out;
  }
  if (draw === 'whole-epochs') {
    const starts = wholeEpochs(plan);
    const first = starts[integers(seed, Purpose.poolDraw, epoch, 0, 1, starts.length)[0]!]!;
    return Int32Array.from({ length: steps }, (_, i) => first + (i % plan.batchesPerEpoch));
  }
  const draws = integers(seed, Purpose.poolDraw, epoch, 0, steps, pool);
  return options.lastBatchRule ? draws.map((position) => earlierFullBatch(plan, position)) : draws;
}

/** Positions at which label epochs begin that the pool holds whole. */
function wholeEpochs({ recordIds, batchesPerEpoch }: LabelPlan): number[] {
  const starts: number[] = [];
  for (const [at, id] of recordIds.entries())
    if (id % batchesPerEpoch === 0 && recordIds[at + batchesPerEpoch - 1] === id + batchesPerEpoch - 1) starts.push(at);
  if (starts.length === 0)
    throw new LpldError(
      'E_CONFIG',
      expected(
        'a pool with a whole label epoch',
        'draw whole-epochs',
        'none',
        'keep prefix or random-epochs, or draw otherwise',
      ),
      { key: 'train.draw' },
    );
  return starts;
}

/**
 * QUIRK(full-batches): a drawn last batch of a label epoch is replaced by the record before it, even where dropLast made
 * all batches full; kept because it is the published method. Where the record before was not kept, the nearest earlier
 * one that is no last batch stands in, else the nearest later one; a pool of last batches only stays as drawn.
 */
function earlierFullBatch({ recordIds, batchesPerEpoch }: LabelPlan, position: number): number {
  const last = (at: number) => (recordIds[at]! + 1) % batchesPerEpoch === 0;
  let at = position;
  while (at >= 0 && last(at)) at--;
  if (at >= 0) return at;
  at = position;
  while (at < recordIds.length && last(at)) at++;
  return at < recordIds.length ? at : position;
}
