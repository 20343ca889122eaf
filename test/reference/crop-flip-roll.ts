// The augmentation of synthesis (lpld-sre2l-cda 0.5, steps 2 and 3) for one group of images: crop, bilinear resize to
// P x P (align_corners = false, no antialias), horizontal flip, circular shift. Forward by gathering four neighbours,
// backward by scattering the same four weights.

export interface View {
  readonly crop: readonly number[]; // top, left, height, width
  readonly flip: number;
  readonly roll: readonly number[]; // rows, columns
}

/** The two source positions of output position i of a resize length -> size, and the weight of the second. */
function neighbours(i: number, length: number, size: number): [number, number, number] {
  const at = Math.max(0, ((i + 0.5) * length) / size - 0.5);
  const low = Math.floor(at);
  return [low, Math.min(low + 1, length - 1), at - low];
}

/** Calls visit(output position, input position, weight) for one [P, P] plane. */
function eachTap(size: number, view: View, visit: (out: number, input: number, weight: number) => void): void {
  const [top, left, h, w] = view.crop as [number, number, number, number];
  const [down, right] = view.roll as [number, number];
  const wrap = (v: number): number => ((v % size) + size) % size;
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const [y0, y1, fy] = neighbours(y, h, size);
      const [x0, x1, fx] = neighbours(x, w, size);
      const shown = view.flip ? size - 1 - x : x;
      const out = wrap(y + down) * size + wrap(shown + right);
      const from = (yy: number, xx: number): number => (top + yy) * size + left + xx;
      visit(out, from(y0, x0), (1 - fy) * (1 - fx));
      visit(out, from(y0, x1), (1 - fy) * fx);
      visit(out, from(y1, x0), fy * (1 - fx));
      visit(out, from(y1, x1), fy * fx);
    }
}

/** x [planes, P, P] of one group -> y of the same shape. */
export function cropFlipRoll(x: Float64Array, planes: number, size: number, view: View): Float64Array {
  const y = new Float64Array(x.length);
  for (let p = 0; p < planes; p++)
    eachTap(size, view, (out, input, weight) => {
      y[p * size * size + out]! += weight * x[p * size * size + input]!;
    });
  return y;
}

/** Gradient of sum(grad * y) with respect to x. */
export function cropFlipRollBackward(grad: Float64Array, planes: number, size: number, view: View): Float64Array {
  const dx = new Float64Array(grad.length);
  for (let p = 0; p < planes; p++)
    eachTap(size, view, (out, input, weight) => {
      dx[p * size * size + input]! += weight * grad[p * size * size + out]!;
    });
  return dx;
}
