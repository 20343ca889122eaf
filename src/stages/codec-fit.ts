// Fitting a codec once per label store, before its first shard: to the teacher's answers to the first records of the plan
// and, where the codec asks, to every whole image. What is fitted is stored once (basis.safetensors) and hashed with it.
// Source: DESIGN section 7 (codec contract).

import type { AnswerResult, Ensemble, InputSpec, NativeModel, Recipes, StoreCodeSpec, TeacherMode } from '../native.ts';
import { evaluationRecipes, type ImageSizes, sliceRecipes } from '../recipe.ts';
import { arrayOf, type TensorMap, type TensorView, tensor } from '../tensor.ts';
import type { ImageSource } from './images.ts';
import { execution, runJob } from './shared.ts';
import { runSteps } from './steps.ts';
import type { StageContext } from './types.ts';

/** The part of CodeSpec that names records; `recipes` are over indices of the set. */
export function codeOf(
  codec: string,
  basis: TensorMap,
  recordIds: Int32Array,
  seed: bigint,
  recipes: Pick<Recipes, 'index'>,
): StoreCodeSpec {
  return { codec, basis, recordIds: tensor('I32', [recordIds.length], recordIds), seed, images: recipes.index };
}

/** Parts of a tensor [M, ...], one after the other. */
function joined(parts: readonly TensorView[]): TensorView {
  const { dtype, shape } = parts[0]!;
  const rows = parts.reduce((sum, part) => sum + part.shape[0]!, 0);
  return {
    dtype,
    shape: [rows, ...shape.slice(1)],
    data: new Uint8Array(Buffer.concat(parts.map(({ data }) => data))),
  };
}

/**
 * The basis of a codec for a store in the making; empty for a codec that stores nothing once.
 *
 * @param options.recordIds - the first records of the plan
 * @param options.recipesOf - their Recipes, drawn only where the codec wants answers
 * @throws {LpldError} E_CONFIG for a name that is no codec's; whatever the codec's fit refuses
 */
export async function fitCodec(
  { native, runtime, config, progress }: Pick<StageContext, 'native' | 'runtime' | 'config' | 'progress'>,
  options: {
    readonly teachers: readonly NativeModel[];
    readonly ensemble: Ensemble;
    readonly teacherMode: TeacherMode;
    readonly images: ImageSource;
    readonly sizes: ImageSizes;
    readonly input: InputSpec;
    readonly numClasses: number;
    readonly recordIds: Int32Array;
    readonly recipesOf: (recordIds: Int32Array) => Recipes;
    readonly seed: bigint;
  },
): Promise<TensorMap> {
  const { codec, batch, precision } = config.relabel;
  const { teachers, ensemble, teacherMode, images, input } = options;
  const needs = native.codecNeeds(codec);
  const how = { ...execution(runtime, precision), input, ensemble, teacherMode, features: needs.features };
  const answers = async (recipes: Recipes): Promise<AnswerResult> => {
    const [offset, index] = [arrayOf(recipes.offset, 'I32'), arrayOf(recipes.index, 'I32')];
    const steps = offset.length - 1;
    const parts: AnswerResult[] = [];
    await runSteps(
      { runtime, progress: { update() {} } },
      {
        images,
        imagesOf: (first, last) =>
          Array.from({ length: last - first }, (_, i) => index.slice(offset[first + i]!, offset[first + i + 1]!)),
        first: 0,
        total: steps,
        limit: steps,
        job: ({ store, last, local }, first) => {
          const spec = { ...how, recipes: local(sliceRecipes(recipes, first, last)) };
          return (on) => native.answer(teachers, store, spec, on);
        },
        result: (answer) => void parts.push(answer),
        save: async () => {},
      },
    );
    const features = parts.flatMap((part) => (part.features === null ? [] : [part.features]));
    return {
      logits: joined(parts.map(({ logits }) => logits)),
      features: features.length > 0 ? joined(features) : null,
    };
  };
  const recordIds = needs.sample ? options.recordIds : new Int32Array(0);
  const recipes = options.recipesOf(recordIds);
  if (needs.sample || needs.whole) progress.log(`fitting ${codec}`);
  const spec = {
    ...codeOf(codec, {}, recordIds, options.seed, recipes),
    threads: runtime.threads,
    numClasses: options.numClasses,
    recipes,
    sample: needs.sample ? await answers(recipes) : null,
    whole: needs.whole ? await answers(evaluationRecipes(images.count, options.sizes, batch)) : null,
  };
  const { basis } = await runJob(
    runtime.signal,
    (on) => native.fitCodec(teachers, spec, on),
    () => {},
  );
  return basis;
}
