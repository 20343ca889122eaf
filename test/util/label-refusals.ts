// What jobs on labels refuse: teachers that do not belong together, answers and records that do not fit their Recipes.

import type { AnswerSpec, LabelSpec } from '../../src/native.ts';
import { type TensorMap, tensor } from '../../src/tensor.ts';
import {
  codingSpec,
  decode,
  denseCode,
  encode,
  fitBasis,
  halves,
  logitsOnly,
  type RowsOptions,
  roundTrip,
} from './codes.ts';
import { evaluateSpec, labelSpec, openModel } from './jobs.ts';
import { around0, plainBasis } from './klt.ts';
import { native, quiet } from './native.ts';
import type { Handles, Refusal } from './refusals.ts';
import { f32, i32, i64, u8 } from './tensors.ts';

const any = (value: unknown): never => value as never;
const answer = ({ store }: Handles, teachers: unknown, change: Partial<AnswerSpec> = {}): Promise<unknown> => {
  const spec: AnswerSpec = { ...evaluateSpec(2), ensemble: 'mean', teacherMode: 'eval', features: false, ...change };
  return native().answer(any(teachers), store, spec, quiet).promise;
};
const label = ({ model, store }: Handles, change: Partial<LabelSpec>): Promise<unknown> =>
  native().label([model], store, { ...labelSpec(2), ...change }, quiet).promise;
const fitting = (change: object): Promise<unknown> => {
  const spec = { ...codingSpec('dense:f16', 2, 3), sample: null, whole: null, ...change };
  return native().fitCodec([], any(spec), quiet).promise;
};
const two = (o: RowsOptions = {}) => codingSpec('dense:f16', 2, 3, o);
const rows = { logits: halves([2, 3], [0, 0, 0, 0, 0, 0]).logits! };
const coding = (codec: string) => codingSpec(codec, 2, 3);
const zeros = logitsOnly([2, 3], [0, 0, 0, 0, 0, 0]);
const head = { weight: f32([3, 1], [1, 1, 1]), bias: f32([3], [0, 0, 0]) };
const blob = (offset: readonly number[]) => ({ data: u8([2], [0, 0]), offset: i64([offset.length], offset) });
const silent = (): unknown => {
  const model = openModel();
  const zeros = Object.entries(model.stateDict()).map(([name, view]) => [
    name,
    name.startsWith('classifier') ? { ...view, data: new Uint8Array(view.data.length) } : view,
  ]);
  model.loadStateDict(Object.fromEntries(zeros));
  return model;
};

const bytes = (...values: number[]) => ({ data: u8([values.length], values), offset: i64([2], [0, values.length]) });
const plain = plainBasis([around0(0.3), around0(0.3)]);
const fromKlt = (change: TensorMap, data: number[] = [0, 0, 128, 0]): Promise<unknown> =>
  decode({ ...codingSpec('klt:24', 1, 3), basis: { ...plain, ...change } }, { tensors: {}, blobs: bytes(...data) });
const i8 = (shape: readonly number[], values: readonly number[]) => tensor('I8', shape, Int8Array.from(values));
const halfRows = (shape: readonly number[], value: number) =>
  halves(shape, new Array(shape.reduce((a, b) => a * b)).fill(value)).logits!;
const i16 = (values: readonly number[]) => tensor('I16', [values.length], Int16Array.from(values));
const fits = async (codec: string, changed: TensorMap = {}, change: RowsOptions = {}): Promise<unknown> => {
  const answers = logitsOnly([2, 3], [0, 1, 5, 4, 2, 0]);
  const basis = await fitBasis(codingSpec(codec, 2, 3), answers, { whole: answers });
  return encode({ ...codingSpec(codec, 2, 3, change), basis: { ...basis, ...changed } }, answers);
};

export const LABEL_REFUSALS: Refusal[] = [
  ['one model for several', 'E_INTERNAL', (h) => answer(h, h.model)],
  ['no teacher', 'E_INTERNAL', (h) => answer(h, [])],
  ['teachers of other classes', 'E_MISMATCH', (h) => answer(h, [h.model, openModel({ numClasses: 4 })])],
  ['features of two teachers', 'E_CONFIG', (h) => answer(h, [h.model, openModel()], { features: true })],
  ['an unknown ensemble', 'E_INTERNAL', (h) => answer(h, [h.model], { ensemble: any('median') })],
  ['an unknown mode', 'E_INTERNAL', (h) => answer(h, [h.model], { teacherMode: any('test') })],
  [
    'a teacher that says nothing, at equal norms',
    'E_DIVERGED',
    (h) => answer(h, [h.model, silent()], { ensemble: 'norm-mean' }),
  ],
  ['fewer record ids than batches', 'E_MISMATCH', (h) => label(h, denseCode(1))],
  ['fewer images than rows', 'E_MISMATCH', (h) => label(h, { images: i32([1], [0]) })],
  ['a negative image of the set', 'E_DATA', (h) => label(h, { images: i32([4], [0, 1, -1, 0]) })],
  ['no threads', 'E_INTERNAL', () => encode({ ...two(), threads: 0 }, logitsOnly([2, 3], [0, 0, 0, 0, 0, 0]))],
  ['answers to fewer rows', 'E_MISMATCH', () => encode(two(), logitsOnly([1, 3], [0, 0, 0]))],
  [
    'features of fewer rows',
    'E_MISMATCH',
    () => encode(two(), { ...logitsOnly([2, 3], [0, 0, 0, 0, 0, 0]), features: f32([1, 4], [0, 0, 0, 0]) }),
  ],
  ['a codec without a name', 'E_INTERNAL', () => native().codecNeeds(any(1))],
  ['an unknown codec to fit', 'E_CONFIG', () => fitting({ codec: 'dense:f15' })],
  [
    'rows of another record count',
    'E_MISMATCH',
    () => decode({ ...two(), recordIds: i32([2], [0, 1]) }, { tensors: rows, blobs: null }),
  ],
  [
    'logits in a dtype of sizes',
    'E_MISMATCH',
    () => decode(two(), { tensors: { logits: tensor('U16', [2, 3], new Uint16Array(6)) }, blobs: null }),
  ],
  ['fewer blob offsets', 'E_MISMATCH', () => decode(two(), { tensors: rows, blobs: blob([0]) })],
  ['blob offsets past the end', 'E_MISMATCH', () => decode(two(), { tensors: rows, blobs: blob([0, 3]) })],
  ['a partner outside the record', 'E_DATA', () => decode(two({ mixIndex: [0, 2] }), { tensors: rows, blobs: null })],
  ['no sample to fit klt to', 'E_INTERNAL', () => fitting({ codec: 'klt:24' })],
  ['klt of no size', 'E_CONFIG', () => native().codecNeeds('klt:0')],
  [
    'klt of infinite answers',
    'E_DIVERGED',
    () => fitBasis(codingSpec('klt:24', 1, 2), logitsOnly([1, 2], [Number.POSITIVE_INFINITY, 0])),
  ],
  ['klt without a basis', 'E_MISMATCH', () => encode(codingSpec('klt:24', 1, 2), logitsOnly([1, 2], [0, 1]))],
  ['a step of nothing', 'E_MISMATCH', () => fromKlt({ step: f32([1], [0]) })],
  ['a mean past all logits', 'E_MISMATCH', () => fromKlt({ mean: f32([3], [0, 2e12, 0]) })],
  ['a width past the last', 'E_MISMATCH', () => fromKlt({ model: u8([2, 3], [0, 40, 128, 0, 224, 128]) })],
  ['a model of two bytes', 'E_MISMATCH', () => fromKlt({ model: u8([2, 2], [0, 40, 0, 40]) })],
  [
    'shares of more than all',
    'E_MISMATCH',
    () => fromKlt({ model: u8([3, 3], [200, 40, 128, 56, 40, 128, 0, 40, 128]) }),
  ],
  ['a model without an end', 'E_MISMATCH', () => fromKlt({ model: u8([2, 3], [0, 40, 128, 9, 40, 128]) })],
  ['what is left out amid a mixture', 'E_MISMATCH', () => fromKlt({ model: u8([2, 3], [9, 40, 128, 0, 255, 0]) })],
  [
    'a model without a vector',
    'E_MISMATCH',
    () => fromKlt({ model: u8([3, 3], [0, 40, 128, 0, 40, 128, 0, 40, 128]) }),
  ],
  ['a vector of nothing', 'E_MISMATCH', () => fromKlt({ vectors: i8([2, 3], [1, 0, 0, 0, 0, 0]) })],
  ['a basis of tables, of an earlier version', 'E_MISMATCH', () => fromKlt({ frequency: i16([4096]) })],
  [
    'logits far from the sample',
    'E_DIVERGED',
    () => encode({ ...codingSpec('klt:24', 1, 3), basis: plain }, logitsOnly([1, 3], [1e12, -1e12, 0])),
  ],
  [
    'klt rows without bytes',
    'E_MISMATCH',
    () => decode({ ...codingSpec('klt:24', 1, 3), basis: plain }, { tensors: {}, blobs: null }),
  ],
  ['a stream of an impossible state', 'E_DATA', () => fromKlt({}, [255, 255, 255, 255])],
  ['a stream cut short', 'E_DATA', () => fromKlt({}, [0, 0])],
  ['a stream with something after it', 'E_DATA', () => fromKlt({}, [0, 0, 128, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
  [
    'bytes where nothing is kept',
    'E_DATA',
    () => decode({ ...codingSpec('klt:24', 1, 1), basis: plainBasis([]) }, { tensors: {}, blobs: bytes(1) }),
  ],
  ['delta of an image it does not know', 'E_MISMATCH', () => fits('delta:24', {}, { index: [0, 2] })],
  ['gains beyond reason', 'E_MISMATCH', () => fits('delta:24', { gain: halfRows([17, 2], 101) })],
  [
    'whole images of fewer coefficients than vectors',
    'E_MISMATCH',
    () => fits('delta:24', { 'base.model': u8([0, 3], []) }),
  ],
  ['fewer than no whole images', 'E_MISMATCH', () => fits('delta:24', { 'base.images': i32([1], [-1]) })],
  ['a top-k name without a mode', 'E_CONFIG', () => native().codecNeeds('topk:5')],
  ['top-k of a logit past half precision', 'E_DIVERGED', () => roundTrip('topk:1:mr', [1, 3], [0, 70_000, 1])],
  ['integers of a logit past half precision', 'E_DIVERGED', () => roundTrip('dense:int8', [1, 3], [0, 70_000, 1])],
  [
    'top-k of a class that does not exist',
    'E_DATA',
    () =>
      decode(coding('topk:1:mr'), {
        tensors: { value: halves([2, 1], [0, 0]).logits!, class: u8([2, 1], [3, 3]) },
        blobs: null,
      }),
  ],
  [
    'top-k with fewer rows of classes',
    'E_MISMATCH',
    () =>
      decode(coding('topk:1:mr'), {
        tensors: { value: halves([2, 1], [0, 0]).logits!, class: u8([1, 1], [0]) },
        blobs: null,
      }),
  ],
  ['features without a teacher', 'E_CONFIG', () => fitting({ codec: 'features' })],
  ['features without a basis', 'E_MISMATCH', () => encode(coding('features'), zeros)],
  ['features not beside the logits', 'E_MISMATCH', () => encode({ ...coding('features'), basis: head }, zeros)],
  [
    'features past half precision',
    'E_DIVERGED',
    () => encode({ ...coding('features'), basis: head }, { logits: zeros.logits, features: f32([2, 1], [0, 70_000]) }),
  ],
  [
    'a basis of more vectors than two for a class',
    'E_MISMATCH',
    () => {
      const basis = {
        ...plain,
        mean: f32([1], [0]),
        vectors: { ...plain.vectors!, shape: [3, 1], data: new Uint8Array(6) },
      };
      return decode(
        { ...codingSpec('klt:24', 1, 1), basis },
        { tensors: {}, blobs: { data: u8([1], [0]), offset: i64([2], [0, 1]) } },
      );
    },
  ],
];
