// The safetensors reader: whole files in memory and on disk, headers alone, rows.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { damage, once, pick } from '../mutate.mjs';
import { damageTensors } from '../mutate-tensors.mjs';

const view = (dtype, shape, bytes) => ({
  dtype,
  shape,
  data: Uint8Array.from({ length: bytes }, (_, i) => (i * 37) & 255),
});

/** @param {import('../worker.mjs').Place} place */
export async function open({ load, dir }) {
  const { parseSafetensors, SafetensorsFile, readSafetensors, writeSafetensors } = await load('safetensors');
  const { arrayOf } = await load('tensor');
  const path = join(dir, 'file.safetensors');
  const seeds = [];
  for (const tensors of [
    {
      a: view('F32', [2, 3], 24),
      b: view('I64', [3], 24),
      c: view('U8', [5], 5),
      d: view('F16', [2, 0], 0),
      e: view('BOOL', [], 1),
    },
    {
      'layer.weight': view('F32', [4, 2, 1], 32),
      'layer.bias': view('BF16', [4], 8),
      n: view('F64', [1], 8),
      m: view('I16', [2], 4),
    },
    { only: view('I8', [7], 7) },
    { 'a.size': view('U16', [3], 6), 'b.size': view('U32', [2], 8) },
  ]) {
    await writeSafetensors(path, tensors, { arch: 'convnet', note: 'é"\\' });
    seeds.push(new Uint8Array(await readFile(path)));
  }
  const use = (tensors) => {
    for (const tensor of Object.values(tensors)) arrayOf(tensor, tensor.dtype);
  };
  return {
    allows: (error) => error.code === 'E_DATA' && error.details.path === path,
    async make(roll) {
      const seed = pick(roll, seeds);
      const bytes = once(roll, 3) ? damage(seed, roll, pick(roll, seeds)) : damageTensors(seed, roll);
      const onDisk = once(roll, 3);
      const [start, end] = [roll(4), roll(4)];
      return {
        files: { 'file.safetensors': bytes },
        async run() {
          if (!onDisk) return use(parseSafetensors(bytes, path).tensors);
          await writeFile(path, bytes);
          use(await readSafetensors(path));
          const file = await SafetensorsFile.open(path);
          try {
            for (const name of file.header.tensors.keys()) {
              use({ name: await file.tensor(name) });
              await file.rows(name, start, end);
            }
          } finally {
            await file.close();
          }
        },
      };
    },
  };
}
