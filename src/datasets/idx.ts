// The IDX files of the MNIST family: {train,t10k|test}-{images-idx3,labels-idx1}-ubyte, plain or .gz, channels 1.
// The invariant: magic, dimensions and the exact length of each file are checked before the first pixel is read.
// Source of the format: Y. LeCun, C. Cortes, C. Burges, the MNIST database (big-endian magic 0x0000TTDD, TT = 8 for
// unsigned bytes, DD dimensions, each as u32, then the bytes).

import { createHash } from 'node:crypto';
import { basename } from 'node:path';
import { type ClassSelection, checkLabels, checkNames, selectClasses } from './classes.ts';
import { contentSize, dataError, fileSize, findFile, readContent, readStart } from './files.ts';
import { datasetIdentity } from './identity.ts';
import { type Constants, constants, readSidecar, SIDECAR } from './sidecar.ts';
import { packedSplit } from './splits.ts';
import type { Dataset, DatasetFormat, DatasetOptions, Split } from './types.ts';

interface Known extends Constants {
  readonly name: string;
  readonly classNames: readonly string[] | null; // null: the numbers
}

const MNIST: Known = { name: 'mnist', mean: [0.1307], std: [0.3081], classNames: null };
const FASHION: Known = {
  name: 'fashion-mnist',
  mean: [0.286],
  std: [0.353],
  classNames: [
    'T-shirt/top',
    'Trouser',
    'Pullover',
    'Dress',
    'Coat',
    'Sandal',
    'Shirt',
    'Sneaker',
    'Bag',
    'Ankle boot',
  ],
};
const KMNIST: Known = {
  name: 'kmnist',
  mean: [0.1918],
  std: [0.3483],
  classNames: ['o', 'ki', 'su', 'tsu', 'na', 'ha', 'ma', 'ya', 're', 'wo'],
};

const LONGEST = 65535; // px, as everywhere

/** SHA-256 of the unpacked training labels of sets that are recognised without a sidecar. */
const BY_LABELS: Readonly<Record<string, Known>> = {
  '65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5': MNIST,
  bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9: FASHION,
};

/**
 * The MNIST family. Names, mean and std come from dataset.json in the folder where there is one ({"name":
 * "kmnist"} suffices; `lpld-native data` writes it); else MNIST and Fashion-MNIST are recognised by their training
 * labels; else they are MNIST's, for the config to override.
 */
export const idx: DatasetFormat = {
  name: 'idx',
  summary: 'MNIST family: train-images-idx3-ubyte and its three companions, plain or .gz',
  async open(folder, options) {
    const sidecar = await readSidecar(folder);
    const train = await readPart(folder, ['train'], true);
    const set = [MNIST, FASHION, KMNIST].find((s) => s.name === sidecar?.name) ?? BY_LABELS[train!.labelHash];
    const { mean, std } = constants(folder, sidecar, set ?? MNIST, 1);
    const known = { name: sidecar?.name ?? set?.name ?? 'idx', mean, std };
    const classNames = sidecar?.classNames ?? set?.classNames ?? null;
    return assemble(folder, { ...known, classNames }, options, null, train!, sidecar === null ? [] : [SIDECAR]);
  },
};

/**
 * Opens a folder of IDX files with given constants and, where values are not 0..255, a table from value to uint8.
 * @param values - [256] uint8, or null for the bytes as they are
 * @throws {LpldError} E_DATA with the path of the file that is missing or malformed; E_CONFIG for a bad class subset
 */
export async function openIdxFolder(
  folder: string,
  known: Known,
  options: DatasetOptions,
  values: Uint8Array,
): Promise<Dataset> {
  const train = await readPart(folder, ['train'], true);
  return assemble(folder, known, options, values, train!, []);
}

interface Part {
  readonly imagePath: string;
  readonly labelPath: string;
  readonly labels: Uint8Array; // [n]
  readonly labelHash: string;
  readonly height: number;
  readonly width: number;
}

async function assemble(
  folder: string,
  known: Known,
  options: DatasetOptions,
  values: Uint8Array | null,
  train: Part,
  extra: readonly string[],
): Promise<Dataset> {
  const test = await readPart(folder, ['t10k', 'test'], false);
  if (test !== null && (test.height !== train.height || test.width !== train.width))
    throw dataError(test.imagePath, `images of ${train.height}x${train.width} pixels`, `${test.height}x${test.width}`);
  const top = train.labels.reduce((a, b) => Math.max(a, b), 0);
  const names = known.classNames ?? Array.from({ length: top + 1 }, (_, i) => String(i));
  checkNames(folder, names);
  const selection = selectClasses(options.classes, names.length);
  checkLabels(train.labelPath, train.labels, names, true);
  if (test !== null) checkLabels(test.labelPath, test.labels, names, false);
  const parts = test === null ? [train] : [train, test];
  const used = [...extra, ...parts.flatMap((part) => [basename(part.imagePath), basename(part.labelPath)])];
  const files = await Promise.all(used.map(async (name) => ({ name, size: await fileSize(`${folder}/${name}`) })));
  const facts = ['idx', `classes ${options.classes ?? 'all'}`];
  return {
    name: known.name,
    channels: 1,
    classNames: selection.kept.map((id) => names[id]!),
    mean: known.mean,
    std: known.std,
    train: split(train, values, selection),
    test: test === null ? null : split(test, values, selection),
    ...(await datasetIdentity(folder, files, { verify: options.verify, facts })),
  };
}

function split(part: Part, values: Uint8Array | null, selection: ClassSelection): Split {
  const { height, width, labels } = part;
  const recordBytes = height * width;
  const files = [{ path: part.imagePath, headerBytes: 16, recordBytes, count: labels.length }];
  const pixels = (block: Uint8Array): Uint8Array => (values === null ? block : block.map((v) => values[v]!));
  return packedSplit({ files, labels, height, width, channels: 1, pixels }, selection);
}

async function readPart(folder: string, prefixes: readonly string[], required: boolean): Promise<Part | null> {
  const imagePath = await findFile(folder, fileNames(prefixes, 'images', 3));
  const labelPath = await findFile(folder, fileNames(prefixes, 'labels', 1));
  if (imagePath === null && labelPath === null && !required) return null;
  if (imagePath === null || labelPath === null) {
    const [what, dims] = imagePath === null ? (['images', 3] as const) : (['labels', 1] as const);
    const name = `${prefixes[0]}-${what}-idx${dims}-ubyte`;
    throw dataError(`${folder}/${name}`, 'an IDX file, plain or .gz,', undefined);
  }
  const labels = await readLabels(labelPath);
  const head = await readStart(imagePath, 16);
  const view = new DataView(head.buffer, head.byteOffset, head.byteLength);
  checkMagic(imagePath, view, 3);
  if (view.byteLength < 16) throw dataError(imagePath, 'a 16-byte IDX header', `${view.byteLength} bytes`);
  const [n, height, width] = [view.getUint32(4), view.getUint32(8), view.getUint32(12)];
  if (n !== labels.bytes.length) throw dataError(imagePath, `${labels.bytes.length} images, one per label,`, n);
  if (height === 0 || width === 0 || height > LONGEST || width > LONGEST)
    throw dataError(imagePath, `images of 1 to ${LONGEST} px a side`, `${height}x${width}`);
  const wanted = 16 + n * height * width;
  const size = await contentSize(imagePath, wanted);
  if (size !== wanted) throw dataError(imagePath, `${wanted} bytes, as its header says,`, size);
  return { imagePath, labelPath, labels: labels.bytes, labelHash: labels.hash, height, width };
}

async function readLabels(path: string): Promise<{ bytes: Uint8Array; hash: string }> {
  const content = await readContent(path);
  const view = new DataView(content.buffer, content.byteOffset, content.byteLength);
  checkMagic(path, view, 1);
  const wanted = view.byteLength < 8 ? 8 : 8 + view.getUint32(4);
  if (content.length !== wanted) throw dataError(path, `${wanted} bytes, as its header says,`, content.length);
  if (wanted === 8) throw dataError(path, 'at least one label', 'none');
  return { bytes: content.subarray(8), hash: createHash('sha256').update(content).digest('hex') };
}

function checkMagic(path: string, view: DataView, dims: 1 | 3): void {
  const magic = view.byteLength < 4 ? -1 : view.getUint32(0);
  if (magic === (0x800 | dims)) return;
  const received = magic < 0 ? `${view.byteLength} bytes` : `0x${magic.toString(16).padStart(8, '0')}`;
  throw dataError(path, `the IDX magic 0x0000080${dims}`, received);
}

function fileNames(prefixes: readonly string[], what: string, dims: number): string[] {
  const stems = prefixes.flatMap((p) => [`${p}-${what}-idx${dims}-ubyte`, `${p}-${what}.idx${dims}-ubyte`]);
  return stems.flatMap((stem) => [stem, `${stem}.gz`]);
}
