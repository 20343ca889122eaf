// Pictures of the images in the making: one PNG every --snapshot-every iterations of the first forward, a row a class.
// They are there to be looked at: outside the artifact, in no manifest, gone when the images are made anew.

import { mkdir, rm } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import type { ArtifactDraft } from '../artifact.ts';
import { guarded, writeFileAtomic } from '../atomic-file.ts';
import { encodeGrid } from '../datasets/images.ts';
import type { StageContext } from './types.ts';

const MOST = 10; // rows and columns of a picture

/** Folder of the pictures of an artifact: `snapshots/<its name>` beside it. */
export const snapshotFolder = (artifact: string): string => join(dirname(artifact), 'snapshots', basename(artifact));

/** Removes the pictures of images that are to be made anew. */
export async function forgetSnapshots({ finalDir }: ArtifactDraft): Promise<void> {
  const folder = snapshotFolder(finalDir);
  await guarded(folder, () => rm(folder, { recursive: true, force: true }));
}

/**
 * Writes one picture: at most ten classes, at most ten images of each.
 *
 * @param pixels - U8 [N, size, size, channels]
 * @param images - the class of each
 */
export async function writeSnapshot(
  { draft }: Pick<StageContext, 'draft'>,
  pixels: Uint8Array,
  images: readonly { readonly classId: number }[],
  { size, channels }: { size: number; channels: 1 | 3 },
  iteration: number,
): Promise<void> {
  const each = size * size * channels;
  const rows = new Map<number, Uint8Array[]>();
  for (const [i, { classId }] of images.entries()) {
    const row = rows.get(classId) ?? [];
    if (row.length < MOST) row.push(pixels.subarray(i * each, (i + 1) * each));
    if (rows.size < MOST || rows.has(classId)) rows.set(classId, row);
  }
  const folder = snapshotFolder(draft.finalDir);
  const path = join(folder, `${String(iteration).padStart(6, '0')}.png`);
  await guarded(path, () => mkdir(folder, { recursive: true }));
  await writeFileAtomic(path, [await encodeGrid([...rows.values()], size, channels)]);
}
