// What jobs on labels refuse: teachers that do not belong together, answers and records that do not fit their Recipes.

import type { AnswerSpec, LabelSpec } from '../../src/native.ts';
import { codingSpec, decode, denseCode, encode, halves, logitsOnly, type RowsOptions } from './codes.ts';
import { evaluateSpec, labelSpec, openModel } from './jobs.ts';
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
  ['fewer blob offsets', 'E_MISMATCH', () => decode(two(), { tensors: rows, blobs: blob([0]) })],
  ['blob offsets past the end', 'E_MISMATCH', () => decode(two(), { tensors: rows, blobs: blob([0, 3]) })],
  ['a partner outside the record', 'E_DATA', () => decode(two({ mixIndex: [0, 2] }), { tensors: rows, blobs: null })],
];
