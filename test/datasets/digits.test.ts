import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { digits } from '../../src/datasets/digits.ts';
import { ALL, imagesOf, testDataset, type WantedImage } from '../util/dataset-suite.ts';

function stored(split: string): WantedImage[] {
  const read = (name: string): Buffer =>
    gunzipSync(readFileSync(new URL(`../../data/digits8x8/${split}-${name}-ubyte.gz`, import.meta.url)));
  const [values, labels] = [read('images-idx3').subarray(16), read('labels-idx1').subarray(8)];
  return Array.from(labels, (label, i) => ({
    label,
    height: 8,
    width: 8,
    pixels: Uint8Array.from(values.subarray(64 * i, 64 * i + 64), (v) => Math.round((v * 255) / 16)),
  }));
}

testDataset('digits', {
  format: digits,
  ownsPath: false,
  write: async () => ({
    path: '',
    classNames: Array.from('0123456789'),
    channels: 1,
    train: stored('train'),
    test: stored('test'),
  }),
  damages: [],
});

describe('digits', () => {
  test('has the official split and constants that standardise the training images', async () => {
    const { train, test: testing, mean, std } = await digits.open('', ALL);
    expect([train.count, testing?.count]).toEqual([3823, 1797]);
    const pixels = (await imagesOf(train, 1)).flatMap((image) => Array.from(image.pixels, (v) => v / 255));
    const average = pixels.reduce((a, b) => a + b, 0) / pixels.length;
    const variance = pixels.reduce((a, b) => a + (b - average) ** 2, 0) / pixels.length;
    expect(mean[0]).toBeCloseTo(average, 4);
    expect(std[0]).toBeCloseTo(Math.sqrt(variance), 4);
    expect(pixels.reduce((a, b) => Math.max(a, b))).toBe(1);
  });
});
