// Pillow's bytes: the 8-bit bilinear resize alone, and crop + resize + flip + cutout + CutMix of a batch.

import { describe, expect, test } from 'vitest';
import type { Recipes } from '../../src/native.ts';
import { arrayOf } from '../../src/tensor.ts';
import { renderBatch } from '../reference/render-batch.ts';
import { cropped, resizeBilinear } from '../reference/resize-bilinear.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { native, ops } from '../util/native.ts';
import { f32, i32, imageBytes, u8 } from '../util/tensors.ts';
import { expectSameBytes } from '../util/tolerance.ts';

interface Case {
  height: number;
  width: number;
  channels: number;
  crop: number[];
  outHeight: number;
  outWidth: number;
}
const file = golden('resize');
const cases = (file.info.cases as Case[]).map((c, i) => ({ ...c, i }));

describe('resizeBilinear', () => {
  test.each(cases)(
    'case $i: crop $crop of $height x $width x $channels to $outHeight x $outWidth equals Pillow byte for byte',
    (c) => {
      const image = cropped(imageBytes([c.height, c.width, c.channels], c.i), c.width, c.channels, c.crop);
      const [, , h, w] = c.crop as [number, number, number, number];
      const wanted = arrayOf(goldenTensor(file, `${c.i}`), 'U8');
      const reference = resizeBilinear(image, h, w, c.channels, c.outHeight, c.outWidth);
      expectSameBytes('reference', reference, wanted, file.provenance);
      const got = ops().resizeBilinear(u8([h, w, c.channels], image), c.outHeight, c.outWidth);
      expect(got.shape).toEqual([c.outHeight, c.outWidth, c.channels]);
      expectSameBytes('native', arrayOf(got, 'U8'), wanted, file.provenance);
    },
  );

  test('equals the integer reference on 120 further sizes, up and down', () => {
    for (let i = 0; i < 120; i++) {
      const pick = imageBytes([5], 1000 + i);
      const [h, w, oh, ow] = [1 + (pick[0]! % 70), 1 + (pick[1]! % 70), 1 + (pick[2]! % 66), 1 + (pick[3]! % 66)];
      const channels = pick[4]! & 1 ? 3 : 1;
      const image = imageBytes([h, w, channels], 2000 + i);
      const wanted = resizeBilinear(image, h, w, channels, oh, ow);
      const got = arrayOf(ops().resizeBilinear(u8([h, w, channels], image), oh, ow), 'U8');
      expectSameBytes(`${h}x${w}x${channels} -> ${oh}x${ow}`, got, wanted);
    }
  });

  test('extreme images stay within 0 and 255', () => {
    for (const level of [0, 255]) {
      const flat = u8([13, 7, 1], new Uint8Array(91).fill(level));
      expect(new Set(arrayOf(ops().resizeBilinear(flat, 29, 3), 'U8'))).toEqual(new Set([level]));
    }
  });
});

describe('renderBatch', () => {
  const SIZE = 14;
  const stored = [
    { height: 18, width: 20 },
    { height: 9, width: 30 },
    { height: 16, width: 16 },
    { height: 40, width: 11 },
  ];
  // two batches of 3 and 4 rows; holes at corners, over everything, empty, in a partner's pasted part
  const rows = [
    {
      index: 0,
      crop: [0, 0, 18, 20],
      flip: 0,
      cutout: [0, 0, 4, 3],
      cutoutColor: [0, 255, 100],
      mixKind: 1,
      mixIndex: 1,
      mixBox: [2, 3, 5, 7],
    },
    {
      index: 1,
      crop: [1, 4, 8, 14],
      flip: 1,
      cutout: [3, 5, 6, 5],
      cutoutColor: [9, 254, 101],
      mixKind: 1,
      mixIndex: 2,
      mixBox: [0, 0, 14, 1],
    },
    {
      index: 2,
      crop: [2, 1, 14, 14],
      flip: 0,
      cutout: [13, 13, 1, 1],
      cutoutColor: [18, 253, 102],
      mixKind: 1,
      mixIndex: 0,
      mixBox: [13, 13, 1, 1],
    },
    {
      index: 3,
      crop: [39, 10, 1, 1],
      flip: 1,
      cutout: [0, 0, 14, 14],
      cutoutColor: [27, 252, 103],
      mixKind: 0,
      mixIndex: 0,
      mixBox: [0, 0, 0, 0],
    },
    {
      index: 3,
      crop: [0, 0, 40, 11],
      flip: 1,
      cutout: [0, 0, 0, 0],
      cutoutColor: [36, 251, 104],
      mixKind: 1,
      mixIndex: 1,
      mixBox: [4, 4, 6, 6],
    },
    {
      index: 0,
      crop: [7, 5, 11, 3],
      flip: 0,
      cutout: [2, 0, 9, 14],
      cutoutColor: [45, 250, 105],
      mixKind: 1,
      mixIndex: 0,
      mixBox: [0, 0, 14, 14],
    },
    {
      index: 2,
      crop: [0, 0, 16, 16],
      flip: 1,
      cutout: [0, 0, 0, 5],
      cutoutColor: [54, 249, 106],
      mixKind: 1,
      mixIndex: 2,
      mixBox: [0, 0, 0, 5],
    },
  ];
  const recipes = (): Recipes => ({
    offset: i32([3], [0, 3, 7]),
    index: i32(
      [7],
      rows.map((r) => r.index),
    ),
    crop: i32(
      [7, 4],
      rows.flatMap((r) => r.crop),
    ),
    flip: u8(
      [7],
      rows.map((r) => r.flip),
    ),
    cutout: i32(
      [7, 4],
      rows.flatMap((r) => r.cutout),
    ),
    cutoutColor: u8(
      [7, 3],
      rows.flatMap((r) => r.cutoutColor),
    ),
    mixKind: u8(
      [7],
      rows.map((r) => r.mixKind),
    ),
    mixIndex: i32(
      [7],
      rows.map((r) => r.mixIndex),
    ),
    mixBox: i32(
      [7, 4],
      rows.flatMap((r) => r.mixBox),
    ),
    lambda: f32(
      [7],
      rows.map((r) => 1 - (r.mixBox[2]! * r.mixBox[3]!) / SIZE ** 2),
    ),
  });

  test.each([1, 3] as const)('equals the reference byte for byte with %i channels', (channels) => {
    const store = native().createImageStore({ channels, device: 'cpu' });
    try {
      const images = stored.map(({ height, width }, i) => {
        const pixels = imageBytes([height, width, channels], 500 + i);
        store.append(pixels, Int32Array.of(i), { height, width, resize: 'none', size: 0, centerCrop: 0 });
        return { pixels, height, width };
      });
      const wanted = [rows.slice(0, 3), rows.slice(3)].flatMap((batch) => [
        ...renderBatch(images, batch, channels, SIZE),
      ]);
      const got = ops().renderBatch(store, recipes(), SIZE);
      expect(got.shape).toEqual([7, channels, SIZE, SIZE]);
      expectSameBytes('batch', arrayOf(got, 'U8'), Uint8Array.from(wanted));
    } finally {
      store.dispose();
    }
  });

  test.each([
    ['a crop that leaves the image', { crop: i32([7, 4], [0, 0, 19, 20, ...rows.slice(1).flatMap((r) => r.crop)]) }],
    ['an empty crop', { crop: i32([7, 4], [0, 0, 0, 20, ...rows.slice(1).flatMap((r) => r.crop)]) }],
    ['an image the store lacks', { index: i32([7], [4, 1, 2, 3, 3, 0, 2]) }],
    ['a negative image index', { index: i32([7], [-1, 1, 2, 3, 3, 0, 2]) }],
    ['a partner outside its batch', { mixIndex: i32([7], [3, 2, 0, 0, 1, 0, 2]) }],
    ['a box that leaves the image', { mixBox: i32([7, 4], [2, 3, 5, 12, ...rows.slice(1).flatMap((r) => r.mixBox)]) }],
    [
      'a cutout that leaves the image',
      { cutout: i32([7, 4], [0, 0, 15, 3, ...rows.slice(1).flatMap((r) => r.cutout)]) },
    ],
    ['cutout colours of too few rows', { cutoutColor: u8([6, 3], new Uint8Array(18)) }],
    ['offsets that do not end at the last row', { offset: i32([3], [0, 3, 6]) }],
    ['offsets that go back', { offset: i32([4], [0, 5, 3, 7]) }],
    ['an unknown mix kind', { mixKind: u8([7], [3, 1, 1, 0, 1, 1, 1]) }],
  ])('refuses %s', (_what, broken) => {
    const store = native().createImageStore({ channels: 1, device: 'cpu' });
    try {
      stored.forEach(({ height, width }, i) => {
        const pixels = imageBytes([height, width, 1], 500 + i);
        store.append(pixels, Int32Array.of(i), { height, width, resize: 'none', size: 0, centerCrop: 0 });
      });
      expect(() => ops().renderBatch(store, { ...recipes(), ...broken }, SIZE)).toThrow(
        expect.objectContaining({ code: 'E_DATA' }),
      );
    } finally {
      store.dispose();
    }
  });
});
