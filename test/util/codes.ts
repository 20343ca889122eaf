// Codecs as tests call them: records of given answers and Recipes reduced to what codecs read.

import type { AnswerResult, CodecNeeds, CodingSpec, EncodedLabels, NativeModel, Recipes } from '../../src/native.ts';
import { arrayOf, type TensorMap, type TensorView } from '../../src/tensor.ts';
import { halfBits } from '../reference/half.ts';
import { native, noCutout } from './native.ts';
import { f32, i32, u8 } from './tensors.ts';

const quiet = () => {};

/** dense:f16 rows without the addon: [n, K] halves. */
export function halves(shape: readonly number[], values: ArrayLike<number>): TensorMap {
  const bits = Uint16Array.from(values, halfBits);
  return { logits: { dtype: 'F16', shape, data: new Uint8Array(bits.buffer) } };
}

/** What train and label specs say of S records of dense:f16 labels. */
export const denseCode = (steps: number) => ({
  codec: 'dense:f16',
  basis: {},
  recordIds: i32(
    [steps],
    Array.from({ length: steps }, (_, i) => i),
  ),
  seed: 0n,
  images: null,
});

export interface RowsOptions {
  /** Rows of each record; one record of all rows where absent. */
  readonly lengths?: readonly number[];
  readonly recordIds?: readonly number[];
  readonly index?: ArrayLike<number>; // [M]; row numbers where absent
  readonly mixIndex?: ArrayLike<number>; // [M]; own positions where absent
  readonly lambda?: ArrayLike<number>; // [M]; 1 where absent
  readonly seed?: bigint;
}

/** A coding spec over M rows of K classes. */
export function codingSpec(codec: string, rows: number, numClasses: number, o: RowsOptions = {}): CodingSpec {
  const lengths = o.lengths ?? [rows];
  const offset = [0];
  for (const n of lengths) offset.push(offset.at(-1)! + n);
  const own = lengths.flatMap((n) => Array.from({ length: n }, (_, i) => i));
  const all = Array.from({ length: rows }, (_, i) => i);
  const zeros = (width: number) => new Array<number>(rows * width).fill(0);
  const recipes: Recipes = {
    offset: i32([offset.length], offset),
    index: i32([rows], o.index ?? all),
    crop: i32([rows, 4], zeros(4)),
    flip: u8([rows], zeros(1)),
    ...noCutout(rows),
    mixKind: u8([rows], zeros(1)),
    mixIndex: i32([rows], o.mixIndex ?? own),
    mixBox: i32([rows, 4], zeros(4)),
    lambda: f32([rows], o.lambda ?? new Array<number>(rows).fill(1)),
  };
  const ids = o.recordIds ?? Array.from(lengths.keys());
  return {
    codec,
    basis: {},
    recordIds: i32([ids.length], ids),
    seed: o.seed ?? 0n,
    threads: 1,
    numClasses,
    recipes,
  };
}

export const codecNeeds = (codec: string): CodecNeeds => native().codecNeeds(codec);

/** Fits a codec to what it needs of the answers given. */
export async function fitBasis(
  spec: CodingSpec,
  answers: AnswerResult,
  options: { readonly whole?: AnswerResult; readonly teachers?: readonly NativeModel[] } = {},
): Promise<TensorMap> {
  const needs = codecNeeds(spec.codec);
  const whole = needs.whole ? (options.whole ?? null) : null;
  const full = { ...spec, sample: needs.sample ? answers : null, whole };
  return (await native().fitCodec(options.teachers ?? [], full, quiet).promise).basis;
}

export const encode = (spec: CodingSpec, answers: AnswerResult): Promise<EncodedLabels> =>
  native().encode({ ...spec, ...answers }, quiet).promise;

export async function decode(spec: CodingSpec, labels: EncodedLabels): Promise<TensorView> {
  return (await native().decode({ ...spec, ...labels }, quiet).promise).logits;
}

/** Answers without features from logits [M, K]. */
export const logitsOnly = (shape: readonly number[], values: ArrayLike<number>): AnswerResult => ({
  logits: f32(shape, values),
  features: null,
});

/** Encodes and decodes [M, K] logits with a codec that needs no fit. */
export async function roundTrip(codec: string, shape: readonly [number, number], values: ArrayLike<number>) {
  const spec = codingSpec(codec, shape[0], shape[1]);
  const labels = await encode(spec, logitsOnly(shape, values));
  return { labels, values: arrayOf(await decode(spec, labels), 'F32') };
}
