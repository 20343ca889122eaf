// When memory runs out in a forward: half as many groups in it and in all later ones, a new plan that is said, saved and
// recorded; at one group an E_DEVICE that says what to do. And losses that stop being finite: E_DIVERGED, with the last
// good state kept. The native side is replaced where it has to fail on cue; once a process runs out of address space.

import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import type { NativeBinding, SynthesizeResult, SynthesizeSpec } from '../../src/native.ts';
import type { Halving } from '../../src/stages/synthesis-plan.ts';
import { arrayOf, tensor } from '../../src/tensor.ts';
import { refusal } from '../util/hostile.ts';
import { native } from '../util/native.ts';
import { Bench, imagesOf } from '../util/synthesis.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const bench = new Bench();
beforeAll(() => bench.open());
afterAll(() => bench.close());

type Synthesize = NativeBinding['synthesize'];

/** The native side where `fails` says which calls run out of memory. */
function shortOfMemory(fails: (spec: SynthesizeSpec) => boolean): Pick<NativeBinding, 'synthesize'> {
  const synthesize: Synthesize = (model, spec, on) => {
    if (!fails(spec)) return native().synthesize(model, spec, on);
    const error = { code: 'E_DEVICE', message: 'CUDA out of memory', details: { reason: 'memory' } };
    return { promise: Promise.reject(error), cancel: () => {} };
  };
  return { synthesize };
}

interface Made {
  readonly groupPlan: number[][];
  readonly groupsPerForward: number;
  readonly halved?: Halving[];
}

describe('out of memory', () => {
  const options = { groupsPerForward: 4 };

  test('half the groups from that forward on, said and recorded, and what was made stays', async () => {
    const once = shortOfMemory(({ groups }) => groups > 2);
    const { draft, lines, ran } = await bench.run('half', options, once);
    const summary = (await ran) as unknown as Made;
    expect(summary).toMatchObject({
      groupsPerForward: 4,
      groupPlan: [
        [0, 1],
        [2, 3],
        [4, 5],
      ],
      halved: [{ fromGroup: 0, groupsPerForward: 2 }],
    });
    expect(lines).toEqual([expect.stringMatching(/out of memory with 4 groups.*CUDA.*new plan, recorded: 2 groups/)]);
    expect((await draft.loadState('plan'))?.json).toMatchObject({ sizes: [2, 2, 2], groupsPerForward: 4 });
    const artifact = await draft.publish(summary);
    expect(imagesOf(artifact)).toEqual(imagesOf(await bench.make('two', { groupsPerForward: 2 })));
  });

  test('a forward that was made keeps its groups', async () => {
    let made = 0;
    const later: Synthesize = (model, spec, on) => {
      if (spec.step === 0 && made++ > 0 && spec.groups > 1)
        return shortOfMemory(() => true).synthesize(model, spec, on);
      return native().synthesize(model, spec, on);
    };
    const { ran } = await bench.run('later', { groupsPerForward: 3 }, { synthesize: later });
    expect(await ran).toMatchObject({
      groupPlan: [[0, 1, 2], [3], [4], [5]],
      halved: [
        { fromGroup: 3, groupsPerForward: 2 },
        { fromGroup: 3, groupsPerForward: 1 },
      ],
    });
  });

  test('the plan that was cut is kept by a resume', async () => {
    const first = await bench.run(
      'resumed',
      options,
      shortOfMemory(({ groups, step }) => groups > 2 || step > 0),
    );
    await refusal(() => first.ran); // one group does not fit either once a first segment is done
    const again = await bench.run('resumed', options, {});
    expect(again.draft.resumed).toBe(true);
    expect(await again.ran).toMatchObject({ groupPlan: [[0], [1], [2], [3], [4], [5]], groupsPerForward: 4 });
  });

  test('a shard that was cut still joins the others', async () => {
    const { draft, ran } = await bench.run(
      'cut-2',
      { ...options, shard: '2/2', groupsPerForward: 3 },
      shortOfMemory(({ groups }) => groups > 2),
    );
    await draft.publish(await ran);
    await bench.make('cut-1', { groupsPerForward: 3, shard: '1/2' });
    const { mergeShards } = await import('../../src/merge.ts');
    const { optionsOf } = await import('../util/tiny.ts');
    const merged = await mergeShards([bench.out('cut-2'), bench.out('cut-1')], {
      ...optionsOf(bench.out('cut')),
      teacher: bench.teacher,
    });
    expect(merged.manifest.summary).toMatchObject({
      groupPlan: [[0, 1, 2], [3, 4], [5]],
      halved: [{ fromGroup: 3, groupsPerForward: 2 }],
    });
  });

  test('at one group: E_DEVICE with what it was and what to do', async () => {
    const error = await refusal(
      async () =>
        (
          await bench.run(
            'none',
            options,
            shortOfMemory(() => true),
          )
        ).ran,
    );
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'memory', images: 2 } });
    expect(error.message).toMatch(
      /out of memory with one group of 2 images.*CUDA out of memory\nlower synthesize.batch/,
    );
  });

  test('another E_DEVICE is no reason to cut', async () => {
    const error = { code: 'E_DEVICE', message: 'no CUDA', details: { reason: 'cuda' } };
    const synthesize: Synthesize = () => ({ promise: Promise.reject(error), cancel: () => {} });
    const { ran, lines } = await bench.run('broken', options, { synthesize });
    expect(await refusal(() => ran)).toMatchObject({ code: 'E_DEVICE', message: 'no CUDA' });
    expect(lines).toEqual([]);
  });

  test('for real: the CPU allocator running out is E_DEVICE memory, and smaller forwards then succeed', () => {
    const child = fileURLToPath(new URL('../fixtures/little-memory.mjs', import.meta.url));
    const { status, stdout, stderr } = spawnSync(process.execPath, [child], { encoding: 'utf8', timeout: 120_000 });
    expect(status, stderr).toBe(0);
    const { whole, images, codes } = JSON.parse(stdout) as { whole: string; images: number; codes: string[] };
    expect(whole).toBe('E_DEVICE memory');
    expect(images).toBeGreaterThan(0);
    expect(new Set(codes)).toEqual(new Set(['E_DEVICE memory', 'ok']));
  });
});

// ---- Losses that stop being finite

/** The native side where group 1 is lost at an iteration of the second segment, with or without a word in its losses. */
function failing(at: number, how: 'loss' | 'pixel'): { replaced: Pick<NativeBinding, 'synthesize'>; seen: number[] } {
  const seen: number[] = [];
  const synthesize: Synthesize = (model, spec, on) => {
    const job = native().synthesize(model, spec, on);
    seen.push(spec.step);
    const spoil = (result: SynthesizeResult): SynthesizeResult => {
      const steps = result.lossCe.shape[0]!;
      if (at < spec.step || at >= spec.step + steps) return result;
      const broken = (view: SynthesizeResult['lossCe'], index: number) => {
        const values = view.dtype === 'F64' ? arrayOf(view, 'F64').slice() : arrayOf(view, 'F32').slice();
        values[index] = Number.NaN;
        return tensor(view.dtype as 'F64', view.shape, values as Float64Array);
      };
      if (how === 'pixel') return { ...result, state: { ...result.state, x: broken(result.state.x, 5) } };
      return { ...result, lossBn: broken(result.lossBn, (at - spec.step) * spec.groups + 1) };
    };
    return { promise: job.promise.then(spoil), cancel: () => job.cancel() };
  };
  return { replaced: { synthesize }, seen };
}

describe('divergence', () => {
  test.each(['loss', 'pixel'] as const)('by a %s: E_DIVERGED, and the state before it is kept, finite', async (how) => {
    const { replaced, seen } = failing(20, how);
    const { draft, ran } = await bench.run(`lost-${how}`, { iterations: 60 }, replaced);
    const error = await refusal(() => ran);
    const good = seen.at(-1)!;
    expect(good).toBeGreaterThan(0);
    const path = draft.statePath('images');
    expect(error).toMatchObject({ code: 'E_DIVERGED', details: { lastGoodIteration: good, path } });
    if (how === 'loss') expect(error.details).toMatchObject({ class: 1, iteration: 21 });
    expect(error.message).toContain(`the images after iteration ${good} are kept in ${path}`);
    expect(error.message).toMatch(/lower synthesize\.lr .*--restart-from synthesize/);
    expect(existsSync(path)).toBe(true);
    const { tensors, json } = (await draft.loadState('images'))!;
    expect(json).toEqual({ forward: 0, groups: 2, step: good });
    for (const [name, view] of Object.entries(tensors)) {
      const values = view.dtype === 'F64' ? arrayOf(view, 'F64') : arrayOf(view, 'F32');
      expect(values.every(Number.isFinite), name).toBe(true);
    }
  });

  test('the kept state is the one an undisturbed run has there: going on from it ends in the same images', async () => {
    const { replaced } = failing(20, 'loss');
    const stopped = await bench.run('taken-up', { iterations: 60 }, replaced);
    await refusal(() => stopped.ran);
    const again = await bench.run('taken-up', { iterations: 60 }, {});
    const artifact = await again.draft.publish(await again.ran);
    expect(artifact.id).toBe((await bench.make('undisturbed', { iterations: 60 })).id);
  });

  test('for real: a BN weight past all bounds', async () => {
    const error = await refusal(() => bench.make('wild', { rBn: 1e300 }));
    expect(error).toMatchObject({ code: 'E_DIVERGED', details: { lastGoodIteration: 0 } });
    expect(existsSync(join(`${bench.out('wild')}.partial`, '.draft', 'images.safetensors'))).toBe(true);
  });
});

test('a device that makes no graph of an iteration: the same images, and the log says why, once', async () => {
  const synthesize: Synthesize = (model, spec, on) => {
    const { promise, cancel } = native().synthesize(model, spec, on);
    return { promise: promise.then((result) => ({ ...result, graphRefused: 'CUDA error: not permitted' })), cancel };
  };
  const { draft, lines, ran } = await bench.run('ungraphed', { groupsPerForward: 1 }, { synthesize });
  const artifact = await draft.publish(await ran);
  expect(lines).toEqual([expect.stringMatching(/no graph .* one by one: CUDA error: not permitted$/)]);
  expect(artifact.id).toBe((await bench.make('graphed', { groupsPerForward: 1 })).id);
});
