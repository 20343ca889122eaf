// The memory of LibTorch's CPU tensors (native/core/host_memory.h): what a job keeps is handed out again in its next steps,
// stays bounded and is given back when the engine idles; what nobody can allocate is E_DEVICE and leaves the process whole.

import { setTimeout as sleep } from 'node:timers/promises';
import { expect, test } from 'vitest';
import type { NativeBinding } from '../src/native.ts';
import { drawSynthesis } from '../src/recipe.ts';
import { inputOf, MODEL, openModel, openStore, synthesizeSpec, trainSpec, wholeImages } from './util/jobs.ts';
import { native, quiet } from './util/native.ts';
import { f32, f64, i32 } from './util/tensors.ts';

const SIZE = 64;
const MIB = 2 ** 20;

/** Iterations of a network whose activations take megabytes: 4 MiB a tensor at 16 images. */
async function synthesize(images: number, steps: number): Promise<void> {
  const model = openModel({ ...MODEL, inputSize: SIZE, options: { stem: 'small', widths: [16], pooling: 'avg' } });
  const zeros = () => f32([images, 1, SIZE, SIZE], new Float64Array(images * SIZE * SIZE));
  const targets = f32([1, 16], new Float64Array(16).fill(1));
  const spec = {
    ...synthesizeSpec(steps),
    ...{ groups: 1, imagesPerGroup: images, labels: i32([images], new Int32Array(images)) },
    state: { x: zeros(), m: zeros(), v: zeros() },
    ...drawSynthesis({
      ...{ seed: 1n, objects: [0], t0: 0, t1: steps, size: SIZE, scale: () => [0.5, 1] as const },
      ...{ flip: true, rollMin: 0, rollMax: 0 },
    }),
    ...{ lr: f64([steps], new Float64Array(steps).fill(0.1)), targetMean: targets, targetVar: targets },
  };
  await native().synthesize(model, spec, quiet).promise;
}

const idle = async (): Promise<ReturnType<NativeBinding['hostMemory']>> => {
  for (let i = 0; i < 200 && native().hostMemory().kept > 0; i++) await sleep(100);
  return native().hostMemory();
};

test('a job keeps what it freed, no more with more steps, and an idle engine keeps nothing', async () => {
  await synthesize(16, 1);
  const { kept } = native().hostMemory();
  expect(kept).toBeGreaterThan(8 * MIB);
  await synthesize(16, 12);
  expect(native().hostMemory().kept).toBeLessThan(1.25 * kept + MIB);
  expect((await idle()).kept).toBe(0);
});

test('steps after the first take the blocks the one before freed, and next to no new ones', async () => {
  const before = await idle(); // nothing is kept of another job
  await synthesize(16, 12);
  const after = native().hostMemory();
  const [fresh, reused] = [after.fresh - before.fresh, after.reused - before.reused];
  const perStep = (fresh + reused) / 12;
  expect(perStep).toBeGreaterThanOrEqual(4); // images, activations and the gradients of both
  expect(fresh).toBeGreaterThan(0);
  expect(fresh).toBeLessThan(2 * perStep); // twelve steps would need 12 times as many
});

test('steps of a training whose tensors are small and of many sizes take freed blocks too', async () => {
  const [images, size, steps] = [20, 28, 20];
  const options = { stem: 'small', widths: [16, 32, 64], pooling: 'avg' } as const;
  const [model, store] = [openModel({ inputSize: size, options }), openStore(1, images, size)];
  const recipes = wholeImages(steps, images, images, size);
  const before = await idle();
  await native().train(model, store, { ...trainSpec(steps), recipes, input: inputOf(1, size) }, quiet).promise;
  const after = native().hostMemory();
  const [fresh, reused] = [after.fresh - before.fresh, after.reused - before.reused];
  expect(fresh + reused).toBeGreaterThan(8 * steps);
  expect(fresh).toBeLessThan(2 * steps); // 8 of 300: the first step's
});

test('a small job after a large one leaves no more kept than it used itself', async () => {
  await synthesize(64, 1);
  const large = native().hostMemory().kept;
  await synthesize(4, 1);
  expect(native().hostMemory().kept).toBeLessThan(large / 4);
});

test('without a job nothing is kept', async () => {
  const { used } = await idle();
  const model = openModel({
    inputSize: SIZE,
    options: { stem: 'small', widths: [512], pooling: 'avg' },
    numClasses: 64,
  });
  expect(native().hostMemory().used).toBeGreaterThan(used + 64 * MIB);
  model.dispose();
  const after = native().hostMemory();
  expect(after.kept).toBe(0);
  expect(after.used).toBeLessThanOrEqual(used); // less where a result of an earlier job was collected meanwhile
});

test('more than the address space holds is refused with E_DEVICE, and the next job runs', async () => {
  const wide = { stem: 'small', widths: [2 ** 15, 2 ** 25], pooling: 'avg' } as const; // 2^15 * 2^25 * 9 * 4 bytes
  expect(() => openModel({ options: wide })).toThrow(expect.objectContaining({ code: 'E_DEVICE' }));
  await synthesize(4, 1);
});
