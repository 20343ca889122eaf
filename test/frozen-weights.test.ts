// A frozen model keeps what it made of its weights (folded norms, bf16 copies, Winograd's points) from job to job. Whatever came
// between, its answers are those of a new model with the same weights, bit for bit.

import { expect, test } from 'vitest';
import type { NativeModel, Precision } from '../src/native.ts';
import type { TensorMap } from '../src/tensor.ts';
import { openModel, openStore, statsSpec, trainSpec } from './util/jobs.ts';
import { native, ops, quiet } from './util/native.ts';
import { f32, symmetric, values } from './util/tensors.ts';

const WIDE = { options: { stem: 'small', widths: [64, 64], pooling: 'avg' } } as const;
const PIXELS = [3, 1, 8, 8];
const x = f32(PIXELS, symmetric(PIXELS, 7200));
const answers = (model: NativeModel, precision: Precision) => ops().forward(model, x, precision).data;

function expectAsNew(model: NativeModel, precision: Precision): void {
  const fresh = openModel({ ...WIDE, seed: 99n });
  fresh.loadStateDict(model.stateDict());
  expect(answers(model, precision)).toEqual(answers(fresh, precision));
}

/** The state with one tensor changed: half of every value. */
function changed(state: TensorMap, name: string): TensorMap {
  const of = state[name]!;
  return {
    ...state,
    [name]: f32(
      of.shape,
      values(of).map((v) => v / 2 + 0.25),
    ),
  };
}

test.each(['fp32', 'bf16'] as const)('%s: after every kind of change', async (precision) => {
  const model = openModel(WIDE);
  const first = answers(model, precision);
  expectAsNew(model, precision === 'fp32' ? 'bf16' : 'fp32');
  expect(answers(model, precision)).toEqual(first);
  for (const name of ['features.1.conv.weight', 'features.1.norm.running_mean', 'features.0.norm.weight']) {
    const before = answers(model, precision);
    model.loadStateDict(changed(model.stateDict(), name));
    expect(answers(model, precision), name).not.toEqual(before);
    expectAsNew(model, precision);
  }
  const before = answers(model, precision);
  await native().train(model, openStore(), { ...trainSpec(2), precision }, quiet).promise;
  expect(answers(model, precision)).not.toEqual(before);
  expectAsNew(model, precision);
  const trained = answers(model, precision);
  await native().collectStats(model, openStore(), { ...statsSpec(2, model), precision }, quiet).promise;
  expect(answers(model, precision)).toEqual(trained);
});
