// synthesize: the teacher and its statistics become a few images per class. Several classes share a forward (a group
// plan, computed once and written to the manifest); statistics, losses and draws stay per group.
// Source: methods 0.5 (loop), 3.3 (LPLD), DESIGN 6.3 (groups). The loop is native/jobs/synthesize.cpp.

import { z } from 'zod';
import type { ImageFile } from '../datasets/splits.ts';
import { imageName, SHARD_FILE, setOf } from '../datasets/synthetic-set.ts';
import { expected, LpldError, toLpldError } from '../errors.ts';
import { classesOf, classesPerForward, type Forward, SHARD, shardOf } from '../groups.ts';
import { METHODS, methodNamed, type SynthesisGroup } from '../methods/index.ts';
import { counted } from '../report/format.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import { membersOf, takeReal } from './real-images.ts';
import { type Architecture, type DatasetFacts, loadTeacher, precisionOption } from './shared.ts';
import { makeForward, type SynthesisRun } from './synthesis-forward.ts';
import { lossFile, writeCurves } from './synthesis-losses.ts';
import { SynthesisPlan } from './synthesis-plan.ts';
import { forgetSnapshots } from './synthesis-snapshot.ts';
import { cropScaleOption } from './training.ts';
import type { Stage, StageContext, Summary } from './types.ts';
import { withinClass } from './within-class.ts';

const table = z.strictObject({
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
  // QUIRK(tiny-rbn): SRe2L's Tiny script says 1, its parser 0.05; the preset follows the script.
  rBn: z.number().min(0).default(0.05).describe('weight of the BatchNorm matching loss'),
  // QUIRK(first-bn): the first layer's term counts tenfold in every script; kept.
  firstBnMultiplier: z.number().min(0).default(10).describe('weight of the first BatchNorm layer within it'),
  tvL2: z.number().min(0).default(0).describe('weight of the total variation prior'),
  l2Scale: z.number().min(0).default(0).describe('weight of the L2 prior'),
  cropScale: cropScaleOption
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
    .describe('make only these classes; whole groups of the plan')
    .meta({ ranges: true }),
  shard: z
    .string()
    .regex(SHARD)
    .meta({ words: 'I/N such as 2/8' })
    .nullable()
    .default(null)
    .describe('make only part I of N of the plan, such as 2/8; `merge` joins the parts'),
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

export const synthesizeOptions = table.superRefine(({ rollMin, rollMax }, { addIssue }) => {
  const params = { received: rollMax }; // it may be the default
  if (rollMin > rollMax)
    addIssue({ code: 'custom', path: ['rollMax'], message: `at least rollMin (${rollMin})`, params });
});

/** Past this many pixels in a forward a CPU gets slower per image: the activations leave the cache. */
const CACHE_PIXELS = 20 * 64 * 64;

/** Whether a method takes real images in place of making some. */
const isReal = (method: string): boolean => methodNamed(method).source === 'real';

export const synthesize: Stage = {
  name: 'synthesize',
  version: 2,
  summary: 'make a few synthetic images per class from the teacher and its statistics',
  examples: [
    ['images of the digits', 'synthesize --config quickstart --teacher d/squeeze --out d/images'],
    [
      'the second of four parts, each on a machine of its own; merge joins them',
      'synthesize --config imagenet-1k-lpld --teacher d/resnet18 --shard 2/4 --groups-per-forward 10 --out d/shard-2',
    ],
  ],
  inputs: ['teacher'],
  options: synthesizeOptions,
  needs: (config) =>
    isReal(config.synthesize.method) ? { roles: [], dataset: true } : { roles: ['teacher'], dataset: false },
  identity({ synthesize: options, dataset, seed }) {
    if (!isReal(options.method)) return { synthesize: options, seed };
    const { method, ipc, encoding, classes } = options;
    return { synthesize: { method, ipc, encoding, classes }, dataset: { ...dataset, path: '' }, seed };
  },
  precision: (config) => (isReal(config.synthesize.method) ? 'fp32' : config.synthesize.precision),
  estimate(config, { classes }) {
    const { method, ipc, iterations, precision, shard } = config.synthesize;
    const images = (classes * ipc) / (shard === null ? 1 : shardOf(shard).count);
    const { flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    return {
      bytes: images * 0.6 * config.dataset.inputSize ** 2,
      seconds: isReal(method) ? 1 : secondsOf(2 * flops * images * iterations, precision),
    };
  },
  foresee({ synthesize: o, squeeze }, dataset) {
    if (isReal(o.method)) membersOf(dataset, o.classes, o.ipc);
    else if (squeeze.stats === 'none' && needsStats(groupsOf(o, dataset.classNames.length)))
      throw new LpldError('E_CONFIG', expected('exact or ema', 'squeeze.stats', 'none', needed(o.method)), {
        key: 'squeeze.stats',
      });
  },

  run: (context) => (isReal(context.config.synthesize.method) ? takeReal(context) : optimise(context)),
};

type Options = z.infer<typeof table>;

/** The groups of all classes, in the order they are made. */
const groupsOf = ({ method, ipc, batch, targets }: Options, numClasses: number): SynthesisGroup[] =>
  methodNamed(method).groups([...Array(numClasses).keys()], { ipc, batch, numClasses, targets });

const needsStats = (groups: readonly SynthesisGroup[]): boolean => groups.some(({ target }) => target !== 'global');

const needed = (method: string): string =>
  `method ${method} matches each class's statistics: squeeze with --stats exact or ema, or give --targets global`;

async function optimise(context: StageContext): Promise<Summary> {
  const { config, native, runtime, inputs, draft, progress } = context;
  const o = config.synthesize;
  const teacher = inputs.teacher!;
  const facts = await teacher.readJson<DatasetFacts>('dataset.json');
  const size = facts.inputSize;
  if (o.shard !== null && o.classes !== null)
    throw new LpldError('E_CONFIG', expected('one of synthesize.shard and synthesize.classes', 'synthesize', 'both'));
  const groups = groupsOf(o, facts.classNames.length);
  const matched = needsStats(groups);
  if (matched && !teacher.has('stats.safetensors'))
    throw new LpldError(
      'E_MISMATCH',
      expected('a teacher with class statistics', 'teacher', teacher.dir, needed(o.method)),
      { path: teacher.dir },
    );
  const stats = matched ? await teacher.readTensors('stats.safetensors') : {};
  using model = await loadTeacher(native, runtime, teacher);
  const bytesPerImage = activationBytes(await teacher.readJson<Architecture>('model.json'), size);

  if (!draft.resumed) await forgetSnapshots(draft);
  const sized = (): number =>
    o.groupsPerForward ??
    classesPerForward({
      ipc: groups[0]!.images.length,
      bytesPerImage,
      memory: (native.deviceMemory(runtime.device).free || runtime.memory) / 2,
      cacheImages: runtime.device === 'cpu' ? Math.max(1, Math.floor(CACHE_PIXELS / (size * size))) : null,
    });
  const plan = await SynthesisPlan.open(draft, groups, o, sized);
  await makeAll({ context, model, stats, running: model.stateDict(), facts, told: new Set() }, plan);

  const { forwards, record } = plan;
  const classes = [...new Set(forwards.flatMap((forward) => classesOf(forward.groups)))].sort((a, b) => a - b);
  const made = {
    method: o.method,
    images: forwards.flatMap((forward) => forward.groups).reduce((sum, group) => sum + group.images.length, 0),
    ipc: o.ipc,
    size,
    groupsPerForward: record.groupsPerForward,
    groupPlan: (o.shard === null ? plan.all : forwards).map((forward) => classesOf(forward.groups)),
    ...(record.halved.length > 0 ? { halved: record.halved } : {}),
    ...(await writeCurves(draft, forwards, o.iterations, model.normLayers)),
  };
  if (o.shard !== null) {
    await draft.writeJson(SHARD_FILE, { shard: o.shard, firstGroups: forwards.map(({ first }) => first), ...record });
    progress.finish();
    return { shard: o.shard, ...made };
  }
  const files = classes.flatMap((label) =>
    Array.from({ length: o.ipc }, (_, id): ImageFile => {
      const name = imageName(label, id, o.encoding);
      return { name, path: draft.path(name), label };
    }),
  );
  const similarity = await withinClass(context, model, facts, files, size);
  await draft.writeJson('similarity.json', similarity);
  await draft.writeJson('set.json', setOf(facts, { size, classes, ipc: o.ipc, encoding: o.encoding }));
  progress.finish();
  return { ...made, withinClassSimilarity: similarity.mean };
}

/** Makes every forward of the plan that is not made yet; where memory runs out, of half as many groups each. */
async function makeAll(run: SynthesisRun, plan: SynthesisPlan): Promise<void> {
  const { draft, progress, config } = run.context;
  const { iterations } = config.synthesize;
  const begin = (): Forward[] => {
    const { forwards, record } = plan;
    const most = record.halved.at(-1)?.groupsPerForward ?? record.groupsPerForward;
    progress.start(
      forwards.length * iterations,
      'iteration',
      `${counted(forwards.length, 'forward')} of up to ${counted(most, 'group')}`,
    );
    return forwards;
  };
  let forwards = begin();
  for (let position = 0; position < forwards.length; ) {
    const forward = forwards[position]!;
    try {
      if (!draft.has(lossFile(forward))) await makeForward(run, forward, position);
      position++;
      progress.update(position * iterations);
    } catch (thrown) {
      const error = toLpldError(thrown);
      if (error.code !== 'E_DEVICE' || error.details.reason !== 'memory') throw error;
      const groups = forward.groups.length;
      if (groups === 1) throw outOfMemory(error, forward);
      const { fromGroup, groupsPerForward } = await plan.halve(forward);
      progress.log(
        `out of memory with ${groups} groups in a forward (${error.message.split('\n')[0]}); from group ${fromGroup} on a new plan, recorded: ${groupsPerForward} groups`,
      );
      forwards = begin();
    }
  }
}

function outOfMemory(cause: LpldError, { groups }: Forward): LpldError {
  const images = groups[0]!.images.length;
  const what = `out of memory with one group of ${images} images in a forward: ${cause.message.split('\n')[0]}`;
  const advice = 'lower synthesize.batch or the image size, use --precision bf16, or a device with more memory';
  return new LpldError('E_DEVICE', `${what}\n${advice}`, { ...cause.details, images }, cause);
}

/** Activations kept for the backward pass and their gradients, per image: about three floats per activation. */
function activationBytes({ arch, options: { widths, stem } }: Architecture, size: number): number {
  const floats =
    arch === 'convnet'
      ? widths.reduce((sum, w, i) => sum + 3 * w * (size >> i) ** 2, 0)
      : 64 * 40 * (stem === 'small' ? size : size / 4) ** 2;
  return Math.ceil(4 * 3 * floats) + 64 * size * size;
}
