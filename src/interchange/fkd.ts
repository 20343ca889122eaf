// The label layout of SRe2L, CDA and LPLD: epoch_E/batch_B.tar, each a torch.save file of a list of six, and
// sampler_indices_epoch.json with the images of every epoch in order. This file knows the names and how a record's
// Recipe is said in fractions and corners; fkd-export.ts and fkd-import.ts do the files.
// Invariant: the crops and boxes written here are read back as the same integers (test/interchange/fkd.test.ts).
// Source: methods 4.2 to 4.5; LPLD relabel_and_validate/utils_fkd.py (the layout, not code).

import { expected, LpldError } from '../errors.ts';
import type { Recipes } from '../native.ts';
import { arrayOf, type TensorView, tensor } from '../tensor.ts';
import { cutoutBoxes, cutoutShares, hasCutout } from './fkd-cutout.ts';

export const INDICES_FILE = 'sampler_indices_epoch.json';
export const epochFolder = (epoch: number): string => `epoch_${epoch}`;
/** Named .tar by its authors; it is a zip. */
export const batchFile = (epoch: number, batch: number): string => `${epochFolder(epoch)}/batch_${batch}.tar`;

/** The six parts of a batch, in the order of the list. */
export interface FkdBatch {
  readonly coords: TensorView; // F32 [B, 4] top, left, height, width as shares of the image
  readonly flip: TensorView; // BOOL [B]; where images have cutouts those, F32 [B, 7] (fkd-cutout.ts)
  readonly mixIndex: TensorView | null; // I64 [B] partner inside the batch
  readonly lambda: number | null;
  /** First and last + 1 row, then column, of the pasted box: [row0, column0, row1, column1]. QUIRK(fkd-box) */
  readonly box: readonly [number, number, number, number] | null;
  readonly logits: TensorView; // F16 [B, K]
}

/** The value all rows of a batch share. */
function shared<T>(values: readonly T[], name: string, where: string): T {
  const other = values.find((value) => String(value) !== String(values[0]));
  if (other !== undefined)
    throw new LpldError('E_MISMATCH', expected(`one ${name} for the whole batch`, where, `${values[0]} and ${other}`));
  return values[0]!;
}

/**
 * Says a Recipe of one batch in the layout's terms.
 *
 * QUIRK(fkd-box): the layout's box names its corners x and y, but x counts rows; kept, and written as Python ints because
 * torch.load refuses the numpy scalars of the original files.
 *
 * @param facts - size S and inputSize P, px
 * @param where - names the record in errors
 * @throws {LpldError} E_MISMATCH where the rows of a batch differ in mixing or have both flips and cutouts: the layout cannot
 */
export function toFkd(
  recipes: Recipes,
  logits: TensorView,
  { size, inputSize }: Omit<FkdFacts, 'path'>,
  where: string,
): FkdBatch {
  const rows = recipes.index.shape[0]!;
  const coords = Float32Array.from(arrayOf(recipes.crop, 'I32'), (px) => px / size);
  const kind = shared([...arrayOf(recipes.mixKind, 'U8')], 'kind of mixing', where);
  const common = {
    coords: tensor('F32', [rows, 4], coords),
    flip: hasCutout(recipes) ? cutoutShares(recipes, inputSize, where) : { ...recipes.flip, dtype: 'BOOL' as const },
    logits,
  };
  if (kind === 0) return { ...common, mixIndex: null, lambda: null, box: null };
  const partners = BigInt64Array.from(arrayOf(recipes.mixIndex, 'I32'), BigInt);
  const lambda = shared([...arrayOf(recipes.lambda, 'F32')], 'lambda', where);
  const mixed = { ...common, mixIndex: tensor('I64', [rows], partners), lambda };
  if (kind === 2) return { ...mixed, box: null };
  const boxes = arrayOf(recipes.mixBox, 'I32');
  const each = Array.from({ length: rows }, (_, row) => [...boxes.subarray(4 * row, 4 * row + 4)]);
  const [top, left, height, width] = shared(each, 'mixing box', where) as [number, number, number, number];
  return { ...mixed, box: [top, left, top + height, left + width] };
}

/** How far a share times the size may be from a whole number of px; float32 shares of any size stay far below. */
const PX_TOLERANCE = 0.01;

export interface FkdFacts {
  readonly size: number; // S, px
  readonly inputSize: number; // P, px
  readonly path: string; // of the file, for errors
}

/**
 * Reads a batch of the layout as a Recipe.
 *
 * @param images - image of every row
 * @throws {LpldError} E_DATA with details.path: crops between pixels or outside the image, partners or boxes outside
 */
export function fromFkd(batch: FkdBatch, images: Int32Array, { size, inputSize, path }: FkdFacts): Recipes {
  const refuse = (what: string, name: string, received: unknown): never => {
    throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
  };
  const rows = images.length;
  const shares = arrayOf(batch.coords, 'F32');
  const crop = new Int32Array(4 * rows);
  for (const [i, share] of shares.entries()) {
    const px = Math.round(share * size);
    if (!(Math.abs(share * size - px) <= PX_TOLERANCE && px >= 0 && px <= size))
      refuse(`a whole number of px of ${size}`, `crop of row ${i >> 2}`, share * size);
    crop[i] = px;
  }
  for (let row = 0; row < rows; row++) {
    const [top, left, height, width] = crop.subarray(4 * row, 4 * row + 4) as unknown as [
      number,
      number,
      number,
      number,
    ];
    if (height < 1 || width < 1 || top + height > size || left + width > size)
      refuse(`a crop inside ${size} x ${size} px`, `crop of row ${row}`, [top, left, height, width]);
  }
  const cut = batch.flip.dtype === 'F32';
  const flip = cut ? new Uint8Array(rows) : arrayOf(batch.flip, 'BOOL').slice();
  for (const [row, value] of flip.entries()) if (value > 1) refuse('a bool', `flip of row ${row}`, value);
  const none = {
    cutout: tensor('I32', [rows, 4], new Int32Array(4 * rows)),
    cutoutColor: tensor('U8', [rows, 3], new Uint8Array(3 * rows)),
  };
  const kind = batch.mixIndex === null ? 0 : batch.box === null ? 2 : 1;
  const partners = batch.mixIndex === null ? null : arrayOf(batch.mixIndex, 'I64');
  const mixIndex = Int32Array.from(images, (_, row) => {
    const partner = partners === null ? row : Number(partners[row]!);
    return partner >= 0 && partner < rows ? partner : refuse(`a row below ${rows}`, `partner of row ${row}`, partner);
  });
  const mixBox = new Int32Array(4 * rows);
  let lambda = 1;
  if (batch.box !== null) {
    const [top, left, bottom, right] = batch.box;
    if (!(0 <= top && top <= bottom && bottom <= inputSize && 0 <= left && left <= right && right <= inputSize))
      refuse(`corners inside ${inputSize} x ${inputSize} px`, 'the mixing box', batch.box);
    for (let row = 0; row < rows; row++) mixBox.set([top, left, bottom - top, right - left], 4 * row);
    lambda = 1 - ((bottom - top) * (right - left)) / (inputSize * inputSize); // theirs is not corrected for clipping
  } else if (kind === 2) {
    const weight = batch.lambda ?? Number.NaN;
    lambda = weight >= 0 && weight <= 1 ? weight : refuse('a weight in [0, 1]', 'lambda', String(batch.lambda));
  }
  return {
    offset: tensor('I32', [2], Int32Array.of(0, rows)),
    index: tensor('I32', [rows], images),
    crop: tensor('I32', [rows, 4], crop),
    flip: tensor('U8', [rows], flip),
    ...(cut ? cutoutBoxes(batch.flip, inputSize, path) : none),
    mixKind: tensor('U8', [rows], new Uint8Array(rows).fill(kind)),
    mixIndex: tensor('I32', [rows], mixIndex),
    mixBox: tensor('I32', [rows, 4], mixBox),
    lambda: tensor('F32', [rows], new Float32Array(rows).fill(lambda)),
  };
}
