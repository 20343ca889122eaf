// Images in front of native jobs: a split as one ImageStore where it fits into the memory budget, else streamed: for each
// segment only the images that its batches name are decoded, into a store of their own, while the job before runs.
// The invariant: batches, Recipes and their order never depend on which of the two it is, so results are equal bit for
// bit; at most two stores are alive, together within the budget. Source: DESIGN section 5.

import type { Config } from '../config.ts';
import type { Split } from '../datasets/types.ts';
import { expected, LpldError } from '../errors.ts';
import type { AppendSpec, NativeImageStore, Recipes } from '../native.ts';
import type { ImageSizes } from '../recipe.ts';
import { formatBytes } from '../report/format.ts';
import { arrayOf, tensor } from '../tensor.ts';
import { Handles } from './handles.ts';
import { storeSizes } from './shared.ts';
import type { StageContext } from './types.ts';

export type StoreTransform = Pick<AppendSpec, 'resize' | 'size' | 'centerCrop'>;
export const AS_IS: StoreTransform = { resize: 'none', size: 0, centerCrop: 0 };

export function trainTransform(config: Config): StoreTransform {
  const { storedSize } = config.dataset;
  return storedSize > 0 ? { resize: 'exact', size: storedSize, centerCrop: 0 } : AS_IS;
}

export function testTransform(config: Config): StoreTransform {
  const { testResize, testCrop } = config.dataset;
  if (testResize > 0) return { resize: 'shorter', size: testResize, centerCrop: testCrop };
  return { ...trainTransform(config), centerCrop: testCrop };
}

/** @throws {LpldError} E_CONFIG for a centre crop of test images that is larger than the size they are brought to */
export function checkTestCrop({ dataset: { testCrop, testResize, storedSize } }: Config): void {
  const side = testResize || storedSize; // 0: the images' own, known when they are decoded
  if (side === 0 || testCrop <= side) return;
  const resized = testResize > 0 ? 'testResize' : 'storedSize';
  throw new LpldError('E_CONFIG', expected(`at most dataset.${resized} (${side})`, 'dataset.testCrop', testCrop), {
    key: 'dataset.testCrop',
  });
}

/** The images that some consecutive steps see. */
export interface SegmentImages {
  readonly store: NativeImageStore;
  /** The step after the last one whose images are here. */
  readonly last: number;
  /** Sizes by index of the split, of the images that are here. */
  readonly sizes: ImageSizes;
  /** Recipes over indices of the split as Recipes over the store. */
  local(recipes: Recipes): Recipes;
}

/** Walks through steps in order. */
export interface ImageFeed extends AsyncDisposable {
  /**
   * The images of steps [first, last), or of as many of them as are at hand: at least one. What was handed out before is
   * gone. `first` is where the call before ended.
   * @throws {LpldError} E_DATA for a broken image, E_DEVICE for a batch over half the budget, E_CANCELLED
   */
  segment(first: number, last: number): Promise<SegmentImages>;
}

/** The indices (of the split) of the images of each step in [first, last). */
export type ImagesOf = (first: number, last: number) => readonly Int32Array[] | Promise<readonly Int32Array[]>;

/** Owns its stores: dispose it. */
export interface ImageSource extends Disposable {
  readonly count: number;
  /** A feed for steps up to `total`; only one is in use at a time. */
  feed(imagesOf: ImagesOf, total: number): ImageFeed;
}

type Context = Pick<StageContext, 'native' | 'runtime'>;

/** What is being read: a split, as the stores will hold it. */
interface Reading extends Context {
  readonly split: Split;
  readonly channels: 1 | 3;
  readonly transform: StoreTransform;
}

/** Images after which the size of the rest is believed. */
const SAMPLE = 512;
/** A chunk of more pixels saves nothing: batches seldom share images, and the first job waits for the first chunk. */
const CHUNK_BYTES = 256 << 20;
/** Steps whose images are asked for together. */
const BLOCK = 32;

/** Decodes images of the split, all or those of rising indices, to the end of a store. */
async function* append(
  { runtime, split, transform }: Reading,
  store: NativeImageStore,
  indices?: Int32Array,
): AsyncGenerator<void> {
  for await (const { images, labels, height, width } of split.read(runtime.signal, indices)) {
    store.append(images, labels, { height, width, ...transform });
    yield;
  }
}

/** The whole split (or some of it) in one store, or, as soon as it is clear that it does not fit, the bytes needed. */
async function loadWhole(reading: Reading, indices?: Int32Array): Promise<NativeImageStore | number> {
  const { native, runtime, split, channels } = reading;
  const count = indices?.length ?? split.count;
  using opening = new Handles();
  const store = opening.add(native.createImageStore({ channels, device: runtime.device }));
  for await (const _ of append(reading, store, indices)) {
    const needed = (store.bytes / store.count) * count;
    if (store.bytes > runtime.memory || (needed > runtime.memory && store.count >= SAMPLE)) return needed;
  }
  opening.move();
  return store;
}

/**
 * Decodes a split, or its images of some rising indices, into one store.
 * @throws {LpldError} E_DATA for a broken image, E_DEVICE when the pixels exceed the memory budget
 */
export async function loadStore(
  context: Context,
  split: Split,
  channels: 1 | 3,
  transform: StoreTransform = AS_IS,
  indices?: Int32Array,
): Promise<NativeImageStore> {
  const { memory } = context.runtime;
  const whole = await loadWhole({ ...context, split, channels, transform }, indices);
  if (typeof whole !== 'number') return whole;
  throw new LpldError(
    'E_DEVICE',
    expected(
      `at most ${formatBytes(memory)} of pixels`,
      'memory',
      `${indices?.length ?? split.count} images of ${formatBytes(whole)}`,
      ADVICE,
    ),
    { reason: 'memory', bytes: whole, memory },
  );
}
const ADVICE = 'raise --memory, or store smaller images';

/**
 * Opens a split for jobs: whole where it fits into the memory budget, else streamed, which the log says.
 * @throws {LpldError} E_DATA for a broken image
 */
export async function openImages(
  { native, runtime, progress }: Pick<StageContext, 'native' | 'runtime' | 'progress'>,
  split: Split,
  channels: 1 | 3,
  transform: StoreTransform,
): Promise<ImageSource> {
  const reading = { native, runtime, split, channels, transform };
  const store = await loadWhole(reading);
  if (typeof store !== 'number') return wholeSource(store);
  const [needed, budget] = [formatBytes(store), formatBytes(runtime.memory)];
  progress.log(`streaming: ${split.count} images take about ${needed} of pixels, the memory budget is ${budget}`);
  tellAside(split, progress);
  return streamedSource(reading);
}

/** Bytes of disk for a while that nobody has to be told of; the embedded digits take 0.2 MiB. */
const UNTOLD_BYTES = 16 << 20;

/** Says what reading some images at a time takes on disk, where the set is gzipped and that is worth a line. */
export function tellAside({ aside }: Split, progress: Pick<StageContext['progress'], 'log'>): void {
  if (aside === undefined || aside.bytes < UNTOLD_BYTES) return;
  progress.log(
    `the dataset is gzipped: until its images are read, its unpacked ${formatBytes(aside.bytes)} take room in ${aside.folder}`,
  );
}

function streamedSource(reading: Reading): ImageSource {
  return {
    count: reading.split.count,
    feed: (imagesOf, total) => new StreamedFeed(reading, imagesOf, total),
    [Symbol.dispose]: () => reading.split.aside?.[Symbol.dispose](),
  };
}

/** One store that holds every image. The source owns it. */
export function wholeSource(store: NativeImageStore): ImageSource {
  const sizes = storeSizes(store);
  return {
    count: store.count,
    feed: () => ({
      segment: async (_, last) => ({ store, last, sizes, local: (recipes) => recipes }),
      async [Symbol.asyncDispose]() {},
    }),
    [Symbol.dispose]: () => store.dispose(),
  };
}

/** Decoded images of steps [first, last). */
interface Chunk {
  readonly last: number;
  readonly store: NativeImageStore;
  readonly at: ReadonlyMap<number, number>; // index of the split -> index of the store
}

class StreamedFeed implements ImageFeed {
  readonly #reading: Reading;
  readonly #imagesOf: ImagesOf;
  readonly #total: number;
  #current: Chunk | null = null;
  #upcoming: Promise<Chunk> | null = null;
  #largest = 0; // bytes a batch has added

  constructor(reading: Reading, imagesOf: ImagesOf, total: number) {
    this.#reading = reading;
    this.#imagesOf = imagesOf;
    this.#total = total;
  }

  async segment(first: number, last: number): Promise<SegmentImages> {
    if (this.#current === null || first >= this.#current.last) {
      this.#current?.store.dispose(); // before the next but one is begun: two are alive at most
      this.#current = null;
      const chunk = await (this.#upcoming ?? this.#load(first));
      this.#current = chunk;
      this.#upcoming = chunk.last < this.#total ? this.#load(chunk.last) : null;
      this.#upcoming?.catch(() => {}); // reported when its turn comes
    }
    const { store, at, last: end } = this.#current;
    const sizes = storeSizes(store);
    const position = (index: number): number => {
      const here = at.get(index);
      if (here === undefined)
        throw new LpldError('E_INTERNAL', expected('an image of the segment', 'recipe index', index));
      return here;
    };
    return {
      store,
      last: Math.min(last, end),
      sizes: (index) => [sizes[2 * position(index)]!, sizes[2 * position(index) + 1]!],
      local: (recipes) => {
        const index = arrayOf(recipes.index, 'I32').map(position);
        return { ...recipes, index: tensor('I32', [index.length], index) };
      },
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const upcoming = await this.#upcoming?.catch(() => null);
    upcoming?.store.dispose();
    this.#current?.store.dispose();
    this.#current = null;
    this.#upcoming = null;
  }

  /** Decodes the images of steps from `first` on until the next batch would not fit. */
  async #load(first: number): Promise<Chunk> {
    const { native, runtime, channels } = this.#reading;
    using opening = new Handles();
    const store = opening.add(native.createImageStore({ channels, device: runtime.device }));
    const at = new Map<number, number>();
    const share = Math.min(CHUNK_BYTES, runtime.memory / 2);
    let last = first;
    let full = false;
    while (last < this.#total && !full)
      for (const indices of await this.#imagesOf(last, Math.min(this.#total, last + BLOCK))) {
        full = last > first && store.bytes + this.#largest > share;
        if (full) break;
        await this.#add(store, at, indices);
        last++;
      }
    opening.move();
    return { last, store, at };
  }

  /** Adds the images of one batch that are not there yet. */
  async #add(store: NativeImageStore, at: Map<number, number>, indices: Int32Array): Promise<void> {
    const { memory } = this.#reading.runtime;
    const before = store.bytes;
    const wanted = Int32Array.from(new Set(indices.filter((index) => !at.has(index)))).sort();
    for await (const _ of append(this.#reading, store, wanted));
    for (const index of wanted) at.set(index, at.size);
    const added = store.bytes - before;
    this.#largest = Math.max(this.#largest, added);
    if (added > memory / 2)
      throw new LpldError(
        'E_DEVICE',
        expected(
          `a batch of at most ${formatBytes(memory / 2)} of pixels, half the budget`,
          'memory',
          `${wanted.length} images of ${formatBytes(added)}`,
          'raise --memory, or set dataset.storedSize or a smaller batch',
        ),
        { reason: 'memory', bytes: added, memory },
      );
  }
}
