// relabel: the teacher answers for augmented, mixed views of the images; Recipe and encoded answer become a record.
// Which records exist is decided before any is made (plan.ts), so only the kept part is ever computed.
// Source: methods 4.1, 5.2; FKD and LPLD generate_soft_label.

import { z } from 'zod';
import { openSyntheticSet } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import { type LabelHeader, LabelWriter } from '../labels.ts';
import type { LabelSpec } from '../native.ts';
import { type LabelPlan, planRows, recordBatches } from '../plan.ts';
import { drawRecipes, LABEL_STREAMS } from '../recipe.ts';
import { codeOf, fitCodec } from './codec-fit.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import { AS_IS, openImages } from './images.ts';
import { planFor, planOptions, pruneRatioOption, STREAM_VERSION } from './label-plan.ts';
import { execution, inputSpec, precisionOption } from './shared.ts';
import { runSteps } from './steps.ts';
import { furtherTeachers, openTeachers, storedTeachers, teacherOptions } from './teachers.ts';
import { augmentOptions, augmentSpec, augmentTable } from './training.ts';
import type { Stage } from './types.ts';

export const relabelOptions = z.strictObject({
  batch: z
    .int()
    .min(1)
    .default(50)
    .describe('images per record, all where there are fewer; students train on whole records'),
  epochs: z.int().min(1).default(300).describe('label epochs before pruning'),
  ...augmentOptions,
  mix: augmentOptions.mix.default('cutmix'),
  ...teacherOptions,
  codec: z
    .string()
    .default('dense:f16')
    .describe('how logits are stored: dense:f16|int8|int4, topk:M:mr|ms|mrs, features, klt:BYTES or delta:BYTES a row'),
  fitRecords: z.int().min(1).default(64).describe('records whose answers a codec that learns is fitted to'),
  recipes: z
    .enum(['derived', 'explicit'])
    .default('derived')
    .describe('regenerate crops, flips and mixes from the seed (0 bytes), or store them'),
  pruneRatio: pruneRatioOption.describe(
    'make only this kept part: share of the records never made; prune can thin further from 0 only',
  ),
  ...planOptions,
  recordsPerShard: z.int().min(1).default(1024).describe('record ids of one shard file'),
  precision: precisionOption,
});
type RelabelConfig = z.infer<typeof relabelOptions>;

/** What labels.json says of a store apart from its shards. */
function labelHeader(
  options: RelabelConfig,
  plan: LabelPlan,
  facts: { numClasses: number; inputSize: number; seed: number },
): LabelHeader {
  const { images, batch, epochs, pruneRatio, dropLast, keep } = plan;
  return {
    codec: options.codec,
    recipes: options.recipes,
    numClasses: facts.numClasses,
    recordsPerShard: options.recordsPerShard,
    batch,
    inputSize: facts.inputSize,
    seed: facts.seed,
    streamVersion: STREAM_VERSION,
    augment: augmentTable.parse(options),
    teachers: storedTeachers(options),
    plan: { images, batch, epochs, pruneRatio, dropLast, keep },
  };
}

export const relabel: Stage = {
  name: 'relabel',
  version: 4,
  summary: "store the teacher's answers to augmented views of the images",
  examples: [
    ['labels of every epoch', 'relabel --config quickstart --teacher d/squeeze --images d/images --out d/labels'],
    [
      'only the tenth of them that prune would keep',
      'relabel --config quickstart --teacher d/squeeze --images d/images --prune-ratio 0.9 --out d/kept',
    ],
  ],
  inputs: ['teacher', 'images'],
  options: relabelOptions,
  needs: ({ relabel: { ensemble } }) => ({
    roles: ['teacher', 'images'],
    dataset: false,
    further: furtherTeachers(ensemble),
  }),
  identity: ({ relabel: options, seed }) => ({
    relabel: { ...options, ensemble: options.ensemble.length }, // their ids are inputs
    seed,
  }),
  precision: (config) => config.relabel.precision,
  estimate(config, { classes }) {
    const { epochs, pruneRatio, precision, ensemble } = config.relabel;
    const rows = classes * config.synthesize.ipc * epochs * (1 - pruneRatio);
    const { flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    return { bytes: rows * 2 * classes, seconds: secondsOf(flops * rows * (1 + ensemble.length), precision) };
  },

  foresee({ relabel: o, synthesize: { ipc, classes }, seed }, { classNames }) {
    planFor(o, ipc * (classes ?? classNames).length, BigInt(seed));
  },

  check({ relabel: { codec } }, native) {
    native.codecNeeds(codec);
  },

  async run(context) {
    const { config, native, runtime, inputs, draft, progress } = context;
    const o = config.relabel;
    const seed = BigInt(config.seed);
    const { facts, load } = await openTeachers(inputs);
    const set = await openSyntheticSet(inputs.images!.dir);
    if (set.channels !== facts.channels || set.classNames.length !== facts.classNames.length)
      throw new LpldError(
        'E_MISMATCH',
        expected(
          `images of ${facts.classNames.length} classes with ${facts.channels} channels`,
          'images',
          `${set.classNames.length} classes with ${set.channels}`,
          'give the images made for this teacher',
        ),
      );
    using models = await load(native, runtime);
    const teachers = models.all;
    const how = { ensemble: o.combine, teacherMode: o.teacherMode };
    using images = await openImages(context, set.train, set.channels, AS_IS);
    const input = inputSpec(native, facts);
    const { size } = set.description;
    const sizes = (): readonly [number, number] => [size, size]; // of every image: the set's reader refuses others
    const plan = planFor(o, images.count, seed);
    const writer = await LabelWriter.open(
      draft,
      labelHeader(o, plan, { numClasses: facts.classNames.length, inputSize: facts.inputSize, seed: config.seed }),
    );
    const recipesOf = (recordIds: Int32Array) =>
      drawRecipes(recordBatches(plan, seed, recordIds), {
        seed,
        augment: augmentSpec(o),
        sizes,
        inputSize: input.size,
        purposes: LABEL_STREAMS,
      });
    let basis = await writer.readBasis();
    if (basis === null) {
      const sample = plan.recordIds.slice(0, o.fitRecords);
      const numClasses = facts.classNames.length;
      const fit = { teachers, ...how, images, sizes, input, numClasses, recipesOf, seed };
      basis = await fitCodec(context, { ...fit, recordIds: sample });
      await writer.writeBasis(basis);
    }
    const wanted = writer.remaining(plan.recordIds);
    const offset = plan.recordIds.length - wanted.length;
    const bytesPerRecord = plan.batch * facts.classNames.length * 4;
    let [agreed, made] = [0, 0]; // rows
    progress.start(plan.recordIds.length, 'record', 'soft labels');
    progress.update(offset);
    let [recordIds, recipes] = [wanted, recipesOf(new Int32Array(0))]; // of the segment at work
    await runSteps(context, {
      images,
      imagesOf: (first, last) => recordBatches(plan, seed, wanted.slice(first, last)).map(({ indices }) => indices),
      first: 0,
      total: wanted.length,
      limit: Math.max(1, Math.floor((256 << 20) / bytesPerRecord)),
      done: offset,
      job({ store, last, local }, first) {
        recordIds = wanted.slice(first, last);
        recipes = recipesOf(recordIds);
        const spec: LabelSpec = {
          ...execution(runtime, o.precision),
          recipes: local(recipes),
          input,
          ...how,
          ...codeOf(o.codec, basis, recordIds, seed, recipes),
          hashPixels: false,
        };
        return (on) => native.label(teachers, store, spec, on);
      },
      async result({ agreement, tensors, blobs }) {
        const rows = recipes.index.shape[0]!;
        agreed += agreement * rows;
        made += rows;
        const stored = o.recipes === 'explicit' ? recipes : null;
        await writer.append({ recordIds, offset: recipes.offset, recipes: stored, tensors, blobs });
      },
      save: async () => {}, // shards are the saved state
    });
    await writer.finish();
    if (made > 0) await draft.note({ teacherAgreement: agreed / made });
    progress.finish();
    return {
      records: plan.recordIds.length,
      rows: planRows(plan).kept,
      codec: o.codec,
      recipes: o.recipes,
    };
  },
};
