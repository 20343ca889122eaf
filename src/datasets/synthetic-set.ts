// A SyntheticSet artifact of ours as a Dataset: images/CLASS/ID.{jpg,png} named by its manifest, described by set.json.
// The invariant: exactly the manifest's files are read, in order of (class, id), each with the size the manifest gives,
// and there are `ipc` of every class that set.json lists. Class ids stay those of the dataset it was distilled from.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { z } from 'zod';
import { openArtifact } from '../artifact.ts';
import { expected, LpldError } from '../errors.ts';
import { checkNames } from './classes.ts';
import { dataError } from './files.ts';
import type { ImageEncoding } from './images.ts';
import { readJson } from './sidecar.ts';
import { fileSplit, type ImageFile } from './splits.ts';
import type { Dataset } from './types.ts';

/** The content of set.json. */
export const setDescription = z.object({
  channels: z.union([z.literal(1), z.literal(3)]),
  size: z.number().int().min(1), // S, px; images are S x S
  classNames: z.array(z.string().min(1)).min(1), // K, of the whole dataset
  mean: z.array(z.number()), // per channel, of pixels in [0, 1]
  std: z.array(z.number().positive()),
  classes: z.array(z.number().int().min(0)).min(1), // ids present, ascending
  ipc: z.number().int().min(1), // images per class
  encoding: z.enum(['jpeg', 'png']),
});
export type SetDescription = z.infer<typeof setDescription>;

/** What a part of a set holds in place of set.json: nothing may take it for a set. */
export const SHARD_FILE = 'shard.json';

const IMAGE = /^images\/(\d{4,})\/(\d{3,})\.(jpg|png)$/;

/** The content of set.json for images made from or like those of a dataset. */
export function setOf(
  facts: Pick<Dataset, 'channels' | 'classNames' | 'mean' | 'std'>,
  made: Pick<SetDescription, 'size' | 'ipc' | 'encoding'> & { readonly classes: readonly number[] },
): SetDescription {
  const { channels, classNames, mean, std } = facts;
  return { channels, classNames: [...classNames], mean: [...mean], std: [...std], ...made, classes: [...made.classes] };
}

/** A synthetic set has no test split and says how it was made. */
export interface SyntheticDataset extends Dataset {
  readonly description: SetDescription;
}

/** Name of one image inside the artifact; the reader and the writer of synthetic sets both use this. */
export function imageName(classId: number, id: number, encoding: ImageEncoding): string {
  const extension = encoding === 'jpeg' ? 'jpg' : 'png';
  return `images/${String(classId).padStart(4, '0')}/${String(id).padStart(3, '0')}.${extension}`;
}

/**
 * Opens a SyntheticSet artifact as a Dataset with no test split.
 * The id is the SHA-256 over the manifest's (path, bytes, sha256) of set.json and all images.
 *
 * @param dir - the artifact's folder
 * @param options.verify - hash every file and compare with the manifest
 * @throws {LpldError} E_DATA with details.path: a file missing, of another size or hash, or not as set.json says;
 *   E_MISMATCH for a shard, which is a part of a set
 */
export async function openSyntheticSet(
  dir: string,
  options: { readonly verify?: boolean } = {},
): Promise<SyntheticDataset> {
  const { manifest } = await openArtifact(dir, options);
  if (manifest.files.some((file) => file.path === SHARD_FILE)) {
    const { shard } = manifest.summary as { shard?: unknown };
    const advice = 'join all shards first: lpld-native merge SHARD... --teacher DIR --out DIR';
    throw new LpldError('E_MISMATCH', expected('a whole set of images', 'images', `shard ${shard} of one`, advice), {
      path: dir,
    });
  }
  const manifestPath = join(dir, 'manifest.json');
  const setPath = join(dir, 'set.json');
  const entries = new Map(manifest.files.map((file) => [file.path, file]));
  const id = createHash('sha256');
  const use = (path: string): void => {
    const entry = entries.get(path);
    if (entry === undefined) throw dataError(manifestPath, `${path} among its files`, 'none');
    id.update(`${JSON.stringify(path)} ${entry.bytes} ${entry.sha256}\n`);
  };
  use('set.json');
  const set = await readJson(setPath, setDescription);
  checkDescription(setPath, set);
  const images: ImageFile[] = [];
  for (const label of set.classes)
    for (let i = 0; i < set.ipc; i++) {
      const name = imageName(label, i, set.encoding);
      use(name);
      images.push({ path: join(dir, name), name, label });
    }
  const stored = manifest.files.filter((file) => IMAGE.test(file.path)).length;
  if (stored !== images.length)
    throw dataError(manifestPath, `${images.length} images, ${set.ipc} of each class in set.json,`, stored);
  const { channels, classNames, mean, std } = set;
  const size = { height: set.size, width: set.size };
  return {
    name: 'synthetic-set',
    channels,
    classNames,
    mean,
    std,
    train: fileSplit({ files: images, channels, size, greyOnly: channels === 1 }),
    test: null,
    id: id.digest('hex'),
    description: set,
  };
}

function checkDescription(path: string, set: SetDescription): void {
  checkNames(path, set.classNames);
  for (const key of ['mean', 'std'] as const)
    if (set[key].length !== set.channels) throw dataError(path, `${set.channels} number(s) of ${key}`, set[key].length);
  set.classes.forEach((id, i) => {
    if (id >= set.classNames.length) throw dataError(path, `classes below ${set.classNames.length}`, id);
    if (i > 0 && id <= set.classes[i - 1]!) throw dataError(path, 'classes in ascending order', `[${set.classes}]`);
  });
}
