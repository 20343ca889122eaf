// Pillow's two-pass 8-bit bilinear resampler in integers, from its description in lpld-sre2l-cda 0.8: triangle filter
// with support max(1, in/out), weights with 22 fractional bits, horizontal pass first, each pass rounded to uint8 and
// skipped where its size does not change. QUIRK(pass-order): Pillow 13 runs the vertical pass first where that is
// cheaper; kept horizontal first, as in every version the published runs used.

const BITS = 22;

interface Tap {
  readonly from: number; // first source sample
  readonly weights: readonly number[]; // units of 2^-22
}

/** Source window and integer weights of every output sample of one axis. */
export function taps(size: number, out: number): Tap[] {
  const support = Math.max(1, size / out);
  return Array.from({ length: out }, (_, k) => {
    const centre = ((k + 0.5) * size) / out;
    const from = Math.max(0, Math.trunc(centre - support + 0.5));
    const to = Math.min(size, Math.trunc(centre + support + 0.5));
    const triangle: number[] = [];
    for (let i = from; i < to; i++) triangle.push(Math.max(0, 1 - Math.abs((i + 0.5 - centre) / support)));
    const sum = triangle.reduce((a, b) => a + b, 0);
    return { from, weights: triangle.map((w) => Math.floor((w / sum) * 2 ** BITS + 0.5)) };
  });
}

function rounded(accumulator: number): number {
  return Math.min(255, Math.max(0, Math.floor((accumulator + 2 ** (BITS - 1)) / 2 ** BITS)));
}

/** uint8 [height, width, C] packed -> [outHeight, outWidth, C]. */
export function resizeBilinear(
  image: Uint8Array,
  height: number,
  width: number,
  channels: number,
  outHeight: number,
  outWidth: number,
): Uint8Array {
  let rows = image;
  if (outWidth !== width) {
    rows = new Uint8Array(height * outWidth * channels);
    const columns = taps(width, outWidth);
    for (let y = 0; y < height; y++)
      for (let x = 0; x < outWidth; x++)
        for (let c = 0; c < channels; c++) {
          const { from, weights } = columns[x]!;
          let sum = 0;
          weights.forEach((w, i) => {
            sum += w * image[(y * width + from + i) * channels + c]!;
          });
          rows[(y * outWidth + x) * channels + c] = rounded(sum);
        }
  }
  if (outHeight === height) return rows;
  const out = new Uint8Array(outHeight * outWidth * channels);
  const line = outWidth * channels;
  taps(height, outHeight).forEach(({ from, weights }, y) => {
    for (let x = 0; x < line; x++) {
      let sum = 0;
      weights.forEach((w, i) => {
        sum += w * rows[(from + i) * line + x]!;
      });
      out[y * line + x] = rounded(sum);
    }
  });
  return out;
}

/** The rectangle (top, left, height, width) of an image, uint8 packed. */
export function cropped(image: Uint8Array, width: number, channels: number, crop: readonly number[]): Uint8Array {
  const [top, left, h, w] = crop as [number, number, number, number];
  const out = new Uint8Array(h * w * channels);
  for (let y = 0; y < h; y++) {
    const at = ((top + y) * width + left) * channels;
    out.set(image.subarray(at, at + w * channels), y * w * channels);
  }
  return out;
}
