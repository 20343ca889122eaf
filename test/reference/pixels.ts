// Grey levels to network input and back, in float32 step by step: (level/255 - mean)/std as ToTensor and Normalize compute
// it, and x*std + mean, clamp to [0, 1], times 255, truncated (lpld-sre2l-cda 0.5 "Save").

const f = Math.fround;

/** Float32 [C, 256] as doubles. */
export function normalizeTable(mean: ArrayLike<number>, std: ArrayLike<number>): Float64Array {
  const out = new Float64Array(mean.length * 256);
  for (let c = 0; c < mean.length; c++)
    for (let level = 0; level < 256; level++) out[c * 256 + level] = f(f(f(level / 255) - f(mean[c]!)) / f(std[c]!));
  return out;
}

/** x float32 [n, C, area] -> uint8 [n, area, C]. */
export function toPixels(
  x: ArrayLike<number>,
  area: number,
  mean: ArrayLike<number>,
  std: ArrayLike<number>,
): Uint8Array {
  const channels = mean.length;
  const out = new Uint8Array(x.length);
  for (let i = 0; i < x.length; i++) {
    const c = Math.floor(i / area) % channels;
    const image = Math.floor(i / (area * channels));
    const shown = f(f(f(x[i]!) * f(std[c]!)) + f(mean[c]!));
    out[(image * area + (i % area)) * channels + c] = Math.trunc(f(Math.min(1, Math.max(0, shown)) * 255));
  }
  return out;
}
