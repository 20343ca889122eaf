// The pool a student learns from: a label store checked against its images, or, for hard targets, the same Recipes
// without a store; which of its records each step reads, and what those records say.
// Source: methods 5.3 (how an epoch is drawn), 4.5 (replay).

import type { Dataset } from '../datasets/types.ts';
import { fixedScale } from '../draw.ts';
import { expected, LpldError } from '../errors.ts';
import { LABELS_FILE } from '../label-format.ts';
import { type LabelRecords, LabelStore } from '../labels.ts';
import type { Recipes, TrainTarget } from '../native.ts';
import { type Draw, type LabelPlan, poolDraws, recordBatches } from '../plan.ts';
import { drawRecipes, type ImageSizes, LABEL_STREAMS } from '../recipe.ts';
import type { Seed } from '../rng.ts';
import { arrayOf } from '../tensor.ts';
import { codeOf } from './codec-fit.ts';
import { ofFile, planFor, planOfStore, STREAM_VERSION, storedPlan } from './label-plan.ts';
import { type AugmentConfig, augmentSpec, augmentTable } from './training.ts';
import type { StageContext } from './types.ts';

export interface Pool {
  readonly plan: LabelPlan;
  readonly seed: bigint; // of the Recipes
  readonly augment: AugmentConfig;
  readonly labels: LabelStore | null; // null for hard targets
}

/**
 * The pool that a label store holds.
 * @throws {LpldError} E_MISMATCH for derived Recipes of other streams than this version draws, E_DATA for unknown augmentation and
 *   a plan without these records
 */
export function poolOf(labels: LabelStore): Pool {
  const { seed, streamVersion, augment } = labels.index;
  if (streamVersion !== STREAM_VERSION && labels.index.recipes === 'derived')
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `Recipe streams of version ${STREAM_VERSION}`,
        'labels',
        streamVersion,
        'read them with the version that made them',
      ),
    );
  const drawn = augmentTable.safeParse(augment);
  if (!drawn.success)
    throw new LpldError('E_DATA', expected('cropScale, flip, cutout and mix', 'augment', JSON.stringify(augment)), {
      path: labels.artifact.path(LABELS_FILE),
    });
  const { cropScale } = drawn.data;
  if (cropScale !== null) ofFile(labels, () => fixedScale(cropScale));
  return { plan: planOfStore(labels), seed: BigInt(seed), augment: drawn.data, labels };
}

/** The label pool, checked against the images it was made from. */
export async function openPool(
  { inputs, config }: StageContext,
  set: Pick<Dataset, 'train' | 'classNames'>,
): Promise<Pool> {
  const artifact = inputs.labels!;
  const labels = await LabelStore.open(artifact);
  const made = storedPlan(labels);
  const want = { images: set.train.count, classes: set.classNames.length, size: config.dataset.inputSize };
  const have = { images: made.images, classes: labels.index.numClasses, size: labels.index.inputSize };
  const shown = ({ images, classes, size }: typeof want) =>
    `labels of ${images} images of ${classes} classes seen at ${size} px`;
  if (shown(want) !== shown(have))
    throw new LpldError(
      'E_MISMATCH',
      expected(
        shown(want),
        'labels',
        shown(have),
        'give the images and the dataset.inputSize these labels were made with',
      ),
      {
        path: artifact.dir,
      },
    );
  return poolOf(labels);
}

/** Hard labels need no store: the same Recipes in order, nothing pruned. */
export function hardPool({ config }: StageContext, count: number): Pool {
  const seed = BigInt(config.seed);
  return {
    plan: planFor({ ...config.relabel, pruneRatio: 0 }, count, seed),
    seed,
    augment: config.relabel,
    labels: null,
  };
}

/**
 * The positions in the pool that steps [first, last) read.
 *
 * @param options.draw - auto: ordered for a pool that holds every record, else with-replacement (the published method)
 * @returns I32 [last - first]; equal to the same steps of any longer range
 */
export function poolPositions(
  { plan }: Pool,
  options: {
    readonly seed: Seed;
    readonly draw: Draw | 'auto';
    readonly lastBatchRule: boolean;
    readonly first: number;
    readonly last: number;
  },
): Int32Array {
  const { seed, lastBatchRule, first, last } = options;
  const whole = plan.recordIds.length >= plan.fullRecords;
  const draw = options.draw === 'auto' ? (whole ? 'ordered' : 'with-replacement') : options.draw;
  const { batchesPerEpoch } = plan;
  const out = new Int32Array(last - first);
  for (let epoch = Math.floor(first / batchesPerEpoch); epoch * batchesPerEpoch < last; epoch++)
    for (const [at, position] of poolDraws({ plan, epoch, draw, seed, batchesPerEpoch, lastBatchRule }).entries()) {
      const step = epoch * batchesPerEpoch + at;
      if (step >= first && step < last) out[step - first] = position;
    }
  return out;
}

/**
 * The Recipes of some records as codecs and metrics read them: images, partners, shares and boxes. Where they are derived
 * they are drawn without crops, which alone depend on the sizes of images.
 */
export function codingRecipes(pool: Pool, { recipes, recordIds }: LabelRecords): Recipes {
  if (recipes !== null) return recipes;
  return drawRecipes(recordBatches(pool.plan, pool.seed, recordIds), {
    seed: pool.seed,
    augment: { ...augmentSpec(pool.augment), crop: null },
    sizes: () => [1, 1],
    inputSize: pool.labels!.index.inputSize,
    purposes: LABEL_STREAMS,
  });
}

/** The images of some pool positions, in batch order. Stored Recipes are read with their labels: only streaming asks. */
export async function imagesOfPool(pool: Pool, chosen: Int32Array): Promise<Int32Array[]> {
  if (pool.labels !== null && pool.labels.index.recipes === 'explicit') {
    const { offset, recipes } = await pool.labels.readRecords(chosen);
    const [ends, index] = [arrayOf(offset, 'I32'), arrayOf(recipes!.index, 'I32')];
    return Array.from(chosen, (_, i) => index.slice(ends[i]!, ends[i + 1]!));
  }
  const ids = pool.labels?.recordIds ?? pool.plan.recordIds;
  return recordBatches(
    pool.plan,
    pool.seed,
    chosen.map((position) => ids[position]!),
  ).map(({ indices }) => indices);
}

/** The Recipes and targets of some pool positions. */
export async function readPool(
  pool: Pool,
  chosen: Int32Array,
  o: {
    readonly sizes: ImageSizes;
    readonly inputSize: number;
    readonly temperature: number;
    readonly teacherTemperature: number;
    readonly temperatureSquared: boolean;
  },
): Promise<{ recipes: Recipes; target: TrainTarget }> {
  const derive = (ids: Int32Array) =>
    drawRecipes(recordBatches(pool.plan, pool.seed, ids), {
      seed: pool.seed,
      augment: augmentSpec(pool.augment),
      sizes: o.sizes,
      inputSize: o.inputSize,
      purposes: LABEL_STREAMS,
    });
  if (pool.labels === null) {
    const ids = chosen.map((position) => pool.plan.recordIds[position]!);
    return { recipes: derive(ids), target: { kind: 'hard', smoothing: 0 } };
  }
  const records = await pool.labels.readRecords(chosen, o.sizes);
  const recipes = records.recipes ?? derive(records.recordIds);
  const target: TrainTarget = {
    kind: 'soft',
    ...codeOf(pool.labels.index.codec, pool.labels.basis, records.recordIds, BigInt(pool.labels.index.seed), recipes),
    tensors: records.tensors,
    blobs: records.blobs,
    temperature: o.temperature,
    teacherTemperature: o.teacherTemperature,
    lossScale: o.temperatureSquared ? o.temperature ** 2 : 1,
  };
  return { recipes, target };
}
