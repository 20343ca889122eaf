// Metrics of label records by their definition (docs/label-format.md): p = softmax at temperature 1, means over rows.

export interface Metrics {
  readonly confidence: number[];
  readonly diff: number[];
  readonly diffSigned: number[];
  readonly correct: number[];
}

/** logits [M, K], own class of each row [M], offset [S + 1]. */
export function labelMetrics(
  logits: ArrayLike<number>,
  classes: number,
  own: ArrayLike<number>,
  offset: ArrayLike<number>,
): Metrics {
  const out: Metrics = { confidence: [], diff: [], diffSigned: [], correct: [] };
  for (let record = 0; record + 1 < offset.length; record++) {
    const rows: { confidence: number; diff: number; diffSigned: number; correct: number }[] = [];
    for (let row = offset[record]!; row < offset[record + 1]!; row++) {
      const z = Array.from({ length: classes }, (_, k) => logits[row * classes + k]!);
      const top = Math.max(...z);
      const e = z.map((v) => Math.exp(v - top));
      const sum = e.reduce((a, b) => a + b, 0);
      const p = e.map((v) => v / sum);
      const [first = 0, second = 0] = [...p].sort((a, b) => b - a);
      const others = p.filter((_, k) => k !== own[row]);
      rows.push({
        confidence: first,
        diff: first - second,
        diffSigned: p[own[row]!]! - Math.max(0, ...others),
        correct: Number(z.indexOf(top) === own[row]),
      });
    }
    for (const name of ['confidence', 'diff', 'diffSigned', 'correct'] as const)
      out[name].push(rows.reduce((sum, of) => sum + of[name], 0) / rows.length);
  }
  return out;
}
