// Reads test/golden/*.safetensors and says where they came from. A reader of its own (the format is 8 length bytes, a
// JSON header, the tensors), so that a defect of src/safetensors.ts cannot hide a wrong number. Golden files are
// written by a person with `npm run golden`, never by a test.

import { readFileSync } from 'node:fs';
import type { DType, TensorMap, TensorView } from '../../src/tensor.ts';

export interface Golden {
  readonly tensors: TensorMap;
  /** Everything that is not a tensor: cases, names, constants. */
  readonly info: Readonly<Record<string, unknown>>;
  /** One line for failure messages: versions, seed, date, hash of the scripts. */
  readonly provenance: string;
}

interface Entry {
  readonly dtype: DType;
  readonly shape: number[];
  readonly data_offsets: [number, number];
}

const cache = new Map<string, Golden>();

/** The golden file test/golden/<name>.safetensors; cached. Throws if it is absent. */
export function golden(name: string): Golden {
  const held = cache.get(name);
  if (held) return held;
  const file = readFileSync(new URL(`../golden/${name}.safetensors`, import.meta.url));
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, start)) as Record<string, Entry> & {
    __metadata__: { json: string };
  };
  const { __metadata__, ...entries } = header;
  const tensors: TensorMap = {};
  for (const [key, { dtype, shape, data_offsets: at }] of Object.entries(entries))
    tensors[key] = { dtype, shape, data: new Uint8Array(file.subarray(start + at[0], start + at[1])) };
  const { provenance: made, ...info } = JSON.parse(__metadata__.json) as Record<string, unknown>;
  const provenance = `golden ${name}: ${JSON.stringify(made)}`;
  const read = { tensors, info, provenance };
  cache.set(name, read);
  return read;
}

/** One tensor of a golden file; throws with the file's keys if it is absent. */
export function goldenTensor(file: Golden, key: string): TensorView {
  const found = file.tensors[key];
  if (!found) throw new Error(`no tensor ${key} among ${Object.keys(file.tensors).join(', ')}; ${file.provenance}`);
  return found;
}
