// Draws geometry: single crops, flips and CutMix boxes, and the shared draws of synthesis.
// Invariant: integer arithmetic on Philox words, in whole pixels, so that every machine draws the same numbers. Products
// beyond 2^53 are held as 32-bit halves; test/draw.test.ts compares them with big integers.
// Source: RandomResizedCrop of torchvision; CutMix, arXiv 1905.04899 sec. 3. Rules and vectors: docs/streams.md.

import { expected, LpldError } from './errors.ts';
import { block, type Key, keyOf, mulhi, Purpose, type Seed } from './rng.ts';
import { type TensorView, tensor } from './tensor.ts';

/** top, left, height, width in px. */
export type Box = readonly [top: number, left: number, height: number, width: number];

/** Crop area as a share of the image, [min, max] in (0, 1]. */
export type Scale = readonly [min: number, max: number];

const TWO32 = 2 ** 32;
const LOG_RATIO = Math.log(4 / 3);
// round(65536 * aspect) at the middles of 256 equal steps of log aspect over [3/4, 4/3]; its sum is in docs/streams.md.
const ASPECT = Int32Array.from({ length: 256 }, (_, i) =>
  Math.round(65536 * Math.exp(((i + 0.5) / 256) * (LOG_RATIO - Math.log(3 / 4)) + Math.log(3 / 4))),
);
const WORDS = new Uint32Array(4); // of the block being used; nothing outlives a call

/** floor(sqrt(n)), exact for integers n < 2^52. */
const isqrt = (n: number): number => Math.floor(Math.sqrt(n));
/** round(sqrt(n)), exact for integers n < 2^50. */
const roundedSqrt = (n: number): number => Math.floor((isqrt(4 * n) + 1) / 2);

/** Scale in 32-bit fixed point: [floor(min 2^32), floor(max 2^32) - floor(min 2^32)]. */
export function fixedScale(scale: Scale): readonly [low: number, span: number] {
  const low = Math.floor(scale[0] * TWO32);
  const high = Math.floor(scale[1] * TWO32);
  if (!(low >= 1 && low <= high && high <= TWO32))
    throw new LpldError('E_CONFIG', expected('min <= max, both in (0, 1]', 'crop scale', `[${scale}]`));
  return [low, high - low];
}

/** torchvision's answer when no try fits: the aspect clamped to [3/4, 4/3], centred. 4n/3 never lies halfway. */
function centralCrop(height: number, width: number, out: Int32Array, at: number): void {
  const h = 4 * width < 3 * height ? Math.floor((8 * width + 3) / 6) : height;
  const w = 3 * width > 4 * height ? Math.floor((8 * height + 3) / 6) : width;
  out[at] = (height - h) >> 1;
  out[at + 1] = (width - w) >> 1;
  out[at + 2] = h;
  out[at + 3] = w;
}

/**
 * floor(pixels * (low * 2^32 + span * u) / 2^64), exact: the 64-bit factor is held as two 32-bit halves.
 *
 * @param pixels - of the image, in [1, 2^32)
 * @param low - scale's lower bound in units of 2^-32, in [1, 2^32]; span its width, low + span <= 2^32; u a word
 */
export function cropArea(pixels: number, low: number, span: number, u: number): number {
  if (low === TWO32) return pixels;
  const factor = low + mulhi(span, u);
  const sum = (Math.imul(pixels, factor) >>> 0) + mulhi(pixels, Math.imul(span, u) >>> 0);
  return mulhi(pixels, factor) + (sum >= TWO32 ? 1 : 0);
}

/** The crop draw with its inputs prepared; writes four numbers at `at`. height * width < 2^32. */
export function cropInto(
  key: Key,
  purpose: number,
  object: number,
  view: number,
  height: number,
  width: number,
  [low, span]: readonly [number, number],
  out: Int32Array,
  at: number,
): void {
  const pixels = height * width;
  for (let attempt = 0; attempt < 10; attempt++) {
    block(key[0], key[1], object, view, purpose, attempt, WORDS);
    const area = cropArea(pixels, low, span, WORDS[0]!);
    const aspect = ASPECT[WORDS[1]! >>> 24]!;
    const w = roundedSqrt(Math.floor((area * aspect) / 65536));
    const h = roundedSqrt(Math.floor((area * 65536) / aspect));
    if (w > 0 && w <= width && h > 0 && h <= height) {
      out[at] = mulhi(WORDS[2]!, height - h + 1);
      out[at + 1] = mulhi(WORDS[3]!, width - w + 1);
      out[at + 2] = h;
      out[at + 3] = w;
      return;
    }
  }
  centralCrop(height, width, out, at);
}

export function checkSize(height: number, width: number, name: string): void {
  if (!(height >= 1 && width >= 1 && height * width < TWO32))
    throw new LpldError('E_DATA', expected('1 to 2^32 - 1 pixels', name, `${height} x ${width}`));
}

/**
 * Draws one RandomResizedCrop box, aspect (width / height) in [3/4, 4/3].
 *
 * @param object - what is cropped (image or class), u32
 * @param view - which time (epoch or iteration), u32
 * @param scale - crop area as a share of the image, [min, max] in (0, 1]
 * @returns px of the image
 * @throws {LpldError} E_CONFIG for an empty or impossible scale, E_DATA for an image without pixels or over 2^32 - 1
 * @source torchvision RandomResizedCrop.get_params, in integers
 */
export function drawCrop(
  seed: Seed,
  purpose: number,
  object: number,
  view: number,
  height: number,
  width: number,
  scale: Scale,
): Box {
  checkSize(height, width, 'image');
  const out = new Int32Array(4);
  cropInto(keyOf(seed), purpose, object, view, height, width, fixedScale(scale), out, 0);
  return [out[0]!, out[1]!, out[2]!, out[3]!];
}

export function flipOf(key: Key, purpose: number, object: number, view: number): 0 | 1 {
  block(key[0], key[1], object, view, purpose, 0, WORDS);
  return (WORDS[0]! >>> 31) as 0 | 1;
}

/** Draws one horizontal flip: 1 with probability one half. */
export function drawFlip(seed: Seed, purpose: number, object: number, view: number): 0 | 1 {
  return flipOf(keyOf(seed), purpose, object, view);
}

/**
 * The CutMix box around a centre, clipped to the image; an odd side loses one pixel.
 *
 * @param share - lambda in units of 2^-32, in [0, 2^32)
 * @param x - column of the centre, y - its row; px in [0, size)
 * @param size - P, px, at most 65535
 * @source arXiv 1905.04899 sec. 3; LPLD utils_fkd.py rand_bbox (there x means rows)
 */
export function cutMixBox(share: number, x: number, y: number, size: number): Box {
  const side = isqrt(share === 0 ? size * size : mulhi(size * size, TWO32 - share));
  const half = side >> 1;
  const left = Math.max(0, x - half);
  const top = Math.max(0, y - half);
  return [top, left, Math.min(size, y + half) - top, Math.min(size, x + half) - left];
}

/**
 * Draws the CutMix box of one batch (Philox purpose 4).
 *
 * @returns lambda as drawn, uniform in [0, 1) (Beta(1, 1)), before the box was clipped; box in px of [size, size]
 */
export function drawCutMix(seed: Seed, batch: number, epoch: number, size: number): { lambda: number; box: Box } {
  const key = keyOf(seed);
  block(key[0], key[1], batch, epoch, Purpose.mixBox, 0, WORDS);
  const share = WORDS[0]!;
  return { lambda: share / TWO32, box: cutMixBox(share, mulhi(WORDS[1]!, size), mulhi(WORDS[2]!, size), size) };
}

/** One crop, one flip and one roll per group and iteration, shared by the group's images. */
export interface SynthesisDraws {
  readonly crop: TensorView; // I32 [S, G, 4] px of the [P, P] image
  readonly flip: TensorView; // U8 [S, G]
  readonly roll: TensorView; // I32 [S, G, 2] rows, columns; px
}

export interface SynthesisDrawOptions {
  readonly seed: Seed;
  /** [G] Philox object of each group: the class id of its first class; + K * round where a class has several rounds. */
  readonly objects: ArrayLike<number>;
  readonly t0: number; // first iteration; the view of the draws is the iteration
  readonly t1: number; // past the last
  readonly size: number; // P, px
  /** Crop scale of an iteration, null for the whole image. */
  readonly scale: ((t: number) => Scale) | null;
  readonly flip: boolean;
  // QUIRK(roll-range): never negative upstream at 224 px and in CDA's Tiny script, of both signs elsewhere; kept in presets.
  readonly rollMin: number; // px, both axes, inclusive
  readonly rollMax: number;
}

/**
 * Draws iterations t0 .. t1 of synthesis for G groups (Philox purposes 16, 17, 18); S = t1 - t0.
 *
 * @returns crop, flip and roll as SynthesizeSpec takes them; equal to the same rows of any longer range
 * @throws {LpldError} E_CONFIG for an impossible scale or an empty roll range
 * @source SRe2L, CDA and LPLD recover scripts: one crop, coin and offset for the whole batch of an iteration
 */
export function drawSynthesis(options: SynthesisDrawOptions): SynthesisDraws {
  const { seed, objects, t0, t1, size, rollMin, rollMax } = options;
  checkSize(size, size, 'synthetic image');
  if (!(rollMin <= rollMax)) throw new LpldError('E_CONFIG', expected('min <= max', 'roll', `${rollMin}..${rollMax}`));
  const key = keyOf(seed);
  const steps = t1 - t0;
  const groups = objects.length;
  const crop = new Int32Array(4 * steps * groups);
  const flip = new Uint8Array(steps * groups);
  const roll = new Int32Array(2 * steps * groups);
  for (let t = t0; t < t1; t++) {
    const scale = options.scale === null ? null : fixedScale(options.scale(t));
    for (let g = 0; g < groups; g++) {
      const at = (t - t0) * groups + g;
      const object = objects[g]!;
      if (scale === null) crop.set([0, 0, size, size], 4 * at);
      else cropInto(key, Purpose.synthesisCrop, object, t, size, size, scale, crop, 4 * at);
      if (options.flip) flip[at] = flipOf(key, Purpose.synthesisFlip, object, t);
      block(key[0], key[1], object, t, Purpose.synthesisRoll, 0, WORDS);
      roll[2 * at] = rollMin + mulhi(WORDS[0]!, rollMax - rollMin + 1);
      roll[2 * at + 1] = rollMin + mulhi(WORDS[1]!, rollMax - rollMin + 1);
    }
  }
  return {
    crop: tensor('I32', [steps, groups, 4], crop),
    flip: tensor('U8', [steps, groups], flip),
    roll: tensor('I32', [steps, groups, 2], roll),
  };
}
