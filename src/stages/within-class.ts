// How alike the finished images of each class are to the teacher: mean cosine over pairs of their features (the input of
// its last linear layer), whole images, fp32. Class by class in stores of a fixed number of images, so that the answer
// depends neither on memory nor on how the images were made.
// Source: LPLD (Xiao and He 2024), whose claim is that class-wise supervision lowers it; native/jobs/similarity.cpp.

import { fileSplit, type ImageFile } from '../datasets/splits.ts';
import type { NativeModel } from '../native.ts';
import { evaluationRecipes } from '../recipe.ts';
import { arrayOf } from '../tensor.ts';
import { loadStore } from './images.ts';
import { type DatasetFacts, execution, inputSpec, runJob, storeSizes } from './shared.ts';
import type { StageContext } from './types.ts';

const IMAGES = 512; // of one store, more where one class has more
const BATCH = 64;

/** similarity.json: the mean over classes, and every class; null where no class has two images. */
export interface WithinClass {
  readonly mean: number | null;
  readonly classes: readonly { readonly classId: number; readonly cosine: number | null }[];
}

/**
 * Measures finished images.
 *
 * @param files - in order of class, paths absolute
 * @returns cosines in [-1, 1], to six decimals: beyond that they depend on the number of threads
 */
export async function withinClass(
  { native, runtime }: Pick<StageContext, 'native' | 'runtime'>,
  model: NativeModel,
  facts: DatasetFacts,
  files: readonly ImageFile[],
  size: number,
): Promise<WithinClass> {
  const input = inputSpec(native, facts);
  const classes: { classId: number; cosine: number | null }[] = [];
  for (const part of parts(files)) {
    const of = { files: part, channels: facts.channels, size: { height: size, width: size }, greyOnly: false };
    using store = await loadStore({ native, runtime }, fileSplit(of), facts.channels);
    const recipes = evaluationRecipes(store.count, storeSizes(store), BATCH);
    const spec = { ...execution(runtime, 'fp32'), recipes, input };
    const { similarity } = await runJob(
      runtime.signal,
      (on) => native.similarity(model, store, spec, on),
      () => {},
    );
    const cosines = arrayOf(similarity, 'F64');
    for (const classId of new Set(part.map(({ label }) => label))) {
      const cosine = cosines[classId]!;
      classes.push({ classId, cosine: Number.isNaN(cosine) ? null : Number(cosine.toFixed(6)) });
    }
  }
  const known = classes.flatMap(({ cosine }) => (cosine === null ? [] : [cosine]));
  const mean = known.length === 0 ? null : known.reduce((sum, value) => sum + value, 0) / known.length;
  return { mean: mean === null ? null : Number(mean.toFixed(6)), classes };
}

/** Runs of whole classes of about IMAGES files. */
function parts(files: readonly ImageFile[]): ImageFile[][] {
  const out: ImageFile[][] = [];
  for (const file of files) {
    const last = out.at(-1);
    if (last !== undefined && (last.length < IMAGES || last.at(-1)!.label === file.label)) last.push(file);
    else out.push([file]);
  }
  return out;
}
