// A frozen BatchNorm with residual, ReLU and group moments, in float64 loops from the formulas: y = act(x * scale + shift +
// residual); mean and biased variance of x over the images and pixels of each group (two passes, nothing shifted); the
// gradient of sum(y * gy) + sum(mean * gm) + sum(variance * gv), methods 0.4.

export interface NormActCase {
  readonly images: number;
  readonly channels: number;
  readonly area: number; // H * W
  readonly groups: number; // 0 for no moments
  readonly relu: boolean;
  readonly scale: Float64Array; // [C]
  readonly shift: Float64Array; // [C]
  readonly x: Float64Array; // [N, C, area]
  readonly residual: Float64Array | null; // like x
  readonly gradY: Float64Array; // like x
  readonly gradMean: Float64Array; // [G, C]
  readonly gradVariance: Float64Array; // [G, C]
}

export interface NormActResult {
  readonly y: Float64Array;
  readonly mean: Float64Array; // [G, C], empty without groups
  readonly variance: Float64Array; // [G, C], biased
  readonly dx: Float64Array;
  readonly dResidual: Float64Array; // like x, whether or not there is one
}

/** The gradient of the ReLU at 0 is 0; NaN stays NaN. */
export function normAct(of: NormActCase): NormActResult {
  const { images, channels, area, groups, relu, scale, shift, x, residual } = of;
  const count = (images / groups) * area; // M
  const each = (visit: (i: number, c: number, row: number) => void): void => {
    for (let i = 0; i < x.length; i++) {
      const plane = Math.floor(i / area);
      const group = Math.floor((Math.floor(plane / channels) * groups) / images);
      visit(i, plane % channels, group * channels + (plane % channels));
    }
  };

  const mean = new Float64Array(groups * channels);
  const variance = new Float64Array(groups * channels);
  if (groups > 0) {
    each((i, _c, row) => {
      mean[row]! += x[i]! / count;
    });
    each((i, _c, row) => {
      variance[row]! += (x[i]! - mean[row]!) ** 2 / count;
    });
  }

  const y = new Float64Array(x.length);
  const dx = new Float64Array(x.length);
  const dResidual = new Float64Array(x.length);
  each((i, c, row) => {
    const sum = x[i]! * scale[c]! + shift[c]! + (residual === null ? 0 : residual[i]!);
    y[i] = relu ? Math.max(sum, 0) : sum;
    dResidual[i] = relu && sum <= 0 ? 0 : of.gradY[i]!;
    const moments = groups > 0 ? (of.gradMean[row]! + 2 * of.gradVariance[row]! * (x[i]! - mean[row]!)) / count : 0;
    dx[i] = dResidual[i]! * scale[c]! + moments;
  });
  return { y, mean, variance, dx, dResidual };
}
