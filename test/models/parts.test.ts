// A batch larger than what a CPU answers at a time is cut into parts: no row is lost, moved or changed by it.

import { expect, test } from 'vitest';
import { MODEL } from '../util/jobs.ts';
import { native, ops } from '../util/native.ts';
import { f32, symmetric, values } from '../util/tensors.ts';

test.each(['fp32', 'bf16'] as const)('%s: 51 images of 224 px are answered as three times 17', (precision) => {
  const model = native().createModel({ ...MODEL, inputSize: 224 });
  const pixels = Float32Array.from(symmetric([51, 1, 224, 224], 4400));
  const ask = (from: number, to: number): number[] => {
    const part = pixels.subarray(from * 224 * 224, to * 224 * 224);
    return [...values(ops().forward(model, f32([to - from, 1, 224, 224], part), precision))];
  };
  const whole = ask(0, 51);
  expect(whole).toEqual([ask(0, 17), ask(17, 34), ask(34, 51)].flat());
  expect(new Set(whole).size).toBeGreaterThan(2 * 51); // no part is answered twice
  model.dispose();
});
