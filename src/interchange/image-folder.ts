// A synthetic set as an image folder: CLASS/ID.jpg, byte for byte the set's files, which torchvision's ImageFolder and
// this package's own `folder` format read. Class folders are numbers, so that their order is the order of the class ids;
// names and constants stand in dataset.json beside them.

import { copyFile, mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { guarded } from '../atomic-file.ts';
import { prettyJson } from '../canonical-json.ts';
import { namesOf } from './image-names.ts';
import type { ExportJob } from './types.ts';

/** Writes the set's images and dataset.json into `job.out`. */
export async function exportFolder({ set, images, out, onDone }: ExportJob): Promise<void> {
  const names = namesOf(set);
  for (const [done, image] of images.entries()) {
    const { folder, file } = names(image);
    const dir = join(out, folder);
    if (image.id === 0) await guarded(dir, () => mkdir(dir, { recursive: true }));
    const path = join(dir, file);
    await guarded(path, () => copyFile(image.path, path));
    onDone(done + 1);
  }
  const { channels, classNames, classes, mean, std } = set.description;
  const facts = { name: 'synthetic-set', channels, classNames: classes.map((id) => classNames[id]!), mean, std };
  const path = join(out, 'dataset.json');
  await guarded(path, () => writeFile(path, prettyJson(facts)));
}
