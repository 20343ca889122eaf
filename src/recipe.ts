// Recipes: the recorded randomness of batches as rows, and the ways to draw, cut and join them. With draw.ts the only
// place where augmentation is decided.
// Invariant: a Recipe drawn again, alone or among others, is the same Recipe, and the student that replays it sees the
// pixels the teacher labelled.
// Source: replay of FKD and LPLD (relabel_and_validate); rules and vectors: docs/streams.md.

import { cutoutInto } from './cutout.ts';
import { checkSize, cropInto, drawCutMix, fixedScale, flipOf, type Scale } from './draw.ts';
import { expected, LpldError } from './errors.ts';
import { drawMixup } from './mixup.ts';
import type { Recipes } from './native.ts';
import { keyOf, Purpose, permutation, type Seed } from './rng.ts';
import { arrayOf, DTYPE_BYTES, type TensorView, tensor } from './tensor.ts';

export { cutoutBox, drawCutout } from './cutout.ts';
export type { Box, Scale, SynthesisDrawOptions, SynthesisDraws } from './draw.ts';
export { cutMixBox, drawCrop, drawCutMix, drawFlip, drawSynthesis } from './draw.ts';
export { drawMixup } from './mixup.ts';

/** What is drawn for each image of a batch. `crop: null` takes whole images. */
export interface AugmentSpec {
  readonly crop: { readonly scale: Scale } | null;
  readonly flip: boolean;
  readonly cutout: number; // side of the square as a share of P, in [0, 1]; 0 for none
  readonly mix: 'none' | 'cutmix' | 'mixup';
}

/** One batch to draw. `view` numbers the crops, flips and cutouts of its images, (batch, epoch) its mix and partners. */
export interface RecipeBatch {
  readonly indices: Int32Array; // images of the store, in batch order
  readonly view: number;
  readonly batch: number;
  readonly epoch: number;
}

/** Height and width of stored images: a function of the index, or I32 [N, 2] as ImageStore.sizes() gives them. */
export type ImageSizes = Int32Array | ((index: number) => readonly [height: number, width: number]);

export interface RecipeOptions {
  readonly seed: Seed;
  readonly augment: AugmentSpec;
  readonly sizes: ImageSizes;
  readonly inputSize: number; // P, px
  readonly purposes: { readonly crop: Purpose; readonly flip: Purpose; readonly cutout: Purpose };
}

/** Streams of label epochs and of teacher training, for RecipeOptions.purposes and epochOrder. */
export const LABEL_STREAMS = {
  order: Purpose.labelOrder,
  crop: Purpose.labelCrop,
  flip: Purpose.labelFlip,
  cutout: Purpose.labelCutout,
} as const;
export const TRAIN_STREAMS = {
  order: Purpose.trainOrder,
  crop: Purpose.trainCrop,
  flip: Purpose.trainFlip,
  cutout: Purpose.trainCutout,
} as const;

/**
 * Image order of an epoch: I32 [n], a permutation; object 0, view = epoch.
 *
 * QUIRK(every-second-order): upstream's sampler draws two permutations an epoch and uses one; changed: our own streams.
 */
export function epochOrder(seed: Seed, purpose: Purpose, epoch: number, n: number): Int32Array {
  return permutation(seed, purpose, 0, epoch, n);
}

/** Offsets of consecutive batches, I32 [S+1]. */
function offsets(lengths: readonly number[]): Int32Array {
  const out = new Int32Array(lengths.length + 1);
  for (const [s, length] of lengths.entries()) out[s + 1] = out[s]! + length;
  return out;
}

function sizeReader(sizes: ImageSizes): (index: number) => readonly [number, number] {
  return (index) => {
    const size = sizes instanceof Int32Array ? [sizes[2 * index], sizes[2 * index + 1]] : sizes(index);
    if (index < 0 || size[0] === undefined || size[1] === undefined)
      throw new LpldError('E_MISMATCH', expected('an image of the store', 'recipe index', index));
    checkSize(size[0], size[1], `image ${index}`);
    return [size[0], size[1]];
  };
}

/**
 * Draws the Recipes of some batches, rows concatenated in the order given.
 *
 * @param batches - each with at least one image
 * @param options.purposes - streams of crops, flips and cutouts; mixing always uses purposes 4 (CutMix box), 9 (mixup
 *   lambda) and 5 (partners)
 * @returns Recipes of native.ts; lambda is 1 - box area / P^2 after clipping for CutMix, the weight of the own image for
 *   mixup, 1 without mix
 * @throws {LpldError} E_CONFIG for an impossible scale, E_MISMATCH for an index outside the store, E_DATA for its size
 */
export function drawRecipes(batches: readonly RecipeBatch[], options: RecipeOptions): Recipes {
  const { seed, augment, inputSize, purposes } = options;
  const key = keyOf(seed);
  const sizeOf = sizeReader(options.sizes);
  const scale = augment.crop === null ? null : fixedScale(augment.crop.scale);
  const offset = offsets(batches.map((b) => b.indices.length));
  const rows = offset[batches.length]!;
  const index = new Int32Array(rows);
  const crop = new Int32Array(4 * rows);
  const flip = new Uint8Array(rows);
  const cutout = new Int32Array(4 * rows);
  const cutoutColor = new Uint8Array(3 * rows);
  const mixKind = new Uint8Array(rows);
  const mixIndex = new Int32Array(rows);
  const mixBox = new Int32Array(4 * rows);
  const lambda = new Float32Array(rows).fill(1);
  for (const [s, { indices, view, batch, epoch }] of batches.entries()) {
    const first = offset[s]!;
    const n = indices.length;
    if (n === 0)
      throw new LpldError('E_INTERNAL', expected('at least one image', `batch ${batch} of epoch ${epoch}`, 0));
    index.set(indices, first);
    for (let i = 0; i < n; i++) {
      const row = first + i;
      const image = indices[i]!;
      const [height, width] = sizeOf(image);
      if (scale === null) crop.set([0, 0, height, width], 4 * row);
      else cropInto(key, purposes.crop, image, view, height, width, scale, crop, 4 * row);
      if (augment.flip) flip[row] = flipOf(key, purposes.flip, image, view);
      if (augment.cutout > 0)
        cutoutInto(key, purposes.cutout, image, view, inputSize, augment.cutout, cutout, cutoutColor, row);
      mixIndex[row] = i;
    }
    if (augment.mix === 'none') continue;
    mixKind.fill(augment.mix === 'cutmix' ? 1 : 2, first, first + n);
    mixIndex.set(permutation(seed, Purpose.mixPartner, batch, epoch, n), first);
    if (augment.mix === 'mixup') {
      lambda.fill(drawMixup(seed, batch, epoch), first, first + n);
      continue;
    }
    const { box } = drawCutMix(seed, batch, epoch, inputSize);
    lambda.fill(1 - (box[2] * box[3]) / (inputSize * inputSize), first, first + n);
    for (let row = first; row < first + n; row++) mixBox.set(box, 4 * row);
  }
  return {
    offset: tensor('I32', [batches.length + 1], offset),
    index: tensor('I32', [rows], index),
    crop: tensor('I32', [rows, 4], crop),
    flip: tensor('U8', [rows], flip),
    cutout: tensor('I32', [rows, 4], cutout),
    cutoutColor: tensor('U8', [rows, 3], cutoutColor),
    mixKind: tensor('U8', [rows], mixKind),
    mixIndex: tensor('I32', [rows], mixIndex),
    mixBox: tensor('I32', [rows, 4], mixBox),
    lambda: tensor('F32', [rows], lambda),
  };
}

/** Which part of an image is evaluated: all of it, or a central square of `center` (in (0, 1]) times its shorter side. */
export type EvaluationCrop = 'whole' | { readonly center: number };

/**
 * Recipes that show every image once, in order, without flip, cutout or mix.
 *
 * @param count - images, N
 * @param batchSize - B; the last batch may be shorter
 * @returns Recipes of ceil(N / B) batches; crops in px of the stored image
 */
export function evaluationRecipes(
  count: number,
  sizes: ImageSizes,
  batchSize: number,
  policy: EvaluationCrop = 'whole',
): Recipes {
  const batches: RecipeBatch[] = [];
  for (let first = 0; first < count; first += batchSize) {
    const indices = Int32Array.from({ length: Math.min(batchSize, count - first) }, (_, i) => first + i);
    batches.push({ indices, view: 0, batch: batches.length, epoch: 0 });
  }
  const augment: AugmentSpec = { crop: null, flip: false, cutout: 0, mix: 'none' };
  const recipes = drawRecipes(batches, { seed: 0n, augment, sizes, inputSize: 1, purposes: LABEL_STREAMS });
  if (policy === 'whole') return recipes;
  if (!(policy.center > 0 && policy.center <= 1))
    throw new LpldError('E_CONFIG', expected('a share in (0, 1]', 'center', policy.center));
  const crop = arrayOf(recipes.crop, 'I32');
  for (let at = 0; at < crop.length; at += 4) {
    const [height, width] = [crop[at + 2]!, crop[at + 3]!];
    const side = Math.max(1, Math.round(policy.center * Math.min(height, width)));
    crop.set([(height - side) >> 1, (width - side) >> 1, side, side], at);
  }
  return recipes;
}

/** Elements of rows first .. last of a tensor, sharing its memory. */
function rowsOf(view: TensorView, first: number, last: number): TensorView {
  const shape = [last - first, ...view.shape.slice(1)];
  const rowBytes = DTYPE_BYTES[view.dtype] * shape.slice(1).reduce((n, d) => n * d, 1);
  return { dtype: view.dtype, shape, data: view.data.subarray(first * rowBytes, last * rowBytes) };
}

const ROW_FIELDS = [
  'index',
  'crop',
  'flip',
  'cutout',
  'cutoutColor',
  'mixKind',
  'mixIndex',
  'mixBox',
  'lambda',
] as const satisfies (keyof Recipes)[];

/**
 * Batches s0 .. s1 of some Recipes; rows share memory with the original.
 *
 * @throws {LpldError} E_INTERNAL unless 0 <= s0 <= s1 <= S
 */
export function sliceRecipes(recipes: Recipes, s0: number, s1: number): Recipes {
  const all = arrayOf(recipes.offset, 'I32');
  if (!(s0 >= 0 && s0 <= s1 && s1 < all.length))
    throw new LpldError('E_INTERNAL', expected(`a range within 0..${all.length - 1}`, 'batches', `${s0}..${s1}`));
  const [first, last] = [all[s0]!, all[s1]!];
  const offset = all.slice(s0, s1 + 1).map((row) => row - first);
  const rows = Object.fromEntries(ROW_FIELDS.map((name) => [name, rowsOf(recipes[name], first, last)])) as Record<
    (typeof ROW_FIELDS)[number],
    TensorView
  >;
  return { offset: tensor('I32', [offset.length], offset), ...rows };
}
