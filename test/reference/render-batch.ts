// What the network sees, as uint8: crop of the stored image, Pillow-exact resize to P x P, horizontal flip, cutout, then
// the partner's box (CutMix; the partner as it was before its own mixing). Mixup is no uint8 image and leaves it as it is.

import { cropped, resizeBilinear } from './resize-bilinear.ts';

export interface StoredImage {
  readonly pixels: Uint8Array; // [height, width, C]
  readonly height: number;
  readonly width: number;
}

export interface Row {
  readonly index: number;
  readonly crop: readonly number[]; // top, left, height, width
  readonly flip: number;
  readonly cutout: readonly number[]; // top, left, height, width
  readonly cutoutColor: readonly number[]; // [3]
  readonly mixKind: number;
  readonly mixIndex: number; // inside the batch
  readonly mixBox: readonly number[]; // top, left, height, width
}

/** One batch of rows -> uint8 [n, C, P, P]. */
export function renderBatch(
  images: readonly StoredImage[],
  rows: readonly Row[],
  channels: number,
  size: number,
): Uint8Array {
  const plane = size * size;
  const plain = new Uint8Array(rows.length * channels * plane);
  rows.forEach((row, n) => {
    const { pixels, width } = images[row.index]!;
    const hole = row.cutout as [number, number, number, number];
    const cut = cropped(pixels, width, channels, row.crop);
    const seen = resizeBilinear(cut, row.crop[2]!, row.crop[3]!, channels, size, size);
    for (let c = 0; c < channels; c++)
      for (let y = 0; y < size; y++)
        for (let x = 0; x < size; x++) {
          const from = row.flip ? size - 1 - x : x;
          const inside = y - hole[0] >= 0 && y - hole[0] < hole[2] && x - hole[1] >= 0 && x - hole[1] < hole[3];
          plain[(n * channels + c) * plane + y * size + x] = inside
            ? row.cutoutColor[c]!
            : seen[(y * size + from) * channels + c]!;
        }
  });
  const out = plain.slice();
  rows.forEach((row, n) => {
    if (row.mixKind !== 1) return;
    const [top, left, h, w] = row.mixBox as [number, number, number, number];
    for (let c = 0; c < channels; c++)
      for (let y = top; y < top + h; y++)
        for (let x = left; x < left + w; x++) {
          const at = c * plane + y * size + x;
          out[n * channels * plane + at] = plain[row.mixIndex * channels * plane + at]!;
        }
  });
  return out;
}
