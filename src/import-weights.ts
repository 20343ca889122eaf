// Weights made elsewhere as one plain .safetensors file that configs can name and that needs no pickle reader. Whether
// weights fit a model is checked where they are loaded. A file that stands there is not overwritten by other tensors.

import { createHash } from 'node:crypto';
import { statSync } from 'node:fs';
import { extname } from 'node:path';
import { hashFile } from './atomic-file.ts';
import { expected, LpldError } from './errors.ts';
import { readWeights } from './interchange/index.ts';
import { safetensorsChunks, writeSafetensors } from './safetensors.ts';

/** What was written: or, where the same bytes stood there already, left. */
export interface ImportedWeights {
  readonly tensors: number;
  readonly bytes: number;
  readonly sha256: string;
}

/**
 * Converts a state dict to safetensors.
 *
 * @param options.replace - the user's word that another file may be overwritten
 * @throws {LpldError} E_CONFIG for an `out` that is no .safetensors or holds other bytes; E_DATA for the file; E_DEVICE
 */
export async function importWeights(
  file: string,
  out: string,
  { replace = false }: { readonly replace?: boolean } = {},
): Promise<ImportedWeights> {
  if (extname(out) !== '.safetensors')
    throw new LpldError('E_CONFIG', expected('a file that ends in .safetensors', '--out', out), { path: out });
  const tensors = await readWeights(file);
  const stands = statSync(out, { throwIfNoEntry: false });
  if (stands !== undefined && !stands.isFile())
    throw new LpldError('E_CONFIG', expected('a file', '--out', out, 'something else of that name is in the way'), {
      path: out,
    });
  if (stands !== undefined && !replace) {
    const hash = createHash('sha256');
    for (const chunk of safetensorsChunks(tensors)) hash.update(chunk);
    const sha256 = hash.digest('hex');
    if (sha256 !== (await hashFile(out)))
      throw new LpldError(
        'E_CONFIG',
        expected(
          'a new file, or one of the same tensors,',
          '--out',
          out,
          'choose another --out; --replace replaces it',
        ),
        { path: out },
      );
    return { tensors: Object.keys(tensors).length, bytes: stands.size, sha256 };
  }
  return { tensors: Object.keys(tensors).length, ...(await writeSafetensors(out, tensors)) };
}
