// synthesize: the teacher and its statistics become a few images per class. Several classes share a forward (a group
// plan, computed once and written to the manifest); statistics, losses and draws stay per group.
// Source: methods 0.5 (loop), 3.3 (LPLD), DESIGN 6.3 (groups). The loop is native/jobs/synthesize.cpp.

import { z } from 'zod';
import { setOf } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import { classesOf, classesPerForward, forwardPlan, type GroupPlan, selectGroups } from '../groups.ts';
import { METHODS, methodNamed } from '../methods/index.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import { takeReal } from './real-images.ts';
import { type Architecture, type DatasetFacts, loadTeacher, precisionOption, savedState } from './shared.ts';
import { type Forward, lossCurves, lossFile, makeForward } from './synthesis-forward.ts';
import type { Stage, StageContext, Summary } from './types.ts';

export const synthesizeOptions = z.strictObject({
  method: z
    .enum(METHODS.map((m) => m.name) as [string, ...string[]])
    .default('lpld')
    .describe('how images are made'),
  ipc: z.int().min(1).default(10).describe('images per class'),
  targets: z
    .enum(['auto', 'class', 'global'])
    .default('auto')
    .describe("statistics to match: the method's own, the class's, or the whole dataset's"),
  iterations: z.int().min(1).default(1000).describe('optimisation steps of every image'),
  batch: z.int().min(1).default(100).describe('most images optimised together'),
  lr: z.number().positive().default(0.1).describe('Adam learning rate, cosine to 0 without warm-up'),
  beta1: z.number().min(0).lt(1).default(0.5).describe('Adam: decay of the first moment'),
  beta2: z.number().min(0).lt(1).default(0.9).describe('Adam: decay of the second moment'),
  eps: z.number().positive().default(1e-8).describe('Adam: added to the denominator'),
  rBn: z.number().min(0).default(0.05).describe('weight of the BatchNorm matching loss'),
  firstBnMultiplier: z.number().min(0).default(10).describe('weight of the first BatchNorm layer within it'),
  tvL2: z.number().min(0).default(0).describe('weight of the total variation prior'),
  l2Scale: z.number().min(0).default(0).describe('weight of the L2 prior'),
  cropScale: z
    .tuple([z.number().gt(0).max(1), z.number().gt(0).max(1)])
    .nullable()
    .default([0.08, 1])
    .describe('area of the crop of an iteration as a share of the image; whole images when none'),
  curriculum: z
    .enum(['constant', 'step', 'linear', 'cosine'])
    .default('cosine')
    .describe('cda: how the least crop scale falls from its largest'),
  milestone: z
    .number()
    .min(0)
    .max(1)
    .default(1)
    .describe('cda: share of the iterations after which crops keep their scale'),
  flip: z.boolean().default(true).describe('flip with probability one half'),
  rollMin: z.int().default(-4).describe('least circular shift of both axes, px'),
  rollMax: z.int().default(4).describe('largest circular shift of both axes, px'),
  classes: z
    .array(z.int().min(0))
    .nullable()
    .default(null)
    .describe('make only these classes; whole groups of the plan'),
  groupsPerForward: z
    .int()
    .min(1)
    .nullable()
    .default(null)
    .describe('groups (lpld: classes) that share a forward; sized to memory and cache when none'),
  encoding: z
    .enum(['jpeg', 'png'])
    .default('jpeg')
    .describe('image files: JPEG quality 75 4:2:0 as published, or lossless PNG'),
  precision: precisionOption,
});

/** Past this many pixels in a forward a CPU gets slower per image: the activations leave the cache. */
const CACHE_PIXELS = 20 * 64 * 64;

export const synthesize: Stage = {
  name: 'synthesize',
  version: 1,
  summary: 'make a few synthetic images per class from the teacher and its statistics',
  inputs: ['teacher'],
  options: synthesizeOptions,
  needs: (config) =>
    methodNamed(config.synthesize.method).source === 'real'
      ? { roles: [], dataset: true }
      : { roles: ['teacher'], dataset: false },
  identity({ synthesize: options, dataset, seed }) {
    if (methodNamed(options.method).source === 'synthetic') return { synthesize: options, seed };
    const { method, ipc, encoding, classes } = options;
    return { synthesize: { method, ipc, encoding, classes }, dataset: { ...dataset, path: '' }, seed };
  },
  precision: (config) =>
    methodNamed(config.synthesize.method).source === 'real' ? 'fp32' : config.synthesize.precision,
  estimate(config, { classes }) {
    const { ipc, iterations, precision } = config.synthesize;
    const images = classes * ipc;
    const { flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    return {
      bytes: images * 0.6 * config.dataset.inputSize ** 2,
      seconds: secondsOf(2 * flops * images * iterations, precision),
    };
  },
  run: (context) =>
    methodNamed(context.config.synthesize.method).source === 'real' ? takeReal(context) : optimise(context),
};

async function optimise(context: StageContext): Promise<Summary> {
  const { config, native, runtime, inputs, draft, progress } = context;
  const o = config.synthesize;
  const teacher = inputs.teacher!;
  const facts = await teacher.readJson<DatasetFacts>('dataset.json');
  const size = facts.inputSize;
  const all = [...facts.classNames.keys()];
  const method = methodNamed(o.method);
  const groups = method.groups(all, { ipc: o.ipc, batch: o.batch, numClasses: all.length, targets: o.targets });
  const needsStats = groups.some((group) => group.target !== 'global');
  if (needsStats && !teacher.has('stats.safetensors'))
    throw new LpldError(
      'E_MISMATCH',
      expected('a teacher with class statistics', 'teacher', teacher.dir, 'squeeze it with --stats exact or ema'),
    );
  const stats = needsStats ? await teacher.readTensors('stats.safetensors') : {};
  const model = await loadTeacher(native, runtime, teacher);

  const planned = await savedState<{ perForward: number }>(draft, 'plan'); // a resume may find other memory free
  const perForward =
    planned?.json.perForward ??
    o.groupsPerForward ??
    classesPerForward({
      ipc: groups[0]!.images.length,
      bytesPerImage: activationBytes(await teacher.readJson<Architecture>('model.json'), size),
      memory: (native.deviceMemory(runtime.device).free || runtime.memory) / 2,
      cacheImages: runtime.device === 'cpu' ? Math.max(1, Math.floor(CACHE_PIXELS / (size * size))) : null,
    });
  if (planned === null) await draft.saveState('plan', {}, { perForward });
  const whole = forwardPlan(groups, perForward).map((members, number): Forward => ({ number, groups: members }));
  const plan: GroupPlan = { groupsPerForward: perForward, forwards: whole.map((forward) => classesOf(forward.groups)) };
  const forwards = selectGroups(plan, o.classes === null ? 'all' : { classes: o.classes }).map((f) => whole[f]!);
  progress.start(
    forwards.length * o.iterations,
    'iteration',
    `${forwards.length} forwards of up to ${perForward} groups`,
  );
  const run = { context, model, stats, running: model.stateDict(), facts };
  for (const [position, forward] of forwards.entries()) {
    if (!draft.has(lossFile(forward))) await makeForward(run, forward, position);
    progress.update((position + 1) * o.iterations);
  }
  const classes = [...new Set(forwards.flatMap((forward) => classesOf(forward.groups)))].sort((a, b) => a - b);
  await draft.writeJson('set.json', setOf(facts, { size, classes, ipc: o.ipc, encoding: o.encoding }));
  const summary = await lossCurves(draft, forwards, o.iterations);
  progress.finish();
  model.dispose();
  return {
    method: o.method,
    images: classes.length * o.ipc,
    ipc: o.ipc,
    size,
    groupPlan: plan.forwards,
    ...summary,
  };
}

/** Activations kept for the backward pass and their gradients, per image: about three floats per activation. */
function activationBytes({ arch, options: { widths, stem } }: Architecture, size: number): number {
  const floats =
    arch === 'convnet'
      ? widths.reduce((sum, w, i) => sum + 3 * w * (size >> i) ** 2, 0)
      : 64 * 40 * (stem === 'small' ? size : size / 4) ** 2;
  return Math.ceil(4 * 3 * floats) + 64 * size * size;
}
