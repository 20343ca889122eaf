// Fitting a codec once per label store, before its first shard: to the teacher's answers to the first records of the plan
// and, where the codec asks, to every whole image. What is fitted is stored once (basis.safetensors) and hashed with it.
// Source: DESIGN section 7 (codec contract).

import type {
  AnswerResult,
  CodeSpec,
  Ensemble,
  InputSpec,
  NativeImageStore,
  NativeModel,
  Recipes,
  TeacherMode,
} from '../native.ts';
import { evaluationRecipes, type ImageSizes } from '../recipe.ts';
import { type TensorMap, tensor } from '../tensor.ts';
import { execution, runJob } from './shared.ts';
import type { StageContext } from './types.ts';

/** The part of CodeSpec that names records. */
export function codeOf(codec: string, basis: TensorMap, recordIds: Int32Array, seed: bigint): CodeSpec {
  return { codec, basis, recordIds: tensor('I32', [recordIds.length], recordIds), seed };
}

/**
 * The basis of a codec for a store in the making; empty for a codec that stores nothing once.
 *
 * @param options.recordIds - the first records of the plan
 * @param options.recipesOf - their Recipes, drawn only where the codec wants answers
 * @throws {LpldError} E_CONFIG for a name that is no codec's; whatever the codec's fit refuses
 */
export async function fitCodec(
  { native, runtime, config, progress }: StageContext,
  options: {
    readonly teachers: readonly NativeModel[];
    readonly ensemble: Ensemble;
    readonly teacherMode: TeacherMode;
    readonly store: NativeImageStore;
    readonly sizes: ImageSizes;
    readonly input: InputSpec;
    readonly numClasses: number;
    readonly recordIds: Int32Array;
    readonly recipesOf: (recordIds: Int32Array) => Recipes;
    readonly seed: bigint;
  },
): Promise<TensorMap> {
  const { codec, batch, precision } = config.relabel;
  const { teachers, ensemble, teacherMode, store, input } = options;
  const needs = native.codecNeeds(codec);
  const answers = (recipes: Recipes): Promise<AnswerResult> => {
    const spec = { ...execution(runtime, precision), recipes, input, ensemble, teacherMode, features: needs.features };
    return runJob(
      runtime.signal,
      (on) => native.answer(teachers, store, spec, on),
      () => {},
    );
  };
  const recordIds = needs.sample ? options.recordIds : new Int32Array(0);
  const recipes = options.recipesOf(recordIds);
  if (needs.sample || needs.whole) progress.log(`fitting ${codec}`);
  const spec = {
    ...codeOf(codec, {}, recordIds, options.seed),
    threads: runtime.threads,
    numClasses: options.numClasses,
    recipes,
    sample: needs.sample ? await answers(recipes) : null,
    whole: needs.whole ? await answers(evaluationRecipes(store.count, options.sizes, batch)) : null,
  };
  const { basis } = await runJob(
    runtime.signal,
    (on) => native.fitCodec(teachers, spec, on),
    () => {},
  );
  return basis;
}
