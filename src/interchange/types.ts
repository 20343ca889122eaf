// What the formats exchange with the rest: a set's image files, label batches one by one, and nothing about stages
// or commands. A format writes into a folder that becomes visible when it is whole.

import type { ImageEncoding } from '../datasets/images.ts';
import type { SyntheticDataset } from '../datasets/synthetic-set.ts';
import type { Dataset } from '../datasets/types.ts';
import type { Recipes } from '../native.ts';
import type { TensorView } from '../tensor.ts';

/** One label batch of B rows. */
export interface LabelBatch {
  readonly epoch: number;
  readonly batch: number; // of the epoch
  readonly recipes: Recipes; // of this batch alone
  readonly logits: TensorView; // F16 [B, K], before any temperature
}

/** The labels to export, in order. */
export interface LabelExport {
  readonly records: number;
  readonly batch: number; // rows of a full record
  readonly batchesPerEpoch: number;
  readonly inputSize: number; // P, px
  read(): AsyncIterable<LabelBatch>;
}

/** One image file of the set, in the set's order. */
export interface ExportImage {
  readonly path: string;
  readonly classId: number;
  readonly id: number; // inside its class
  readonly bytes: number;
}

export interface ExportJob {
  readonly set: SyntheticDataset;
  readonly images: readonly ExportImage[];
  readonly labels: LabelExport | null; // null for formats of images
  readonly out: string; // an empty folder
  readonly shardBytes: number; // most bytes of images in one file, where images share files
  /** Called after every image or record; throws to stop. */
  readonly onDone: (done: number) => void;
}

export interface ExportFormat {
  readonly name: string;
  readonly summary: string; // one line for --help
  /** Whether it holds labels (records) or images. */
  readonly holds: 'labels' | 'images';
  /** Whether images share files, of at most shardBytes. */
  readonly shards: boolean;
  /** @throws {LpldError} E_MISMATCH for what the format cannot say, E_DEVICE on no space */
  write(job: ExportJob): Promise<void>;
}

/** What a foreign store must fit. */
export interface ImportTarget {
  readonly images: number; // N
  readonly size: number; // S, px: images are S x S
  readonly inputSize: number; // P, px
  readonly numClasses: number; // K
}

/** A foreign label store, listed and checked; batches are read one by one. */
export interface LabelImport {
  readonly files: readonly { readonly name: string; readonly size: number }[]; // all it consists of
  readonly batch: number; // rows of a full record
  readonly batchesPerEpoch: number;
  readonly epochs: number; // on disk; the last may be cut short
  readonly records: number; // epoch by epoch without gaps
  readonly dropLast: boolean;
  /** @param record - epoch * batchesPerEpoch + batch, below records, rising from call to call */
  read(record: number): Promise<LabelBatch>;
}

export interface LabelFormat {
  readonly name: string;
  readonly summary: string;
  readonly holds: 'labels';
  /** @throws {LpldError} E_DATA with details.path naming the file: missing, damaged, or not of these images */
  open(dir: string, target: ImportTarget): Promise<LabelImport>;
}

/** A foreign set of images, checked. */
export interface ImageImport {
  /** Channels, class names and constants of the pixels, and the id of the files. */
  readonly facts: Pick<Dataset, 'channels' | 'classNames' | 'mean' | 'std' | 'id' | 'content'>;
  readonly made: { size: number; ipc: number; encoding: ImageEncoding; classes: readonly number[] };
  /** In order of class and id, with their names in the artifact. */
  readonly files: readonly { readonly name: string; read(): Promise<Uint8Array> }[];
}

export interface ImageFormat {
  readonly name: string;
  readonly summary: string;
  readonly holds: 'images';
  /** @throws {LpldError} E_DATA with details.path: images of several sizes or encodings, classes of different counts */
  open(dir: string, signal: AbortSignal): Promise<ImageImport>;
}
