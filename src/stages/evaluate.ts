// evaluate: what the students are worth on the real test images.

import { z } from 'zod';
import type { Dataset, Split } from '../datasets/types.ts';
import { expected, LpldError } from '../errors.ts';
import { score } from '../report/index.ts';
import { modelFlops, secondsOf } from './estimate.ts';
import { checkTestCrop, openImages, testTransform } from './images.ts';
import { type Architecture, type DatasetFacts, inputSpec, precisionOption, studentFile } from './shared.ts';
import { testModel } from './steps.ts';
import type { Stage } from './types.ts';

export const evaluateOptions = z.strictObject({
  batch: z.int().min(1).default(256).describe('test images per step'),
  precision: precisionOption,
});

export interface Evaluation {
  readonly top1: number;
  readonly top5: number;
  readonly loss: number;
}

export const evaluate: Stage = {
  name: 'evaluate',
  version: 1,
  summary: 'measure the students on the real test images',
  examples: [
    ['accuracy on the test images of the digits', 'evaluate --config quickstart --students d/students --out d/score'],
    [
      'on those of a dataset in a folder',
      'evaluate --config fashion-mnist --set dataset.path=data/fashion-mnist --students d/fashion/students --out d/fashion/score',
    ],
  ],
  inputs: ['students'],
  options: evaluateOptions,
  needs: () => ({ roles: ['students'], dataset: true }),
  identity: ({ evaluate: options, dataset }) => ({ evaluate: options, dataset: { ...dataset, path: '' } }),
  precision: (config) => config.evaluate.precision,
  estimate(config, { test }) {
    const { flops } = modelFlops(config.squeeze, config.dataset.inputSize);
    return {
      bytes: 1000,
      seconds: secondsOf(flops * test * config.train.students, config.evaluate.precision),
    };
  },

  foresee(config, dataset) {
    checkTestCrop(config);
    checkTest(dataset);
  },

  async run(context) {
    const { config, native, runtime, inputs, draft, dataset, progress } = context;
    const students = inputs.students!;
    const facts = await students.readJson<DatasetFacts>('input.json');
    const architecture = await students.readJson<Architecture>('model.json');
    const test = checkTest(dataset!);
    if (dataset!.classNames.length !== architecture.numClasses || dataset!.channels !== architecture.inChannels)
      throw new LpldError(
        'E_MISMATCH',
        expected(
          `a dataset of ${architecture.numClasses} classes and ${architecture.inChannels} channels`,
          'dataset',
          `${dataset!.classNames.length} classes and ${dataset!.channels} channels`,
        ),
      );
    using images = await openImages(context, test, dataset!.channels, testTransform(config));
    const { batch, precision } = config.evaluate;
    const input = inputSpec(native, facts);
    const count = students.manifest.files.filter((file) => /^student-\d+\.safetensors$/.test(file.path)).length;
    progress.start(count * Math.ceil(images.count / batch), 'batch', `${images.count} test images`);
    const runs: Evaluation[] = [];
    for (let number = 0; number < count; number++) {
      using model = native.createModel({ ...architecture, device: runtime.device, seed: 0n });
      model.loadStateDict(await students.readTensors(studentFile(number)));
      const { top1, top5, loss } = await testModel(context, { model, images, batch, number, input, precision });
      runs.push({ top1, top5, loss });
    }
    progress.finish();
    await draft.writeJson('evaluation.json', { count: images.count, runs });
    return { ...score(runs.map((run) => run.top1)) };
  },
};

function checkTest({ name, test }: Dataset): Split {
  if (test !== null) return test;
  const advice = 'evaluation needs real test images';
  throw new LpldError('E_DATA', expected('a test split', `dataset ${name}`, 'none', advice), { dataset: name });
}
