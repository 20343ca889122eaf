// Distilled images of others, one folder per class, as a synthetic set: the published scripts leave newCCC/classCCC_idIII.jpg.
// Classes and images are in byte order of their names, as torchvision's ImageFolder has them, because label stores mean
// images by that position. Every image is decoded once; its bytes are kept.

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { guarded } from '../atomic-file.ts';
import { checkCancelled, isFolder, list } from '../datasets/files.ts';
import { IMAGE_NAME } from '../datasets/image-files.ts';
import { decodeImage, type ImageEncoding } from '../datasets/images.ts';
import { openDataset } from '../datasets/index.ts';
import { imageName } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import type { ImageImport } from './types.ts';

function refuse(path: string, what: string, name: string, received: unknown): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
}

const encodingOf = (path: string): ImageEncoding => (/\.png$/i.test(path) ? 'png' : 'jpeg');

/**
 * Opens a folder of images.
 *
 * @param dir - ROOT with one folder per class; dataset.json there may give mean, std and class names (ImageNet's constants
 *   and the folders' names where it does not)
 * @throws {LpldError} E_DATA with details.path: a broken image, one that is not square or of another size or encoding than
 *   the first, a class with more or fewer images than the first
 */
export async function openImageFolder(dir: string, signal: AbortSignal): Promise<ImageImport> {
  const facts = await openDataset('folder', dir, { classes: null, verify: true, skipUnreadable: false });
  if (facts.test !== null || (await isFolder(join(dir, 'train'))))
    refuse(dir, 'one folder per class', 'the images', 'train and test folders');
  const folders = await list(dir, 'folders');
  const paths: string[][] = [];
  for (const folder of folders) {
    const names = (await list(join(dir, folder), 'files')).filter((name) => IMAGE_NAME.test(name));
    paths.push(names.map((name) => join(dir, folder, name)));
  }
  const first = paths[0]![0]!;
  const ipc = paths[0]!.length;
  const encoding = encodingOf(first);
  let size = 0;
  for (const [classId, own] of paths.entries()) {
    if (own.length !== ipc)
      refuse(join(dir, folders[classId]!), `${ipc} images, as the first class has,`, 'a class', own.length);
    for (const path of own) {
      checkCancelled(signal);
      const { height, width } = await decodeImage(await guarded(path, () => readFile(path)), path, facts.channels);
      if (size === 0) size = height;
      if (height !== size || width !== size)
        refuse(path, `${size} x ${size} px, as the first image has,`, 'an image', `${height} x ${width}`);
      if (encodingOf(path) !== encoding)
        refuse(path, `${encoding}, as the first image is,`, 'an image', encodingOf(path));
    }
  }
  const files = paths.flatMap((own, classId) =>
    own.map((path, id) => ({
      name: imageName(classId, id, encoding),
      read: () => guarded(path, () => readFile(path)),
    })),
  );
  return { facts, made: { size, ipc, encoding, classes: [...folders.keys()] }, files };
}
