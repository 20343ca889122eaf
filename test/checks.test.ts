// Every refusal written in binding/ and native/ that can be met from outside, met once: the code, that the message is the
// one written there, and that the handles work afterwards. The last test reads the sources and names those never met.

import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import type { ModelSpec, NativeImageStore, NativeModel, Recipes, SynthesizeSpec, TrainSpec } from '../src/native.ts';
import type { TensorMap, TensorView } from '../src/tensor.ts';
import {
  APPEND,
  busyJob,
  codeOf,
  evaluateSpec,
  JOBS,
  labelSpec,
  openModel,
  openStore,
  recipesOf,
  statsSpec,
  synthesizeSpec,
  trainSpec,
} from './util/jobs.ts';
import { native, ops, quiet } from './util/native.ts';
import { nativeChecks } from './util/native-checks.ts';
import { f32, f64, i32, u8 } from './util/tensors.ts';

interface Handles {
  readonly model: NativeModel;
  readonly store: NativeImageStore;
}
type Refusal = readonly [what: string, code: string, call: (handles: Handles) => unknown];

const train = ({ model, store }: Handles, change: object): Promise<unknown> =>
  native().train(model, store, { ...trainSpec(2), ...change } as TrainSpec, quiet).promise;
const replay = ({ model, store }: Handles, change: Partial<Recipes>): Promise<unknown> =>
  native().evaluate(model, store, { ...evaluateSpec(2), recipes: { ...recipesOf(2), ...change } }, quiet).promise;
const optimizer = (change: object): object => ({ optimizer: { ...trainSpec(2).optimizer, ...change } });
const softTarget = (tensors: TensorMap, change: object = {}): object => ({
  target: { kind: 'soft', codec: 'dense:f16', tensors, basis: {}, temperature: 2, lossScale: 1, ...change },
});
const f16 = (shape: readonly number[]): TensorView => ({
  dtype: 'F16',
  shape,
  data: new Uint8Array(2 * shape.reduce((n, d) => n * d, 1)),
});
const synthesize = ({ model }: Handles, change: Partial<SynthesizeSpec>): Promise<unknown> =>
  native().synthesize(model, { ...synthesizeSpec(2), ...change }, quiet).promise;
const convnet = (change: object): void => {
  const options = { stem: 'small', widths: [4], pooling: 'avg', ...change } as ModelSpec['options'];
  openModel({ options });
};
const append = ({ store }: Handles, change: object, pixels = 64, labels = [0]): void =>
  store.append(new Uint8Array(pixels), Int32Array.from(labels), { ...APPEND, ...change });
/** The four rows of two steps, with one number of one row changed. */
const rows = (values: readonly number[], at: number, value: number): number[] => values.with(at, value);
const BOX = [0, 0, 8, 8, 0, 0, 8, 8, 0, 0, 8, 8, 0, 0, 8, 8];

const MODEL_REFUSALS: Refusal[] = [
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
  ['weights of another model', 'E_MISMATCH', ({ model }) => model.loadStateDict({ 'fc.weight': f32([1], [0]) })],
  ['moments without a step', 'E_MISMATCH', ({ model }) => model.loadOptimizerState({ 'a.m': f32([1], [0]) })],
  [
    'a step without moments',
    'E_MISMATCH',
    ({ model }) => model.loadOptimizerState({ step: { dtype: 'I64', shape: [], data: new Uint8Array(8) } }),
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

const STORE_REFUSALS: Refusal[] = [
  ['two channels', 'E_CONFIG', () => native().createImageStore({ channels: 2 as never, device: 'cpu' })],
  ['an unknown device', 'E_CONFIG', () => native().createImageStore({ channels: 1, device: 'abacus' }).dispose()],
  ['pixels that are no bytes', 'E_INTERNAL', ({ store }) => store.append([] as never, Int32Array.of(), APPEND)],
  ['labels of another type', 'E_INTERNAL', ({ store }) => store.append(new Uint8Array(64), [0] as never, APPEND)],
  ['an unknown resize', 'E_INTERNAL', (handles) => append(handles, { resize: 'longer' })],
  ['a resize to nothing', 'E_CONFIG', (handles) => append(handles, { resize: 'exact', size: 0 })],
  ['fewer bytes than images', 'E_DATA', (handles) => append(handles, {}, 63)],
  ['a negative class', 'E_DATA', (handles) => append(handles, {}, 64, [-1])],
  ['a crop larger than the image', 'E_CONFIG', (handles) => append(handles, { centerCrop: 9 })],
  ['a negative crop', 'E_CONFIG', (handles) => append(handles, { centerCrop: -1 })],
  ['an image that is not there', 'E_CONFIG', ({ store }) => store.image(6)],
];

const RECIPE_REFUSALS: Refusal[] = [
  ['a last offset beyond the rows', 'E_DATA', (h) => replay(h, { offset: i32([3], [0, 2, 5]) })],
  ['a first offset that is not 0', 'E_DATA', (h) => replay(h, { offset: i32([3], [1, 2, 4]) })],
  ['an empty batch', 'E_DATA', (h) => replay(h, { offset: i32([4], [0, 2, 2, 4]) })],
  ['offsets that go back', 'E_DATA', (h) => replay(h, { offset: i32([4], [0, 3, 2, 4]) })],
  ['a field of too few rows', 'E_DATA', (h) => replay(h, { flip: u8([3], [0, 0, 0]) })],
  ['a field of too many rows', 'E_DATA', (h) => replay(h, { lambda: f32([5], [1, 1, 1, 1, 1]) })],
  ['an image beyond the store', 'E_DATA', (h) => replay(h, { index: i32([4], [0, 1, 2, 6]) })],
  ['a negative image', 'E_DATA', (h) => replay(h, { index: i32([4], [0, -1, 2, 3]) })],
  ['a partner outside the batch', 'E_DATA', (h) => replay(h, { mixIndex: i32([4], [0, 2, 0, 1]) })],
  ['a crop outside the image', 'E_DATA', (h) => replay(h, { crop: i32([4, 4], rows(BOX, 6, 9)) })],
  ['a crop of no rows', 'E_DATA', (h) => replay(h, { crop: i32([4, 4], rows(BOX, 2, 0)) })],
  ['a mix box outside the input', 'E_DATA', (h) => replay(h, { mixBox: i32([4, 4], rows(BOX, 4, 1)) })],
  ['an unknown kind of mix', 'E_DATA', (h) => replay(h, { mixKind: u8([4], [0, 3, 0, 0]) })],
  ['another dtype', 'E_INTERNAL', (h) => replay(h, { index: f32([4], [0, 0, 0, 0]) })],
];

const JOB_REFUSALS: Refusal[] = [
  ['images of other channels', 'E_MISMATCH', ({ model }) => JOBS.evaluate(model, openStore(3), 1).promise],
  [
    'a class the model does not have',
    'E_MISMATCH',
    (h) => {
      append(h, {}, 64, [3]);
      return replay(h, { index: i32([4], [6, 6, 6, 6]) });
    },
  ],
  [
    'a class the labelling model does not have',
    'E_MISMATCH',
    ({ model, store }) => {
      append({ model, store }, {}, 64, [3]);
      const recipes = { ...recipesOf(1), index: i32([2], [6, 6]) };
      return native().label(model, store, { ...labelSpec(1), recipes }, quiet).promise;
    },
  ],
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
  ['logits beyond half precision', 'E_DIVERGED', () => ops().encode('dense:f16', f32([1, 2], [1, 70_000]), {})],
  ['no groups', 'E_INTERNAL', (h) => synthesize(h, { groups: 0 })],
  ['fewer draws than steps', 'E_INTERNAL', (h) => synthesize(h, { flip: u8([1, 1], [0]) })],
  ['targets of more channels', 'E_MISMATCH', (h) => synthesize(h, { targetMean: f32([1, 5], [0, 0, 0, 0, 0]) })],
  ['targets of fewer channels', 'E_MISMATCH', (h) => synthesize(h, { targetMean: f32([1, 3], [0, 0, 0]) })],
  ['variances of fewer channels', 'E_MISMATCH', (h) => synthesize(h, { targetVar: f32([1, 3], [1, 1, 1]) })],
  ['no progress function', 'E_INTERNAL', (h) => native().train(h.model, h.store, trainSpec(1), 1 as never)],
];

const OTHER_REFUSALS: Refusal[] = [
  ['kernels that are no path', 'E_INTERNAL', () => native().loadKernels(1 as never)],
  ['kernels that are not there', 'E_DEVICE', () => native().loadKernels('/nowhere/liblpld_kernels.so')],
  [
    'a library that holds no kernels',
    'E_DEVICE',
    () => native().loadKernels(join(import.meta.dirname, '..', 'build', 'Release', 'lpld.node')),
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

const ALL = Object.entries({ MODEL_REFUSALS, STORE_REFUSALS, RECIPE_REFUSALS, JOB_REFUSALS, OTHER_REFUSALS });
const met: { code: string; message: string }[] = [];

async function refusal(work: () => unknown): Promise<{ code: string; message: string }> {
  try {
    await work();
  } catch (thrown) {
    const { code, message } = thrown as { code: string; message: string };
    met.push({ code, message });
    return { code, message };
  }
  return { code: 'none', message: 'it was accepted' };
}

describe.each(ALL)('%s', (_group, refusals) => {
  test.each(refusals)('%s: %s', async (_what, code, call) => {
    const handles = { model: openModel(), store: openStore() };
    const error = await refusal(() => call(handles));
    expect(error, error.message).toMatchObject({ code });
    expect(error.message).toMatch(/^[^\n]{10,400}$/); // one line: no stack, no dump of LibTorch's
    expect([handles.model.state, handles.store.state]).toEqual(['open', 'open']);
    for (const job of ['evaluate', 'collectStats', 'label'] as const)
      expect(await codeOf(() => JOBS[job](handles.model, handles.store, 2).promise), job).toBe('ok');
  });
});

test('weights that do not fit change nothing, and the first five differences are named', async () => {
  const model = openModel();
  const before = model.stateDict();
  const wrong = { ...before, extra1: f32([1], [0]), extra2: f32([1], [0]), 'classifier.bias': f32([4], [0, 0, 0, 0]) };
  delete (wrong as TensorMap)['features.0.conv.weight'];
  const { code, message } = await refusal(() => model.loadStateDict(wrong));
  expect(code).toBe('E_MISMATCH');
  for (const part of [
    'features.0.conv.weight is missing',
    'extra1 is extra',
    'classifier.bias has shape [4] where [3]',
  ])
    expect(message).toContain(part);
  expect(model.stateDict()).toEqual(before);
});

// ---- Met by other tests, or by none: each with its reason

const ELSEWHERE: Record<string, string> = {
  'expected an open handle but it was disposed': 'disposed by its own spec: test/handles.test.ts',
  'expected an idle handle but a job is running on it': 'busy by its own spec: test/handles.test.ts',
  'expected an open Model but it was disposed': 'test/handles.test.ts',
  'expected an idle Model but a job is running on it': 'test/handles.test.ts',
  'expected an idle Model for dispose but a job is running on it': 'test/handles.test.ts',
  'expected an open ImageStore but it was disposed': 'test/handles.test.ts',
  'expected an idle ImageStore but a job is running on it': 'test/handles.test.ts',
  'expected an idle ImageStore for dispose but a job is running on it': 'test/handles.test.ts',
  'expected a Model handle': 'test/handles.test.ts',
  'expected an ImageStore handle': 'test/handles.test.ts',
  'expected an object for x': 'test/specs.test.ts',
  'expected a number for argument 1': 'ops: test/ops',
  'expected a string for argument 1': 'ops: test/ops',
  'expected an image U8 [H, W, C], received [1]': 'ops: test/ops/resized-crop.test.ts',
  'expected LibTorch 2.13 in the process, received 2.14': 'needs another LibTorch: findAddon refuses it before',
  'host memory is exhausted': 'needs a machine without memory',
  'render: the CUDA kernel failed with error 1': 'needs a broken device',
};

test('no refusal in the sources is left that nothing meets', () => {
  const checks = nativeChecks([
    'binding',
    'native/data',
    'native/jobs',
    'native/models',
    'native/codecs',
    'native/core',
  ]);
  expect(checks.length).toBeGreaterThan(60);
  const unmet = checks.filter(
    ({ code, message }) =>
      message !== null &&
      !Object.keys(ELSEWHERE).some((text) => message.test(text)) &&
      !met.some((error) => error.code === code && message.test(error.message)),
  );
  expect(unmet.map(({ where, code, message }) => `${where} ${code} ${message}`)).toEqual([]);
});
