// A model's weights from a file of another program, as a flat map under the network's own names. What wraps them there
// (a dict under state_dict or model, DataParallel's `module.` prefix) is taken off; nothing else is guessed.

import { existsSync } from 'node:fs';
import { expected, LpldError } from '../errors.ts';
import { readSafetensors } from '../safetensors.ts';
import type { TensorMap, TensorView } from '../tensor.ts';
import { WEIGHT_FORMATS } from './index.ts';
import { Dict, type Value } from './pickle.ts';
import { materialize, readTorchFile, StoredTensor } from './torch-file.ts';

const WRAPPERS = ['state_dict', 'model'];
const PREFIX = 'module.';

function refuse(path: string, what: string, name: string, received: unknown): never {
  throw new LpldError('E_DATA', `${path}: ${expected(what, name, received)}`, { path });
}

function stripPrefix(entries: readonly [string, TensorView][]): TensorMap {
  const wrapped = entries.length > 0 && entries.every(([name]) => name.startsWith(PREFIX));
  return Object.fromEntries(wrapped ? entries.map(([name, view]) => [name.slice(PREFIX.length), view]) : entries);
}

const kindOf = (value: Value): string => (value === null ? 'None' : value instanceof Dict ? 'dict' : typeof value);

/** Reads a .safetensors file. */
export async function readSafetensorsWeights(path: string): Promise<TensorMap> {
  return stripPrefix(Object.entries(await readSafetensors(path)));
}

/** Reads a state dict of torch.save: flat, or under `state_dict` or `model`. Other members of the wrapper are ignored. */
export async function readTorchWeights(path: string): Promise<TensorMap> {
  const root = await readTorchFile(path);
  if (!(root instanceof Dict)) return refuse(path, 'a state dict', 'the file', kindOf(root));
  const inner = WRAPPERS.map((name) => root.get(name)).find((value) => value instanceof Dict);
  const state = inner instanceof Dict ? inner : root;
  const entries: [string, TensorView][] = [];
  const copies = new Map<StoredTensor, TensorView>(); // a tensor under many names is copied once
  for (const [name, value] of state) {
    if (typeof name !== 'string') return refuse(path, 'names', 'the keys of the state dict', typeof name);
    if (!(value instanceof StoredTensor)) return refuse(path, 'a tensor', name, kindOf(value));
    const copy = copies.get(value) ?? materialize(value);
    copies.set(value, copy);
    entries.push([name, copy]);
  }
  if (entries.length === 0) refuse(path, 'at least one tensor', 'the state dict', 'none');
  return stripPrefix(entries);
}

/**
 * Reads the weights of a model from any known format, chosen by the file's name.
 * @returns row-major tensors under the names of the state dict, without `module.`
 * @throws {LpldError} E_DATA with details.path: unknown format, a pickle that is more than weights, a broken file
 */
export async function readWeights(path: string): Promise<TensorMap> {
  const format = WEIGHT_FORMATS.find(({ extensions }) => extensions.some((end) => path.toLowerCase().endsWith(end)));
  if (format === undefined) {
    const known = WEIGHT_FORMATS.flatMap(({ extensions }) => extensions).join(', ');
    return refuse(path, `a name ending in ${known}`, 'weights', path);
  }
  if (!existsSync(path)) return refuse(path, 'a file of weights', 'weights', undefined);
  return format.read(path);
}
