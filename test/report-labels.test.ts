// Names beside the points of the accuracy chart: where they stand, and that they can be read when points are nearly equal.

import { describe, expect, test } from 'vitest';
import { accuracyChart, curveChart } from '../src/report/charts-accuracy.ts';
import { type Mark, placeLabels, spread, textWidth } from '../src/report/label-places.ts';
import { uniforms } from '../src/rng.ts';

const LINE = 16;

describe('spread', () => {
  test.each([1, 2, 3, 4, 5])(
    'random lines %i: a line apart, in order, none further away than the crowd demands',
    (seed) => {
      const wanted = [...uniforms(BigInt(seed), 19, 0, 0, 20)].map((u) => 300 * u).sort((a, b) => a - b);
      const got = spread(wanted);
      for (let i = 1; i < got.length; i++) expect(got[i]! - got[i - 1]!).toBeGreaterThanOrEqual(LINE - 1e-9);
      const sum = (values: number[]) => values.reduce((a, b) => a + b, 0);
      expect(sum(got)).toBeCloseTo(sum(wanted), 6);
    },
  );

  test('lines that are apart stay, and a crowd opens around its middle', () => {
    expect(spread([0, 20, 100])).toEqual([0, 20, 100]);
    expect(spread([50, 50, 50])).toEqual([34, 50, 66]);
    expect(spread([0, 4, 100])).toEqual([-6, 10, 100]);
    expect(spread([])).toEqual([]);
  });
});

describe('placeLabels', () => {
  test.each([1, 2, 3, 4, 5, 6])('no two of 12 random names lie on each other (%i)', (seed) => {
    const u = uniforms(BigInt(seed), 19, 1, 0, 24);
    const marks = Array.from(
      { length: 12 },
      (_, i): Mark => ({ x: 64 + 400 * u[2 * i]!, y: 300 * u[2 * i + 1]!, text: `point ${i}` }),
    );
    const boxes = placeLabels(marks, [], 700).map(({ side, y }, i) => {
      const { x, text } = marks[i]!;
      return { left: side === 'right' ? x + 12 : x - 12 - textWidth(text), width: textWidth(text), y };
    });
    for (const [i, a] of boxes.entries())
      for (const b of boxes.slice(i + 1)) {
        const apart = a.left + a.width <= b.left || b.left + b.width <= a.left || Math.abs(a.y - b.y) >= LINE - 1e-9;
        expect(apart, `${JSON.stringify(a)} and ${JSON.stringify(b)}`).toBe(true);
      }
  });

  test('a name goes to the left of a mark where the chart ends or something is in its way', () => {
    const place = (marks: Mark[], taken = [] as Parameters<typeof placeLabels>[1]) =>
      placeLabels(marks, taken, 600).map(({ side }) => side);
    expect(place([{ x: 100, y: 50, text: 'name' }])).toEqual(['right']);
    expect(place([{ x: 590, y: 50, text: 'name' }])).toEqual(['left']);
    expect(
      place([
        { x: 300, y: 50, text: 'name' },
        { x: 330, y: 50, text: 'b' },
      ]),
    ).toEqual(['left', 'right']);
    expect(place([{ x: 300, y: 50, text: 'name' }], [{ left: 310, right: 320, top: 0, bottom: 99 }])).toEqual(['left']);
    expect(place([{ x: 20, y: 50, text: 'x'.repeat(200) }])).toEqual(['right']); // no room at all
  });
});

describe('the accuracy chart', () => {
  /** Middles of the texts that begin with a name, px. */
  const textsOf = (svg: string, names: RegExp): { text: string; y: number }[] =>
    [...svg.matchAll(/<text [^>]*\by="([-\d.]+)"[^>]*>([^<]*)<\/text>/g)]
      .map(([, y, text]) => ({ text: text!, y: Number(y) }))
      .filter(({ text }) => names.test(text));

  test('names six students of equal bytes within half a percent on six lines', () => {
    const points = Array.from({ length: 6 }, (_, i) => ({
      name: `run ${i}`,
      bytes: 80_000,
      top1: 0.78 + 0.001 * i,
      std: 0.01,
    }));
    const texts = textsOf(accuracyChart(points, []), /^run /).sort((a, b) => a.y - b.y);
    expect(texts.map(({ text }) => text)).toEqual(points.map(({ name }) => name).reverse());
    for (let i = 1; i < 6; i++) expect(texts[i]!.y - texts[i - 1]!.y).toBeGreaterThanOrEqual(LINE - 0.01);
  });

  test('two levels of nearly equal accuracy are told apart, and a long name is cut', () => {
    const points = [{ name: `${'long '.repeat(12)}name`, bytes: 100, top1: 0.5, std: 0 }];
    const svg = accuracyChart(points, [
      { name: 'teacher', top1: 0.501 },
      { name: 'hard', top1: 0.5 },
    ]);
    const [a, b] = textsOf(svg, /^(teacher 50\.1|hard 50\.0)$/);
    expect(Math.abs(a!.y - b!.y)).toBeGreaterThanOrEqual(LINE - 0.01);
    expect(textsOf(svg, /^long .{20,23}…$/)).toHaveLength(1);
  });

  test('curves have a legend, a colour and every point of theirs, and follow the theme', () => {
    const points = (top1: number) =>
      [1, 2, 3].map((i) => ({ name: `p${i}`, bytes: 10 ** i, top1: top1 + i / 100, std: 0.01 }));
    const svg = curveChart(
      [
        { name: 'plain', points: points(0.5) },
        { name: 'ours', points: points(0.7) },
      ],
      [],
    );
    for (const text of ['plain', 'ours', '10 B', '10 kB']) expect(svg).toContain(`>${text}</text>`);
    for (const color of ['c1', 'c2']) {
      expect(svg).toMatch(new RegExp(`<path [^>]*d="M[^"]*L[^"]*L[^"]*"[^>]*stroke="var\\(--${color}\\)"`));
      expect(
        svg.match(new RegExp(`<(path|g|circle|rect)[^>]*fill="var\\(--${color}\\)"`, 'g'))!.length,
      ).toBeGreaterThanOrEqual(3);
    }
    expect(svg).not.toMatch(/NaN|Infinity|#0000[01]/);
  });

  test('a single store of 0 % and one byte has axes', () => {
    const svg = accuracyChart([{ name: 's', bytes: 1, top1: 0, std: 0 }], []);
    expect(svg).not.toMatch(/NaN|Infinity/);
    expect(svg).toContain('>1 B</text>');
  });
});
