// Tiny-ImageNet-200, 64x64 RGB: the official layout (train/WNID/images/*.JPEG, val/images with val/val_annotations.txt,
// wnids.txt, words.txt) and the packed one (train/WNID/*.JPEG, val/WNID/*.JPEG, classes.tsv).
// The invariant: a class id is the position of the WNID in byte order, whatever order the files list them in.

import { join } from 'node:path';
import { byBytes, dataError, findFile, isFolder, list, readLines } from './files.ts';
import { IMAGE_NAME, openListing } from './image-files.ts';
import type { ImageFile } from './splits.ts';
import type { DatasetFormat } from './types.ts';

const NAME = 'tiny-imagenet';
const UNPACKED = 'tiny-imagenet-200';

export const tinyImagenet: DatasetFormat = {
  name: NAME,
  summary: 'Tiny-ImageNet: train/WNID/images/*.JPEG, val/images, wnids.txt, words.txt; or train|val/WNID/*.JPEG',
  async open(path, options) {
    const folder = (await isFolder(join(path, UNPACKED))) ? join(path, UNPACKED) : path;
    const { wnids, names, files } = await readClasses(folder);
    const train: ImageFile[] = [];
    for (const [label, wnid] of wnids.entries()) train.push(...(await classImages(folder, `train/${wnid}`, label)));
    return openListing(
      {
        format: NAME,
        name: NAME,
        folder,
        channels: 3,
        classNames: names,
        mean: [0.4802, 0.4481, 0.3975],
        std: [0.2302, 0.2265, 0.2262],
        train,
        test: (await isFolder(join(folder, 'val'))) ? await validation(folder, wnids, files) : null,
        size: { height: 64, width: 64 },
        greyOnly: false,
        otherFiles: files,
      },
      options,
    );
  },
};

interface Classes {
  readonly wnids: readonly string[]; // in byte order
  readonly names: readonly string[];
  readonly files: string[]; // the text files read, relative
}

async function readClasses(folder: string): Promise<Classes> {
  const files: string[] = [];
  const present = async (name: string): Promise<string | null> => {
    const path = await findFile(folder, [name]);
    if (path !== null) files.push(name);
    return path;
  };
  const words = new Map<string, string>();
  const tsv = await present('classes.tsv');
  const wordsFile = tsv === null ? await present('words.txt') : null;
  const listed: string[] = [];
  if (tsv !== null)
    for (const [wnid, word] of await rows(tsv, 1)) {
      if (wnid === 'wnid') continue; // the heading
      listed.push(wnid);
      words.set(wnid, word);
    }
  if (wordsFile !== null) for (const [wnid, word] of await rows(wordsFile, 0)) words.set(wnid, word);
  const wnidsFile = tsv === null ? await present('wnids.txt') : null;
  if (wnidsFile !== null) listed.push(...(await readLines(wnidsFile)).map((line) => line.trim()));
  if (tsv === null && wnidsFile === null) listed.push(...(await list(join(folder, 'train'), 'folders')));
  const wnids = listed.sort(byBytes);
  const source = tsv ?? wnidsFile ?? join(folder, 'train');
  if (wnids.length === 0) throw dataError(source, 'at least one class', 'none');
  for (const wnid of wnids)
    if (!/^[\w.-]+$/.test(wnid) || /^\.+$/.test(wnid)) throw dataError(source, 'WNIDs of letters and digits', wnid);
  for (let i = 1; i < wnids.length; i++)
    if (wnids[i] === wnids[i - 1]) throw dataError(source, 'each WNID once', wnids[i]);
  return { wnids, names: uniqueNames(wnids, words), files };
}

/** The words of each class, or its WNID; words that two classes share get the WNID behind them. */
function uniqueNames(wnids: readonly string[], words: ReadonlyMap<string, string>): string[] {
  const uses = new Map<string, number>();
  for (const wnid of wnids) {
    const word = words.get(wnid) ?? wnid;
    uses.set(word, (uses.get(word) ?? 0) + 1);
  }
  return wnids.map((wnid) => {
    const word = words.get(wnid) ?? wnid;
    return uses.get(word)! > 1 ? `${word} (${wnid})` : word;
  });
}

/** Columns `first` and `first + 1` of a tab-separated file. */
async function rows(path: string, first: number): Promise<[string, string][]> {
  const lines = await readLines(path);
  return lines.map((line, i) => {
    const columns = line.split('\t');
    const [a, b] = [columns[first]?.trim(), columns[first + 1]?.trim()];
    if (!a || !b) throw dataError(path, 'tab-separated columns', `line ${i + 1}: ${line}`);
    return [a, b];
  });
}

/** Images of `directory` or its `images` folder, in byte order. */
async function classImages(folder: string, directory: string, label: number): Promise<ImageFile[]> {
  const inner = `${directory}/images`;
  const at = (await isFolder(join(folder, inner))) ? inner : directory;
  const images = (await list(join(folder, at), 'files')).filter((name) => IMAGE_NAME.test(name));
  if (images.length === 0) throw dataError(join(folder, at), 'at least one .JPEG file', 'none');
  return images.map((file) => ({ path: join(folder, at, file), name: `${at}/${file}`, label }));
}

async function validation(folder: string, wnids: readonly string[], used: string[]): Promise<ImageFile[]> {
  if (!(await isFolder(join(folder, 'val/images')))) {
    const files: ImageFile[] = [];
    for (const [label, wnid] of wnids.entries()) files.push(...(await classImages(folder, `val/${wnid}`, label)));
    return files;
  }
  const annotations = 'val/val_annotations.txt';
  const labels = new Map<string, number>();
  const ids = new Map(wnids.map((wnid, i) => [wnid, i]));
  for (const [file, wnid] of await rows(join(folder, annotations), 0)) {
    const label = ids.get(wnid);
    if (label === undefined) throw dataError(join(folder, annotations), 'a WNID of the training split', wnid);
    labels.set(file, label);
  }
  used.push(annotations);
  const files: ImageFile[] = [];
  for (const file of await list(join(folder, 'val/images'), 'files')) {
    if (!IMAGE_NAME.test(file)) continue;
    const label = labels.get(file);
    if (label === undefined) throw dataError(join(folder, annotations), `a line for ${file}`, 'none');
    labels.delete(file);
    files.push({ path: join(folder, 'val/images', file), name: `val/images/${file}`, label });
  }
  const [missing] = labels.keys();
  if (missing !== undefined)
    throw dataError(join(folder, 'val/images', missing), 'an image of the annotations', undefined);
  return files;
}
