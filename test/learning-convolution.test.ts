// Convolutions that learn go by Winograd's filtering from 1,024 pixels of a batch on. A batch that holds every image twice has
// the loss, the BatchNorm statistics and the gradients of the batch that holds it once, which is below that: both must move
// the weights alike, by one way and by the other.

import { expect, test } from 'vitest';
import { inputOf, openModel, openStore, trainSpec, wholeImages } from './util/jobs.ts';
import { native, quiet } from './util/native.ts';
import { f64, values } from './util/tensors.ts';
import { expectCloseInNorm } from './util/tolerance.ts';

const [SIZE, IMAGES] = [32, 3]; // the second layer sees 16 x 16: 768 pixels once, 1,536 twice
const WIDE = { inputSize: SIZE, options: { stem: 'small', widths: [64, 64], pooling: 'avg' } } as const;

/** How far one step of SGD moves every weight. */
async function moved(rows: number, precision: 'fp32' | 'bf16'): Promise<Record<string, Float64Array>> {
  const model = openModel(WIDE);
  const store = openStore(1, IMAGES, SIZE);
  const before = model.stateDict();
  const recipes = wholeImages(1, rows, IMAGES, SIZE);
  const base = trainSpec(1);
  const optimizer = { ...base.optimizer, kind: 'sgd', lr: f64([1], [0.5]), weightDecay: 0 } as const;
  await native().train(model, store, { ...base, precision, recipes, input: inputOf(1, SIZE), optimizer }, quiet)
    .promise;
  const after = model.stateDict();
  const names = ['features.0.conv.weight', 'features.1.conv.weight', 'features.1.norm.weight', 'classifier.weight'];
  return Object.fromEntries(
    names.map((name) => {
      const from = values(before[name]!);
      return [name, Float64Array.from(values(after[name]!), (v, i) => v - from[i]!)];
    }),
  );
}

const distance = (a: Float64Array, b: Float64Array) => Math.hypot(...a.map((v, i) => v - b[i]!)) / Math.hypot(...b);

test('fp32: a step moves the weights as a plain convolution would', async () => {
  const [once, twice] = [await moved(IMAGES, 'fp32'), await moved(2 * IMAGES, 'fp32')];
  for (const [name, wanted] of Object.entries(once)) {
    expect(Math.max(...wanted.map(Math.abs)), name).toBeGreaterThan(1e-4);
    expectCloseInNorm(name, twice[name]!, wanted, 1e-4);
  }
});

test('bf16: a step is no more than twice as far from that of fp32 as with plain convolutions', async () => {
  const exact = await moved(IMAGES, 'fp32');
  const [once, twice] = [await moved(IMAGES, 'bf16'), await moved(2 * IMAGES, 'bf16')];
  for (const [name, wanted] of Object.entries(exact))
    expect(distance(twice[name]!, wanted), name).toBeLessThan(2 * distance(once[name]!, wanted));
});
