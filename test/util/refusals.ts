// Calls that the addon must refuse, in tables by what is refused: what, the code, the call on a fresh model and store.
// test/checks.test.ts runs them; together they meet every refusal of the C++ sources that can be met from outside.

import { join } from 'node:path';
import type {
  ModelSpec,
  NativeImageStore,
  NativeModel,
  Recipes,
  SynthesizeSpec,
  TimeOpSpec,
  TrainSpec,
} from '../../src/native.ts';
import type { TensorMap, TensorView } from '../../src/tensor.ts';
import { codingSpec, denseCode, encode, logitsOnly } from './codes.ts';
import {
  APPEND,
  busyJob,
  evaluateSpec,
  JOBS,
  openModel,
  openStore,
  recipesOf,
  statsSpec,
  synthesizeSpec,
  trainSpec,
} from './jobs.ts';
import { native, ops, quiet } from './native.ts';
import { f32, f64, i32, u8 } from './tensors.ts';

export interface Handles {
  readonly model: NativeModel;
  readonly store: NativeImageStore;
}
export type Refusal = readonly [what: string, code: string, call: (handles: Handles) => unknown];

const train = ({ model, store }: Handles, change: object): Promise<unknown> =>
  native().train(model, store, { ...trainSpec(2), ...change } as TrainSpec, quiet).promise;
const replay = ({ model, store }: Handles, change: Partial<Recipes>): Promise<unknown> =>
  native().evaluate(model, store, { ...evaluateSpec(2), recipes: { ...recipesOf(2), ...change } }, quiet).promise;
const optimizer = (change: object): object => ({ optimizer: { ...trainSpec(2).optimizer, ...change } });
const softTarget = (tensors: TensorMap, change: object = {}): object => ({
  target: {
    kind: 'soft',
    ...denseCode(2),
    tensors,
    blobs: null,
    temperature: 2,
    teacherTemperature: 2,
    lossScale: 1,
    ...change,
  },
});
const f16 = (shape: readonly number[]): TensorView => ({
  dtype: 'F16',
  shape,
  data: new Uint8Array(2 * shape.reduce((n, d) => n * d, 1)),
});
const i64 = (value: number): TensorView => ({
  dtype: 'I64',
  shape: [],
  data: new Uint8Array(BigInt64Array.of(BigInt(value)).buffer),
});
const synthesize = ({ model }: Handles, change: Partial<SynthesizeSpec>): Promise<unknown> =>
  native().synthesize(model, { ...synthesizeSpec(2), ...change }, quiet).promise;
const convnet = (change: object): void => {
  const options = { stem: 'small', widths: [4], pooling: 'avg', ...change } as ModelSpec['options'];
  openModel({ options });
};
/** Appends black images of class 0 to the store. */
export const append = ({ store }: Handles, change: object, pixels = 64, labels = [0]): void =>
  store.append(new Uint8Array(pixels), Int32Array.from(labels), { ...APPEND, ...change });
/** The four rows of two steps, with one number of one row changed. */
const rows = (values: readonly number[], at: number, value: number): number[] => values.with(at, value);
const BOX = [0, 0, 8, 8, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0, 8, 8];

export const MODEL_REFUSALS: Refusal[] = [
  ['an unknown architecture', 'E_CONFIG', () => openModel({ arch: 'vgg' })],
  ['an unknown stem', 'E_CONFIG', () => convnet({ stem: 'large' })],
  ['an unknown pooling', 'E_CONFIG', () => convnet({ pooling: 'sum' })],
  ['no classes', 'E_CONFIG', () => openModel({ numClasses: 0 })],
  ['two channels', 'E_CONFIG', () => openModel({ inChannels: 2 })],
  ['no input', 'E_CONFIG', () => openModel({ inputSize: -8 })],
  ['a convnet of no blocks', 'E_CONFIG', () => convnet({ widths: [] })],
  ['a convnet deeper than its input', 'E_CONFIG', () => convnet({ widths: [4, 4, 4, 4] })],
  ['a block of no channels', 'E_CONFIG', () => convnet({ widths: [4, 0] })],
  ['an unknown device', 'E_CONFIG', () => openModel({ device: 'abacus' })],
  ['a GPU that no machine has', 'E_DEVICE', () => openModel({ device: 'cuda:99' })],
  ['weights of another model', 'E_MISMATCH', ({ model }) => model.loadStateDict({ 'fc.weight': f32([1], [0]) })],
  ['moments without a step', 'E_MISMATCH', ({ model }) => model.loadOptimizerState({ 'a.m': f32([1], [0]) })],
  ['a step of 0', 'E_MISMATCH', ({ model }) => model.loadOptimizerState({ step: i64(0) })],
  ['a step without moments', 'E_MISMATCH', ({ model }) => model.loadOptimizerState({ step: i64(1) })],
  ['a step that is no integer', 'E_MISMATCH', ({ model }) => model.loadOptimizerState({ step: f32([], [1]) })],
  [
    'moments of another shape',
    'E_MISMATCH',
    async (h) => {
      await train(h, {});
      h.model.loadOptimizerState({ ...h.model.optimizerState(), 'classifier.bias.m': f32([4], [0, 0, 0, 0]) });
    },
  ],
  ['tensors that are none', 'E_INTERNAL', ({ model }) => model.loadStateDict(5 as never)],
  ['negative sizes', 'E_INTERNAL', ({ model }) => model.loadStateDict({ a: { ...f32([1], [0]), shape: [-1] } })],
  ['too few bytes', 'E_INTERNAL', ({ model }) => model.loadStateDict({ a: { ...f32([1], [0]), shape: [2] } })],
  ['no bytes', 'E_INTERNAL', ({ model }) => model.loadStateDict({ a: { ...f32([1], [0]), data: [] as never } })],
  [
    'an unknown dtype',
    'E_INTERNAL',
    ({ model }) => model.loadStateDict({ a: { ...f32([1], [0]), dtype: 'F8' as never } }),
  ],
];

export const STORE_REFUSALS: Refusal[] = [
  ['two channels', 'E_CONFIG', () => native().createImageStore({ channels: 2 as never, device: 'cpu' })],
  ['an unknown device', 'E_CONFIG', () => native().createImageStore({ channels: 1, device: 'abacus' }).dispose()],
  ['pixels that are no bytes', 'E_INTERNAL', ({ store }) => store.append([] as never, Int32Array.of(), APPEND)],
  ['labels of another type', 'E_INTERNAL', ({ store }) => store.append(new Uint8Array(64), [0] as never, APPEND)],
  ['an unknown resize', 'E_INTERNAL', (handles) => append(handles, { resize: 'longer' })],
  ['a resize to nothing', 'E_CONFIG', (handles) => append(handles, { resize: 'exact', size: 0 })],
  ['images of no rows', 'E_DATA', (handles) => append(handles, { height: 0 }, 0)],
  ['images wider than a JPEG can be', 'E_DATA', (handles) => append(handles, { width: 65_536 })],
  ['a resize beyond what a JPEG can be', 'E_CONFIG', (handles) => append(handles, { resize: 'exact', size: 65_536 })],
  ['a GPU that no machine has', 'E_DEVICE', () => native().createImageStore({ channels: 1, device: 'cuda:99' })],
  ['fewer bytes than images', 'E_DATA', (handles) => append(handles, {}, 63)],
  ['a negative class', 'E_DATA', (handles) => append(handles, {}, 64, [-1])],
  ['a crop larger than the image', 'E_CONFIG', (handles) => append(handles, { centerCrop: 9 })],
  ['a negative crop', 'E_CONFIG', (handles) => append(handles, { centerCrop: -1 })],
  ['an image that is not there', 'E_CONFIG', ({ store }) => store.image(6)],
];

export const RECIPE_REFUSALS: Refusal[] = [
  ['a last offset beyond the rows', 'E_DATA', (h) => replay(h, { offset: i32([3], [0, 2, 5]) })],
  ['a first offset that is not 0', 'E_DATA', (h) => replay(h, { offset: i32([3], [1, 2, 4]) })],
  ['no offsets at all', 'E_DATA', (h) => replay(h, { offset: i32([0], []) })],
  ['offsets in two dimensions', 'E_DATA', (h) => replay(h, { offset: i32([2, 0], []) })],
  ['rows in two dimensions', 'E_DATA', (h) => replay(h, { index: i32([2, 2], [0, 1, 2, 3]) })],
  ['an input of no pixels', 'E_DATA', ({ store }) => ops().renderBatch(store, recipesOf(2), 0)],
  ['an empty batch', 'E_DATA', (h) => replay(h, { offset: i32([4], [0, 2, 2, 4]) })],
  ['offsets that go back', 'E_DATA', (h) => replay(h, { offset: i32([4], [0, 3, 2, 4]) })],
  ['a field of too few rows', 'E_DATA', (h) => replay(h, { flip: u8([3], [0, 0, 0]) })],
  ['a field of too many rows', 'E_DATA', (h) => replay(h, { lambda: f32([5], [1, 1, 1, 1, 1]) })],
  ['an image beyond the store', 'E_DATA', (h) => replay(h, { index: i32([4], [0, 1, 2, 6]) })],
  ['a negative image', 'E_DATA', (h) => replay(h, { index: i32([4], [0, -1, 2, 3]) })],
  ['a partner outside the batch', 'E_DATA', (h) => replay(h, { mixIndex: i32([4], [0, 2, 0, 1]) })],
  ['a crop outside the image', 'E_DATA', (h) => replay(h, { crop: i32([4, 4], rows(BOX, 6, 9)) })],
  [
    'a crop whose top and height are no int32',
    'E_DATA',
    (h) => replay(h, { crop: i32([4, 4], rows(BOX, 4, 2 ** 31 - 1)) }),
  ],
  ['a mix box whose width is no int32', 'E_DATA', (h) => replay(h, { mixBox: i32([4, 4], rows(BOX, 5, 2 ** 31 - 1)) })],
  ['a crop of no rows', 'E_DATA', (h) => replay(h, { crop: i32([4, 4], rows(BOX, 2, 0)) })],
  ['a cutout outside the input', 'E_DATA', (h) => replay(h, { cutout: i32([4, 4], rows(BOX, 4, 1)) })],
  ['a mix box outside the input', 'E_DATA', (h) => replay(h, { mixBox: i32([4, 4], rows(BOX, 4, 1)) })],
  ['an unknown kind of mix', 'E_DATA', (h) => replay(h, { mixKind: u8([4], [0, 3, 0, 0]) })],
  ['another dtype', 'E_INTERNAL', (h) => replay(h, { index: f32([4], [0, 0, 0, 0]) })],
];

export const JOB_REFUSALS: Refusal[] = [
  ['images of other channels', 'E_MISMATCH', ({ model }) => JOBS.evaluate(model, openStore(3), 1).promise],
  [
    'a normalize table of other channels',
    'E_INTERNAL',
    (h) => {
      const input = { size: 8, normalize: f32([3, 256], new Float32Array(768)) };
      return native().evaluate(h.model, h.store, { ...evaluateSpec(1), input }, quiet).promise;
    },
  ],
  [
    'a normalize table of 255 levels',
    'E_INTERNAL',
    (h) => train(h, { input: { size: 8, normalize: f32([1, 255], new Float32Array(255)) } }),
  ],
  ['no threads', 'E_INTERNAL', (h) => train(h, { threads: 0 })],
  ['an unknown precision', 'E_INTERNAL', (h) => train(h, { precision: 'fp8' })],
  ['an unknown optimizer', 'E_INTERNAL', (h) => train(h, optimizer({ kind: 'lamb' }))],
  ['an unknown grouping', 'E_INTERNAL', (h) => train(h, optimizer({ decay: 'none' }))],
  ['fewer learning rates than steps', 'E_INTERNAL', (h) => train(h, optimizer({ lr: f64([1], [0.1]) }))],
  [
    'the state of another optimizer',
    'E_MISMATCH',
    async (h) => {
      await train(h, {});
      await train(h, optimizer({ kind: 'sgd' }));
    },
  ],
  ['an unknown codec', 'E_CONFIG', (h) => train(h, softTarget({ logits: f16([4, 3]) }, { codec: 'dense:f8' }))],
  ['fewer label rows than rows', 'E_MISMATCH', (h) => train(h, softTarget({ logits: f16([3, 3]) }))],
  ['labels of other classes', 'E_MISMATCH', (h) => train(h, softTarget({ logits: f16([4, 4]) }))],
  [
    'a teacher temperature of zero',
    'E_CONFIG',
    (h) => train(h, softTarget({ logits: f16([4, 3]) }, { teacherTemperature: 0 })),
  ],
  ['labels under another name', 'E_MISMATCH', (h) => train(h, softTarget({ scores: f16([4, 3]) }))],
  ['an unknown kind of target', 'E_INTERNAL', (h) => train(h, { target: { kind: 'firm', smoothing: 0 } })],
  [
    'an unknown mode',
    'E_INTERNAL',
    ({ model, store }) => {
      const spec = { ...statsSpec(1, model), mode: 'median' as never };
      return native().collectStats(model, store, spec, quiet).promise;
    },
  ],
  [
    'saved statistics without a layer',
    'E_MISMATCH',
    ({ model, store }) => native().collectStats(model, store, { ...statsSpec(1, model), state: {} }, quiet).promise,
  ],
  [
    'statistics of a class never seen',
    'E_DATA',
    ({ model }) => ops().finishClassStats(model, 'exact', ops().initialClassStats(model, 'exact')),
  ],
  [
    'logits beyond half precision',
    'E_DIVERGED',
    () => encode(codingSpec('dense:f16', 1, 2), logitsOnly([1, 2], [1, 70_000])),
  ],
  ['no groups', 'E_INTERNAL', (h) => synthesize(h, { groups: 0 })],
  ['fewer draws than steps', 'E_INTERNAL', (h) => synthesize(h, { flip: u8([1, 1], [0]) })],
  ['targets of more channels', 'E_MISMATCH', (h) => synthesize(h, { targetMean: f32([1, 5], [0, 0, 0, 0, 0]) })],
  ['targets of fewer channels', 'E_MISMATCH', (h) => synthesize(h, { targetMean: f32([1, 3], [0, 0, 0]) })],
  ['variances of fewer channels', 'E_MISMATCH', (h) => synthesize(h, { targetVar: f32([1, 3], [1, 1, 1]) })],
  ['no progress function', 'E_INTERNAL', (h) => native().train(h.model, h.store, trainSpec(1), 1 as never)],
];

/** What a JavaScript caller can give an op in the place of what its type demands. */
const any = (value: unknown): never => value as never;
const crop = (rows: number, groups: number): unknown =>
  ops().cropFlipRoll(
    f32([1, 1, 2, 2], [0, 0, 0, 0]),
    groups,
    i32([rows, 4], Array(rows).fill([0, 0, 2, 2]).flat()),
    u8([rows], new Uint8Array(rows)),
    i32([rows, 2], new Int32Array(2 * rows)),
    f32([1, 1, 2, 2], [1, 1, 1, 1]),
  );
const pixel = u8([1, 1, 1], [0]);

export const OP_REFUSALS: Refusal[] = [
  ['a text for a number', 'E_INTERNAL', () => ops().resizeBilinear(pixel, any('1'), 1)],
  ['a broken number for an integer', 'E_INTERNAL', () => ops().resizeBilinear(pixel, 1.5, 1)],
  ['NaN for an integer', 'E_INTERNAL', () => ops().resizeBilinear(pixel, Number.NaN, 1)],
  ['infinity for an integer', 'E_INTERNAL', () => ops().resizeBilinear(pixel, Number.POSITIVE_INFINITY, 1)],
  ['a number for a text', 'E_INTERNAL', ({ model }) => ops().initialClassStats(model, any(1))],
  ['nothing for a tensor', 'E_INTERNAL', () => ops().normalizeTable(any(undefined), f32([1], [1]))],
  ['a tensor of other dimensions for an image', 'E_INTERNAL', () => ops().resizeBilinear(u8([1], [0]), 1, 1)],
  ['an image of another dtype', 'E_INTERNAL', () => ops().resizeBilinear(f32([1, 1, 1], [0]), 1, 1)],
  ['an image of no pixels', 'E_INTERNAL', () => ops().resizeBilinear(u8([0, 1, 1], []), 1, 1)],
  ['an image of two channels', 'E_INTERNAL', () => ops().resizeBilinear(u8([1, 1, 2], [0, 0]), 1, 1)],
  ['a size of 0', 'E_INTERNAL', () => ops().resizeBilinear(pixel, 0, 1)],
  [
    'pixels that are no numbers',
    'E_INTERNAL',
    ({ model }) => ops().forward(model, f32([1, 1, 8, 8], new Array(64).fill(Number.NaN)), 'fp32'),
  ],
  ['a size of 65536', 'E_INTERNAL', () => ops().resizeBilinear(pixel, 1, 65_536)],
  ['a short counter', 'E_INTERNAL', () => ops().philox(any([1]), [0, 0])],
  ['a text for a counter', 'E_INTERNAL', () => ops().philox(any('0000'), [0, 0])],
  ['a long key', 'E_INTERNAL', () => ops().philox([0, 0, 0, 0], any([0, 0, 0]))],
  ['words that are no numbers', 'E_INTERNAL', () => ops().philox(any([0n, 0n, 0n, 0n]), [0, 0])],
  ['a number for a seed', 'E_INTERNAL', () => ops().normals(any(1), 1, 0, 0, 4)],
  ['a seed of 65 bits', 'E_INTERNAL', () => ops().normals(2n ** 64n, 1, 0, 0, 4)],
  ['a negative seed', 'E_INTERNAL', () => ops().normals(-1n, 1, 0, 0, 4)],
  ['a negative count', 'E_INTERNAL', () => ops().normals(1n, 1, 0, 0, -4)],
  ['a count beyond any tensor', 'E_INTERNAL', () => ops().normals(1n, 1, 0, 0, 2 ** 34)],
  [
    'class moments with a shift of other channels',
    'E_INTERNAL',
    () => ops().classMoments(f32([1, 2, 1, 1], [1, 2]), i32([1], [0]), 1, f32([1], [0])),
  ],
  ['fewer crops than groups', 'E_INTERNAL', () => crop(1, 2)],
  ['no groups', 'E_INTERNAL', () => crop(0, 0)],
  [
    'an image of another rank',
    'E_INTERNAL',
    () =>
      ops().cropFlipRoll(f32([1], [1]), 1, i32([1, 4], [0, 0, 1, 1]), u8([1], [0]), i32([1, 2], [0, 0]), f32([1], [1])),
  ],
];

/** A copy of four numbers, timed. */
const timeOp = (change: Partial<TimeOpSpec>) =>
  native().timeOp(
    {
      ...{ op: 'copy', device: 'cpu', dtype: 'F32', groups: 1, imagesPerGroup: 1, channels: 1, size: 2 },
      ...{ kernels: false, graph: false, threads: 1, runs: 1, rounds: 1, ...change },
    },
    () => {},
  ).promise;

export const OTHER_REFUSALS: Refusal[] = [
  ['kernels that are no path', 'E_INTERNAL', () => native().loadKernels(1 as never)],
  ['kernels that are not there', 'E_DEVICE', () => native().loadKernels('/nowhere/liblpld_kernels.so')],
  ['a graph library that is no path', 'E_INTERNAL', () => native().loadGraph(1 as never)],
  ['a graph library that is not there', 'E_DEVICE', () => native().loadGraph('/nowhere/liblpld_graph.so')],
  ['memory of a device that is none', 'E_CONFIG', () => native().deviceMemory('gpu')],
  ['memory of a GPU that is not there', 'E_DEVICE', () => native().deviceMemory('cuda:99')],
  ['memory of a device that is no name', 'E_INTERNAL', () => native().deviceMemory(1 as never)],
  ['a timed op that is none', 'E_CONFIG', () => timeOp({ op: 'conv' as never })],
  ['a timed op of another dtype', 'E_CONFIG', () => timeOp({ dtype: 'F64' as never })],
  ['a timed op in no rounds', 'E_CONFIG', () => timeOp({ rounds: 0 })],
  ['a timed op on a device that is none', 'E_CONFIG', () => timeOp({ device: 'gpu' })],
  ['ops on a device that is none', 'E_CONFIG', () => native().opsOn('gpu')],
  ['ops on a GPU that is not there', 'E_DEVICE', () => native().opsOn('cuda:99')],
  [
    'a library that holds no kernels',
    'E_DEVICE',
    () => native().loadKernels(join(import.meta.dirname, '..', '..', 'build', 'Release', 'lpld.node')),
  ],
  [
    'a job stopped before it began',
    'E_CANCELLED',
    ({ model, store }) => {
      const running = busyJob(openModel(), openStore());
      const job = JOBS.evaluate(model, store, 1);
      job.cancel();
      running.cancel();
      return job.promise;
    },
  ],
  [
    'a job stopped between steps',
    'E_CANCELLED',
    ({ model, store }) => {
      const job = JOBS.train(model, store, 20_000, () => job.cancel());
      return job.promise;
    },
  ],
];
