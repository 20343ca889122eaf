// Convolutions that learn go by Winograd's filtering from 1,024 pixels of a batch on. A batch that holds every image twice has
// the loss, the BatchNorm statistics and the gradients of the batch that holds it once, which is below that: both must move
// the weights alike, by one way and by the other.

import { expect, onTestFinished, test } from 'vitest';
import type { Recipes } from '../src/native.ts';
import { testImages } from './util/images.ts';
import { openModel, trainSpec } from './util/jobs.ts';
import { native, noCutout, ops, quiet } from './util/native.ts';
import { f32, f64, i32, u8, values } from './util/tensors.ts';
import { expectCloseInNorm } from './util/tolerance.ts';

const [SIZE, IMAGES] = [32, 3]; // the second layer sees 16 x 16: 768 pixels once, 1,536 twice
const WIDE = { inputSize: SIZE, options: { stem: 'small', widths: [64, 64], pooling: 'avg' } } as const;

/** One batch of whole images in turn, nothing flipped or mixed. */
function batchOf(rows: number): Recipes {
  const each = <T>(f: (row: number) => T): T[] => Array.from({ length: rows }, (_, row) => f(row));
  return {
    offset: i32([2], [0, rows]),
    index: i32(
      [rows],
      each((row) => row % IMAGES),
    ),
    crop: i32([rows, 4], each(() => [0, 0, SIZE, SIZE]).flat()),
    flip: u8([rows], new Uint8Array(rows)),
    ...noCutout(rows),
    mixKind: u8([rows], new Uint8Array(rows)),
    mixIndex: i32(
      [rows],
      each((row) => row),
    ),
    mixBox: i32([rows, 4], new Int32Array(rows * 4)),
    lambda: f32([rows], new Float32Array(rows).fill(1)),
  };
}

/** How far one step of SGD moves every weight. */
async function moved(rows: number, precision: 'fp32' | 'bf16'): Promise<Record<string, Float64Array>> {
  const model = openModel(WIDE);
  const store = native().createImageStore({ channels: 1, device: 'cpu' });
  onTestFinished(() => store.dispose());
  const labels = Int32Array.from({ length: IMAGES }, (_, i) => i % 3);
  store.append(testImages(IMAGES, SIZE, SIZE, 1), labels, {
    ...{ height: SIZE, width: SIZE, resize: 'none', size: 0, centerCrop: 0 },
  });
  const before = model.stateDict();
  const input = { size: SIZE, normalize: ops().normalizeTable(f32([1], [0.5]), f32([1], [0.25])) };
  const base = trainSpec(1);
  const optimizer = { ...base.optimizer, kind: 'sgd', lr: f64([1], [0.5]), weightDecay: 0 } as const;
  await native().train(model, store, { ...base, precision, recipes: batchOf(rows), input, optimizer }, quiet).promise;
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
