// Boxes come from the Python definition of the streams, central crops from torchvision 0.28; both are in docs/streams.md.

import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { cropArea, cutMixBox, drawCrop, drawCutMix, drawFlip, drawSynthesis } from '../src/draw.ts';
import { Purpose, type Seed, words } from '../src/rng.ts';
import { arrayOf } from '../src/tensor.ts';

const refusal = (code: string) => expect.objectContaining({ code });
const crop42 = (object: number, view: number, height: number, width: number, scale: [number, number] = [0.08, 1]) =>
  drawCrop(42n, Purpose.labelCrop, object, view, height, width, scale);

const TABLE = Array.from({ length: 256 }, (_, i) => {
  const low = Math.log(3 / 4);
  return BigInt(Math.round(65536 * Math.exp(low + ((i + 0.5) / 256) * (Math.log(4 / 3) - low))));
});

/** The crop rule in big integers, from its statement: every product and root exact by construction. */
function slowCrop(seed: Seed, object: number, view: number, height: number, width: number, scale: [number, number]) {
  const root = (n: bigint) => {
    let r = BigInt(Math.floor(Math.sqrt(Number(n))));
    while (r * r > n) r--;
    while ((r + 1n) * (r + 1n) <= n) r++;
    return r;
  };
  const rounded = (n: bigint) => (root(4n * n) + 1n) >> 1n;
  const [low, high] = scale.map((s) => BigInt(Math.floor(s * 2 ** 32))) as [bigint, bigint];
  for (let t = 0; t < 10; t++) {
    const [a, r, i, j] = Array.from(words(seed, Purpose.labelCrop, object, view, t), BigInt) as [
      bigint,
      bigint,
      bigint,
      bigint,
    ];
    const area = (BigInt(height * width) * ((low << 32n) + (high - low) * a)) >> 64n;
    const aspect = TABLE[Number(r >> 24n)]!;
    const w = rounded((area * aspect) >> 16n);
    const h = rounded((area << 16n) / aspect);
    if (w > 0n && w <= width && h > 0n && h <= height)
      return [(i * BigInt(height + 1 - Number(h))) >> 32n, (j * BigInt(width + 1 - Number(w))) >> 32n, h, w].map(
        Number,
      );
  }
  return null;
}

describe('drawCrop', () => {
  test('the aspect table is the published one', () => {
    expect([TABLE[0], TABLE[127], TABLE[128], TABLE[255]]).toEqual([49207n, 65462n, 65610n, 87283n]);
    expect(TABLE.reduce((a, b) => a + b)).toBe(17009595n);
  });

  test.each([
    [0, 0, 224, 224, [0.08, 1], [32, 51, 149, 151]],
    [1, 0, 224, 224, [0.08, 1], [53, 21, 155, 193]],
    [0, 1, 224, 224, [0.08, 1], [22, 83, 131, 108]],
    [123, 7, 224, 224, [0.08, 1], [8, 38, 214, 185]],
    [0, 0, 64, 64, [0.08, 1], [9, 15, 42, 43]],
    [5, 2, 375, 500, [0.08, 1], [1, 6, 363, 433]],
    [5, 3, 3000, 4000, [0.08, 1], [1427, 437, 1422, 1873]],
    [9, 1, 500, 375, [0.25, 1], [112, 11, 315, 349]],
    [7, 4, 100, 300, [0.08, 1], [1, 135, 65, 70]], // eighth try
    [0, 0, 224, 224, [0.99, 1], [0, 0, 224, 224]], // no try fits
  ] as const)('image %i view %i of %i x %i', (image, view, height, width, scale, box) => {
    expect(crop42(image, view, height, width, [...scale])).toEqual(box);
  });

  test('takes 64-bit seeds and 32-bit objects', () => {
    const box = drawCrop(0xfedcba9876543210n, Purpose.labelCrop, 4000000000, 299, 224, 224, [0.08, 1]);
    expect(box).toEqual([100, 64, 78, 80]);
  });

  test('equals big-integer arithmetic on 20000 draws up to 65535 x 65535, and lies inside the image', () => {
    const scales: [number, number][] = [
      [0.08, 1],
      [0.25, 0.5],
      [1 / 3, 1 / 3],
      [1, 1],
      [2 ** -32, 1],
    ];
    let fallbacks = 0;
    for (let i = 0; i < 20000; i++) {
      const [a, b, c] = Array.from(words(99n, Purpose.dither, i, 0, 0)) as [number, number, number, number];
      const limit = [8, 64, 300, 4000, 65535][i % 5]!;
      const [height, width] = i % 7 === 0 ? [3000, 4000] : [1 + (a % limit), 1 + (b % limit)];
      const scale = scales[c % 5]!;
      const got = drawCrop(42n, Purpose.labelCrop, a, b, height, width, scale);
      const want = slowCrop(42n, a, b, height, width, scale);
      if (want === null) fallbacks++;
      else if (got.some((v, k) => v !== want[k])) expect({ height, width, scale, got }).toEqual({ want });
      const [top, left, h, w] = got;
      if (!(top >= 0 && left >= 0 && h > 0 && w > 0 && top + h <= height && left + w <= width))
        expect({ height, width, got }).toBe('inside');
    }
    expect(fallbacks).toBeGreaterThan(100);
    expect(fallbacks).toBeLessThan(10000);
  });

  test('the area equals big-integer arithmetic where the halves carry', () => {
    let carries = 0;
    for (let i = 0; i < 5000; i++) {
      const [a, b, c, u] = Array.from(words(5n, Purpose.dither, i, 0, 0)) as [number, number, number, number];
      const pixels = i % 2 === 0 ? a || 1 : 1 + (a % 50176);
      const low = i % 100 === 0 ? 2 ** 32 : 1 + (b >>> 1);
      const span = i % 3 === 0 ? 2 ** 32 - low : Math.min(c, 2 ** 32 - low);
      const factor = (BigInt(low) << 32n) + BigInt(span) * BigInt(u);
      expect(cropArea(pixels, low, span, u)).toBe(Number((BigInt(pixels) * factor) >> 64n));
      const halves = ((BigInt(pixels) * (factor >> 32n)) >> 32n) + ((BigInt(pixels) * (factor & 0xffffffffn)) >> 64n);
      if (halves !== (BigInt(pixels) * factor) >> 64n) carries++;
    }
    expect(carries).toBeGreaterThan(500);
  });

  test.each([
    [100, 300, [0, 83, 100, 133]],
    [300, 100, [83, 0, 133, 100]],
    [101, 301, [0, 83, 101, 135]],
    [301, 101, [83, 0, 135, 101]],
    [7, 50, [0, 20, 7, 9]],
    [50, 7, [20, 0, 9, 7]],
    [1, 9, [0, 4, 1, 1]],
    [9, 1, [4, 0, 1, 1]],
    [333, 1000, [0, 278, 333, 444]],
    [1000, 333, [278, 0, 444, 333]],
    [500, 1200, [0, 266, 500, 667]],
  ])('%i x %i where no try fits: torchvision central crop', (height, width, box) => {
    expect(crop42(3, 1, height, width, [1, 1])).toEqual(box);
  });

  test('20000 crops have half the area and no preferred aspect', () => {
    let [area, logAspect] = [0, 0];
    for (let i = 0; i < 20000; i++) {
      const [, , h, w] = drawCrop(7n, Purpose.labelCrop, i, 0, 224, 224, [0.08, 1]);
      area += (h * w) / 224 / 224 / 20000;
      logAspect += Math.log(w / h) / 20000;
    }
    expect(area).toBeCloseTo(0.478, 3);
    expect(Math.abs(logAspect)).toBeLessThan(0.006);
  });

  test.each([[[0, 1]], [[0.5, 0.4]], [[0.1, 1.1]], [[Number.NaN, 1]]] as [[number, number]][])(
    'refuses scale %j',
    (scale) => {
      expect(() => crop42(0, 0, 224, 224, scale)).toThrowError(refusal('E_CONFIG'));
    },
  );

  test.each([
    [0, 5],
    [70000, 70000],
  ])('refuses an image of %i x %i', (height, width) => {
    expect(() => crop42(0, 0, height, width)).toThrowError(refusal('E_DATA'));
  });
});

describe('flip and CutMix', () => {
  test('flips equal the definition and come up about half the time', () => {
    const flips = [drawFlip(42n, 3, 0, 0), drawFlip(42n, 3, 1, 0), drawFlip(42n, 3, 0, 1), drawFlip(42n, 3, 123, 7)];
    expect(flips).toEqual([0, 1, 1, 1]);
    let heads = 0;
    for (let i = 0; i < 10000; i++) heads += drawFlip(1n, 3, i, 0);
    expect(Math.abs(heads - 5000)).toBeLessThan(250);
  });

  // (x1, y1, x2, y2) of the published rule, x across
  test.each([
    [0.3, 10, 200, 224, [0, 107, 103, 224]],
    [0.5, 112, 112, 224, [33, 33, 191, 191]],
    [0.99, 0, 223, 224, [0, 212, 11, 224]],
    [0.05, 100, 50, 224, [0, 0, 209, 159]],
    [0.3, 10, 60, 64, [0, 34, 36, 64]],
    [0, 112, 112, 224, [0, 0, 224, 224]],
  ] as const)('lambda %d around (%i, %i) of %i px', (lambda, x, y, size, [x1, y1, x2, y2]) => {
    expect(cutMixBox(Math.floor(lambda * 2 ** 32), x, y, size)).toEqual([y1, x1, y2 - y1, x2 - x1]);
  });

  test('draws equal the definition', () => {
    const draws = [
      [0, 0, 224, 0.15626675286330283, [0, 64, 119, 160]],
      [0, 0, 64, 0.15626675286330283, [0, 18, 33, 46]],
      [1, 0, 224, 0.7444776040501893, [56, 0, 112, 73]],
      [0, 1, 224, 0.7029027014505118, [0, 5, 65, 122]],
    ] as const;
    for (const [batch, epoch, size, lambda, box] of draws)
      expect(drawCutMix(42n, batch, epoch, size)).toEqual({ lambda, box });
    expect(drawCutMix(0xfedcba9876543210n, 77, 299, 64)).toEqual({ lambda: 0.3271839087828994, box: [23, 11, 41, 52] });
  });

  test('boxes of 2000 draws lie inside the image', () => {
    for (let i = 0; i < 2000; i++) {
      const [top, left, h, w] = drawCutMix(3n, i, 1, 33).box;
      expect(Math.min(top, left, h, w)).toBeGreaterThanOrEqual(0);
      expect(Math.max(top + h, left + w)).toBeLessThanOrEqual(33);
    }
  });
});

describe('drawSynthesis', () => {
  const base = {
    seed: 42n,
    objects: [7, 12],
    t0: 0,
    t1: 6,
    size: 64,
    scale: () => [0.08, 1] as const,
    flip: true,
    rollMin: -4,
    rollMax: 4,
  };
  const numbers = (o: typeof base | (Omit<typeof base, 'scale'> & { scale: null })) => {
    const d = drawSynthesis(o);
    return {
      crop: Array.from(arrayOf(d.crop, 'I32')),
      flip: Array.from(arrayOf(d.flip, 'U8')),
      roll: Array.from(arrayOf(d.roll, 'I32')),
    };
  };

  test('equals the definition', () => {
    const d = drawSynthesis(base);
    expect([d.crop.shape, d.flip.shape, d.roll.shape]).toEqual([
      [6, 2, 4],
      [6, 2],
      [6, 2, 2],
    ]);
    const one = numbers({ ...base, objects: [7] });
    expect(one.crop.slice(0, 8)).toEqual([33, 25, 24, 30, 0, 16, 45, 44]);
    expect(one.flip.slice(0, 2)).toEqual([1, 1]);
    expect(one.roll.slice(0, 8)).toEqual([-4, -2, 0, 0, -1, 1, 0, 3]);
    const late = numbers({ ...base, objects: [12], t0: 1999, t1: 2000 });
    expect([late.crop, late.flip]).toEqual([[2, 0, 52, 55], [0]]);
  });

  test('segments joined are the whole run, and a group draws the same in any company', () => {
    const whole = numbers(base);
    const [first, second] = [numbers({ ...base, t1: 2 }), numbers({ ...base, t0: 2 })];
    for (const key of ['crop', 'flip', 'roll'] as const) expect([...first[key], ...second[key]]).toEqual(whole[key]);
    const alone = numbers({ ...base, objects: [12] });
    expect(alone.flip).toEqual(whole.flip.filter((_, i) => i % 2 === 1));
  });

  test('the scale follows the iteration', () => {
    const scale = (t: number) => (t < 3 ? ([1, 1] as const) : ([0.08, 0.1] as const));
    const { crop } = drawSynthesis({ ...base, scale });
    const boxes = arrayOf(crop, 'I32');
    for (let row = 0; row < 12; row++) {
      const share = (boxes[4 * row + 2]! * boxes[4 * row + 3]!) / 4096;
      if (row < 6) expect(share).toBeGreaterThan(0.95);
      else expect(share).toBeLessThan(0.12);
    }
  });

  test('no crop and no flip: whole image, zero coins; rolls reach both ends and no further', () => {
    const d = numbers({ ...base, t1: 200, scale: null, flip: false });
    for (let at = 0; at < d.crop.length; at += 4) expect(d.crop.slice(at, at + 4)).toEqual([0, 0, 64, 64]);
    expect(new Set(d.flip)).toEqual(new Set([0]));
    expect([Math.min(...d.roll), Math.max(...d.roll)]).toEqual([-4, 4]);
    expect(new Set(numbers({ ...base, rollMin: 0, rollMax: 0 }).roll)).toEqual(new Set([0]));
  });

  test('an empty roll range is refused', () => {
    expect(() => drawSynthesis({ ...base, rollMin: 1, rollMax: 0 })).toThrowError(refusal('E_CONFIG'));
  });
});

test('every crop, fallback and CutMix row of docs/streams.md is what this code draws', () => {
  const doc = readFileSync(new URL('../docs/streams.md', import.meta.url), 'utf8');
  const numbers = (line: string) => Array.from(line.matchAll(/[\d.]+/g), ([n]) => Number(n));
  const crops = [...doc.matchAll(/^\| \d+, \d+ \| \d+ x \d+ \| [\d.]+, 1 \|.*$/gm)].map(([line]) => numbers(line));
  expect(crops.length).toBe(10);
  for (const [image, view, h, w, s0, s1, ...box] of crops)
    expect(crop42(image!, view!, h!, w!, [s0!, s1!])).toEqual(box.slice(0, 4));
  const central = [...doc.matchAll(/\d+ x \d+ -> [\d ]+/g)].map(([line]) => numbers(line));
  expect(central.length).toBe(11);
  for (const [h, w, ...box] of central) expect(crop42(0, 0, h!, w!, [1, 1])).toEqual(box);
  const mixes = [...doc.matchAll(/^\| \d, \d \| \d+ \| 0\.\d+ \| \d+ \d+ .*$/gm)].map(([line]) => numbers(line));
  expect(mixes.length).toBe(4);
  for (const [batch, epoch, size, lambda, ...box] of mixes)
    expect(drawCutMix(42n, batch!, epoch!, size!)).toEqual({ lambda, box });
});
