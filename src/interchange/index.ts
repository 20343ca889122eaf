// The tables of foreign formats, one line per format: what weights are taken from, what labels are taken from, what can be
// written for others. A new one is a line here and its file.

import type { TensorMap } from '../tensor.ts';
import type { ExportFormat, LabelFormat } from './types.ts';
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
    write: async (job) => (await import('./fkd-export.ts')).exportFkd(job),
  },
  {
    name: 'folder',
    summary: 'images, one folder per class',
    holds: 'images',
    write: async (job) => (await import('./image-folder.ts')).exportFolder(job),
  },
  {
    name: 'webdataset',
    summary: 'images in tar shards, KEY.jpg and KEY.cls',
    holds: 'images',
    write: async (job) => (await import('./webdataset.ts')).exportWebDataset(job),
  },
  {
    name: 'parquet',
    summary: "images and classes in Parquet, Hugging Face's layout",
    holds: 'images',
    write: async (job) => (await import('./parquet.ts')).exportParquet(job),
  },
];

export const LABEL_FORMATS: readonly LabelFormat[] = [
  {
    name: 'fkd',
    summary: 'labels as SRe2L, CDA and LPLD store them',
    open: async (dir, target) => (await import('./fkd-import.ts')).openFkd(dir, target),
  },
];

export type { ExportFormat, ExportImage, ExportJob, ImportTarget, LabelBatch, LabelFormat } from './types.ts';
export { readWeights } from './weights.ts';
