// The checks of scripts/gpu-check.mjs: a device computes what the CPU computes. They always run with the CPU as the device,
// so that they cannot rot; with a usable GPU they run on it, without one they are reported as skipped.

import { describe, expect, test } from 'vitest';
import { deviceChecks } from '../scripts/gpu-check.mjs';
import { cudaDriver, cudaObstacle } from '../src/cuda.ts';
import { locateLibtorch } from '../src/libtorch.ts';

interface Check {
  readonly name: string;
  run(): Promise<{ distance: number; tolerance: number }>;
}

const obstacle = cudaObstacle(cudaDriver(), locateLibtorch()?.cuda ?? null);
// The device first: LibTorch looks for CUDA at its first gradient and never again.
const onDevice = obstacle === null ? (deviceChecks('cuda:0') as Check[]) : [];
const onCpu = deviceChecks('cpu') as Check[];

describe('cpu against itself: the checks run and agree', () => {
  test.each(onCpu)('$name', async ({ run }) => {
    const { distance, tolerance } = await run();
    expect(distance).toBeLessThanOrEqual(tolerance);
  });
});

describe(`cuda:0 against the cpu (${obstacle ?? 'a GPU is here'})`, () => {
  test.skipIf(obstacle !== null).each(obstacle === null ? onDevice : onCpu)('$name', async ({ run }) => {
    const { distance, tolerance } = await run();
    expect(distance).toBeLessThanOrEqual(tolerance);
  });
});
