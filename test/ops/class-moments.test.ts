// Class-wise sums, and the statistics pass through a model: golden vector of section 12, PyTorch, resumption.

import { describe, expect, test } from 'vitest';
import type { NativeModel, Recipes } from '../../src/native.ts';
import type { TensorMap } from '../../src/tensor.ts';
import { classMoments, emaUpdate } from '../reference/class-moments.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import {
  batchesOf,
  completed,
  EXACT,
  goldenModel,
  goldenRecipes,
  goldenStore,
  native,
  noCutout,
  ops,
  quiet,
} from '../util/native.ts';
import { f32, f64, i32, symmetric, u8, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

describe('classMoments', () => {
  const shape = [7, 3, 4, 5];
  const x = symmetric(shape, 600, 4);
  const shift = symmetric([3], 601);
  const labels = [2, 0, 2, 4, 2, 0, 4]; // classes 1 and 3 do not occur
  const wanted = classMoments(x, labels, 5, 3, 20, shift);

  test.each([
    ['float64', f64, TOLERANCE.F64],
    ['float32', f32, TOLERANCE.F32],
  ] as const)('equals the reference in %s; absent classes are zero', (_name, make, tolerance) => {
    const got = ops().classMoments(make(shape, x), i32([7], labels), 5, make([3], shift));
    expect([got.sum.dtype, got.sumSquares.dtype, got.count.dtype]).toEqual(['F64', 'F64', 'F64']);
    expect([got.sum.shape, got.count.shape]).toEqual([[5, 3], [5]]);
    expectClose('sum', values(got.sum), wanted.sum, tolerance);
    expectClose('sumSquares', values(got.sumSquares), wanted.sumSquares, tolerance);
    expect([...values(got.count)]).toEqual([2, 0, 3, 0, 2]);
  });

  test('the shift keeps the variance of values far from zero', () => {
    const far = Float64Array.from(x, (v) => Math.fround(4096 + v));
    const near = Float64Array.from(far, (v) => v - 4096);
    const zero = new Float64Array(3);
    const expected = classMoments(near, labels, 5, 3, 20, zero);
    const got = ops().classMoments(f32(shape, far), i32([7], labels), 5, f32([3], [4096, 4096, 4096]));
    expectClose('sumSquares', values(got.sumSquares), expected.sumSquares, TOLERANCE.F32);
  });
});

// ---- The statistics pass through a model

const WAVE = Float64Array.from({ length: 96 }, (_, k) => Math.sin(0.1 * k)); // [2, 3, 4, 4]

/** A one-block ConvNet whose convolution is the identity: its BatchNorm sees the input itself. */
function identityNet(): NativeModel {
  const model = native().createModel({
    arch: 'convnet',
    numClasses: 2,
    inChannels: 3,
    inputSize: 4,
    options: { stem: 'small', widths: [3], pooling: 'avg' },
    device: 'cpu',
    seed: 1n,
  });
  const kernel = new Float64Array(81);
  for (let c = 0; c < 3; c++) kernel[(c * 3 + c) * 9 + 4] = 1;
  const weights: TensorMap = {
    'features.0.conv.weight': f32([3, 3, 3, 3], kernel),
    'features.0.conv.bias': f32([3], [0, 0, 0]),
    'features.0.norm.weight': f32([3], [1, 1, 1]),
    'features.0.norm.bias': f32([3], [0, 0, 0]),
    'features.0.norm.running_mean': f32([3], [0.25, -0.5, 0]),
    'features.0.norm.running_var': f32([3], [1, 2, 0.5]),
    'classifier.weight': f32([2, 12], new Float64Array(24)),
    'classifier.bias': f32([2], [0, 0]),
  };
  model.loadStateDict(completed(model, weights));
  return model;
}

/** Whole images, unmixed, in the given batches of image indices. */
function plain(batches: number[][], size: number): Recipes {
  const index = batches.flat();
  const offset = [0];
  for (const batch of batches) offset.push(offset.at(-1)! + batch.length);
  const rows = index.length;
  return {
    offset: i32([offset.length], offset),
    index: i32([rows], index),
    crop: i32(
      [rows, 4],
      index.flatMap(() => [0, 0, size, size]),
    ),
    flip: u8(
      [rows],
      index.map(() => 0),
    ),
    ...noCutout(rows),
    mixKind: u8(
      [rows],
      index.map(() => 0),
    ),
    mixIndex: i32(
      [rows],
      batches.flatMap((b) => b.map((_, i) => i)),
    ),
    mixBox: i32(
      [rows, 4],
      index.flatMap(() => [0, 0, 0, 0]),
    ),
    lambda: f32(
      [rows],
      index.map(() => 1),
    ),
  };
}

/** Grey levels 0 .. 31 as pixels, and a table that maps level n*16 + pixel of channel c to WAVE[n, c, pixel]. */
async function throughIdentity(batches: number[][], mode: 'ema' | 'exact'): Promise<TensorMap> {
  const model = identityNet();
  const store = native().createImageStore({ channels: 3, device: 'cpu' });
  try {
    const pixels = Uint8Array.from({ length: 96 }, (_, i) => Math.floor(i / 3)); // [2, 4, 4, 3]
    const spec = { height: 4, width: 4, resize: 'none', size: 0, centerCrop: 0 } as const;
    store.append(pixels, Int32Array.of(1, 1), spec);
    const table = new Float64Array(3 * 256);
    for (let n = 0; n < 2; n++)
      for (let c = 0; c < 3; c++)
        for (let i = 0; i < 16; i++) table[c * 256 + n * 16 + i] = WAVE[(n * 3 + c) * 16 + i]!;
    const { promise } = native().collectStats(
      model,
      store,
      {
        ...EXACT,
        recipes: plain(batches, 4),
        input: { size: 4, normalize: f32([3, 256], table) },
        mode,
        momentum: 0.1,
        state: ops().initialClassStats(model, mode),
      },
      quiet,
    );
    const { state } = await promise;
    if (mode === 'exact') return state; // class 0 was never seen: finishing is refused
    return ops().finishClassStats(model, mode, state);
  } finally {
    model.dispose();
    store.dispose();
  }
}

describe('golden vector of the class average', () => {
  const cases = [
    ['image 0, then image 1', [[0], [1]], [-0.0050025, 0.12582263, -0.00234544], [0.83005267, 0.82700002, 0.83014345]],
    ['both images at once', [[0, 1]], [0.00055614, 0.06610252, -0.00441647], [0.94725955, 0.90903455, 0.94709158]],
  ] as const;

  test.each(cases)('of the reference: %s', (_name, batches, mean, variance) => {
    const m = new Float64Array(3);
    const v = new Float64Array(3).fill(1);
    for (const batch of batches)
      emaUpdate(
        m,
        v,
        Float64Array.from(batch.flatMap((n) => [...WAVE.slice(n * 48, n * 48 + 48)])),
        batch.map(() => 0),
        1,
        3,
        16,
        0.1,
      );
    expectClose('mean', m, mean, TOLERANCE.literal);
    expectClose('variance', v, variance, TOLERANCE.literal);
  });

  test.each(cases)(
    'of the native pass: %s; the class never seen stays at 0 and 1',
    async (_name, batches, mean, variance) => {
      const stats = await throughIdentity(
        batches.map((b) => [...b]),
        'ema',
      );
      expectClose('mean', values(stats['features.0.norm.mean']!), [0, 0, 0, ...mean], TOLERANCE.literal);
      expectClose('variance', values(stats['features.0.norm.var']!), [1, 1, 1, ...variance], TOLERANCE.literal);
    },
  );

  test('exact: finishing with a class that was never seen is refused', async () => {
    const state = await throughIdentity([[0, 1]], 'exact');
    const model = identityNet();
    try {
      expect(() => ops().finishClassStats(model, 'exact', state)).toThrow(expect.objectContaining({ code: 'E_DATA' }));
    } finally {
      model.dispose();
    }
  });
});

describe.each(['ema', 'exact'] as const)('%s pass over recorded recipes', (mode) => {
  const file = golden('class-stats');
  const layers = file.info.layers as string[];

  async function collect(model: NativeModel, recipes: Recipes, state: TensorMap): Promise<TensorMap> {
    const store = goldenStore();
    try {
      const table = ops().normalizeTable(f32([1], [0.45]), f32([1], [0.25]));
      const input = { size: 16, normalize: table };
      const spec = { ...EXACT, recipes, input, mode, momentum: 0.1, state };
      return (await native().collectStats(model, store, spec, quiet).promise).state;
    } finally {
      store.dispose();
    }
  }

  test('equals PyTorch', async () => {
    const model = goldenModel('convnet-avg');
    try {
      const state = await collect(model, goldenRecipes('class-stats'), ops().initialClassStats(model, mode));
      const stats = ops().finishClassStats(model, mode, state);
      expect(Object.keys(stats).sort()).toEqual(['count', ...layers.flatMap((l) => [`${l}.mean`, `${l}.var`])].sort());
      for (const layer of layers)
        for (const part of ['mean', 'var']) {
          const wanted = values(goldenTensor(file, `${mode}.${layer}.${part}`));
          expect(stats[`${layer}.${part}`]!.dtype).toBe('F32');
          expectClose(`${layer}.${part}`, values(stats[`${layer}.${part}`]!), wanted, 1e-5, file.provenance); // three float32 layers
        }
      expect(stats.count!.dtype).toBe('I64');
      if (mode === 'exact') expect(values(stats.count!)).toEqual(values(goldenTensor(file, 'count')));
    } finally {
      model.dispose();
    }
  });

  test('two segments equal one, bit for bit, and leave the given state and the weights alone', async () => {
    const model = goldenModel('convnet-avg');
    try {
      const whole = goldenRecipes('class-stats');
      const initial = ops().initialClassStats(model, mode);
      const weights = model.stateDict();
      const once = await collect(model, whole, initial);
      const first = await collect(model, batchesOf(whole, 0, 2), initial);
      const twice = await collect(model, batchesOf(whole, 2, 4), first);
      expect(twice).toEqual(once);
      expect(initial).toEqual(ops().initialClassStats(model, mode));
      expect(model.stateDict()).toEqual(weights);
    } finally {
      model.dispose();
    }
  });
});
