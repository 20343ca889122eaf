// CIFAR-10 and CIFAR-100 in their binary versions: records of 1 or 2 label bytes and 3,072 bytes of planar RGB.
// The invariant: a file is a whole number of records and every label byte is in range before a pixel is used.
// Source of the format: A. Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009, data page.

import { join } from 'node:path';
import { type ClassSelection, checkLabels, checkNames, selectClasses } from './classes.ts';
import { dataError, fileSize, isFolder, readLines } from './files.ts';
import { datasetIdentity } from './identity.ts';
import { type RecordFile, recordBlocks } from './records.ts';
import { packedSplit } from './splits.ts';
import type { Dataset, DatasetFormat, DatasetOptions, Split } from './types.ts';

const SIDE = 32; // px
const PLANE = SIDE * SIDE; // bytes of one colour of one image

interface Layout {
  readonly name: string;
  readonly summary: string;
  readonly folder: string; // that the official archive unpacks to
  readonly train: readonly string[];
  readonly test: string;
  readonly names: string; // text file of class names
  readonly classes: number;
  readonly labelBytes: number; // the last one is the class used
  readonly std: readonly number[];
}

const MEAN = [0.4914, 0.4822, 0.4465];

function format(layout: Layout): DatasetFormat {
  return { name: layout.name, summary: layout.summary, open: (path, options) => openCifar(layout, path, options) };
}

export const cifar10: DatasetFormat = format({
  name: 'cifar10',
  summary: 'CIFAR-10 binary version: data_batch_1..5.bin, test_batch.bin, batches.meta.txt',
  folder: 'cifar-10-batches-bin',
  train: [1, 2, 3, 4, 5].map((i) => `data_batch_${i}.bin`),
  test: 'test_batch.bin',
  names: 'batches.meta.txt',
  classes: 10,
  labelBytes: 1,
  std: [0.247, 0.2435, 0.2616],
});

/** CIFAR-100 with its 100 fine labels; the coarse label byte is skipped. */
export const cifar100: DatasetFormat = format({
  name: 'cifar100',
  summary: 'CIFAR-100 binary version, fine labels: train.bin, test.bin, fine_label_names.txt',
  folder: 'cifar-100-binary',
  train: ['train.bin'],
  test: 'test.bin',
  names: 'fine_label_names.txt',
  classes: 100,
  labelBytes: 2,
  std: [0.2023, 0.1994, 0.201],
});

async function openCifar(layout: Layout, path: string, options: DatasetOptions): Promise<Dataset> {
  const unpacked = join(path, layout.folder);
  const folder = (await isFolder(unpacked)) ? unpacked : path;
  const classNames = await readLines(join(folder, layout.names));
  if (classNames.length !== layout.classes)
    throw dataError(join(folder, layout.names), `${layout.classes} class names`, classNames.length);
  checkNames(join(folder, layout.names), classNames);
  const selection = selectClasses(options.classes, layout.classes);
  const files = await Promise.all(
    [...layout.train, layout.test, layout.names].map(async (name) => ({
      name,
      size: await fileSize(join(folder, name)),
    })),
  );
  return {
    name: layout.name,
    channels: 3,
    classNames: selection.kept.map((id) => classNames[id]!),
    mean: MEAN,
    std: layout.std,
    train: await openSplit(folder, layout, layout.train, classNames, selection, true),
    test: await openSplit(folder, layout, [layout.test], classNames, selection, false),
    ...(await datasetIdentity(folder, files, {
      verify: options.verify,
      facts: [layout.name, `classes ${options.classes ?? 'all'}`],
    })),
  };
}

async function openSplit(
  folder: string,
  layout: Layout,
  names: readonly string[],
  classNames: readonly string[],
  selection: ClassSelection,
  every: boolean,
): Promise<Split> {
  const recordBytes = layout.labelBytes + 3 * PLANE;
  const files: RecordFile[] = [];
  const labels: number[] = [];
  for (const name of names) {
    const path = join(folder, name);
    const size = await fileSize(path);
    if (size % recordBytes !== 0)
      throw dataError(path, `whole records of ${recordBytes} bytes`, `${size} bytes`, 'the file may be truncated');
    const file = { path, headerBytes: 0, recordBytes, count: size / recordBytes };
    const own: number[] = [];
    for await (const block of recordBlocks(file))
      for (let at = layout.labelBytes - 1; at < block.length; at += recordBytes) own.push(block[at]!);
    checkLabels(path, own, classNames, false);
    files.push(file);
    for (const label of own) labels.push(label);
  }
  checkLabels(folder, labels, classNames, every);
  const pixels = (block: Uint8Array, n: number): Uint8Array => interleave(block, n, layout.labelBytes);
  return packedSplit({ files, labels, height: SIDE, width: SIDE, channels: 3, pixels }, selection);
}

/** Records [n][labels, 3, 32, 32] to pixels [n, 32, 32, 3]. */
function interleave(block: Uint8Array, n: number, labelBytes: number): Uint8Array {
  const out = new Uint8Array(n * 3 * PLANE);
  for (let i = 0; i < n; i++) {
    const from = i * (labelBytes + 3 * PLANE) + labelBytes;
    const to = i * 3 * PLANE;
    for (let p = 0; p < PLANE; p++) for (let c = 0; c < 3; c++) out[to + 3 * p + c] = block[from + c * PLANE + p]!;
  }
  return out;
}
