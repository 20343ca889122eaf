// A codec alone: logits of one's own encoded and decoded, without a store, a teacher or images, to see what it costs and
// what it loses. Codecs that learn are fitted to the very rows they encode.

import { loadNative } from './addon.ts';
import { expected, LpldError, toLpldError } from './errors.ts';
import type { CodingSpec, EncodedLabels, NativeBinding, Recipes } from './native.ts';
import { evaluationRecipes } from './recipe.ts';
import { defaultThreads, runJob } from './stages/shared.ts';
import { arrayOf, type TensorMap, tensor } from './tensor.ts';

/** Logits to encode: M rows of K classes. */
export interface LogitRows {
  readonly logits: Float32Array; // [M * K], row after row
  readonly numClasses: number; // K
  /** Records the rows belong to, and their mix partners and shares; one record of M unmixed images when left out. */
  readonly recipes?: Recipes;
  /** Ids of these records; 0, 1, ... when left out. Like the seed they reach the dither of klt. */
  readonly recordIds?: Int32Array;
  readonly seed?: bigint;
}

/** Encoded logits, and all that decoding them takes. */
export interface CodedLogits extends Omit<CodingSpec, 'threads'>, EncodedLabels {
  readonly bytes: number; // of tensors and blobs
  readonly basisBytes: number; // of what the codec stores once
}

const NEVER = new AbortController().signal;

/**
 * Encodes logits.
 *
 * @param codec - a name as relabel.codec takes it: dense:f16, topk:5:ms, klt:24
 * @throws {LpldError} E_CONFIG for a name that is no codec's, logits that are no whole rows, and a codec that stores what
 *   only a teacher knows (features, delta); E_CANCELLED
 */
export async function encodeLogits(codec: string, rows: LogitRows, signal: AbortSignal = NEVER): Promise<CodedLogits> {
  const native = loadNative('cpu');
  const needs = needsOf(native, codec);
  const { logits: given, numClasses, seed = 0n } = rows;
  const count = given.length / numClasses;
  if (!(Number.isInteger(count) && count > 0))
    throw new LpldError('E_CONFIG', expected(`rows of ${numClasses} logits`, 'logits', `${given.length} numbers`));
  const recipes = rows.recipes ?? evaluationRecipes(count, () => [1, 1], count);
  const records = recipes.offset.shape[0]! - 1;
  const ids = rows.recordIds ?? Int32Array.from({ length: records }, (_, id) => id);
  const recordIds = tensor('I32', [ids.length], ids);
  const answers = { logits: tensor('F32', [count, numClasses], given), features: null };
  const coding = { codec, recordIds, seed, numClasses, recipes };
  const threads = defaultThreads();
  const learn = { ...coding, threads, basis: {}, sample: answers, whole: null };
  const { basis } = needs.sample
    ? await runJob(
        signal,
        (on) => native.fitCodec([], learn, on),
        () => {},
      )
    : { basis: {} };
  const encode = { ...coding, ...answers, threads, basis };
  const { tensors, blobs } = await runJob(
    signal,
    (on) => native.encode(encode, on),
    () => {},
  );
  const bytes = sizeOf(tensors) + (blobs?.data.data.length ?? 0);
  return { ...coding, basis, tensors, blobs, bytes, basisBytes: sizeOf(basis) };
}

/**
 * Decodes what `encodeLogits` made.
 * @returns [M * K], row after row. klt gives centred logits: each row less its mean, which no softmax sees
 */
export async function decodeLogits(coded: CodedLogits, signal: AbortSignal = NEVER): Promise<Float32Array> {
  const { bytes: _, basisBytes: __, ...spec } = coded;
  const native = loadNative('cpu');
  const { logits } = await runJob(
    signal,
    (on) => native.decode({ ...spec, threads: defaultThreads() }, on),
    () => {},
  );
  return arrayOf(logits, 'F32');
}

function needsOf(native: NativeBinding, codec: string): ReturnType<NativeBinding['codecNeeds']> {
  try {
    const needs = native.codecNeeds(codec);
    if (!needs.features && !needs.whole) return needs;
  } catch (thrown) {
    throw toLpldError(thrown); // native errors are plain objects
  }
  const advice = `${codec} needs the teacher: relabel with relabel.codec ${codec}`;
  throw new LpldError('E_CONFIG', expected('a codec of logits alone', 'codec', codec, advice));
}

const sizeOf = (tensors: TensorMap): number => Object.values(tensors).reduce((sum, { data }) => sum + data.length, 0);
