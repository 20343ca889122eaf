// What train and evaluate answer, held against sums and losses worked out here: the parts of an evaluation, and the
// temperature of the teacher, which is label smoothing on logits under another name (methods 6.2).

import { expect, test } from 'vitest';
import type { EvaluateResult, TrainSpec } from '../src/native.ts';
import { sliceRecipes } from '../src/recipe.ts';
import { arrayOf } from '../src/tensor.ts';
import { denseCode, halves } from './util/codes.ts';
import { BATCH, evaluateSpec, MODEL, openModel, openStore, trainSpec } from './util/jobs.ts';
import { native } from './util/native.ts';

const quiet = () => {};

test('an evaluation in parts has the hits and summed losses of one call, step by step', async () => {
  const [model, store] = [openModel(), openStore()];
  const spec = evaluateSpec(5);
  const whole = await native().evaluate(model, store, spec, quiet).promise;
  expect(whole.hits).toMatchObject({ dtype: 'I32', shape: [5, 2] });
  expect(whole.stepLoss).toMatchObject({ dtype: 'F64', shape: [5] });
  const hits = arrayOf(whole.hits, 'I32');
  const sum = (column: number) => hits.filter((_, i) => i % 2 === column).reduce((a, b) => a + b, 0);
  expect([sum(0) / whole.count, sum(1) / whole.count]).toEqual([whole.top1, whole.top5]);
  expect(whole.count).toBe(5 * BATCH);
  expect(arrayOf(whole.stepLoss, 'F64').reduce((a, b) => a + b, 0) / whole.count).toBe(whole.loss);
  const parts: EvaluateResult[] = [];
  for (const [from, to] of [
    [0, 2],
    [2, 3],
    [3, 5],
  ] as const) {
    const recipes = sliceRecipes(spec.recipes, from, to);
    parts.push(await native().evaluate(model, store, { ...spec, recipes }, quiet).promise);
  }
  expect(parts.flatMap((part) => [...arrayOf(part.hits, 'I32')])).toEqual([...hits]);
  expect(parts.flatMap((part) => [...arrayOf(part.stepLoss, 'F64')])).toEqual([...arrayOf(whole.stepLoss, 'F64')]);
});

test("a teacher's temperature of 25 beside 20 is its logits times 0.8, bit for bit; an impossible one is refused", async () => {
  const K = MODEL.numClasses;
  const loss = async (factor: number, teacherTemperature: number): Promise<number> => {
    const logits = Array.from({ length: BATCH * K }, (_, i) => factor * ((i * 7) % 11)); // 5 n and 4 n: exact in halves
    const target: TrainSpec['target'] = {
      kind: 'soft',
      ...denseCode(1),
      tensors: halves([BATCH, K], logits),
      blobs: null,
      temperature: 20,
      teacherTemperature,
      lossScale: 1,
    };
    const result = await native().train(openModel(), openStore(), { ...trainSpec(1), target }, quiet).promise;
    return arrayOf(result.loss, 'F64')[0]!;
  };
  const smoothed = await loss(5, 25);
  expect(smoothed).toBe(await loss(4, 20));
  expect(smoothed).not.toBe(await loss(5, 20));
  for (const wrong of [0, -1, Number.NaN]) await expect(loss(5, wrong)).rejects.toMatchObject({ code: 'E_CONFIG' });
});
