// Reads label stores in the layout of SRe2L and LPLD. A pickle in them may hold tensors, numbers and None, nothing else,
// and nothing in it is executed. Files are listed first, so that a missing one is met before anything is read.
// Source: methods 4.2 to 4.5; SRe2L stores have no list of images: label epoch e is permutation number 2e of torch's
// generator seeded 42, because its sampler draws a second one per epoch and discards it.

import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { readJsonFile } from '../artifact.ts';
import { fileSize, list } from '../datasets/files.ts';
import { expected, LpldError } from '../errors.ts';
import { arrayOf, type DType, type TensorView } from '../tensor.ts';
import { batchFile, epochFolder, type FkdBatch, fromFkd, INDICES_FILE } from './fkd.ts';
import { numpyScalars } from './numpy-scalar.ts';
import type { Value } from './pickle.ts';
import { materialize, readTorchFile, StoredTensor } from './torch-file.ts';
import { MersenneTwister, torchPermutation } from './torch-permutation.ts';
import type { ImportTarget, LabelBatch, LabelImport } from './types.ts';

const SAMPLER_SEED = 42;
/** The longest list of images that is read; JavaScript has no longer text. */
const MAX_INDICES_BYTES = 2 ** 29 - 24;

function refuse(path: string, what: string, name: string, received: unknown, advice?: string): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received, advice)}`, { path });
}

const kindOf = (value: Value | undefined): string =>
  value === null ? 'None' : value instanceof StoredTensor ? `${value.storage.dtype} [${value.shape}]` : typeof value;

/** A tensor of one dtype whose first dimension is B; `shape` gives the others, null for any length. */
function tensorOf(
  path: string,
  value: Value | undefined,
  name: string,
  dtype: DType,
  shape: (number | null)[],
): TensorView {
  const fits =
    value instanceof StoredTensor &&
    value.storage.dtype === dtype &&
    value.shape.length === shape.length &&
    value.shape.every((n, d) => n > 0 && (shape[d] === null || n === shape[d]));
  if (!fits) return refuse(path, `${dtype} [${shape.map((n) => n ?? 'any')}]`, name, kindOf(value));
  return materialize(value);
}

/**
 * Reads one batch_B.tar.
 *
 * @param rows - B, or null where it is to be found out
 * @throws {LpldError} E_DATA with details.path: not a list of six, tensors of other types or shapes, logits that are not
 *   finite, any name in the pickle that such files do not need
 */
export async function readFkdFile(path: string, rows: number | null): Promise<FkdBatch> {
  const value = await readTorchFile(path, {
    ...numpyScalars(path),
    holds: 'tensors, numbers and None only',
    advice: 'a label batch needs no other names; nothing of this file was run',
  });
  if (!Array.isArray(value) || value.length !== 6)
    return refuse(
      path,
      'a list of six',
      'a label batch',
      Array.isArray(value) ? `${value.length} values` : kindOf(value),
    );
  const [coordsIn, flipIn, partnersIn, lambda, boxIn, logitsIn] = value;
  const coords = tensorOf(path, coordsIn, 'crop coordinates', 'F32', [rows, 4]);
  const batch = coords.shape[0]!;
  const cut = flipIn instanceof StoredTensor && flipIn.storage.dtype === 'F32';
  const flip = cut
    ? tensorOf(path, flipIn, 'cutouts', 'F32', [batch, 7])
    : tensorOf(path, flipIn, 'flips', 'BOOL', [batch]);
  const logits = tensorOf(path, logitsIn, 'logits', 'F16', [batch, null]);
  const infinite = arrayOf(logits, 'F16').findIndex((bits) => (bits & 0x7c00) === 0x7c00);
  if (infinite >= 0) refuse(path, 'finite logits', `row ${Math.floor(infinite / logits.shape[1]!)}`, 'others');
  const mixIndex = partnersIn === null ? null : tensorOf(path, partnersIn, 'mix permutation', 'I64', [batch]);
  if (lambda !== null && typeof lambda !== 'number') return refuse(path, 'a number or None', 'lambda', kindOf(lambda));
  if (mixIndex === null && (lambda !== null || boxIn !== null))
    refuse(path, 'None', 'lambda and box of a batch that is not mixed', 'others');
  const isBox = Array.isArray(boxIn) && boxIn.length === 4 && boxIn.every((n) => Number.isSafeInteger(n));
  if (boxIn !== null && !isBox) return refuse(path, 'four integers or None', 'mixing box', kindOf(boxIn));
  return { coords, flip, mixIndex, lambda: lambda ?? null, box: boxIn as unknown as FkdBatch['box'], logits };
}

/** Numbers of the names of a form in a folder, rising. */
async function numbered(dir: string, kind: 'folders' | 'files', pattern: RegExp): Promise<number[]> {
  const found = (await list(dir, kind)).map((name) => pattern.exec(name)?.[1]).filter((n) => n !== undefined);
  return found.map(Number).sort((a, b) => a - b);
}

/** Checks that numbers are 0, 1, ... and names the first that is not there. */
function withoutGaps(numbers: readonly number[], path: (n: number) => string): void {
  const gap = numbers.findIndex((n, i) => n !== i);
  if (gap >= 0) refuse(path(gap), 'a file or folder', 'a store without gaps', undefined);
}

/** Images of an epoch in order. */
type Order = (epoch: number) => Int32Array;

async function storedOrder(path: string, images: number): Promise<Order> {
  const size = await fileSize(path);
  if (size > MAX_INDICES_BYTES) refuse(path, `at most ${MAX_INDICES_BYTES} bytes`, 'the lists of images', size);
  const lists = await readJsonFile<Record<string, unknown> | null>(path);
  if (typeof lists !== 'object' || lists === null || Array.isArray(lists))
    refuse(path, 'an object', 'the lists of images', typeof lists);
  return (epoch) => {
    const own = Object.hasOwn(lists, epoch) ? lists[epoch] : undefined;
    if (!Array.isArray(own) || own.length > images)
      return refuse(
        path,
        `a list of at most ${images} images`,
        `epoch ${epoch}`,
        Array.isArray(own) ? own.length : typeof own,
      );
    const wrong = own.find((i) => !(Number.isInteger(i) && i >= 0 && i < images));
    if (wrong !== undefined) refuse(path, `images below ${images}`, `epoch ${epoch}`, String(wrong));
    return Int32Array.from(own as number[]);
  };
}

/** Permutation number 2e of the sampler's generator; epochs are asked for in rising order. */
function seededOrder(images: number): Order {
  let generator = new MersenneTwister(SAMPLER_SEED);
  let next = 0; // number of the next permutation
  return (epoch) => {
    if (next > 2 * epoch) [generator, next] = [new MersenneTwister(SAMPLER_SEED), 0];
    for (; next < 2 * epoch; next++) torchPermutation(generator, images);
    next += 1;
    return torchPermutation(generator, images);
  };
}

/**
 * Opens a store: its files are listed, gaps and sizes are checked, the first batch is read.
 *
 * @param dir - folder with epoch_0, epoch_1, ... and, from LPLD, sampler_indices_epoch.json
 * @param target - the images the labels are of, in the order of class folder and file name
 * @returns batches by record; every epoch but the last is whole
 * @throws {LpldError} E_DATA with details.path naming the file that is missing, damaged, or not of these images
 */
export async function openFkd(dir: string, target: ImportTarget): Promise<LabelImport> {
  const epochs = await numbered(dir, 'folders', /^epoch_(\d+)$/);
  if (epochs.length === 0) refuse(join(dir, epochFolder(0)), 'a folder of label batches', 'the store', undefined);
  withoutGaps(epochs, (e) => join(dir, epochFolder(e)));
  const first = await readFkdFile(join(dir, batchFile(0, 0)), null);
  const [batch, classes] = first.logits.shape as [number, number];
  if (classes !== target.numClasses)
    refuse(
      join(dir, batchFile(0, 0)),
      `logits of ${target.numClasses} classes, as the images have,`,
      'the store',
      classes,
    );
  const whole = Math.floor(target.images / batch);
  const counts: number[] = [];
  for (const epoch of epochs) {
    const batches = await numbered(join(dir, epochFolder(epoch)), 'files', /^batch_(\d+)\.tar$/);
    withoutGaps(batches, (b) => join(dir, batchFile(epoch, b)));
    counts.push(batches.length);
  }
  if (counts.at(-1) === 0) counts.pop(); // the generator makes a folder before it knows that it is done
  const rest = target.images - whole * batch;
  const dropLast = rest === 0 || counts.every((count) => count <= whole);
  const batchesPerEpoch = dropLast ? whole : whole + 1;
  for (const [epoch, count] of counts.entries()) {
    if (count > batchesPerEpoch)
      refuse(
        join(dir, batchFile(epoch, batchesPerEpoch)),
        'no file',
        `batch ${batchesPerEpoch} of ${target.images} images`,
        'one',
      );
    if (count < batchesPerEpoch && epoch < counts.length - 1)
      refuse(join(dir, batchFile(epoch, count)), 'a file', 'every epoch but the last', undefined);
  }
  const indices = join(dir, INDICES_FILE);
  const hasIndices = await stat(indices).then(
    (s) => s.isFile(),
    () => false,
  );
  const order = hasIndices ? await storedOrder(indices, target.images) : seededOrder(target.images);
  const names = counts.flatMap((count, epoch) => Array.from({ length: count }, (_, b) => batchFile(epoch, b)));
  if (hasIndices) names.push(INDICES_FILE);
  const files: { name: string; size: number }[] = [];
  for (const name of names) files.push({ name, size: await fileSize(join(dir, name)) });

  let current: { epoch: number; images: Int32Array } = { epoch: -1, images: new Int32Array(0) };
  const read = async (record: number): Promise<LabelBatch> => {
    const epoch = Math.floor(record / batchesPerEpoch);
    const number = record % batchesPerEpoch;
    if (current.epoch !== epoch) current = { epoch, images: order(epoch) };
    const path = join(dir, batchFile(epoch, number));
    const images = current.images.slice(number * batch, (number + 1) * batch);
    const rows = number < whole ? batch : rest;
    if (images.length !== rows) refuse(indices, `${rows} images`, `batch ${number} of epoch ${epoch}`, images.length);
    const stored = await readFkdFile(path, rows);
    if (stored.logits.shape[1] !== classes) refuse(path, `${classes} classes`, 'logits', stored.logits.shape[1]);
    const { size, inputSize } = target;
    return { epoch, batch: number, recipes: fromFkd(stored, images, { size, inputSize, path }), logits: stored.logits };
  };
  const records = counts.reduce((sum, count) => sum + count, 0);
  return { files, batch, batchesPerEpoch, epochs: counts.length, records, dropLast, read };
}
