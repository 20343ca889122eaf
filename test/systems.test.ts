// SRe2L, CDA, LPLD and LPLD's ablation, the whole stage against PyTorch: the groups of src/methods, the draws of
// docs/streams.md, curriculum, schedule, gathered targets and the native loop, for the first 20 iterations on ResNet-18.
// The golden script draws by the documented streams itself and optimises each group alone; the stage shares forwards.

import { beforeAll, describe, expect, test } from 'vitest';
import { loadConfig } from '../src/config.ts';
import { arrayOf, type TensorMap, type TensorView } from '../src/tensor.ts';
import { golden, goldenTensor } from './util/golden.ts';
import { native } from './util/native.ts';
import { runSynthesis, type SeenForward } from './util/synthesis-run.ts';
import { f32, goldenWeights, positive, symmetric, values } from './util/tensors.ts';
import { expectClose, expectCloseInNorm, expectEachClose, TOLERANCE } from './util/tolerance.ts';

interface GoldenRun {
  readonly targets: 'class' | 'global';
  readonly ipc: number;
  readonly batch: number;
  readonly lr: number;
  readonly seed: number;
  readonly groups: { object: number; images: [classId: number, id: number][] }[];
}

const file = golden('systems');
const info = file.info as unknown as {
  runs: Record<string, GoldenRun>;
  classes: number;
  size: number;
  steps: number;
  total: number;
  mean: number[];
  std: number[];
  stride: number;
  tensors: [string, number[]][];
};
const { classes, size, steps, total, stride } = info;
const architecture = {
  arch: 'resnet18',
  numClasses: classes,
  inChannels: 3,
  inputSize: size,
  options: { stem: 'small', widths: [1], pooling: 'avg' },
} as const;

/** Class statistics of the golden script: [K, sum of C_l], layers side by side, cut into layers. */
function classStats(): TensorMap {
  const model = native().createModel({ ...architecture, device: 'cpu', seed: 0n });
  const layers = model.normLayers;
  model.dispose();
  const width = layers.reduce((sum, { channels }) => sum + channels, 0);
  const all = { mean: symmetric([classes, width], 400, 0.5), var: positive([classes, width], 401) };
  const stats: TensorMap = {};
  let first = 0;
  for (const { name, channels } of layers) {
    for (const moment of ['mean', 'var'] as const) {
      const rows = Array.from({ length: classes }, (_, k) => [
        ...all[moment].subarray(k * width + first, k * width + first + channels),
      ]);
      stats[`${name}.${moment}`] = f32([classes, channels], rows.flat());
    }
    first += channels;
  }
  return stats;
}

/** Every stride-th value of each image. */
function thinned(x: TensorView): number[] {
  const [images = 0] = x.shape;
  const data = arrayOf(x, 'F32');
  const each = data.length / images;
  return Array.from({ length: images }, (_, i) => [...data.subarray(i * each, (i + 1) * each)]).flatMap((image) =>
    image.filter((_, at) => at % stride === 0),
  );
}

describe.each([
  ['sre2l', 'tiny-imagenet-sre2l'],
  ['cda', 'tiny-imagenet-cda'],
  ['lpld', 'tiny-imagenet-lpld'],
  ['lpld-global', 'tiny-imagenet-lpld'],
])('%s, with the hyperparameters of %s', (name, preset) => {
  const run = info.runs[name]!;
  const wanted = (key: string): Float64Array => values(goldenTensor(file, `${name}.${key}`));
  let seen: readonly SeenForward[] = [];

  beforeAll(async () => {
    const config = loadConfig(preset, {
      seed: run.seed,
      'dataset.inputSize': size,
      'synthesize.ipc': run.ipc,
      'synthesize.batch': run.batch,
      'synthesize.iterations': total,
      'synthesize.groupsPerForward': 2,
      ...(name === 'cda' ? { 'synthesize.lr': run.lr } : {}),
      ...(name === 'lpld-global' ? { 'synthesize.targets': 'global' } : {}),
    });
    ({ forwards: seen } = await runSynthesis(config, {
      architecture,
      facts: {
        name: 'golden',
        channels: 3,
        classNames: Array.from({ length: classes }, (_, k) => `${k}`),
        mean: info.mean,
        std: info.std,
        inputSize: size,
      },
      weights: goldenWeights(info.tensors),
      stats: run.targets === 'class' ? classStats() : null,
    }));
  });

  /** One row per iteration, the forwards side by side in the order of the groups. */
  const perIteration = (read: (forward: SeenForward, t: number) => ArrayLike<number>): number[] =>
    Array.from({ length: steps }, (_, t) => seen.map((forward) => Array.from(read(forward, t)))).flat(2);

  test('forwards hold the groups of the originals, two at a time where they are of one size', () => {
    const labels = seen.flatMap(({ specs }) => [...values(specs[0]!.labels)]);
    expect(labels).toEqual(run.groups.flatMap(({ images }) => images.map(([classId]) => classId)));
    expect(seen.reduce((sum, { specs }) => sum + specs[0]!.groups, 0)).toBe(run.groups.length);
    for (const { specs } of seen) {
      expect(specs.length).toBe(total);
      expect(specs[0]!.groups).toBeLessThanOrEqual(2);
    }
  });

  test('crops, flips, rolls and learning rates are those the golden script drew and worked out', () => {
    for (const key of ['crop', 'flip', 'roll'] as const)
      expect(
        perIteration(({ specs }, t) => values(specs[t]![key])),
        key,
      ).toEqual([...wanted(key)]);
    for (const { specs } of seen)
      expectClose(
        'lr',
        specs.slice(0, steps).map(({ lr }) => values(lr)[0]!),
        wanted('lr'),
        1e-12,
      );
  });

  test('the first images are the documented noise', () => {
    const noise = seen.flatMap(({ specs }) => thinned(specs[0]!.state.x));
    expectClose('noise', noise, wanted('noise'), 1e-7, file.provenance);
  });

  test(`CE and R of every group, ${steps} iterations one by one, equal PyTorch`, () => {
    for (const [key, golden] of [
      ['lossCe', 'ce'],
      ['lossBn', 'bn'],
    ] as const)
      expectEachClose(
        key,
        perIteration(({ results }, t) => values(results[t]![key])),
        wanted(golden),
        TOLERANCE.loop,
        file.provenance,
      );
  });

  test('the images after every iteration equal PyTorch', () => {
    const images = perIteration(({ results }, t) => thinned(results[t]!.state.x));
    const each = images.length / steps;
    for (let t = 0; t < steps; t++) {
      const [got, want] = [images, wanted('x')].map((all) => all.slice(t * each, (t + 1) * each));
      expectCloseInNorm(`x after iteration ${t}`, got!, want!, TOLERANCE.loop, file.provenance);
    }
  });
});
