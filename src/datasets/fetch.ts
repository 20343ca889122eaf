// Brings public datasets from their official addresses into a folder that openDataset reads.
// The invariant: the destination appears by one rename, after every checksum was right and the set opened; until then
// everything lies in DESTINATION.part, which a later call continues.

import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { fileError } from '../atomic-file.ts';
import { expected, LpldError } from '../errors.ts';
import { download } from './download.ts';
import { FORMATS, nearest } from './index.ts';
import { SIDECAR } from './sidecar.ts';
import type { Dataset } from './types.ts';
import { unpackGzip, unpackTar, unpackZip } from './unpack.ts';

export interface RemoteFile {
  readonly name: string; // last part of the address; .gz, .tar.gz or .zip
  readonly md5: string; // hexadecimal, of the packed file
}

export interface Source {
  readonly name: string;
  readonly summary: string; // one line for `lpld-native data --help`
  readonly format: string; // of openDataset
  readonly base: string; // address of the folder that holds the files, ending in /
  readonly files: readonly RemoteFile[];
  /** Folder inside the archive that becomes the destination; '' for files without a folder. */
  readonly root: string;
}

const IDX_FILES = [
  'train-images-idx3-ubyte.gz',
  'train-labels-idx1-ubyte.gz',
  't10k-images-idx3-ubyte.gz',
  't10k-labels-idx1-ubyte.gz',
];

function idxSource(
  name: string,
  summary: string,
  base: string,
  md5s: readonly [string, string, string, string],
): Source {
  return {
    name,
    summary,
    format: 'idx',
    base,
    root: '',
    files: IDX_FILES.map((file, i) => ({ name: file, md5: md5s[i]! })),
  };
}

/**
 * Where the public sets lie. MD5s: the sets' own pages (CIFAR) and torchvision's dataset classes (MNIST family); that
 * of Tiny-ImageNet is the one its loaders agree on. MNIST's own site stopped serving the files; PyTorch's copy is used.
 */
export const SOURCES: readonly Source[] = [
  idxSource('mnist', 'MNIST, 28x28 grey digits, 12 MB', 'https://ossci-datasets.s3.amazonaws.com/mnist/', [
    'f68b3c2dcbeaaa9fbdd348bbdeb94873',
    'd53e105ee54ea40749a09fcbcd1e9432',
    '9fb629c4189551a2d022fa330f9573f3',
    'ec29112dd5afa0611ce80d1b7f02629c',
  ]),
  idxSource(
    'fashion-mnist',
    'Fashion-MNIST, 28x28 grey clothes, 31 MB',
    'http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/',
    [
      '8d4fb7e6c68d591d4c3dfef9ec88bf0d',
      '25c81989df183df01b3e8a0aad5dffbe',
      'bef4ecab320f06d8554ea6380940ec79',
      'bb300cfdad3c16e7a12a480ee83cd310',
    ],
  ),
  idxSource('kmnist', 'KMNIST, 28x28 grey Japanese letters, 21 MB', 'http://codh.rois.ac.jp/kmnist/dataset/kmnist/', [
    'bdb82020997e1d708af4cf47b453dcf7',
    'e144d726b3acfaa3e44228e80efcd344',
    '5c965bf0a639b31b8f53240b1b52f4d7',
    '7320c461ea6c1c855c0b718fb2a4b134',
  ]),
  {
    name: 'cifar10',
    summary: 'CIFAR-10, 32x32 colour, 10 classes, 162 MB',
    format: 'cifar10',
    base: 'https://www.cs.toronto.edu/~kriz/',
    files: [{ name: 'cifar-10-binary.tar.gz', md5: 'c32a1d4ab5d03f1284b67883e8d87530' }],
    root: 'cifar-10-batches-bin',
  },
  {
    name: 'cifar100',
    summary: 'CIFAR-100, 32x32 colour, 100 classes, 161 MB',
    format: 'cifar100',
    base: 'https://www.cs.toronto.edu/~kriz/',
    files: [{ name: 'cifar-100-binary.tar.gz', md5: '03b5dce01913d631647c71ecec9e9cb8' }],
    root: 'cifar-100-binary',
  },
  {
    name: 'tiny-imagenet',
    summary: 'Tiny-ImageNet, 64x64 colour, 200 classes, 237 MB; research use (ImageNet terms)',
    format: 'tiny-imagenet',
    base: 'http://cs231n.stanford.edu/',
    files: [{ name: 'tiny-imagenet-200.zip', md5: '90528d7ca1a48142e341f4ef8d21d0de' }],
    root: 'tiny-imagenet-200',
  },
];

export interface FetchProgress {
  readonly step: 'download' | 'unpack' | 'check';
  readonly file: string;
  readonly bytes: number; // of this file so far
  readonly total: number | null; // null where the server does not say
}

export interface FetchOptions {
  readonly signal?: AbortSignal;
  readonly onProgress?: (progress: FetchProgress) => void;
  /** Another address that holds the same files. */
  readonly mirror?: string;
}

/**
 * Downloads a public dataset, checks it, unpacks it and opens it once.
 *
 * @param name - of a Source: mnist, fashion-mnist, kmnist, cifar10, cifar100, tiny-imagenet
 * @param destination - folder to make; must not exist or be empty
 * @returns the opened dataset
 * @throws {LpldError} E_CONFIG: unknown name or occupied destination; E_DEVICE, details.reason 'download': network (a
 *   later call continues); E_DATA with the path: wrong checksum, broken archive; E_CANCELLED
 */
export async function fetchDataset(name: string, destination: string, options: FetchOptions = {}): Promise<Dataset> {
  const source = SOURCES.find((s) => s.name === name);
  if (source !== undefined) return fetchSource(source, destination, options);
  const names = SOURCES.map((s) => s.name);
  const guess = nearest(name, names);
  const advice = guess === null ? undefined : `did you mean ${guess}?`;
  throw new LpldError('E_CONFIG', expected(`one of ${names.join(', ')}`, 'dataset', name, advice), { nearest: guess });
}

/** fetchDataset for a Source of one's own: a private mirror, another set in a known format. */
export async function fetchSource(source: Source, destination: string, options: FetchOptions = {}): Promise<Dataset> {
  const { signal, onProgress, mirror } = options;
  const target = resolve(destination);
  const format = FORMATS.find((f) => f.name === source.format);
  if (format === undefined) throw new LpldError('E_INTERNAL', expected('a dataset format', source.name, source.format));
  await requireFree(target);
  const work = `${target}.part`;
  const unpacked = join(work, 'unpacked');
  const withSignal = signal === undefined ? {} : { signal };
  try {
    await rm(unpacked, { recursive: true, force: true });
    await mkdir(unpacked, { recursive: true });
    const base = (mirror ?? source.base).replace(/\/*$/, '/');
    for (const { name, md5 } of source.files) {
      const onBytes = (bytes: number, total: number | null): void =>
        onProgress?.({ step: 'download', file: name, bytes, total });
      if (!(await readdir(work)).includes(name))
        await download(base + name, join(work, name), md5, { ...withSignal, onBytes });
    }
    for (const { name } of source.files) {
      onProgress?.({ step: 'unpack', file: name, bytes: 0, total: null });
      await unpack(join(work, name), name, unpacked, signal);
    }
    const root = join(unpacked, source.root);
    if (source.format === 'idx') await writeFile(join(root, SIDECAR), `${JSON.stringify({ name: source.name })}\n`);
    onProgress?.({ step: 'check', file: target, bytes: 0, total: null });
    const asIs = { classes: null, verify: false, skipUnreadable: false };
    await format.open(root, asIs);
    await rename(root, target); // replaces an empty folder, fails on one that was filled meanwhile
    await rm(work, { recursive: true, force: true });
    return await format.open(target, asIs);
  } catch (thrown) {
    throw thrown instanceof LpldError ? thrown : fileError(thrown, work);
  }
}

function unpack(archive: string, name: string, into: string, signal: AbortSignal | undefined): Promise<void> {
  if (name.endsWith('.tar.gz')) return unpackTar(archive, into, signal);
  if (name.endsWith('.zip')) return unpackZip(archive, into, signal);
  return unpackGzip(archive, join(into, name.replace(/\.gz$/, '')), signal);
}

async function requireFree(target: string): Promise<void> {
  const entries = await readdir(target).catch((cause: { code?: unknown }) => {
    if (cause.code === 'ENOENT') return [];
    throw fileError(cause, target);
  });
  if (entries.length === 0) return;
  const what = expected('a folder that does not exist or is empty', 'the destination', target, 'name another folder');
  throw new LpldError('E_CONFIG', what, { path: target });
}
