// A convolution, a frozen BatchNorm, a residual and a ReLU in float64 loops, one after the other, nothing folded.

export interface ConvNormActCase {
  readonly x: Float64Array; // [B, C, S, S]
  readonly shape: readonly [number, number, number]; // B, C, S
  readonly weight: Float64Array; // [O, C, k, k]
  readonly kernel: readonly [number, number]; // O, k
  readonly bias: Float64Array; // [O]
  readonly scale: Float64Array; // [O]
  readonly shift: Float64Array; // [O]
  readonly residual: Float64Array | null; // [B, O, S', S']
  readonly stride: number;
  readonly padding: number;
  readonly relu: boolean;
}

export const sideOf = ({ shape, kernel, stride, padding }: Omit<ConvNormActCase, 'residual'>): number =>
  Math.floor((shape[2] + 2 * padding - kernel[1]) / stride) + 1;

/** @returns y [B, O, S', S']; NaN stays NaN */
export function convNormAct(of: ConvNormActCase): Float64Array {
  const [images, channels, size] = of.shape;
  const [outputs, k] = of.kernel;
  const side = sideOf(of);
  const y = new Float64Array(images * outputs * side * side);
  for (let at = 0; at < y.length; at++) {
    const column = at % side;
    const row = Math.floor(at / side) % side;
    const o = Math.floor(at / (side * side)) % outputs;
    const image = Math.floor(at / (side * side * outputs));
    let sum = of.bias[o]!;
    for (let c = 0; c < channels; c++)
      for (let i = 0; i < k; i++)
        for (let j = 0; j < k; j++) {
          const [r, s] = [row * of.stride + i - of.padding, column * of.stride + j - of.padding];
          if (r < 0 || s < 0 || r >= size || s >= size) continue;
          sum +=
            of.x[((image * channels + c) * size + r) * size + s]! * of.weight[((o * channels + c) * k + i) * k + j]!;
        }
    const value = sum * of.scale[o]! + of.shift[o]! + (of.residual?.[at] ?? 0);
    y[at] = of.relu && value < 0 ? 0 : value;
  }
  return y;
}
