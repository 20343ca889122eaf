// Grey levels to network input and back: torchvision's float32 bits one way, truncation the other.

import { describe, expect, test } from 'vitest';
import { arrayOf } from '../../src/tensor.ts';
import { normalizeTable, toPixels } from '../reference/pixels.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { ops } from '../util/native.ts';
import { f32, symmetric, values } from '../util/tensors.ts';
import { expectSameBytes } from '../util/tolerance.ts';

const file = golden('normalize');
const norms = file.info.norms as Record<string, { mean: number[]; std: number[] }>;
const names = Object.keys(norms);
const bytes = (v: Float32Array): Uint8Array => new Uint8Array(v.buffer, v.byteOffset, v.byteLength);

describe('normalizeTable', () => {
  test.each(names)('%s: every bit of every level equals torchvision ToTensor + Normalize', (name) => {
    const { mean, std } = norms[name]!;
    const wanted = goldenTensor(file, name);
    const reference = Float32Array.from(normalizeTable(mean, std));
    expectSameBytes('reference', bytes(reference), wanted.data, file.provenance);
    const got = ops().normalizeTable(f32([mean.length], mean), f32([std.length], std));
    expect([got.dtype, got.shape]).toEqual(['F32', [mean.length, 256]]);
    expectSameBytes('native', got.data, wanted.data, file.provenance);
  });
});

describe('toPixels', () => {
  const mean = [0.485, 0.456, 0.406];
  const std = [0.229, 0.224, 0.225];

  test('equals the float32 reference byte for byte, channels last, values beyond [0, 1] clamped', () => {
    const x = symmetric([2, 3, 13, 13], 700, 4);
    const wanted = toPixels(x, 169, mean, std);
    const got = ops().toPixels(f32([2, 3, 13, 13], x), f32([3], mean), f32([3], std));
    expect([got.dtype, got.shape]).toEqual(['U8', [2, 13, 13, 3]]);
    expectSameBytes('pixels', arrayOf(got, 'U8'), wanted);
    expect([Math.min(...wanted), Math.max(...wanted)]).toEqual([0, 255]);
  });

  test('truncates: 254.99 is 254, and the smallest value below a level stays below it', () => {
    const x = f32([1, 1, 1, 5], [254.99 / 255, 0.999 / 255, 1, 0.5, 1.0001 / 255]);
    const got = ops().toPixels(x, f32([1], [0]), f32([1], [1]));
    expect([...values(got)]).toEqual([254, 0, 255, 127, 1]);
  });

  test('a grey image through the table and back loses at most one level', () => {
    for (const name of names) {
      const { mean: m, std: s } = norms[name]!;
      const table = ops().normalizeTable(f32([m.length], m), f32([s.length], s));
      const back = values(
        ops().toPixels({ ...table, shape: [1, m.length, 16, 16] }, f32([m.length], m), f32([s.length], s)),
      );
      back.forEach((level, i) => {
        const from = Math.floor(i / m.length);
        expect(level === from || level === from - 1).toBe(true);
      });
    }
  });
});
