// Cutout as the stores of ImageNet-21K-P say it, in place of the flips: per image the centre and the sides as shares of the
// P x P image and a colour. Here a box is the pixels it covers. Their loader fills from centre - half to centre + half,
// both inclusive (Pillow's rectangle), half being the side floor-divided by two, less what is outside the image.
// Invariant: what is written here covers the same pixels when their loader replays it, in float32, and is read back as the
// same box. Source: LPLD relabel_and_validate/utils_fkd.py (the rule, not code); methods 4.2, 4.3.

import { expected, LpldError } from '../errors.ts';
import type { Recipes } from '../native.ts';
import { arrayOf, type TensorView, tensor } from '../tensor.ts';

/** Whether any image of the batch has a cutout. */
export const hasCutout = ({ cutout }: Recipes): boolean => arrayOf(cutout, 'I32').some((value) => value !== 0);

/** A share that is not below n px when it is multiplied by P in float32: their loader truncates. */
function share(n: number, size: number): number {
  const nearest = Math.fround(n / size);
  return Math.fround(nearest * size) < n ? Math.fround(nearest * (1 + 2 ** -23)) : nearest;
}

/** Centre and half of a run of pixels, or null where no centre gives it. */
function centred(start: number, length: number, size: number): readonly [number, number] | null {
  const half = (length - 1) / 2;
  if (Number.isInteger(half)) return [start + half, half];
  if (start === 0) return [0, length - 1];
  return start + length === size ? [size - 1, length - 1] : null;
}

/**
 * Says the cutouts of a batch in the layout's terms.
 *
 * @param size - P, px
 * @param where - names the record in errors
 * @returns F32 [B, 7] centre row, centre column, height, width as shares, and R, G, B in [0, 255]. Sides are odd, so that
 *   half of one is the same after rounding.
 * @throws {LpldError} E_MISMATCH for an image without cutout or with a flip, or a box that has no centre
 */
export function cutoutShares({ cutout, cutoutColor, flip }: Recipes, size: number, where: string): TensorView {
  const boxes = arrayOf(cutout, 'I32');
  const colors = arrayOf(cutoutColor, 'U8');
  const rows = boxes.length / 4;
  const out = new Float32Array(7 * rows);
  const refuse = (what: string, received: unknown): never => {
    throw new LpldError('E_MISMATCH', expected(what, where, received, 'this layout holds cutouts in place of flips'));
  };
  if (arrayOf(flip, 'U8').some((value) => value !== 0)) refuse('cutouts without flips', 'both');
  for (let row = 0; row < rows; row++) {
    const [top, left, height, width] = boxes.subarray(4 * row, 4 * row + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    if (height < 1 || width < 1) refuse('a cutout in every image or in none', `none in row ${row}`);
    const vertical = centred(top, height, size);
    const horizontal = centred(left, width, size);
    if (vertical === null || horizontal === null) return refuse('cutouts around a pixel', [top, left, height, width]);
    const shares = [vertical[0], horizontal[0], 2 * vertical[1] + 1, 2 * horizontal[1] + 1].map((n) => share(n, size));
    out.set([...shares, ...colors.subarray(3 * row, 3 * row + 3)], 7 * row);
  }
  return tensor('F32', [rows, 7], out);
}

/**
 * The cutouts of a batch of the layout.
 *
 * @param shares - F32 [B, 7]
 * @param size - P, px
 * @param path - of the file, for errors
 * @throws {LpldError} E_DATA with details.path: a centre between pixels or outside, a negative side, a colour that is none
 */
export function cutoutBoxes(shares: TensorView, size: number, path: string): Pick<Recipes, 'cutout' | 'cutoutColor'> {
  const values = arrayOf(shares, 'F32');
  const rows = shares.shape[0]!;
  const refuse = (what: string, name: string, received: unknown): never => {
    throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
  };
  const whole = (value: number, name: string, largest: number): number => {
    const px = Math.round(value);
    return Math.abs(value - px) <= 0.01 && px >= 0 && px <= largest ? px : refuse(`0 to ${largest}`, name, value);
  };
  const boxes = new Int32Array(4 * rows);
  const colors = new Uint8Array(3 * rows);
  for (let row = 0; row < rows; row++) {
    for (const axis of [0, 1]) {
      const centre = whole(values[7 * row + axis]! * size, `centre of the cutout of row ${row}`, size - 1);
      const half = whole(values[7 * row + 2 + axis]! * size, `side of the cutout of row ${row}`, 2 * size) >> 1;
      const start = Math.max(0, centre - half);
      boxes[4 * row + axis] = start;
      boxes[4 * row + 2 + axis] = Math.min(size - 1, centre + half) - start + 1;
    }
    for (const c of [0, 1, 2]) colors[3 * row + c] = whole(values[7 * row + 4 + c]!, `colour of row ${row}`, 255);
  }
  return { cutout: tensor('I32', [rows, 4], boxes), cutoutColor: tensor('U8', [rows, 3], colors) };
}
