// The options of an optimizer and its learning rate, shared by the teacher's and the students' training.

import { z } from 'zod';
import type { TrainSpec } from '../native.ts';
import type { AugmentSpec } from '../recipe.ts';
import { learningRates } from '../schedule.ts';
import { tensor } from '../tensor.ts';

export const optimizerOptions = {
  optimizer: z.enum(['adamw', 'sgd']).default('adamw').describe('optimizer'),
  lr: z.number().positive().default(0.001).describe('learning rate after warm-up'),
  momentum: z.number().min(0).lt(1).default(0.9).describe('sgd momentum'),
  beta1: z.number().min(0).lt(1).default(0.9).describe('adamw: decay of the first moment'),
  beta2: z.number().min(0).lt(1).default(0.999).describe('adamw: decay of the second moment'),
  eps: z.number().positive().default(1e-8).describe('adamw: added to the denominator'),
  weightDecay: z.number().min(0).default(0.01).describe('decoupled for adamw, added to the gradient for sgd'),
  decay: z
    .enum(['matrices', 'all'])
    .default('matrices')
    .describe('what decays: weights of two or more dimensions, or everything'),
  schedule: z.enum(['cosine', 'constant']).default('cosine').describe('learning rate after warm-up'),
  schedulePer: z.enum(['epoch', 'step']).default('epoch').describe('how often the learning rate moves'),
  warmupEpochs: z.int().min(0).default(0).describe('linear warm-up'),
  warmupStart: z.number().gt(0).max(1).default(0.01).describe('first learning rate of the warm-up as a share of lr'),
};
const table = z.object(optimizerOptions);
export type OptimizerConfig = z.infer<typeof table>;

/** The learning rate of every step, F64 [epochs * stepsPerEpoch]. */
export function ratesOf(o: OptimizerConfig, epochs: number, stepsPerEpoch: number): Float64Array {
  return learningRates({
    kind: o.schedule,
    base: o.lr,
    epochs,
    stepsPerEpoch,
    per: o.schedulePer,
    warmupEpochs: Math.min(o.warmupEpochs, epochs),
    warmupStart: o.warmupStart,
  });
}

/** The optimizer part of a TrainSpec for some steps. */
export function optimizerSpec(o: OptimizerConfig, lr: Float64Array): TrainSpec['optimizer'] {
  const { momentum, beta1, beta2, eps, weightDecay, decay } = o;
  return { kind: o.optimizer, lr: tensor('F64', [lr.length], lr), momentum, beta1, beta2, eps, weightDecay, decay };
}

/** Least and largest area of a crop as shares of the image; null takes whole images. */
export const cropScaleOption = z
  .tuple([z.number().gt(0).max(1), z.number().gt(0).max(1)])
  .refine(([least, most]) => least <= most, 'min <= max')
  .nullable();

export const augmentOptions = {
  cropScale: cropScaleOption
    .default([0.08, 1])
    .describe('area of a random resized crop as a share of the image, min and max; whole images when none'),
  flip: z.boolean().default(true).describe('flip horizontally with probability one half'),
  cutout: z
    .number()
    .min(0)
    .max(1)
    .default(0)
    .describe('side of a square of random place and colour as a share of the input size; 0 for none'),
  mix: z
    .enum(['none', 'cutmix', 'mixup'])
    .default('none')
    .describe('mix images of a batch; mixup weights are Beta(0.8, 0.8)'),
};
/** What decides the augmentation, of a stage's options or of labels.json; a store from before cutout has none. */
export const augmentTable = z.object(augmentOptions);
export type AugmentConfig = z.infer<typeof augmentTable>;

export function augmentSpec({ cropScale, flip, cutout, mix }: AugmentConfig): AugmentSpec {
  return { crop: cropScale === null ? null : { scale: cropScale }, flip, cutout, mix };
}
