// Images for tests: not square and not constant, so that a shifted, transposed, flipped or channel-swapped image differs.

/**
 * One image whose neighbouring rows, columns and channels all differ.
 * @param seed - any integer; other seeds give other images
 * @returns [height, width, channels] uint8
 */
export function testImage(seed: number, height: number, width: number, channels: 1 | 3): Uint8Array {
  const out = new Uint8Array(height * width * channels);
  let i = 0;
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++)
      for (let c = 0; c < channels; c++) {
        const noise = Math.imul((seed + 1) * 73 + y * 31 + x * 17 + c * 101, 0x9e3779b1) >>> 27; // 0..31
        out[i++] = (seed * 37 + y * 11 + x * 5 + c * 67 + noise) & 255;
      }
  return out;
}

/** n images in one array, [n, height, width, channels] uint8; image i is testImage(seed + i, ...). */
export function testImages(n: number, height: number, width: number, channels: 1 | 3, seed = 0): Uint8Array {
  const size = height * width * channels;
  const out = new Uint8Array(n * size);
  for (let i = 0; i < n; i++) out.set(testImage(seed + i, height, width, channels), i * size);
  return out;
}
