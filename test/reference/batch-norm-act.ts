// A BatchNorm that learns with residual and ReLU, in float64 loops from the formulas (Ioffe and Szegedy 2015): y = act(n * weight
// + bias + residual), n = (x - mean) / sqrt(variance + eps) with mean and biased variance of the whole batch; running numbers
// move by the momentum, the variance unbiased; gradients of sum(y * grad).

export interface BatchNormActCase {
  readonly images: number;
  readonly channels: number;
  readonly area: number; // H * W
  readonly relu: boolean;
  readonly momentum: number;
  readonly eps: number;
  readonly weight: Float64Array; // [C], as the three that follow
  readonly bias: Float64Array;
  readonly runningMean: Float64Array;
  readonly runningVar: Float64Array;
  readonly x: Float64Array; // [B, C, area]
  readonly residual: Float64Array | null; // like x
  readonly grad: Float64Array; // like x
}

export function batchNormAct(of: BatchNormActCase): Record<string, Float64Array> {
  const { images, channels, area, x } = of;
  const count = images * area;
  const rows = () => new Float64Array(channels);
  const [mean, variance, dWeight, dBias] = [rows(), rows(), rows(), rows()];
  const each = (visit: (i: number, c: number) => void): void => {
    for (let i = 0; i < x.length; i++) visit(i, Math.floor(i / area) % channels);
  };
  each((i, c) => {
    mean[c]! += x[i]! / count;
  });
  each((i, c) => {
    variance[c]! += (x[i]! - mean[c]!) ** 2 / count;
  });
  const spread = variance.map((v) => Math.sqrt(v + of.eps));
  const normed = x.map((_, i) => 0 * i);
  const [y, dResidual, dx] = [new Float64Array(x.length), new Float64Array(x.length), new Float64Array(x.length)];
  each((i, c) => {
    normed[i] = (x[i]! - mean[c]!) / spread[c]!;
    const sum = normed[i]! * of.weight[c]! + of.bias[c]! + (of.residual === null ? 0 : of.residual[i]!);
    y[i] = of.relu ? Math.max(sum, 0) : sum;
    dResidual[i] = of.relu && sum <= 0 ? 0 : of.grad[i]!;
    dBias[c]! += dResidual[i]!;
    dWeight[c]! += dResidual[i]! * normed[i]!;
  });
  each((i, c) => {
    dx[i] = (of.weight[c]! / spread[c]!) * (dResidual[i]! - dBias[c]! / count - (normed[i]! * dWeight[c]!) / count);
  });
  const moved = (from: Float64Array, to: Float64Array) => from.map((v, c) => v + of.momentum * (to[c]! - v));
  const unbiased = variance.map((v) => (v * count) / (count - 1));
  return {
    ...{ y, dx, dResidual, dWeight, dBias },
    runningMean: moved(of.runningMean, mean),
    runningVar: moved(of.runningVar, unbiased),
  };
}
