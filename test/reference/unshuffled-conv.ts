// A convolution of stride 2 in float64 loops as conv2d defines it, nothing rearranged, and its adjoint.

export interface StridedConv {
  readonly shape: readonly [images: number, channels: number, height: number, width: number]; // sides even
  readonly kernel: readonly [outputs: number, k: number]; // k odd, padding (k - 1) / 2
  readonly weight: Float64Array; // [O, C, k, k]
}

export const outputShape = ({ shape, kernel }: StridedConv): [number, number, number, number] => [
  shape[0],
  kernel[0],
  shape[2] / 2,
  shape[3] / 2,
];

/** Visits every product: position in y, position in x, weight. */
function eachProduct(of: StridedConv, visit: (output: number, input: number, weight: number) => void): void {
  const [images, channels, height, width] = of.shape;
  const [outputs, k] = of.kernel;
  const padding = (k - 1) / 2;
  let output = 0;
  for (let image = 0; image < images; image++)
    for (let o = 0; o < outputs; o++)
      for (let row = 0; row < height / 2; row++)
        for (let column = 0; column < width / 2; column++, output++)
          for (let c = 0; c < channels; c++)
            for (let i = 0; i < k; i++)
              for (let j = 0; j < k; j++) {
                const [r, s] = [2 * row + i - padding, 2 * column + j - padding];
                if (r < 0 || s < 0 || r >= height || s >= width) continue;
                const input = ((image * channels + c) * height + r) * width + s;
                visit(output, input, of.weight[((o * channels + c) * k + i) * k + j]!);
              }
}

/** @returns y [B, O, H/2, W/2] */
export function stridedConv(of: StridedConv, x: Float64Array, bias: Float64Array | null): Float64Array {
  const shape = outputShape(of);
  const plane = shape[2] * shape[3];
  const y = Float64Array.from({ length: shape[0] * shape[1] * plane }, (_, at) =>
    bias === null ? 0 : bias[Math.floor(at / plane) % shape[1]]!,
  );
  eachProduct(of, (output, input, weight) => {
    y[output]! += weight * x[input]!;
  });
  return y;
}

/** Gradient of sum(grad * y) with respect to x. */
export function stridedConvBackward(of: StridedConv, grad: Float64Array): Float64Array {
  const dx = new Float64Array(of.shape.reduce((n, d) => n * d, 1));
  eachProduct(of, (output, input, weight) => {
    dx[input]! += weight * grad[output]!;
  });
  return dx;
}
