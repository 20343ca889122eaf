// train: students learn from the label pool. Each step reads one record, replays exactly the pixels the teacher labelled
// and takes the KL divergence at temperature T (or, for controls, cross-entropy with hard labels on the same Recipes).
// Source: methods 6 (loss, settings), 5.3 (how an epoch is drawn from the pool).

import { z } from 'zod';
import { openSyntheticSet } from '../datasets/synthetic-set.ts';
import { RECIPE_ROW_BYTES } from '../label-format.ts';
import type { InputSpec, NativeModel } from '../native.ts';
import { Purpose, words } from '../rng.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import { AS_IS, type ImageSource, openImages } from './images.ts';
import { hardPool, imagesOfPool, openPool, type Pool, poolPositions, readPool } from './pool.ts';
import {
  type Architecture,
  architectureOptions,
  checkArch,
  type EpochMeans,
  inputSpec,
  precisionOption,
  studentFile,
} from './shared.ts';
import { trainModel } from './steps.ts';
import { augmentTable, optimizerOptions } from './training.ts';
import type { Stage, StageContext } from './types.ts';

export const trainOptions = z.strictObject({
  arch: z.string().nullable().default(null).describe("student architecture; the teacher's when none"),
  widths: architectureOptions.widths
    .nullable()
    .default(null)
    .describe("convnet: channels of each block; the teacher's when none"),
  students: z.int().min(1).default(1).describe('students trained, from different initial weights and pool draws'),
  epochs: z.int().min(1).default(300).describe('student epochs, each as many steps as a label epoch has records'),
  targets: z
    .enum(['soft', 'hard'])
    .default('soft')
    .describe("soft labels of the pool, or the images' classes on the same Recipes"),
  ...optimizerOptions,
  temperature: z.number().positive().default(20).describe('temperature of the KL loss'),
  // QUIRK(t-squared): only the Tiny scripts multiply by T squared; kept in presets.
  // QUIRK(logit-smoothing): label smoothing s of IN21K is applied to logits: t (1 - s) + s / K, which under a softmax is a
  // teacher of temperature T / (1 - s); kept under its name.
  teacherTemperature: z
    .number()
    .positive()
    .nullable()
    .default(null)
    .describe("temperature of the teacher's logits; the student's when none"),
  temperatureSquared: z.boolean().default(false).describe('multiply the loss by T squared'),
  // QUIRK(string-zero): one script compares the ratio 0.0 with the text 0 and draws at random at 1x; changed: auto replays.
  draw: z
    .enum(['auto', 'with-replacement', 'permutation', 'ordered', 'whole-epochs'])
    .default('auto')
    .describe(
      'how an epoch is drawn from the pool; auto: ordered for a full pool, else with-replacement; whole-epochs: one of ' +
        'the label epochs kept whole',
    ),
  lastBatchRule: z
    .boolean()
    .default(true)
    .describe('with-replacement: never draw the last batch of a label epoch, as published'),
  precision: precisionOption,
});

export const train: Stage = {
  name: 'train',
  version: 1,
  summary: 'train students on the labels, replaying the pixels the teacher saw',
  examples: [
    ['students of the pruned labels', 'train --config quickstart --images d/images --labels d/pool --out d/students'],
    [
      'five wider ones',
      'train --config quickstart --images d/images --labels d/pool --widths 64,128 --students 5 --out d/wider',
    ],
  ],
  inputs: ['images', 'labels'],
  options: trainOptions,
  needs: (config) => ({ roles: config.train.targets === 'soft' ? ['images', 'labels'] : ['images'], dataset: false }),
  identity({ train: options, relabel, squeeze, dataset, seed }) {
    const { arch, stem, widths, pooling } = squeeze;
    const student = {
      arch: options.arch ?? arch,
      stem,
      widths: options.widths ?? widths,
      pooling,
      inputSize: dataset.inputSize,
    };
    const { batch, epochs, dropLast } = relabel;
    const recipes = options.targets === 'hard' ? { batch, epochs, dropLast, ...augmentTable.parse(relabel) } : null;
    return { train: options, student, recipes, seed };
  },
  precision: (config) => config.train.precision,
  estimate(config, { classes }) {
    const { bytes, flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    const rows = classes * config.synthesize.ipc * config.train.epochs * config.train.students;
    return {
      bytes: bytes * config.train.students,
      seconds: secondsOf(3 * flops * rows, config.train.precision),
    };
  },

  check({ train, squeeze, dataset: { inputSize } }, native) {
    const { arch, widths } = train;
    if (arch !== null) checkArch(native, 'train.arch', arch);
    if (arch === null && widths === null) return; // the teacher's, which was made
    const { stem, pooling } = squeeze;
    const options = { stem, pooling, widths: widths ?? squeeze.widths };
    const architecture = { arch: arch ?? squeeze.arch, options, inputSize, numClasses: 2, inChannels: 1 };
    native.createModel({ ...architecture, device: 'cpu', seed: 0n }).dispose(); // whether that many blocks fit
  },

  async run(context) {
    const { config, native, runtime, inputs, draft, progress } = context;
    const o = config.train;
    const images = inputs.images!;
    const set = await openSyntheticSet(images.dir);
    using source = await openImages(context, set.train, set.channels, AS_IS);
    const pool = o.targets === 'soft' ? await openPool(context, set) : hardPool(context, source.count);
    await using _open = pool.labels; // closed whatever happens
    const inputSize = config.dataset.inputSize;
    const input = inputSpec(native, { mean: set.mean, std: set.std, inputSize });
    const { arch, stem, widths, pooling } = config.squeeze;
    const architecture: Architecture = {
      arch: o.arch ?? arch,
      numClasses: set.classNames.length,
      inChannels: set.channels,
      inputSize,
      options: { stem, widths: o.widths ?? widths, pooling },
    };
    const steps = o.epochs * pool.plan.batchesPerEpoch;
    progress.start(o.students * steps, 'step', `${o.students} student${o.students > 1 ? 's' : ''}`);
    const series: ReturnType<EpochMeans['series']>[] = [];
    for (let number = 0; number < o.students; number++) {
      if (!draft.has(studentFile(number))) {
        const [low, high] = words(BigInt(config.seed), Purpose.weights, 0xffffffff, number + 1, 0);
        const seed = (BigInt(high!) << 32n) | BigInt(low!); // one 64-bit seed per student: weights and pool draws
        using model = native.createModel({ ...architecture, device: runtime.device, seed });
        const curve = await trainStudent(context, { number, seed, model, images: source, input, pool });
        await draft.writeJson(`curve-${number}.json`, curve.series(`student ${number + 1}`));
        await draft.writeTensors(studentFile(number), model.stateDict(), { arch: architecture.arch });
      }
      series.push(await draft.readJson(`curve-${number}.json`));
      progress.update((number + 1) * steps);
    }
    await draft.writeJson('model.json', architecture);
    await draft.writeJson('input.json', {
      mean: set.mean,
      std: set.std,
      inputSize,
      channels: set.channels,
      classNames: set.classNames,
    });
    await draft.writeJson('curves.json', { x: 'epoch', series });
    progress.finish();
    return { students: o.students, targets: o.targets, steps };
  },
};

interface Student {
  readonly number: number;
  readonly seed: bigint;
  readonly model: NativeModel;
  readonly images: ImageSource;
  readonly input: InputSpec;
  readonly pool: Pool;
}

function trainStudent(context: StageContext, student: Student): Promise<EpochMeans> {
  const { model, images, input, pool, number, seed } = student;
  const o = context.config.train;
  const { temperature, temperatureSquared, draw, lastBatchRule } = o;
  const teacherTemperature = o.teacherTemperature ?? temperature;
  const recordBytes = pool.plan.batch * (4 * (pool.labels?.index.numClasses ?? 0) + RECIPE_ROW_BYTES);
  const positions = (first: number, last: number): Int32Array =>
    poolPositions(pool, { seed, draw, lastBatchRule, first, last });
  return trainModel(context, {
    name: 'student',
    number,
    who: `student ${number + 1}`,
    model,
    options: o,
    perEpoch: pool.plan.batchesPerEpoch,
    images,
    imagesOf: (first, last) => imagesOfPool(pool, positions(first, last)),
    input,
    limit: Math.max(1, Math.floor((256 << 20) / recordBytes)),
    batches({ sizes, last }, first) {
      const temperatures = { temperature, teacherTemperature, temperatureSquared };
      return readPool(pool, positions(first, last), { sizes, inputSize: input.size, ...temperatures });
    },
  });
}
