// The two kinds of Split: records packed in files, and one image file each.
// The invariant: labels, count and order are fixed when the dataset is opened, and read() yields exactly those, or the
// images asked for in the same order.

import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { type LpldError, toLpldError } from '../errors.ts';
import { UnpackedAside } from './aside.ts';
import type { ClassSelection } from './classes.ts';
import { CHUNK_BYTES, checkCancelled, dataError, fileSize, orderedMap } from './files.ts';
import { type DecodedImage, decodeImage } from './images.ts';
import { isPacked, type RecordFile, recordsAt } from './records.ts';
import type { Dataset, ImageChunk, Split } from './types.ts';

/** A dataset of image files; `skipped` lists what skipUnreadable left out, relative to the dataset's folder. */
export interface FileDataset extends Dataset {
  readonly skipped: readonly string[];
}

export interface PackedImages {
  readonly files: readonly RecordFile[];
  readonly labels: ArrayLike<number>; // of all records, the format's own ids
  readonly height: number;
  readonly width: number;
  readonly channels: 1 | 3;
  /** Pixels of n records, [n, height, width, channels]; may be the block itself. */
  pixels(block: Uint8Array, n: number): Uint8Array;
}

/** A Split over files of fixed-size records, keeping the selected classes. */
export function packedSplit(source: PackedImages, selection: ClassSelection): Split {
  const own = Int32Array.from(source.labels, (label) => selection.renumbered[label]!);
  const records = Int32Array.from(own.keys()).filter((record) => own[record]! >= 0); // of each image
  const labels = records.map((record) => own[record]!);
  const { height, width } = source;
  const packed = source.files.filter(isPacked);
  const aside = packed.length === 0 ? undefined : new UnpackedAside(packed);
  async function* read(signal?: AbortSignal, indices?: Int32Array): AsyncGenerator<ImageChunk> {
    checkCancelled(signal);
    const wanted = indices === undefined ? records : indices.map((index) => records[index]!);
    let at = 0;
    let first = 0; // record of the file's start
    for (const file of source.files) {
      const end = first + file.count;
      let last = at;
      while (last < wanted.length && wanted[last]! < end) last++;
      const here = wanted.subarray(at, last).map((record) => record - first);
      for await (const block of recordsAt(file, here, signal, indices === undefined ? undefined : aside)) {
        const n = block.length / file.recordBytes;
        const chunk = wanted.slice(at, at + n).map((record) => own[record]!);
        at += n;
        yield { images: source.pixels(block, n), labels: chunk, height, width };
      }
      first = end;
    }
  }
  return { count: labels.length, labels, read, ...(aside === undefined ? {} : { aside }) };
}

export interface ImageFile {
  readonly path: string;
  readonly name: string; // relative to the dataset's folder
  readonly label: number; // final class id
}

export interface FileImages {
  readonly files: readonly ImageFile[];
  readonly channels: 1 | 3;
  /** Size every image must have, or null where sizes may differ. */
  readonly size: { readonly height: number; readonly width: number } | null;
  /** Refuse a colour file in a set of one channel instead of reducing it to luma. */
  readonly greyOnly: boolean;
}

/** A Split over image files: decoded a few at a time, runs of equal size share a chunk. */
export function fileSplit(source: FileImages): Split {
  const labels = Int32Array.from(source.files, (file) => file.label);
  async function* read(signal?: AbortSignal, indices?: Int32Array): AsyncGenerator<ImageChunk> {
    checkCancelled(signal);
    const files = indices === undefined ? source.files : Array.from(indices, (index) => source.files[index]!);
    let run: DecodedImage[] = [];
    let first = 0;
    const chunk = (): ImageChunk => {
      const { height, width } = run[0]!;
      const own = files.slice(first, first + run.length).map((file) => file.label);
      const out = { images: joined(run), labels: Int32Array.from(own), height, width };
      first += run.length;
      run = [];
      return out;
    };
    for await (const image of orderedMap(files, decodesInFlight(), (file) => decodeFile(file, source))) {
      checkCancelled(signal);
      const head = run[0];
      if (head !== undefined) {
        const same = head.height === image.height && head.width === image.width;
        if (!same || (run.length + 1) * image.pixels.length > CHUNK_BYTES) yield chunk();
        checkCancelled(signal);
      }
      run.push(image);
    }
    if (run.length > 0) yield chunk();
  }
  return { count: labels.length, labels, read };
}

/** Names (relative) of the files that do not decode; reads and decodes every one. */
export async function unreadable(source: FileImages): Promise<Set<string>> {
  const bad = new Set<string>();
  const attempt = (file: ImageFile): Promise<string | null> =>
    decodeFile(file, source).then(
      () => null,
      (error: LpldError) => {
        if (error.code === 'E_DATA') return file.name;
        throw error;
      },
    );
  for await (const name of orderedMap(source.files, decodesInFlight(), attempt)) if (name !== null) bad.add(name);
  return bad;
}

/**
 * Sizes of image files in bytes, in order.
 * @throws {LpldError} E_DATA with the path of the first that is absent or empty
 */
export async function fileSizes(files: readonly ImageFile[]): Promise<number[]> {
  const sizes: number[] = [];
  for await (const size of orderedMap(files, 32, (file) => fileSize(file.path))) sizes.push(size);
  return sizes;
}

/** Two per core keep the decoder's threads busy while files are read; the bound keeps large images out of memory. */
function decodesInFlight(): number {
  return Math.min(16, 2 * availableParallelism());
}

async function decodeFile({ path }: ImageFile, { channels, size, greyOnly }: FileImages): Promise<DecodedImage> {
  const bytes = await readFile(path).catch((cause: unknown) => Promise.reject(toLpldError(cause)));
  const image = await decodeImage(bytes, path, channels);
  if (size !== null && (image.height !== size.height || image.width !== size.width))
    throw dataError(path, `an image of ${size.height}x${size.width} pixels`, `${image.height}x${image.width}`);
  if (greyOnly && image.sourceChannels === 3)
    throw dataError(
      path,
      'a grey image, as in the other classes,',
      'a colour image',
      'set "channels": 3 in dataset.json',
    );
  return image;
}

function joined(run: readonly DecodedImage[]): Uint8Array {
  if (run.length === 1) return run[0]!.pixels;
  const bytes = run[0]!.pixels.length;
  const out = new Uint8Array(run.length * bytes);
  for (const [i, image] of run.entries()) out.set(image.pixels, i * bytes);
  return out;
}
