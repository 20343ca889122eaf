// Class-wise moments of a layer input: shifted sums per class, and the running average of lpld-sre2l-cda 3.2, updated
// once per batch for every class present in it.

export interface Moments {
  readonly sum: Float64Array; // [K, C] of x - shift
  readonly sumSquares: Float64Array; // [K, C] of (x - shift)^2
  readonly count: Float64Array; // [K] images
}

/** x [n, C, area], labels [n] in [0, K), shift [C]. */
export function classMoments(
  x: Float64Array,
  labels: ArrayLike<number>,
  classes: number,
  channels: number,
  area: number,
  shift: Float64Array,
): Moments {
  const sum = new Float64Array(classes * channels);
  const sumSquares = new Float64Array(classes * channels);
  const count = new Float64Array(classes);
  for (let n = 0; n < labels.length; n++) {
    count[labels[n]!]! += 1;
    for (let c = 0; c < channels; c++)
      for (let i = 0; i < area; i++) {
        const v = x[(n * channels + c) * area + i]! - shift[c]!;
        sum[labels[n]! * channels + c]! += v;
        sumSquares[labels[n]! * channels + c]! += v * v;
      }
  }
  return { sum, sumSquares, count };
}

/** One batch of the running average: mean and variance [K, C] are updated in place (start: 0 and 1). */
export function emaUpdate(
  mean: Float64Array,
  variance: Float64Array,
  x: Float64Array,
  labels: ArrayLike<number>,
  classes: number,
  channels: number,
  area: number,
  momentum: number,
): void {
  const zero = new Float64Array(channels);
  const { sum, count } = classMoments(x, labels, classes, channels, area, zero);
  for (let k = 0; k < classes; k++) {
    if (count[k] === 0) continue;
    for (let c = 0; c < channels; c++) {
      const average = sum[k * channels + c]! / (count[k]! * area);
      let spread = 0;
      for (let n = 0; n < labels.length; n++)
        if (labels[n] === k)
          for (let i = 0; i < area; i++) spread += (x[(n * channels + c) * area + i]! - average) ** 2;
      const at = k * channels + c;
      mean[at] = (1 - momentum) * mean[at]! + momentum * average;
      variance[at] = (1 - momentum) * variance[at]! + (momentum * spread) / (count[k]! * area);
    }
  }
}
