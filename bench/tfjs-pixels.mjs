// The augmentation case: crop, bilinear resize, flip and CutMix of a batch by the same Recipes. Crops are never larger than
// the output, where tfjs's bilinear sampling and Pillow's are the same sum; ours is Pillow's bytes, tfjs's stays float.
// Pillow rounds to bytes after each of its two passes, so answers agree within one grey level, except in the rows and
// columns at the edges of a crop: Pillow repeats them, tfjs reads beyond the crop (and 0 beyond the image). There the bench
// asks for grey levels only: no op of tfjs does what Pillow does for a whole batch.

import { arrayOf } from '../dist/tensor.js';
import { noiseStore, oneBatch } from './inputs.mjs';
import { tfjsContenders } from './tfjs-backend.mjs';

/** @import { NativeBinding } from '../dist/native.js' */

const GREY_LEVELS = 1.01; // 0.5 for each of Pillow's passes, and its 22-bit weights

/** @param {NativeBinding} binding */
export function augmentCase(binding, { device, threads, smoke }, { count, size, channels }) {
  const store = noiseStore(binding, { count, size, channels, classes: 2, device });
  const recipes = oneBatch({ count, size, inputSize: size });
  const pixels = new Float32Array(count * size * size * channels);
  for (let i = 0; i < count; i++) pixels.set(store.image(i).data, i * size * size * channels);
  const input = {
    images: { shape: [count, size, size, channels], data: pixels },
    crop: arrayOf(recipes.crop, 'I32'),
    flip: arrayOf(recipes.flip, 'U8'),
    partner: arrayOf(recipes.mixIndex, 'I32'),
    box: [...arrayOf(recipes.mixBox, 'I32').subarray(0, 4)], // one box a batch
    size,
  };
  const edges = edgesOf(input, count, size);
  return {
    name: `augmentation with CutMix, ${count} images of ${size} px, ${channels === 1 ? 'grey' : 'colour'}`,
    contenders: [
      ...tfjsContenders('augment', input, { threads, smoke }),
      { name: 'ours-fp32', run: () => ({ planes: binding.ops.renderBatch(store, recipes, size).data }) },
    ],
    compare(answer, reference) {
      const [got, wanted] = [answer, reference].map(
        ({ planes, pixels: rows }) => rows ?? byPixel(planes, channels, size),
      );
      if (got.length !== wanted.length) return `${got.length} values`;
      const off = [0, 0]; // inside, at the edges
      for (let i = 0; i < wanted.length; i++) {
        const edge = edges[Math.floor(i / channels)];
        off[edge] = Math.max(off[edge], Math.abs(got[i] - wanted[i]));
      }
      return off[0] <= GREY_LEVELS && off[1] <= 255 ? null : `values differ by ${off} grey levels inside and at edges`;
    },
  };
}

/**
 * U8 [M, P, P]: 1 where Pillow's sample lies outside the crop and repeats its edge, in the image that is shown there.
 *
 * @param {{box: number[], [field: string]: any}} input
 */
function edgesOf({ crop, partner, box: [top, left, height, width] }, count, size) {
  const outside = (length, place) => {
    const at = ((place + 0.5) * length) / size - 0.5;
    return at < 0 || at > length - 1;
  };
  return Uint8Array.from({ length: count * size * size }, (_, at) => {
    const [x, y, i] = [at % size, Math.floor(at / size) % size, Math.floor(at / size / size)];
    const pasted = y >= top && y < top + height && x >= left && x < left + width;
    const shown = pasted ? partner[i] : i;
    return outside(crop[4 * shown + 2], y) || outside(crop[4 * shown + 3], x) ? 1 : 0; // symmetric: flips do not matter
  });
}

/** [M, C, P, P] -> [M, P, P, C] */
function byPixel(planes, channels, size) {
  const area = size * size;
  return planes.map((_, at) => {
    const [c, place, image] = [at % channels, Math.floor(at / channels) % area, Math.floor(at / channels / area)];
    return planes[(image * channels + c) * area + place];
  });
}
