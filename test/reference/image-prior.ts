// The optional priors of lpld-sre2l-cda 0.4 for one group: TV, the sum of the Frobenius norms of the horizontal, vertical
// and two diagonal difference tensors, and the mean over the images of the image's L2 norm; with gradients.

export interface ImagePrior {
  readonly tv: number;
  readonly l2: number;
  readonly dTv: Float64Array;
  readonly dL2: Float64Array;
}

/** Pairs (y, x) - (y + down, x + right) of each difference tensor. */
const STEPS: readonly (readonly [number, number])[] = [
  [0, 1],
  [1, 0],
  [1, 1],
  [1, -1],
];

/** x [n, C, height, width] of one group. */
export function imagePrior(x: Float64Array, n: number, planes: number, height: number, width: number): ImagePrior {
  const dTv = new Float64Array(x.length);
  const dL2 = new Float64Array(x.length);
  let tv = 0;
  for (const [down, right] of STEPS) {
    const each = (visit: (a: number, b: number) => void): void => {
      for (let p = 0; p < n * planes; p++)
        for (let y = 0; y + down < height; y++)
          for (let c = Math.max(0, -right); c + Math.max(0, right) < width; c++)
            visit((p * height + y) * width + c, (p * height + y + down) * width + c + right);
    };
    let squares = 0;
    each((a, b) => {
      squares += (x[a]! - x[b]!) ** 2;
    });
    const norm = Math.sqrt(squares);
    tv += norm;
    if (norm > 0)
      each((a, b) => {
        const g = (x[a]! - x[b]!) / norm;
        dTv[a]! += g;
        dTv[b]! -= g;
      });
  }
  let l2 = 0;
  const size = planes * height * width;
  for (let i = 0; i < n; i++) {
    const image = x.subarray(i * size, (i + 1) * size);
    const norm = Math.sqrt(image.reduce((s, v) => s + v * v, 0));
    l2 += norm / n;
    image.forEach((v, k) => {
      dL2[i * size + k] = norm === 0 ? 0 : v / (norm * n);
    });
  }
  return { tv, l2, dTv, dL2 };
}
