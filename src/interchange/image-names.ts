// How exported images are named and split over files: the same names in every format. Numbers are padded so that the
// byte order of the names is the order of the set; position in that order is what label stores mean by an image.

import type { ExportImage, ExportJob } from './types.ts';

const padded = (n: number, largest: number, least: number): string =>
  String(n).padStart(Math.max(least, String(largest).length), '0');

/** Class folder and file of an image, without and with its extension. */
export function namesOf({ description }: ExportJob['set']): (image: ExportImage) => {
  readonly folder: string;
  readonly stem: string;
  readonly file: string;
} {
  const { classNames, ipc, encoding } = description;
  return ({ classId, id }) => {
    const folder = padded(classId, classNames.length - 1, 4);
    const stem = padded(id, ipc - 1, 3);
    return { folder, stem, file: `${stem}.${encoding === 'jpeg' ? 'jpg' : 'png'}` };
  };
}

/**
 * Consecutive images whose bytes stay below a limit; a larger image is alone.
 * @param overhead - bytes a format adds per image
 */
export function shardsOf(images: readonly ExportImage[], limit: number, overhead: number): ExportImage[][] {
  const shards: ExportImage[][] = [];
  let room = 0;
  for (const image of images) {
    const bytes = image.bytes + overhead;
    if (shards.length === 0 || bytes > room) {
      shards.push([]);
      room = limit;
    }
    shards.at(-1)!.push(image);
    room -= bytes;
  }
  return shards;
}
