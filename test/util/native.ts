// The addon, and native models and stores as the tests need them. Nothing here skips: without the addon a test fails.

import { loadNative } from '../../src/addon.ts';
import type { ModelSpec, NativeBinding, NativeImageStore, NativeModel, NativeOps, Recipes } from '../../src/native.ts';
import type { TensorMap, TensorView } from '../../src/tensor.ts';
import { golden, goldenTensor } from './golden.ts';
import { goldenWeights, i32, imageBytes, u8, values, viewRows } from './tensors.ts';

export const native = (): NativeBinding => loadNative();
export const ops = (): NativeOps => loadNative().ops;

/** Bit-equal fp32 on one thread: what comparisons with references run under. */
export const EXACT = { precision: 'fp32', threads: 1, deterministic: true } as const;

/** An entry of the golden models file. */
export interface GoldenModel {
  readonly arch: string;
  readonly stem: 'imagenet' | 'small';
  readonly numClasses: number;
  readonly inChannels: number;
  readonly inputSize: number;
  readonly widths: number[];
  readonly pooling: 'avg' | 'max';
  readonly logits: boolean;
  readonly norms: [string, number][];
}

export const goldenModels = (): Record<string, GoldenModel> =>
  golden('models').info.models as Record<string, GoldenModel>;

/** torchvision's names and shapes of a golden model, in order, without num_batches_tracked. */
export function goldenShapes(key: string): [string, number[]][] {
  const file = golden(`names-${goldenModels()[key]!.stem}`);
  return (file.info.tensors as Record<string, [string, number[]][]>)[key]!;
}

export function specOf(key: string, inputSize?: number): ModelSpec {
  const m = goldenModels()[key]!;
  return {
    arch: m.arch,
    numClasses: m.numClasses,
    inChannels: m.inChannels,
    inputSize: inputSize ?? m.inputSize,
    options: { stem: m.stem, widths: m.widths, pooling: m.pooling },
    device: 'cpu',
    seed: 1n,
  };
}

/** `weights` plus whatever the model keeps that the golden fill does not name (num_batches_tracked). */
export function completed(model: NativeModel, weights: TensorMap): TensorMap {
  const out = { ...weights };
  for (const [name, view] of Object.entries(model.stateDict()))
    if (name.endsWith('num_batches_tracked')) out[name] = view;
  return out;
}

const weightCache = new Map<string, TensorMap>();

/** Golden weights of a model of the list: fresh map, shared tensors. */
export function weightsOf(key: string): TensorMap {
  const held = weightCache.get(key) ?? goldenWeights(goldenShapes(key));
  weightCache.set(key, held);
  return { ...held };
}

/** A model of the golden list with golden weights. The caller disposes it. */
export function goldenModel(key: string, inputSize?: number): NativeModel {
  const model = native().createModel(specOf(key, inputSize));
  model.loadStateDict(completed(model, weightsOf(key)));
  return model;
}

/** The twelve grey images of two sizes of golden_loops.py, classes 0 .. 4 in turn. The caller disposes it. */
export function goldenStore(): NativeImageStore {
  const store = native().createImageStore({ channels: 1, device: 'cpu' });
  for (let i = 0; i < 12; i++) {
    const [height, width] = i < 7 ? [18, 20] : [16, 16];
    const shape = [height, width, 1] as const;
    const spec = { height, width, resize: 'none', size: 0, centerCrop: 0 } as const;
    store.append(imageBytes(shape, 300 + i), Int32Array.of(i % 5), spec);
  }
  return store;
}

/** The cutout fields of M rows without any. */
export const noCutout = (rows: number): Pick<Recipes, 'cutout' | 'cutoutColor'> => ({
  cutout: i32([rows, 4], new Int32Array(4 * rows)),
  cutoutColor: u8([rows, 3], new Uint8Array(3 * rows)),
});

/** The recorded recipes of a golden file, under `prefix`. */
export function goldenRecipes(file: string, prefix = ''): Recipes {
  const from = golden(file);
  const get = (key: string): TensorView => goldenTensor(from, `${prefix}${key}`);
  return {
    offset: get('offset'),
    index: get('index'),
    crop: get('crop'),
    flip: get('flip'),
    ...noCutout(get('index').shape[0]!), // the golden scripts cut nothing out
    mixKind: get('mixKind'),
    mixIndex: get('mixIndex'),
    mixBox: get('mixBox'),
    lambda: get('lambda'),
  };
}

/** Batches from .. to-1 of a set of recipes, as recipes of their own. */
export function batchesOf(recipes: Recipes, from: number, to: number): Recipes {
  const offset = [...values(recipes.offset)].slice(from, to + 1);
  const [first, last] = [offset[0]!, offset.at(-1)!];
  const cut = (view: TensorView): TensorView => viewRows(view, first, last);
  return {
    offset: i32(
      [offset.length],
      offset.map((row) => row - first),
    ),
    index: cut(recipes.index),
    crop: cut(recipes.crop),
    flip: cut(recipes.flip),
    cutout: cut(recipes.cutout),
    cutoutColor: cut(recipes.cutoutColor),
    mixKind: cut(recipes.mixKind),
    mixIndex: cut(recipes.mixIndex),
    mixBox: cut(recipes.mixBox),
    lambda: cut(recipes.lambda),
  };
}

export const quiet = (): void => {};
