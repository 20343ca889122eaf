// Oddities of the published synthesis code that are kept, or changed on purpose: each QUIRK tag of the loop, its draws and
// its presets. The tags of labels and students are tested where they live (plan, recipe, labels, dense, collect_stats).

import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { labelPlan } from '../src/plan.ts';
import { arrayOf, type TensorView } from '../src/tensor.ts';
import { goldenModel, goldenModels, native, ops, quiet, weightsOf } from './util/native.ts';
import { runSynthesis, type SeenSynthesis, type TestTeacher } from './util/synthesis-run.ts';
import { f32, f64, i32, symmetric, u8, values } from './util/tensors.ts';
import { tiny } from './util/tiny.ts';
import { expectClose, TOLERANCE } from './util/tolerance.ts';

const KEY = 'convnet-avg';
const { arch, numClasses, inChannels, inputSize, widths, pooling, stem } = goldenModels()[KEY]!;
const TEACHER: TestTeacher = {
  architecture: { arch, numClasses, inChannels, inputSize, options: { stem, widths, pooling } },
  facts: {
    name: 'golden',
    channels: 1,
    classNames: Array.from({ length: numClasses }, (_, k) => `${k}`),
    mean: [0.45],
    std: [0.25],
    inputSize,
  },
  weights: weightsOf(KEY),
  stats: null,
};

/** Class batches of three images against global statistics; whole images unless told otherwise. */
const synthesized = (change: Record<string, unknown>): Promise<SeenSynthesis> =>
  runSynthesis(
    tiny({
      dataset: { inputSize },
      synthesize: { ipc: 3, iterations: 6, targets: 'global', cropScale: null, rollMin: 0, rollMax: 0, ...change },
    }),
    TEACHER,
  );

describe('the loop', () => {
  let spec: SeenSynthesis['forwards'][number]['specs'][number];
  beforeAll(async () => {
    spec = (await synthesized({ flip: false, lr: 0.05 })).forwards[0]!.specs[0]!;
  });

  /** One iteration of the captured spec, with some fields changed. */
  const step = async (change: Partial<typeof spec>) => {
    const model = goldenModel(KEY);
    try {
      return await native().synthesize(model, { ...spec, ...change }, quiet).promise;
    } finally {
      model.dispose();
    }
  };
  const state = (x: TensorView): typeof spec.state => ({ ...spec.state, x });

  test('QUIRK(first-bn): the first layer counts by its multiplier, tenfold in every preset', async () => {
    const [none, once, tenfold] = await Promise.all(
      [0, 1, 10].map(async (firstBnMultiplier) => values((await step({ firstBnMultiplier })).lossBn)[0]!),
    );
    expect(once).toBeGreaterThan(none!);
    expectClose('R', [tenfold! - none!], [10 * (once! - none!)], TOLERANCE.F32 * 10);
    for (const preset of PRESETS) expect(loadConfig(preset).synthesize.firstBnMultiplier, preset).toBe(10);
  });

  test('QUIRK(one-view): equal images of a group stay equal under its crop, flip and shift', async () => {
    const each = inChannels * inputSize ** 2;
    const one = symmetric([each], 500, 1.5);
    const x = f32(spec.state.x.shape, [...one, ...one, ...one]);
    const view = { crop: i32([1, 1, 4], [2, 3, 9, 11]), flip: u8([1, 1], [1]), roll: i32([1, 1, 2], [3, -2]) };
    const after = values((await step({ ...view, state: state(x) })).state.x);
    expect([...after.subarray(0, each)]).not.toEqual([...one]);
    for (const i of [1, 2])
      expectClose(`image ${i}`, after.slice(i * each, (i + 1) * each), after.slice(0, each), 1e-5);
  });

  test('QUIRK(late-clamp): an iterate is seen as it is and clamped after the step, unknown to the moments', async () => {
    const far = f32(
      spec.state.x.shape,
      values(spec.state.x).map((p) => 4 * p),
    );
    const clamped = f32(
      far.shape,
      values(far).map((p) => Math.min(Math.max(p, values(spec.clampLow)[0]!), values(spec.clampHigh)[0]!)),
    );
    const lr = f64([1], [0]);
    const seen = await step({ lr, state: state(far) });
    expect([...values(seen.state.x)]).toEqual([...values(clamped)]);
    const inside = await step({ lr, state: state(clamped) });
    expect(Math.abs(values(seen.lossBn)[0]! / values(inside.lossBn)[0]! - 1)).toBeGreaterThan(0.05);
    const free = await step({ lr, state: state(far), clampLow: f32([1], [-1e9]), clampHigh: f32([1], [1e9]) });
    expect([seen.lossBn, seen.state.m, seen.state.v]).toEqual([free.lossBn, free.state.m, free.state.v]);
  });
});

test('QUIRK(bn-norms): norms are not squared, and an unbiased target is missed by Bessel correction', () => {
  const [shape, each] = [[2, 3, 4, 4], 32] as const; // one group of two images
  const x = symmetric(shape, 501);
  const zero = f64([1, 3], [0, 0, 0]);
  const channel = (c: number): number[] => [...x].filter((_, i) => Math.floor(i / 16) % 3 === c);
  const mean = [0, 1, 2].map((c) => channel(c).reduce((sum, v) => sum + v / each, 0));
  const biased = [0, 1, 2].map((c) => channel(c).reduce((sum, v) => sum + (v - mean[c]!) ** 2 / each, 0));
  const loss = (m: number[], v: number[]): number =>
    values(ops().bnMatch(f64(shape, x), 1, { ...zero, data: f64([1, 3], m).data }, f64([1, 3], v)).loss)[0]!;
  const unbiased = biased.map((v) => (v * each) / (each - 1));
  const miss = Math.hypot(...biased.map((v) => v / (each - 1)));
  expectClose('unbiased target', [loss(mean, unbiased)], [miss], 1e-9);
  const off = (by: number): number =>
    loss(
      mean.map((m) => m + by),
      biased,
    );
  expectClose('mean off by 0.5, and by 1', [off(0.5), off(1)], [0.5 * Math.sqrt(3), Math.sqrt(3)], 1e-9);
});

test('QUIRK(last-iterate): what is written is the last iterate, truncated, even where an earlier one matched better', async () => {
  const { forwards, images } = await synthesized({ iterations: 12, lr: 2, groupsPerForward: 1 });
  const better = forwards.filter(({ results }) => {
    const loss = results.map(({ lossBn }) => values(lossBn)[0]!);
    return Math.min(...loss) < loss.at(-1)!;
  });
  expect(better.length).toBeGreaterThan(0);
  const vector = (v: readonly number[]): TensorView => f32([1], v);
  for (const [k, { results }] of forwards.entries()) {
    const pixels = ops().toPixels(results.at(-1)!.state.x, vector(TEACHER.facts.mean), vector(TEACHER.facts.std));
    const written = [...images].filter(([path]) =>
      path.includes(`/${String(k).padStart(path.split('/')[1]!.length, '0')}/`),
    );
    expect(written.length).toBe(3);
    expect(Buffer.concat(written.map(([, data]) => data)).equals(arrayOf(pixels, 'U8'))).toBe(true);
  }
});

test('QUIRK(short-block): a last block of fewer classes is a smaller group, with the L2 prior too', async () => {
  const { forwards, images } = await synthesized({ method: 'sre2l', ipc: 1, batch: 3, targets: 'auto', l2Scale: 1e-3 });
  expect(forwards.map(({ specs }) => [...values(specs[0]!.labels)])).toEqual([
    [0, 1, 2],
    [3, 4],
  ]);
  for (const { results } of forwards)
    for (const { lossBn } of results) expect(Number.isFinite(values(lossBn)[0])).toBe(true);
  expect(images.size).toBe(5);
});

const PRESETS = [
  'imagenet-1k-sre2l',
  'imagenet-1k-cda',
  'tiny-imagenet-sre2l',
  'tiny-imagenet-cda',
  'tiny-imagenet-lpld',
];

test('QUIRK(roll-range, tiny-rbn, t-squared): the presets hold what the scripts pass', () => {
  const rows = PRESETS.map((preset) => {
    const { synthesize: s, train: t } = loadConfig(preset);
    return [preset, s.rollMin, s.rollMax, s.rBn, t.temperatureSquared];
  });
  expect(rows).toEqual([
    ['imagenet-1k-sre2l', 0, 32, 0.01, false],
    ['imagenet-1k-cda', 0, 32, 0.01, false],
    ['tiny-imagenet-sre2l', -4, 4, 1, true],
    ['tiny-imagenet-cda', 0, 4, 0.05, true],
    ['tiny-imagenet-lpld', -4, 4, 0.05, true],
  ]);
});

test('QUIRK(drop-last, extra-epoch): a short batch depends on dropLast alone, and no epoch is made beyond the last', () => {
  const plan = { images: 10, batch: 4, epochs: 5, keep: 'prefix', seed: 0n } as const;
  for (const pruneRatio of [0, 0.5])
    for (const [dropLast, batches] of [
      [true, 2],
      [false, 3],
    ] as const) {
      const { batchesPerEpoch, fullRecords, recordIds } = labelPlan({ ...plan, pruneRatio, dropLast });
      expect([batchesPerEpoch, fullRecords]).toEqual([batches, 5 * batches]);
      expect(recordIds.length).toBe(Math.floor((1 - pruneRatio) * fullRecords));
    }
});
