// Is the native uint8 crop, resize, flip and CutMix worth its C++? Contenders: sharp (libvips, its own bilinear kernel,
// not Pillow's bytes, no CutMix: crop and resize only, so it does less) and native. Answers: within 24 grey levels of
// each other on average, since libvips rounds and filters differently.

import sharp from 'sharp';
import { native, noiseStore, oneBatch } from './inputs.mjs';

export async function cases({ device, smoke }) {
  const binding = native(device);
  const sizes = smoke
    ? [[4, 32, 32]]
    : [
        [64, 64, 64],
        [32, 256, 224],
      ];
  return sizes.map(([count, size, inputSize]) => {
    const store = noiseStore(binding, { count, size, channels: 3, classes: 2, device });
    const recipes = { ...oneBatch({ count, size, inputSize }) };
    const plain = { ...recipes, mixKind: { ...recipes.mixKind, data: new Uint8Array(count) } };
    const crop = new Int32Array(recipes.crop.data.buffer, recipes.crop.data.byteOffset, 4 * count);
    /** @type {import('sharp').CreateRaw} */
    const raw = { width: size, height: size, channels: 3 };
    return {
      name: `${count} images ${size} -> ${inputSize} px`,
      contenders: [
        {
          name: 'sharp',
          run: () =>
            Promise.all(
              Array.from({ length: count }, async (_, i) => {
                const [top, left, height, width] = crop.subarray(4 * i, 4 * i + 4);
                let image = sharp(store.image(i).data, { raw })
                  .extract({ top, left, height, width })
                  .resize(inputSize, inputSize, { fit: 'fill', kernel: 'linear' });
                if (recipes.flip.data[i]) image = image.flop();
                return image.raw().toBuffer();
              }),
            ),
        },
        { name: 'native', run: () => binding.ops.renderBatch(store, plain, inputSize) },
        { name: 'native with CutMix', run: () => binding.ops.renderBatch(store, recipes, inputSize) },
      ],
      compare(answer, reference) {
        if (answer.shape[0] !== reference.length) return `${answer.shape[0]} images`;
        const area = inputSize * inputSize;
        const mean = (i) =>
          answer.data.subarray(3 * i * area, 3 * (i + 1) * area).reduce((a, b) => a + b, 0) / (3 * area);
        for (const [i, image] of reference.entries()) {
          const off = Math.abs(mean(i) - image.reduce((a, b) => a + b, 0) / (3 * area));
          if (off > 24) return `image ${i}: mean differs by ${off.toFixed(1)} grey levels`;
        }
        return null;
      },
    };
  });
}
