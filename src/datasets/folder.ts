// One folder per class: ROOT/{train,val|test}/CLASS/*.{jpg,jpeg,png}, or ROOT/CLASS/* without a test split.
// The invariant: classes and files are in byte order of their names, so class ids do not depend on machine or locale.
// Sizes may differ from image to image. Constants are ImageNet's unless dataset.json in ROOT says otherwise.

import { readFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { dataError, isFolder, list } from './files.ts';
import { IMAGE_NAME, openListing } from './image-files.ts';
import { decodeImage } from './images.ts';
import { constants, readSidecar, SIDECAR } from './sidecar.ts';
import type { ImageFile } from './splits.ts';
import type { DatasetFormat } from './types.ts';

const IMAGENET = { mean: [0.485, 0.456, 0.406], std: [0.229, 0.224, 0.225] };
/** ImageNet's constants averaged over the channels, for grey images. */
const IMAGENET_GREY = { mean: [0.449], std: [0.226] };

/**
 * A folder per class. The test split is `val` where there is one, else `test`.
 * Grey stays grey: channels are 1 if the first training image of every class is grey (then a colour image is refused),
 * else 3; "channels" in dataset.json decides without looking.
 */
export const folder: DatasetFormat = {
  name: 'folder',
  summary: 'one folder of JPEG or PNG files per class: ROOT/{train,val}/CLASS/* or ROOT/CLASS/*',
  async open(path, options) {
    const sidecar = await readSidecar(path);
    const trainRoot = (await isFolder(join(path, 'train'))) ? 'train' : '';
    const classNames = await list(join(path, trainRoot), 'folders');
    if (classNames.length === 0) throw dataError(join(path, trainRoot), 'one folder per class', 'none');
    const train = await listClasses(path, trainRoot, classNames, classNames);
    const testRoot = trainRoot === '' ? null : await firstFolder(path, ['val', 'test']);
    let test: ImageFile[] | null = null;
    if (testRoot !== null) {
      const present = await list(join(path, testRoot), 'folders');
      for (const name of present)
        if (!classNames.includes(name))
          throw dataError(join(path, testRoot, name), 'a class of the training split', name);
      if (present.length === 0) throw dataError(join(path, testRoot), 'one folder per class', 'none');
      test = await listClasses(path, testRoot, present, classNames);
    }
    const channels = sidecar?.channels ?? ((await allGrey(train)) ? 1 : 3);
    const greyOnly = channels === 1 && sidecar?.channels === undefined;
    return openListing(
      {
        format: 'folder',
        name: sidecar?.name ?? basename(resolve(path)),
        folder: path,
        channels,
        classNames: renamed(path, classNames, sidecar?.classNames),
        ...constants(path, sidecar, channels === 1 ? IMAGENET_GREY : IMAGENET, channels),
        train,
        test,
        size: null,
        greyOnly,
        otherFiles: sidecar === null ? [] : [SIDECAR],
      },
      options,
    );
  },
};

function renamed(path: string, folders: readonly string[], names: readonly string[] | undefined): readonly string[] {
  if (names !== undefined && names.length !== folders.length)
    throw dataError(join(path, SIDECAR), `${folders.length} classNames, one per folder,`, names.length);
  return names ?? folders;
}

async function firstFolder(path: string, names: readonly string[]): Promise<string | null> {
  for (const name of names) if (await isFolder(join(path, name))) return name;
  return null;
}

/** Image files of the present classes, class by class; ids are positions in `all`. */
async function listClasses(
  path: string,
  root: string,
  present: readonly string[],
  all: readonly string[],
): Promise<ImageFile[]> {
  const files: ImageFile[] = [];
  const prefix = root === '' ? '' : `${root}/`;
  for (const name of present) {
    const label = all.indexOf(name);
    const images = (await list(join(path, root, name), 'files')).filter((file) => IMAGE_NAME.test(file));
    if (images.length === 0) throw dataError(join(path, root, name), 'at least one .jpg, .jpeg or .png file', 'none');
    for (const file of images)
      files.push({ path: join(path, root, name, file), name: `${prefix}${name}/${file}`, label });
  }
  return files;
}

/** Whether the first image of every class is grey; an unreadable one says nothing and is met again when it is read. */
async function allGrey(train: readonly ImageFile[]): Promise<boolean> {
  let last = -1;
  let grey = 0;
  for (const file of train) {
    if (file.label === last) continue;
    last = file.label;
    const bytes = await readFile(file.path);
    const image = await decodeImage(bytes, file.path, 1).catch(() => null);
    if (image?.sourceChannels === 3) return false;
    if (image !== null) grey++;
  }
  return grey > 0;
}
