// One step of SGD (coupled weight decay, momentum buffer starting at the first gradient), of AdamW (decoupled weight
// decay) and of the pixel optimizer (Adam, then a clamp per channel that does not touch the moments). Formulas:
// torch.optim documentation; lpld-sre2l-cda 0.5 steps 1, 4 and 5. Everything is updated in place.

export interface AdamRule {
  readonly lr: number;
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly weightDecay: number;
}

/** step counts from 1. */
export function adamwStep(
  p: Float64Array,
  m: Float64Array,
  v: Float64Array,
  grad: Float64Array,
  step: number,
  rule: AdamRule,
): void {
  for (let i = 0; i < p.length; i++) {
    m[i] = rule.beta1 * m[i]! + (1 - rule.beta1) * grad[i]!;
    v[i] = rule.beta2 * v[i]! + (1 - rule.beta2) * grad[i]! ** 2;
    const mean = m[i]! / (1 - rule.beta1 ** step);
    const square = v[i]! / (1 - rule.beta2 ** step);
    p[i] = p[i]! * (1 - rule.lr * rule.weightDecay) - (rule.lr * mean) / (Math.sqrt(square) + rule.eps);
  }
}

/** step counts from 1. */
export function sgdStep(
  p: Float64Array,
  buffer: Float64Array,
  grad: Float64Array,
  step: number,
  rule: { readonly lr: number; readonly momentum: number; readonly weightDecay: number },
): void {
  for (let i = 0; i < p.length; i++) {
    const g = grad[i]! + rule.weightDecay * p[i]!;
    buffer[i] = step === 1 ? g : rule.momentum * buffer[i]! + g;
    p[i]! -= rule.lr * (rule.momentum === 0 ? g : buffer[i]!);
  }
}

/** x [n, C, area]; low, high [C]. */
export function pixelAdam(
  x: Float64Array,
  m: Float64Array,
  v: Float64Array,
  grad: Float64Array,
  step: number,
  rule: Omit<AdamRule, 'weightDecay'>,
  area: number,
  low: Float64Array,
  high: Float64Array,
): void {
  adamwStep(x, m, v, grad, step, { ...rule, weightDecay: 0 });
  for (let i = 0; i < x.length; i++) {
    const c = Math.floor(i / area) % low.length;
    x[i] = Math.min(high[c]!, Math.max(low[c]!, x[i]!));
  }
}
