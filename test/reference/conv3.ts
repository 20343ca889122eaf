// A 3x3 convolution of stride 1 and padding 1 in float64 loops as conv2d defines it, and its adjoint.

export interface Conv3 {
  readonly shape: readonly [images: number, channels: number, height: number, width: number];
  readonly outputs: number;
  readonly weight: Float64Array; // [O, C, 3, 3]
}

/** Visits every product: positions in y, in x and in the weight. */
function eachProduct(of: Conv3, visit: (output: number, input: number, weight: number) => void): void {
  const [images, channels, height, width] = of.shape;
  let output = 0;
  for (let image = 0; image < images; image++)
    for (let o = 0; o < of.outputs; o++)
      for (let y = 0; y < height; y++)
        for (let x = 0; x < width; x++, output++)
          for (let tap = 0; tap < 9; tap++) {
            const [row, column] = [y + Math.floor(tap / 3) - 1, x + (tap % 3) - 1];
            if (row < 0 || column < 0 || row >= height || column >= width) continue;
            for (let c = 0; c < channels; c++) {
              const input = ((image * channels + c) * height + row) * width + column;
              visit(output, input, (o * channels + c) * 9 + tap);
            }
          }
}

/** @returns y [B, O, H, W] */
export function conv3(of: Conv3, x: Float64Array, bias: Float64Array | null): Float64Array {
  const plane = of.shape[2] * of.shape[3];
  const y = Float64Array.from({ length: of.shape[0] * of.outputs * plane }, (_, at) =>
    bias === null ? 0 : bias[Math.floor(at / plane) % of.outputs]!,
  );
  eachProduct(of, (output, input, weight) => {
    y[output]! += of.weight[weight]! * x[input]!;
  });
  return y;
}

/** Gradient of sum(grad * y) with respect to x. */
export function conv3Backward(of: Conv3, grad: Float64Array): Float64Array {
  const dx = new Float64Array(of.shape.reduce((n, d) => n * d, 1));
  eachProduct(of, (output, input, weight) => {
    dx[input]! += of.weight[weight]! * grad[output]!;
  });
  return dx;
}

/** Gradients of sum(grad * y) with respect to weight [O, C, 3, 3] and bias [O]. */
export function conv3WeightBackward(
  of: Conv3,
  x: Float64Array,
  grad: Float64Array,
): { weight: Float64Array; bias: Float64Array } {
  const weight = new Float64Array(of.weight.length);
  const bias = new Float64Array(of.outputs);
  eachProduct(of, (output, input, at) => {
    weight[at]! += x[input]! * grad[output]!;
  });
  const plane = of.shape[2] * of.shape[3];
  for (const [at, value] of grad.entries()) bias[Math.floor(at / plane) % of.outputs]! += value;
  return { weight, bias };
}
