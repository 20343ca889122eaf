// The tables of foreign formats, one line per format: what weights are taken from, what labels and images are taken
// from, what can be written for others. A new one is a line here and its file.

import { expected, LpldError } from '../errors.ts';
import type { TensorMap } from '../tensor.ts';
import type { ExportFormat, ImageFormat, LabelFormat } from './types.ts';
import { readSafetensorsWeights, readTorchWeights } from './weights.ts';

export interface WeightFormat {
  readonly name: string;
  readonly summary: string; // one line for --help
  readonly extensions: readonly string[];
  /** @throws {LpldError} E_DATA with details.path */
  read(path: string): Promise<TensorMap>;
}

export const WEIGHT_FORMATS: readonly WeightFormat[] = [
  {
    name: 'safetensors',
    summary: 'one tensor per name',
    extensions: ['.safetensors'],
    read: (path) => readSafetensorsWeights(path),
  },
  {
    name: 'torch',
    summary: 'state dict of torch.save, zip or legacy; flat or under state_dict or model',
    extensions: ['.pth', '.pt', '.bin', '.tar'],
    read: (path) => readTorchWeights(path),
  },
];

/** Formats are loaded when they are used: one of them brings a library. */
export const EXPORT_FORMATS: readonly ExportFormat[] = [
  {
    name: 'fkd',
    summary: 'labels as SRe2L, CDA and LPLD store them: epoch_E/batch_B.tar for torch.load',
    holds: 'labels',
    shards: false,
    write: async (job) => (await import('./fkd-export.ts')).exportFkd(job),
  },
  {
    name: 'folder',
    summary: 'images, one folder per class',
    holds: 'images',
    shards: false,
    write: async (job) => (await import('./image-folder.ts')).exportFolder(job),
  },
  {
    name: 'webdataset',
    summary: 'images in tar shards, KEY.jpg and KEY.cls',
    holds: 'images',
    shards: true,
    write: async (job) => (await import('./webdataset.ts')).exportWebDataset(job),
  },
  {
    name: 'parquet',
    summary: "images and classes in Parquet, Hugging Face's layout",
    holds: 'images',
    shards: true,
    write: async (job) => (await import('./parquet.ts')).exportParquet(job),
  },
];

export const IMPORT_FORMATS: readonly (LabelFormat | ImageFormat)[] = [
  {
    name: 'fkd',
    summary: 'labels as SRe2L, CDA and LPLD store them; needs --images',
    holds: 'labels',
    open: async (dir, target) => (await import('./fkd-import.ts')).openFkd(dir, target),
  },
  {
    name: 'folder',
    summary: 'distilled images, one folder per class, all of one size and as many of each class',
    holds: 'images',
    open: async (dir, signal) => (await import('./folder-import.ts')).openImageFolder(dir, signal),
  },
];

/** An entry of a table by its name. @throws {LpldError} E_CONFIG naming all entries */
export function formatNamed<T extends { readonly name: string }>(table: readonly T[], name: string): T {
  const found = table.find((format) => format.name === name);
  if (found !== undefined) return found;
  const names = table.map((format) => format.name).join(', ');
  throw new LpldError('E_CONFIG', expected(`one of ${names}`, '--format', name), { option: 'format' });
}

export { readWeights } from './weights.ts';
