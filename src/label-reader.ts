// Labels as other programs want them: what a teacher said of a view as float32 logits, what was done to the images as
// Recipes, and the very pixels both the teacher and the students see. Whatever the codec, stored or derived Recipes.
// Invariant: the logits are what train decodes, and the pixels what train shows its students, byte for byte.

import { loadNative } from './addon.ts';
import { openArtifact } from './artifact.ts';
import { openSyntheticSet, type SyntheticDataset } from './datasets/synthetic-set.ts';
import { expected, LpldError } from './errors.ts';
import { LabelStore } from './labels.ts';
import type { Recipes } from './native.ts';
import { AS_IS } from './stages/images.ts';
import { type Pool, poolOf, readPool } from './stages/pool.ts';
import { defaultThreads, runJob } from './stages/shared.ts';
import { arrayOf, type TensorView, tensor } from './tensor.ts';

/** S records, M rows, K classes: a row is one view of one image. */
export interface LabelRows {
  readonly recordIds: Int32Array; // [S]
  readonly offset: Int32Array; // [S+1]: record s owns rows offset[s] to offset[s+1]
  readonly recipes: Recipes; // of the M rows: image, crop, flip, cutout, mix
  readonly logits: Float32Array; // [M * K], row after row; before any temperature
}

const NEVER = new AbortController().signal;

/** A label store together with the images its labels are of. Made by `LabelReader.open`; close it, or use `await using`. */
export class LabelReader implements AsyncDisposable {
  readonly store: LabelStore;
  readonly images: SyntheticDataset;
  readonly #pool: Pool;
  readonly #sizes: Int32Array;

  private constructor(store: LabelStore, images: SyntheticDataset) {
    this.store = store;
    this.images = images;
    this.#pool = poolOf(store);
    this.#sizes = new Int32Array(2 * images.train.count).fill(images.description.size);
  }

  /**
   * @param labels - folder that relabel, prune or import made
   * @param images - folder of the images they are of
   * @throws {LpldError} E_DATA for a damaged folder, E_MISMATCH for labels of other images
   */
  static async open(labels: string, images: string): Promise<LabelReader> {
    const [artifact, { id }] = [await openArtifact(labels), await openArtifact(images)];
    const set = await openSyntheticSet(images);
    const madeFrom = artifact.manifest.inputs.images;
    const store = await LabelStore.open(artifact);
    const { plan, numClasses } = store.index;
    if ((madeFrom ?? id) !== id || plan.images !== set.train.count || numClasses !== set.classNames.length)
      throw new LpldError('E_MISMATCH', expected(`labels of the images in ${images}`, 'labels', labels), {
        labels,
        images,
      });
    return new LabelReader(store, set);
  }

  get numRecords(): number {
    return this.store.numRecords;
  }

  get numClasses(): number {
    return this.store.index.numClasses;
  }

  /**
   * Logits and Recipes of some records.
   *
   * @param positions - in [0, numRecords), in the order wanted; record ids are `store.recordIds`
   * @throws {LpldError} E_INTERNAL for a position outside the store; E_DATA for a damaged shard; E_CANCELLED
   */
  async read(positions: Iterable<number>, signal: AbortSignal = NEVER): Promise<LabelRows> {
    const { index } = this.store;
    const { recipes, target } = await readPool(this.#pool, Int32Array.from(positions), {
      sizes: this.#sizes,
      inputSize: index.inputSize,
      temperature: 1,
      teacherTemperature: 1,
      temperatureSquared: false,
    });
    if (target.kind !== 'soft') throw new LpldError('E_INTERNAL', expected('soft labels', 'a store', target.kind));
    const { codec, basis, recordIds, seed, tensors, blobs } = target;
    const spec = { codec, basis, recordIds, seed, tensors, blobs, recipes, numClasses: index.numClasses };
    const { logits } = await runJob(
      signal,
      (on) => loadNative('cpu').decode({ ...spec, threads: defaultThreads() }, on),
      () => {},
    );
    return {
      recordIds: arrayOf(recordIds, 'I32'),
      offset: arrayOf(recipes.offset, 'I32'),
      recipes,
      logits: arrayOf(logits, 'F32'),
    };
  }

  /**
   * Replays Recipes: the pixels the teacher answered for and students learn from.
   *
   * @param recipes - of `read`; its images are decoded anew by each call
   * @returns U8 [M, C, P, P], cropped, resized, flipped, cut out and mixed; P is `store.index.inputSize`
   * @throws {LpldError} E_DATA for a broken image, E_CANCELLED
   */
  async pixels(recipes: Recipes, signal: AbortSignal = NEVER): Promise<TensorView> {
    const native = loadNative('cpu');
    const index = arrayOf(recipes.index, 'I32');
    const wanted = Int32Array.from(new Set(index)).sort();
    const place = new Map(Array.from(wanted, (image, at) => [image, at]));
    using store = native.createImageStore({ channels: this.images.channels, device: 'cpu' });
    for await (const { images, labels, height, width } of this.images.train.read(signal, wanted))
      store.append(images, labels, { height, width, ...AS_IS });
    const local = {
      ...recipes,
      index: tensor(
        'I32',
        [index.length],
        index.map((image) => place.get(image)!),
      ),
    };
    return native.ops.renderBatch(store, local, this.store.index.inputSize);
  }

  close(): Promise<void> {
    return this.store.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
