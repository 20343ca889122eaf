// Learning rates of every step and the crop-scale curriculum of every iteration: pure functions of numbers, computed
// whole before a stage starts, so that a segment or a resumed run reads the same values.
// Source: SRe2L, CDA and LPLD recover and train scripts (cosine, warm-up from 1 %, CDA's curriculum).

import { expected, LpldError } from './errors.ts';

export interface LearningRateOptions {
  readonly kind: 'cosine' | 'constant';
  readonly base: number; // after warm-up
  readonly epochs: number; // of training; for synthesis the iterations, with stepsPerEpoch 1
  readonly stepsPerEpoch: number;
  /** What the curve advances by: 'epoch' holds one value for all steps of an epoch, 'step' moves every step. */
  readonly per: 'epoch' | 'step';
  readonly warmupEpochs: number; // linear, in [0, epochs]; 0 for none
  readonly warmupStart: number; // first value as a share of base, in (0, 1]; 0.01 in the published recipes
}

function requireCount(value: number, name: string, least: number): void {
  if (!(Number.isInteger(value) && value >= least))
    throw new LpldError('E_CONFIG', expected(`an integer of at least ${least}`, name, value), { key: name });
}

function requireWithin(value: number, name: string, low: number, high: number): void {
  if (!(value >= low && value <= high))
    throw new LpldError('E_CONFIG', expected(`a number in [${low}, ${high}]`, name, value), { key: name });
}

/**
 * The learning rate of every step.
 *
 * With U units (epochs or steps) of which W warm up: base * (s + (1 - s) u / W) for u < W, then
 * base * (1 + cos(pi (u - W) / (U - W))) / 2, or base. The cosine reaches 0 only after the last unit.
 *
 * @returns F64 [epochs * stepsPerEpoch]
 * @throws {LpldError} E_CONFIG for counts below one, a negative or infinite base, a warm-up longer than the training
 * @source LPLD recover/utils_recover.py (per step), train_FKD_label_pruning_batch.py (per epoch, Tiny's warm-up)
 */
export function learningRates(options: LearningRateOptions): Float64Array {
  const { kind, base, epochs, stepsPerEpoch, per, warmupEpochs, warmupStart } = options;
  requireCount(epochs, 'epochs', 1);
  requireCount(stepsPerEpoch, 'stepsPerEpoch', 1);
  requireWithin(base, 'lr', 0, Number.MAX_VALUE);
  requireWithin(warmupEpochs, 'warmupEpochs', 0, epochs);
  if (warmupEpochs > 0) requireWithin(warmupStart, 'warmupStart', 0, 1);
  const [units, repeat] = per === 'epoch' ? [epochs, stepsPerEpoch] : [epochs * stepsPerEpoch, 1];
  const warmup = per === 'epoch' ? warmupEpochs : warmupEpochs * stepsPerEpoch;
  const rates = new Float64Array(units * repeat);
  for (let u = 0; u < units; u++) {
    let share = 1;
    if (u < warmup) share = warmupStart + ((1 - warmupStart) * u) / warmup;
    else if (kind === 'cosine') share = 0.5 * (1 + Math.cos((Math.PI * (u - warmup)) / (units - warmup)));
    rates.fill(share * base, u * repeat, (u + 1) * repeat);
  }
  return rates;
}

export interface CurriculumOptions {
  /** How the lower bound of the crop scale falls from `max` to `min`; 'constant' is SRe2L and LPLD. */
  readonly curriculum: 'constant' | 'step' | 'linear' | 'cosine';
  readonly milestone: number; // share of the iterations after which the bound rests at min, in [0, 1]
  readonly min: number; // 0.08 in the published recipes
  readonly max: number; // 1 in the published recipes
  readonly iterations: number; // T
}

/**
 * The crop scale of an iteration: (s0(t), max), global crops first and local ones later.
 *
 * @returns t in [0, T) -> [s0, max], shares of the image's area
 * @throws {LpldError} E_CONFIG for a milestone outside [0, 1] or a scale outside 0 < min <= max <= 1
 * @source CDA recover scripts: the lower bound of RandomResizedCrop's scale as a function of the iteration
 */
export function cropScale(options: CurriculumOptions): (t: number) => readonly [number, number] {
  const { curriculum, milestone, min, max, iterations } = options;
  requireCount(iterations, 'iterations', 1);
  requireWithin(milestone, 'milestone', 0, 1);
  if (!(min > 0 && min <= max && max <= 1))
    throw new LpldError('E_CONFIG', expected('min <= max, both in (0, 1]', 'crop scale', `[${min}, ${max}]`));
  const end = curriculum === 'constant' ? 0 : milestone * iterations;
  return (t) => {
    if (t >= end) return [min, max];
    if (curriculum === 'step') return [max, max];
    const share = curriculum === 'linear' ? 1 - t / end : (1 + Math.cos((Math.PI * t) / end)) / 2;
    return [min + (max - min) * share, max];
  };
}
