// What a dataset is to the stages: chunks of uint8 pixels in a fixed order with class ids, and nothing about files.

/** A run of images of one size, packed [n, height, width, channels] uint8, in the split's order. */
export interface ImageChunk {
  readonly images: Uint8Array;
  readonly labels: Int32Array; // [n] class ids in [0, K)
  readonly height: number;
  readonly width: number;
}

/** Unpacked copies of gzipped files, made when images of given indices are first read and kept until disposed. */
export interface Aside extends Disposable {
  readonly bytes: number; // at most
  readonly folder: string; // where they go, if it has room
}

export interface Split {
  readonly count: number;
  readonly labels: Int32Array; // [count], in the order read() yields; known before any pixel is decoded
  /**
   * Yields images in order; chunks of a few MiB. E_DATA with the path for a broken image.
   * @param indices - the images wanted, rising; every image when absent. No other image is decoded.
   */
  read(signal?: AbortSignal, indices?: Int32Array): AsyncGenerator<ImageChunk>;
  /** What reads of given indices unpack; whoever makes them disposes it. Absent where nothing is gzipped. */
  readonly aside?: Aside;
}

export interface Dataset {
  readonly name: string;
  readonly channels: 1 | 3;
  readonly classNames: readonly string[]; // K unique names; index = class id
  readonly mean: readonly number[]; // per channel, of pixels in [0, 1]
  readonly std: readonly number[];
  readonly train: Split;
  readonly test: Split | null;
  /** Files left out under skipUnreadable; absent or empty otherwise. */
  readonly skipped?: readonly string[];
  /** SHA-256 over sorted (relative path, size) plus the content of small files (DESIGN section 2). */
  readonly id: string;
  /** SHA-256 over the content of every file, where it was asked for; never part of the id. */
  readonly content?: string;
}

export interface DatasetOptions {
  /** Class ids of the format's own numbering to keep, renumbered 0.. in this order; null keeps all. */
  readonly classes: readonly number[] | null;
  /** Also hash every byte, for `content`. */
  readonly verify: boolean;
  /** Count and list unreadable images instead of stopping (dataset.skipUnreadable). */
  readonly skipUnreadable: boolean;
}

export interface DatasetFormat {
  readonly name: string; // digits, idx, cifar10, cifar100, folder, tiny-imagenet
  readonly summary: string; // one line for `lpld-native data --help`
  /** @throws {LpldError} E_DATA with the path: missing or truncated file, label out of range, empty class, broken image header */
  open(path: string, options: DatasetOptions): Promise<Dataset>;
}
