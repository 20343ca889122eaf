// The embedded set: 8x8 handwritten digits that ship with the package, so that the first run needs no download.
// Values 0..16 become uint8 by value * 255 / 16 rounded half up (0 -> 0, 8 -> 128, 16 -> 255).
// Source: UCI Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, 1998, CC BY 4.0 (data/digits8x8).

import { fileURLToPath } from 'node:url';
import { expected, LpldError } from '../errors.ts';
import { openIdxFolder } from './idx.ts';
import type { DatasetFormat } from './types.ts';

/** Value 0..16 to uint8; larger values do not occur in the set and saturate. */
const VALUES = Uint8Array.from({ length: 256 }, (_, v) => Math.floor((Math.min(v, 16) * 255) / 16 + 0.5));

/** Mean and standard deviation of the 3,823 training images after that mapping, as shares of 255. */
const CONSTANTS = { name: 'digits', mean: [0.3078], std: [0.3771], classNames: null };

export const digits: DatasetFormat = {
  name: 'digits',
  summary: 'embedded 8x8 handwritten digits, 3,823 train and 1,797 test images; no path needed',
  async open(path, options) {
    if (path !== '')
      throw new LpldError('E_CONFIG', expected('none, as the digits are embedded,', 'the path of digits', path), {
        path,
      });
    return openIdxFolder(fileURLToPath(new URL('../../data/digits8x8', import.meta.url)), CONSTANTS, options, VALUES);
  },
};
