// The CUDA kernels without a card: every .cu compiled for the host as loops over the same blocks and threads
// (native/kernels/emulation.cpp) is loaded in place of liblpld_kernels.so and serves tensors on the CPU. The test files
// imported below then run through dispatch, autograd glue, tables, the counter and the kernels' index arithmetic, against the
// same references and PyTorch numbers as the CPU bodies. LibTorch fills new tensors with NaN meanwhile, so that a value no
// thread wrote shows. Only a device shows launches, memory spaces, races between threads, streams and graphs.

import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/libtorch.ts';
import { MODEL, synthesizeSpec } from './util/jobs.ts';
import { native, ops, quiet } from './util/native.ts';
import { bf16, caseOf, run } from './util/norm-act.ts';
import { f32, i32, symmetric, u8, values } from './util/tensors.ts';
import { expectClose, TOLERANCE } from './util/tolerance.ts';

const path = join(packageRoot, 'build', 'emulation', 'liblpld_emulation.so');

/** Every op of the kernels on a problem larger than a block, odd in every size. */
function answers(): Record<string, Float64Array> {
  const shape = [6, 3, 37, 37];
  const [x, grad] = [symmetric(shape, 700), symmetric(shape, 701)];
  const views = {
    crop: i32([2, 4], [3, 5, 7, 29, 0, 11, 37, 1]),
    flip: u8([2], [1, 0]),
    roll: i32([2, 2], [-4, 3, 36, -1]),
  };
  const crop = ops().cropFlipRoll(f32(shape, x), 2, views.crop, views.flip, views.roll, f32(shape, grad));
  const bounds = [f32([3], [-0.5, -1, -0.1]), f32([3], [0.5, 0.25, 1])] as const;
  const state = [
    f32(shape, x),
    f32(shape, symmetric(shape, 702, 0.1)),
    f32(shape, symmetric(shape, 703).map(Math.abs)),
  ];
  const adam = ops().pixelAdam(state[0]!, state[1]!, state[2]!, f32(shape, grad), 7, 0.1, 0.5, 0.9, 1e-8, ...bounds);
  const wide = [2, 700];
  const match = ops().bnMatch(
    f32([4, 700, 3, 5], symmetric([4, 700, 3, 5], 704)),
    2,
    f32(wide, symmetric(wide, 705)),
    f32(wide, symmetric(wide, 706)),
  );
  // vectors of 4 and 8, several tiles of channels, several chunks of rows, rests of all of them
  const norm = run(f32, caseOf([4, 264, 13, 17], 2, true, true));
  const deep = run(bf16, caseOf([2, 16, 97, 89], 1, true, false));
  const named = { ...crop, ...adam, loss: match.loss, dxOfMatch: match.dx };
  return {
    ...Object.fromEntries(Object.entries(named).map(([name, view]) => [name, values(view)])),
    normY: values(norm.y),
    normDx: values(norm.dx),
    normDResidual: values(norm.dResidual!),
    normMean: values(norm.mean!),
    normVariance: values(norm.variance!),
    deepMean: values(deep.mean!),
    deepVariance: values(deep.variance!),
  };
}

const byCpu = answers();
native().loadKernels(path);
const teacher = native().createModel(MODEL);
await native().synthesize(teacher, synthesizeSpec(1), quiet).promise; // deterministic: new tensors hold NaN from here on
teacher.dispose();

test('the kernels serve, and give what the CPU bodies gave, in every value', () => {
  expect(native().info().kernels).toBe(true);
  const byKernels = answers();
  expect(Object.keys(byKernels)).toEqual(Object.keys(byCpu));
  for (const [name, wanted] of Object.entries(byCpu)) {
    // moments are sums of numbers below 3 that nearly cancel: off by a share of the numbers, not of the sum
    const scale = /Mean|Variance/.test(name) ? 3 / Math.max(...wanted.map(Math.abs)) : 1;
    expectClose(name, byKernels[name]!, wanted, scale * TOLERANCE.F32);
  }
  for (const name of ['y', 'dx', 'normY', 'normDResidual']) expect(byKernels[name]).toEqual(byCpu[name]);
});

test.each([
  ['normAct', 'F32', 1e-5],
  ['normAct', 'BF16', 1e-3],
  ['bnMatch', 'F32', 1e-6],
  ['cropFlipRoll', 'F32', 1e-6],
  ['pixelAdam', 'F32', 1e-6],
] as const)('%s %s, timed, is the same problem with the kernels and without', async (op, dtype, tolerance) => {
  const sizes = { groups: 3, imagesPerGroup: 2, channels: 5, size: 9 };
  const asked = { op, dtype, device: 'cpu', ...sizes, graph: true, threads: 2, runs: 2, rounds: 3 };
  const [ours, aten] = [
    await native().timeOp({ ...asked, kernels: true }, quiet).promise,
    await native().timeOp({ ...asked, kernels: false }, quiet).promise,
  ];
  expect(values(ours.norms)).toHaveLength(values(aten.norms).length);
  expectClose(op, values(ours.norms), values(aten.norms), tolerance);
  for (const { seconds, captured } of [ours, aten]) {
    expect(captured).toBe(false);
    expect(seconds.shape).toEqual([3]);
    expect(values(seconds).every((each) => each > 0)).toBe(true);
  }
});

await import('./ops/norm-act.test.ts');
await import('./ops/crop-flip-roll.test.ts');
await import('./ops/bn-match.test.ts');
await import('./ops/optimizer.test.ts');
await import('./ops/class-moments.test.ts');
await import('./ops/resized-crop.test.ts');
await import('./replay.test.ts');
await import('./trajectories.test.ts');
