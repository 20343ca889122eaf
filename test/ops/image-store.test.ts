// The ImageStore: what append does to pixels (torchvision's Resize and CenterCrop on Pillow images) and what it refuses.

import { afterAll, describe, expect, test } from 'vitest';
import type { AppendSpec, NativeImageStore } from '../../src/native.ts';
import { arrayOf } from '../../src/tensor.ts';
import { cropped, resizeBilinear } from '../reference/resize-bilinear.ts';
import { native } from '../util/native.ts';
import { imageBytes, values } from '../util/tensors.ts';
import { expectSameBytes } from '../util/tolerance.ts';

const opened: NativeImageStore[] = [];
function open(channels: 1 | 3 = 3): NativeImageStore {
  const store = native().createImageStore({ channels, device: 'cpu' });
  opened.push(store);
  return store;
}
afterAll(() => {
  for (const store of opened) store.dispose();
});

const none: AppendSpec = { height: 5, width: 7, resize: 'none', size: 0, centerCrop: 0 };

describe('append', () => {
  test('without resize keeps bytes, labels and sizes, over several calls and sizes', () => {
    const store = open();
    const [a, b] = [imageBytes([2, 5, 7, 3], 800), imageBytes([4, 9, 3], 801)];
    store.append(a, Int32Array.of(3, 1), none);
    store.append(b, Int32Array.of(0), { ...none, height: 4, width: 9 });
    expect([store.count, store.bytes, store.state]).toEqual([3, a.length + b.length, 'open']);
    expect([...values(store.sizes())]).toEqual([5, 7, 5, 7, 4, 9]);
    expect([...values(store.labels())]).toEqual([3, 1, 0]);
    expect(store.image(1).shape).toEqual([5, 7, 3]);
    expectSameBytes('image 1', arrayOf(store.image(1), 'U8'), a.slice(105));
    expectSameBytes('image 2', arrayOf(store.image(2), 'U8'), b);
  });

  /** height, width, shorter side, resized height, resized width: the longer side is truncated to whole pixels. */
  const SHORTER = [
    [30, 47, 16, 16, 25],
    [47, 30, 16, 25, 16],
    [10, 13, 20, 20, 26],
    [21, 21, 12, 12, 12],
  ] as const;

  test.each(SHORTER)('%i x %i with the shorter side to %i gives %i x %i, Pillow exact', (h, w, size, oh, ow) => {
    const store = open();
    const image = imageBytes([h, w, 3], 802);
    store.append(image, Int32Array.of(0), { height: h, width: w, resize: 'shorter', size, centerCrop: 0 });
    expect([...values(store.sizes())]).toEqual([oh, ow]);
    expectSameBytes('image', arrayOf(store.image(0), 'U8'), resizeBilinear(image, h, w, 3, oh, ow));
  });

  test('exact ignores the aspect', () => {
    const store = open(1);
    const image = imageBytes([30, 47, 1], 803);
    store.append(image, Int32Array.of(0), { height: 30, width: 47, resize: 'exact', size: 16, centerCrop: 0 });
    expectSameBytes('image', arrayOf(store.image(0), 'U8'), resizeBilinear(image, 30, 47, 1, 16, 16));
  });

  /** height, width, crop, top, left: half a pixel of slack rounds to even, as Python's round does. */
  const CENTRES = [
    [9, 9, 4, 2, 2],
    [11, 8, 4, 4, 2],
    [7, 10, 4, 2, 3],
    [5, 5, 5, 0, 0],
  ] as const;

  test.each(CENTRES)('%i x %i, centre crop %i starts at row %i, column %i', (h, w, crop, top, left) => {
    const store = open();
    const image = imageBytes([h, w, 3], 804);
    store.append(image, Int32Array.of(0), { height: h, width: w, resize: 'none', size: 0, centerCrop: crop });
    expectSameBytes('image', arrayOf(store.image(0), 'U8'), cropped(image, w, 3, [top, left, crop, crop]));
  });

  test.each([
    ['one byte too few', imageBytes([104], 805), Int32Array.of(0), none, 'E_DATA'],
    ['one byte too many', imageBytes([106], 805), Int32Array.of(0), none, 'E_DATA'],
    ['a negative class', imageBytes([105], 805), Int32Array.of(-1), none, 'E_DATA'],
    ['fewer labels than images', imageBytes([210], 805), Int32Array.of(0), none, 'E_DATA'],
    [
      'a centre crop beyond the image',
      imageBytes([105], 805),
      Int32Array.of(0),
      { ...none, centerCrop: 6 },
      'E_CONFIG',
    ],
  ] as const)('refuses %s and stores nothing', (_what, images, labels, spec, code) => {
    const store = open();
    expect(() => store.append(images, labels, spec)).toThrow(expect.objectContaining({ code }));
    expect([store.count, store.bytes]).toEqual([0, 0]);
  });
});

test.each([-1, 1, 0.5, Number.NaN])('image(%d) of a store of one image is refused', (index) => {
  const store = open(1);
  store.append(imageBytes([35], 806), Int32Array.of(0), none);
  expect(() => store.image(index)).toThrow(expect.objectContaining({ code: 'E_CONFIG' }));
});
