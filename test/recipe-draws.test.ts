// Cutout and mixup draws: the vectors of docs/streams.md, properties, and a second implementation in Python where there is
// one (exact integers and 40-digit decimals, test/reference/recipe_streams.py).

import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { cutoutBox, drawCutout } from '../src/cutout.ts';
import { drawMixup, mixupTable } from '../src/mixup.ts';
import { Purpose } from '../src/rng.ts';

const doc = readFileSync(new URL('../docs/streams.md', import.meta.url), 'utf8');
const numbers = (line: string): number[] => Array.from(line.matchAll(/[\d.]+/g), ([n]) => Number(n));

describe('mixup', () => {
  test('the table has the conformance values of docs/streams.md, rises and is symmetric', () => {
    const table = mixupTable();
    expect([table.length, table[0], table[1], table[2047], table[2048], table[4095]]).toEqual([
      4096, 274, 1083, 8386254, 8390962, 16776942,
    ]);
    const sum = table.reduce((total, entry, i) => (total + i * entry) % 2 ** 32, 0);
    expect(sum).toBe(2379464079);
    for (const value of [274, 1083, 8386254, 8390962, 16776942, sum]) expect(doc).toContain(`${value}`);
    for (let i = 1; i < 4096; i++) expect(table[i]! - table[i - 1]!).toBeGreaterThan(0);
    for (let i = 0; i < 4096; i++) expect(table[i]! + table[4095 - i]!).toBe(2 ** 24);
  });

  test('draws are the rows of docs/streams.md, exact in float32', () => {
    const rows = [...doc.matchAll(/^\| \d, \d \| \d{7,} \| .*$/gm)].map(([line]) => numbers(line));
    expect(rows.length).toBe(3);
    for (const [batch, epoch, entry, lambda] of rows) {
      expect([entry! / 2 ** 24, Math.fround(lambda!)]).toEqual([lambda, lambda]);
      expect(drawMixup(42n, batch!, epoch!)).toBe(lambda);
    }
    expect(drawMixup(0xfedcba9876543210n, 77, 299) * 2 ** 24).toBe(13012792);
  });

  test('20000 draws have the mean and the variance of Beta(0.8, 0.8)', () => {
    let [mean, square] = [0, 0];
    for (let i = 0; i < 20000; i++) {
      const lambda = drawMixup(9n, i, 3);
      mean += lambda / 20000;
      square += (lambda - 0.5) ** 2 / 20000;
    }
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.007); // three standard errors
    expect(Math.abs(square - 1 / (4 * 2.6))).toBeLessThan(0.002);
  });
});

describe('cutout', () => {
  test('draws are the rows of docs/streams.md', () => {
    const rows = [...doc.matchAll(/^\| (?:8|28), \d+, \d \| \d+ \| [\d.]+ \|.*$/gm)].map(([line]) => numbers(line));
    expect(rows.length).toBe(6);
    for (const [purpose, image, view, size, share, ...rest] of rows)
      expect(drawCutout(42n, purpose!, image!, view!, size!, share!)).toEqual({
        box: rest.slice(0, 4),
        color: rest.slice(4),
      });
    const far = drawCutout(0xfedcba9876543210n, Purpose.labelCutout, 4000000000, 299, 64, 0.5);
    expect(far).toEqual({ box: [0, 46, 24, 18], color: [195, 209, 118] });
  });

  // ImageDraw.rectangle([x1, y1, x2, y2]) of Pillow fills x1..x2 and y1..y2, of CutoutPIL clipped to 0 and the size
  test.each([
    [112, 112, 224, 0.5, [56, 56, 113, 113]],
    [0, 223, 224, 0.5, [167, 0, 57, 57]],
    [223, 0, 224, 0.5, [0, 167, 57, 57]],
    [3, 4, 9, 0.3, [3, 2, 3, 3]],
    [5, 5, 10, 0.04, [5, 5, 1, 1]],
    [0, 0, 1, 1, [0, 0, 1, 1]],
  ] as const)('around (%i, %i) of %i px, share %d', (x, y, size, share, box) => {
    expect(cutoutBox(x, y, size, share)).toEqual(box);
  });

  test('boxes of 3000 draws lie inside the image and are not empty; colours take every level', () => {
    const levels = new Set<number>();
    for (let i = 0; i < 3000; i++) {
      const size = 1 + (i % 97);
      const { box, color } = drawCutout(5n, Purpose.labelCutout, i, 1, size, ((i % 10) + 1) / 10);
      const [top, left, height, width] = box;
      expect(Math.min(top, left)).toBeGreaterThanOrEqual(0);
      expect(Math.min(height, width)).toBeGreaterThan(0);
      expect(Math.max(top + height, left + width)).toBeLessThanOrEqual(size);
      for (const level of color) levels.add(level);
    }
    expect(levels.size).toBe(256);
  });
});

const python = process.env.PYTHON ?? 'python3';
const hasPython = spawnSync(python, ['-c', 'import decimal']).status === 0;
if (!hasPython) console.warn(`${python} was not found: the second implementation of the streams was not run`);

test.skipIf(!hasPython)(
  'a second implementation in Python makes the same table and draws',
  { timeout: 120_000 },
  () => {
    const script = fileURLToPath(new URL('reference/recipe_streams.py', import.meta.url));
    const run = spawnSync(python, [script], { encoding: 'utf8' });
    expect(run.stderr).toBe('');
    const { table, cutouts, mixups } = JSON.parse(run.stdout) as {
      table: number[];
      cutouts: [string, number, number, number, number, number, number[], number[]][];
      mixups: [string, number, number, number][];
    };
    expect(table).toEqual(Array.from(mixupTable()));
    for (const [seed, purpose, image, view, size, share, box, color] of cutouts)
      expect(drawCutout(BigInt(seed), purpose, image, view, size, share)).toEqual({ box, color });
    for (const [seed, batch, epoch, entry] of mixups)
      expect(drawMixup(BigInt(seed), batch, epoch) * 2 ** 24).toBe(entry);
  },
);
