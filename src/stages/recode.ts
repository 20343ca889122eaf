// Labels of one codec as labels of another, without the teacher: decode, and encode what comes out. A codec that learns is
// fitted to the first kept records. Codecs that need more of the teacher than its logits are refused.
// Source: DESIGN section 7 (codec contract).

import { expected, LpldError } from '../errors.ts';
import type { LabelRecords, LabelsIndex } from '../labels.ts';
import type { CodecNeeds, CodingSpec, NativeBinding } from '../native.ts';
import { type TensorMap, type TensorView, tensor } from '../tensor.ts';
import { codingRecipes, type Pool } from './pool.ts';
import { runJob } from './shared.ts';
import type { StageContext } from './types.ts';

/** Bytes of decoded logits held at a time. */
const SEGMENT_BYTES = 256 << 20;

/** Records whose logits are held at a time; at least one. */
export function segmentLimit({ batch, numClasses }: Pick<LabelsIndex, 'batch' | 'numClasses'>): number {
  return Math.max(1, Math.floor(SEGMENT_BYTES / (4 * batch * numClasses)));
}

/** Records of a store as an EncodeSpec, DecodeSpec or FitCodecSpec names them. */
function codingOf({ runtime }: StageContext, pool: Pool, records: LabelRecords): Omit<CodingSpec, 'codec' | 'basis'> {
  const { recordIds } = records;
  return {
    recordIds: tensor('I32', [recordIds.length], recordIds),
    seed: pool.seed,
    threads: runtime.threads,
    numClasses: pool.labels!.index.numClasses,
    recipes: codingRecipes(pool, records),
  };
}

/**
 * The logits of some records.
 * @returns F32 [M, K], exactly what the store's codec decodes to on the CPU
 */
export async function decodeRecords(context: StageContext, pool: Pool, records: LabelRecords): Promise<TensorView> {
  const { index, basis } = pool.labels!;
  const { tensors, blobs } = records;
  const spec = { ...codingOf(context, pool, records), codec: index.codec, basis, tensors, blobs };
  const { logits } = await runJob(
    context.runtime.signal,
    (on) => context.native.decode(spec, on),
    () => {},
  );
  return logits;
}

export interface Recoder {
  /** The basis of the codec, fitted to the first `fitRecords` records of these. */
  fit(read: (recordIds: Int32Array) => Promise<LabelRecords>, recordIds: Int32Array): Promise<TensorMap>;
  /** The same records with their labels encoded anew. */
  encode(records: LabelRecords, basis: TensorMap): Promise<LabelRecords>;
}

/**
 * What a codec needs that labels are to be stored with from the labels alone.
 * @throws {LpldError} E_CONFIG for a name that is no codec's, or a codec that stores what only the teacher knows
 */
export function checkRecode(native: NativeBinding, codec: string): CodecNeeds {
  const needs = native.codecNeeds(codec);
  if (!needs.features && !needs.whole) return needs;
  const advice = `${codec} needs the teacher: relabel with relabel.codec ${codec}`;
  const message = expected('a codec of logits alone', 'prune.codec', codec, advice);
  throw new LpldError('E_CONFIG', message, { key: 'prune.codec' });
}

/** Re-encodes the records of a pool. @throws {LpldError} as checkRecode */
export function recoderOf(context: StageContext, pool: Pool, codec: string): Recoder {
  const { native, config, runtime, progress } = context;
  const needs = checkRecode(native, codec);
  const answers = async (records: LabelRecords) => ({
    logits: await decodeRecords(context, pool, records),
    features: null,
  });
  return {
    async fit(read, recordIds) {
      const sampled = await read(needs.sample ? recordIds.slice(0, config.prune.fitRecords) : new Int32Array(0));
      if (needs.sample) progress.log(`fitting ${codec}`);
      const sample = needs.sample ? await answers(sampled) : null;
      const spec = { ...codingOf(context, pool, sampled), codec, basis: {}, sample, whole: null };
      const { basis } = await runJob(
        runtime.signal,
        (on) => native.fitCodec([], spec, on),
        () => {},
      );
      return basis;
    },
    async encode(records, basis) {
      const spec = { ...codingOf(context, pool, records), codec, basis, ...(await answers(records)) };
      const { tensors, blobs } = await runJob(
        runtime.signal,
        (on) => native.encode(spec, on),
        () => {},
      );
      return { ...records, tensors, blobs };
    },
  };
}
