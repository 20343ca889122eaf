// BN-matching loss of one layer and one group, from the formula of lpld-sre2l-cda 0.4: two unsquared Euclidean norms
// over the channels, biased variance, and its gradient (g_mu + 2 g_var (x - mu)) / M.

export interface BnMatch {
  readonly loss: number;
  readonly mean: Float64Array; // [C]
  readonly variance: Float64Array; // [C], biased
  readonly dx: Float64Array; // like x
}

const norm = (v: Float64Array): number => Math.sqrt(v.reduce((s, a) => s + a * a, 0));

/** v / |v|, or zeros where |v| is 0. */
function direction(v: Float64Array): Float64Array {
  const length = norm(v);
  return v.map((a) => (length === 0 ? 0 : a / length));
}

/** x [n, C, area] of one group; targets [C]. */
export function bnMatch(
  x: Float64Array,
  n: number,
  channels: number,
  area: number,
  targetMean: Float64Array,
  targetVar: Float64Array,
): BnMatch {
  const count = n * area;
  const mean = new Float64Array(channels);
  const variance = new Float64Array(channels);
  const each = (visit: (i: number, c: number) => void): void => {
    for (let i = 0; i < n * channels * area; i++) visit(i, Math.floor(i / area) % channels);
  };
  each((i, c) => {
    mean[c]! += x[i]! / count;
  });
  each((i, c) => {
    variance[c]! += (x[i]! - mean[c]!) ** 2 / count;
  });
  const offMean = mean.map((v, c) => v - targetMean[c]!);
  const offVar = variance.map((v, c) => v - targetVar[c]!);
  const gMean = direction(offMean);
  const gVar = direction(offVar);
  const dx = new Float64Array(x.length);
  each((i, c) => {
    dx[i] = (gMean[c]! + 2 * gVar[c]! * (x[i]! - mean[c]!)) / count;
  });
  return { loss: norm(offVar) + norm(offMean), mean, variance, dx };
}
