// Draws Cutout: a square of one random colour around a uniform centre, clipped to the image.
// Invariant: integers on Philox words; the box is stored as the pixels it covers, so that a replay is exact.
// Source: the ImageNet-21K-P recipe (methods 4.3): CutoutPIL over Pillow's rectangle, whose lower-right corner is
// inclusive. Rules and vectors: docs/streams.md.

import type { Box } from './draw.ts';
import { block, type Key, keyOf, mulhi, type Seed } from './rng.ts';

const WORDS = new Uint32Array(4); // of the block being used; nothing outlives a call

/**
 * The pixels Pillow fills for a cutout around a centre: 2 * half + 1 on a side, half = floor(floor(share P + 1/2) / 2),
 * less what is outside.
 *
 * QUIRK(cutout-corner): half to either side of the centre and the centre itself, one pixel more than the side asked for,
 * because Pillow's rectangle includes its lower-right corner; kept, since published labels were made of such images.
 *
 * @param x - column of the centre, y - its row; px in [0, size)
 * @param size - P, px
 * @param share - nominal side as a share of P, in (0, 1]
 */
export function cutoutBox(x: number, y: number, size: number, share: number): Box {
  const half = Math.floor(share * size + 0.5) >> 1;
  const top = Math.max(0, y - half);
  const left = Math.max(0, x - half);
  return [top, left, Math.min(size - 1, y + half) - top + 1, Math.min(size - 1, x + half) - left + 1];
}

/** The cutout draw with its key prepared; writes four numbers and three levels at `row`. */
export function cutoutInto(
  key: Key,
  purpose: number,
  object: number,
  view: number,
  size: number,
  share: number,
  boxes: Int32Array,
  colors: Uint8Array,
  row: number,
): void {
  block(key[0], key[1], object, view, purpose, 0, WORDS);
  boxes.set(cutoutBox(mulhi(WORDS[0]!, size), mulhi(WORDS[1]!, size), size, share), 4 * row);
  for (let c = 0; c < 3; c++) colors[3 * row + c] = WORDS[2]! >>> (24 - 8 * c);
}

/**
 * Draws the cutout of one image: block 0 of its stream, words x, y, colour.
 *
 * @param object - image, u32; view - which time (epoch), u32
 * @param size - P, px; share - side as a share of P, in (0, 1]
 * @returns box in px of [size, size]; color R, G, B in [0, 255], of which grey images take the first
 */
export function drawCutout(
  seed: Seed,
  purpose: number,
  object: number,
  view: number,
  size: number,
  share: number,
): { box: Box; color: [number, number, number] } {
  const [box, color] = [new Int32Array(4), new Uint8Array(3)];
  cutoutInto(keyOf(seed), purpose, object, view, size, share, box, color, 0);
  return { box: [box[0]!, box[1]!, box[2]!, box[3]!], color: [color[0]!, color[1]!, color[2]!] };
}
