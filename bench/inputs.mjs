// Inputs shared by benches: images, Recipes and models from fixed streams, through the package's own API.

import { loadNative } from '../dist/addon.js';
import { drawRecipes, LABEL_STREAMS } from '../dist/recipe.js';
import { uniforms } from '../dist/rng.js';
import { tensor } from '../dist/tensor.js';

/** @import { ModelSpec, NativeBinding } from '../dist/native.js' */

export const native = (device) => loadNative(device === 'cpu' ? 'cpu' : 'cuda');

/**
 * A store of `count` images of noise with structure: no two rows, columns or channels alike.
 *
 * @param {NativeBinding} binding
 */
export function noiseStore(binding, { count, size, channels, classes, device }) {
  const store = binding.createImageStore({ channels, device });
  const pixels = Uint8Array.from(uniforms(1n, 19, 0, 0, count * size * size * channels), (u) => Math.floor(256 * u));
  const labels = Int32Array.from({ length: count }, (_, i) => i % classes);
  store.append(pixels, labels, { height: size, width: size, resize: 'none', size: 0, centerCrop: 0 });
  return store;
}

/** One batch of all images: random crops, flips, CutMix. */
export const oneBatch = (options) => someBatches({ ...options, batches: 1 });

/** The same images in so many batches, each under crops and mixes of its own. */
export function someBatches({ batches, count, size, inputSize }) {
  const indices = Int32Array.from({ length: count }, (_, i) => i);
  const all = Array.from({ length: batches }, (_, i) => ({ indices, view: i, batch: i, epoch: i }));
  return drawRecipes(all, {
    seed: 7n,
    augment: { crop: { scale: [0.08, 1] }, flip: true, cutout: 0, mix: 'cutmix' },
    sizes: () => [size, size],
    inputSize,
    purposes: LABEL_STREAMS,
  });
}

export function vector(values) {
  return tensor('F32', [values.length], Float32Array.from(values));
}

/** ||a - b|| / ||b|| */
export function distance(a, b) {
  if (a.length !== b.length) return Number.NaN;
  let [off, all] = [0, 0];
  for (let i = 0; i < b.length; i++) {
    off += (a[i] - b[i]) ** 2;
    all += b[i] ** 2;
  }
  return Math.sqrt(off / all);
}

/** Value of every half by its bits. */
export function halfTable() {
  return Float32Array.from({ length: 65536 }, (_, bits) => {
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const size = exponent === 0 ? fraction * 2 ** -24 : (1 + fraction / 1024) * 2 ** (exponent - 15);
    return bits & 0x8000 ? -size : size; // no infinities among labels
  });
}

export function fromHalves(bits, table) {
  const out = new Float32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]];
  return out;
}

/**
 * A ResNet-18 with the small stem on colour images, or a ConvNet 32-32-32 on grey ones; random weights.
 *
 * @returns {ModelSpec}
 */
export function modelSpec({ arch, classes, size, device }) {
  const inChannels = arch === 'convnet' ? 1 : 3;
  return {
    ...{ arch, numClasses: classes, inChannels, inputSize: size, device, seed: 1n },
    options: { stem: 'small', widths: [32, 32, 32], pooling: 'avg' },
  };
}
