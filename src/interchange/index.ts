// The table of formats this package takes weights from, one line per format. A new one is a line here and its file.

import type { TensorMap } from '../tensor.ts';
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

export { readWeights } from './weights.ts';
