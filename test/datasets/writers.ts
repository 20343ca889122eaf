// Writes small sets in the formats' own file layouts, from the formats' descriptions and not through src/.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { encodeImage } from '../../src/datasets/images.ts';
import type { WantedImage } from '../util/dataset-suite.ts';
import { testImage } from '../util/images.ts';

/** An IDX file: magic, dimensions as big-endian u32, bytes. */
export function idxBytes(dims: readonly number[], bytes: Uint8Array): Uint8Array {
  const out = Buffer.alloc(4 + 4 * dims.length + bytes.length);
  out.writeUInt32BE(0x800 + dims.length, 0);
  for (const [i, d] of dims.entries()) out.writeUInt32BE(d, 4 + 4 * i);
  out.set(bytes, 4 + 4 * dims.length);
  return out;
}

/** Images of one size with the given labels; image i is testImage(seed + i). */
export function drawn(
  labels: readonly number[],
  height: number,
  width: number,
  channels: 1 | 3,
  seed: number,
): WantedImage[] {
  return labels.map((label, i) => ({ label, height, width, pixels: testImage(seed + i, height, width, channels) }));
}

/** The two IDX files of a split, as [images, labels]. */
export function idxPair(images: readonly WantedImage[]): [Uint8Array, Uint8Array] {
  const { height, width } = images[0]!;
  const pixels = Buffer.concat(images.map((image) => image.pixels));
  return [
    idxBytes([images.length, height, width], pixels),
    idxBytes(
      [images.length],
      Uint8Array.from(images, (image) => image.label),
    ),
  ];
}

/** CIFAR records: label bytes, then the red, green and blue planes. */
export function cifarBytes(images: readonly WantedImage[], labelBytes: 1 | 2): Uint8Array {
  const out: number[] = [];
  for (const { label, pixels } of images) {
    out.push(...(labelBytes === 2 ? [label % 20, label] : [label]));
    for (let c = 0; c < 3; c++) for (let p = 0; p < 1024; p++) out.push(pixels[3 * p + c]!);
  }
  return Uint8Array.from(out);
}

/** Writes files below a folder, making folders as needed. */
export async function put(dir: string, files: Readonly<Record<string, Uint8Array | string>>): Promise<void> {
  for (const [name, content] of Object.entries(files)) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), content);
  }
}

/** A PNG of the image: lossless, so a test knows the pixels that must come back. */
export function pngOf(image: WantedImage, channels: 1 | 3): Promise<Uint8Array> {
  return encodeImage(image.pixels, image.height, image.width, channels, 'png');
}

/** Changes a file's bytes in place. */
export async function edit(path: string, change: (bytes: Buffer) => Uint8Array): Promise<string> {
  await writeFile(path, change(await readFile(path)));
  return path;
}

/** An edit that writes one byte. */
export function put8(value: number, at: number): (bytes: Buffer) => Uint8Array {
  return (bytes) => {
    bytes.writeUInt8(value, at);
    return bytes;
  };
}

export const cutOne = (bytes: Buffer): Uint8Array => bytes.subarray(0, -1);
export const addOne = (bytes: Buffer): Uint8Array => Buffer.concat([bytes, Buffer.of(0)]);
