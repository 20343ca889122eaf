// From a listing of image files to a Dataset: what the formats with one file per image share.
// The invariant: every listed file exists and is not empty; with skipUnreadable every file was decoded once, and what
// did not decode is named in `skipped` and is in no split.

import { join } from 'node:path';
import { checkLabels, checkNames, selectClasses } from './classes.ts';
import { dataError, fileSize } from './files.ts';
import { datasetIdentity } from './identity.ts';
import { type FileDataset, type FileImages, fileSizes, fileSplit, type ImageFile, unreadable } from './splits.ts';
import type { DatasetOptions } from './types.ts';

export const IMAGE_NAME = /\.(jpe?g|png)$/i;

export interface Listing {
  readonly format: string;
  readonly name: string;
  readonly folder: string;
  readonly channels: 1 | 3;
  readonly classNames: readonly string[]; // index = the format's own class id
  readonly mean: readonly number[];
  readonly std: readonly number[];
  readonly train: readonly ImageFile[]; // labels are own class ids
  readonly test: readonly ImageFile[] | null;
  readonly size: { readonly height: number; readonly width: number } | null;
  readonly greyOnly: boolean;
  readonly otherFiles: readonly string[]; // relative names that define the set besides the images
}

/**
 * Makes the Dataset of a listing.
 * @throws {LpldError} E_DATA with the path: absent or empty file, empty class, no test image; E_CONFIG: class subset
 */
export async function openListing(listing: Listing, options: DatasetOptions): Promise<FileDataset> {
  const { folder, classNames } = listing;
  checkNames(folder, classNames);
  const selection = selectClasses(options.classes, classNames.length);
  const keep = (files: readonly ImageFile[]): ImageFile[] =>
    files
      .filter((file) => selection.renumbered[file.label]! >= 0)
      .map((file) => ({ ...file, label: selection.renumbered[file.label]! }));
  const images = (files: readonly ImageFile[]): FileImages => ({ ...listing, files });
  let train = keep(listing.train);
  let test = listing.test === null ? null : keep(listing.test);
  const bad = options.skipUnreadable ? await unreadable(images([...train, ...(test ?? [])])) : new Set<string>();
  if (bad.size > 0) {
    train = train.filter((file) => !bad.has(file.name));
    test = test?.filter((file) => !bad.has(file.name)) ?? null;
  }
  const kept = selection.kept.map((id) => classNames[id]!);
  checkLabels(
    folder,
    train.map((file) => file.label),
    kept,
    true,
  );
  if (test !== null && test.length === 0) throw dataError(folder, 'at least one test image', 'none');
  const files = [...train, ...(test ?? [])];
  const sizes = await fileSizes(files);
  const sized = files.map((file, i) => ({ name: file.name, size: sizes[i]! }));
  for (const name of listing.otherFiles) sized.push({ name, size: await fileSize(join(folder, name)) });
  const skipped = [...bad];
  const facts = [listing.format, `classes ${options.classes ?? 'all'}`, ...skipped.map((name) => `without ${name}`)];
  return {
    name: listing.name,
    channels: listing.channels,
    classNames: kept,
    mean: listing.mean,
    std: listing.std,
    train: fileSplit(images(train)),
    test: test === null ? null : fileSplit(images(test)),
    ...(await datasetIdentity(folder, sized, { verify: options.verify, facts })),
    skipped,
  };
}
