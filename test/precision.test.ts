// bf16 against fp32: the same stage, teacher and draws. How far losses and the final BN distance part is measured in
// docs/results.md; the bound here is three to six times what these sizes give (1e-3 and 5e-4), so that statistics, losses,
// pixels or moments that are no longer float32 show.

import { beforeAll, describe, expect, test } from 'vitest';
import { goldenModels, weightsOf } from './util/native.ts';
import { runSynthesis, type SeenSynthesis } from './util/synthesis-run.ts';
import { values } from './util/tensors.ts';
import { tiny } from './util/tiny.ts';

const ITERATIONS = 24;

describe.each([
  { key: 'convnet-avg', size: 16, ipc: 4, classes: 5, bound: 0.003 },
  { key: 'resnet18-small', size: 8, ipc: 1, classes: 10, bound: 0.003 },
])('$key at $size px', ({ key, size, ipc, classes, bound }) => {
  const { arch, inChannels, widths, pooling, stem } = goldenModels()[key]!;
  const runs: Record<string, SeenSynthesis> = {};
  beforeAll(async () => {
    for (const precision of ['fp32', 'bf16'])
      runs[precision] = await runSynthesis(
        tiny({
          dataset: { inputSize: size },
          synthesize: {
            method: 'sre2l',
            ipc,
            iterations: ITERATIONS,
            batch: 5,
            lr: 0.1,
            precision,
            groupsPerForward: 2,
          },
        }),
        {
          architecture: { arch, numClasses: classes, inChannels, inputSize: size, options: { stem, widths, pooling } },
          facts: {
            name: 'golden',
            channels: inChannels as 1 | 3,
            classNames: Array.from({ length: classes }, (_, k) => `${k}`),
            mean: Array(inChannels).fill(0.45),
            std: Array(inChannels).fill(0.25),
            inputSize: size,
          },
          weights: weightsOf(key),
          stats: null,
        },
      );
  });

  /** BN distance of every group at an iteration. */
  const distance = (precision: string, t: number): number[] =>
    runs[precision]!.forwards.flatMap(({ results }) => [...values(results[t]!.lossBn)]);
  const apart = (t: number): number => {
    const exact = distance('fp32', t);
    return Math.max(...distance('bf16', t).map((r, g) => Math.abs(r / exact[g]! - 1)));
  };

  test('both draw the same views and begin with the same images', () => {
    for (const [f, { specs }] of runs.bf16!.forwards.entries()) {
      const exact = runs.fp32!.forwards[f]!.specs;
      expect(specs[0]!.state).toEqual(exact[0]!.state);
      for (const [t, { crop, flip, roll }] of specs.entries())
        expect({ crop, flip, roll }).toEqual({ crop: exact[t]!.crop, flip: exact[t]!.flip, roll: exact[t]!.roll });
    }
  });

  test('BN distances stay near those of fp32, but are not equal to them', () => {
    expect(apart(0)).toBeGreaterThan(1e-7); // else bf16 was not used
    for (let t = 0; t < ITERATIONS; t++) expect(apart(t), `iteration ${t}`).toBeLessThan(bound);
  });

  test('images, moments and losses stay float32 and float64', () => {
    const { state, lossBn } = runs.bf16!.forwards[0]!.results.at(-1)!;
    expect([state.x.dtype, state.m.dtype, state.v.dtype, lossBn.dtype]).toEqual(['F32', 'F32', 'F32', 'F64']);
  });
});
