import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { bytesChart, lossChart } from '../src/report/charts.ts';
import { accuracyChart } from '../src/report/charts-accuracy.ts';
import { counted, formatBytes, formatMean, formatNumber, formatSeconds, formatShare } from '../src/report/format.ts';
import { gather, readGallery } from '../src/report/gather.ts';
import { labelReport, readReport, remakeReport, score, writeReport } from '../src/report/index.ts';
import { pixelWidth } from '../src/report/read.ts';
import { headlineTable, planTable, textTable } from '../src/report/table.ts';
import { fakeReport, fakeRunFolder } from './util/run-folder.ts';

let dir: string;
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'lpld-report-'));
});
afterEach(() => rm(dir, { recursive: true, force: true }));

describe('numbers', () => {
  test.each([
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1.00 KiB'],
    [1_048_575, '1.00 MiB'],
    [135_200, '132 KiB'],
    [Number.NaN, '-'],
  ])('%d bytes', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

  test.each([
    [0.04, '0.0 s'],
    [9.96, '10 s'],
    [59.6, '1 min 00 s'],
    [3599.7, '1 h 00 min'],
    [86_400, '1 d 00 h'],
    [-1, '-'],
  ])('%d seconds', (seconds, text) => expect(formatSeconds(seconds)).toBe(text));

  test('shares are percent with one decimal; the deviation is shown for several runs only', () => {
    expect(formatShare(0.97345)).toBe('97.3 %');
    expect(formatMean(score([0.5]))).toBe('50.0 %');
    expect(formatMean(score([0.5, 0.52]))).toBe('51.0 % ± 1.4');
    expect([counted(1, 'step'), counted(0, 'batch'), counted(2, 'class')]).toEqual([
      '1 step',
      '0 batches',
      '2 classes',
    ]);
    expect(formatNumber(0.00001234)).toBe('1.23e-5');
  });

  test('score has the mean and the sample deviation', () => {
    const { top1, std } = score([0.9, 0.92, 0.94]);
    expect(top1).toBeCloseTo(0.92, 12);
    expect(std).toBeCloseTo(0.02, 12);
    expect(score([0.7]).std).toBe(0);
    for (const bad of [[], [97.3], [Number.NaN]]) expect(() => score(bad)).toThrow(/share in \[0, 1\]/);
  });

  test('the parts of labelReport add up to the bytes of the store', () => {
    const sizes = {
      payload: 90,
      recipes: 5,
      index: 3,
      basis: 1,
      container: 1,
      file: 100,
      fullStore: 1000,
      compression: 10,
      perImage: 2,
    };
    const labels = labelReport(sizes, 7);
    expect(labels).toMatchObject({ bytes: 100, compression: 10, bytesPerImage: 2, records: 7 });
    expect(Object.values(labels.breakdown!).reduce((a, b) => a + b)).toBe(labels.bytes);
  });
});

describe('tables', () => {
  test('columns line up, numbers on the right', () => {
    const lines = textTable(
      ['name', '>n'],
      [
        ['a', '1'],
        ['longer', '1000'],
      ],
    ).split('\n');
    expect(lines).toEqual(['name       n', '------  ----', 'a          1', 'longer  1000']);
  });

  test('the headline shows every number of the result', () => {
    const text = headlineTable(fakeReport(dir));
    for (const part of ['98.4 %', '97.2 % ± 0.3', '97.8 %', '92.4 %', '132 KiB', '9.7x', '50.0 KiB', '3 runs'])
      expect(text).toContain(part);
    const { random: _, randomSoft: __, ...rest } = fakeReport(dir);
    expect(headlineTable(rest)).not.toContain('random');
  });

  test('a plan sums what would run and not what is kept', () => {
    const stage = { folder: 'squeeze', name: 'squeeze', bytes: 1024, seconds: 60 };
    const text = planTable([
      { ...stage, action: 'keep', seconds: 1000 },
      { ...stage, action: 'run' },
    ]);
    expect(text.split('\n').at(-1)).toMatch(/1 to run\s+1\.00 KiB\s+1 min 00 s/);
  });
});

describe('charts', () => {
  const points: [number, number][] = [
    [0, 2.3],
    [10, 0.5],
    [20, 0.01],
  ];
  const charts = (): string[] => [
    lossChart('loss <of> "x"', [{ name: 'a', points }], 'epoch'),
    accuracyChart([{ name: 'student', bytes: 1000, top1: 0.9, std: 0.01 }], [{ name: 'teacher', top1: 0.98 }]),
    bytesChart({ payload: 900, recipes: 0 }),
  ];

  test('are SVG elements that follow the theme: no colour of their own, no script, no style sheet', () => {
    for (const svg of charts()) {
      expect(svg).toMatch(/^<svg role="img" aria-label="[^"<>]*" .*viewBox=/);
      expect(svg).toMatch(/var\(--(ink|c1)\)/);
      expect(svg).not.toMatch(/#0000[01]|<script|<style|class=/);
    }
  });

  test('a loss over decades has a logarithmic axis and a line through every point', () => {
    const svg = lossChart('x', [{ name: 'a', points }], 'epoch');
    for (const tick of ['0.01', '0.1', '1', '10']) expect(svg).toContain(`>${tick}</text>`);
    expect(svg).toContain('>a</text>');
    const line = /<path d="(M[^"]*)"[^>]*stroke="var\(--c1\)"/g;
    const longest = Math.max(...[...svg.matchAll(line)].map((m) => m[1]!.split('L').length));
    expect(longest).toBe(points.length);
  });

  test.each([
    ['a single point', [[5, 1]]],
    [
      'a constant',
      [
        [0, 1],
        [1, 1],
      ],
    ],
    [
      'zero and negative values',
      [
        [0, 0],
        [1, -3],
      ],
    ],
  ] as [string, [number, number][]][])('draw %s', (_, series) => {
    expect(lossChart('x', [{ name: 'a', points: series }], 'epoch')).not.toMatch(/NaN|Infinity/);
  });

  test('accuracies of 0 and 1 without spread stay inside the axes', () => {
    const svg = accuracyChart([{ name: 's', bytes: 1, top1: 0, std: 0 }], [{ name: 't', top1: 1 }]);
    expect(svg).not.toMatch(/NaN|Infinity/);
    expect(svg).toContain('>t 100.0</text>');
  });

  test('many or long parts are all named by their bytes', () => {
    const parts = Object.fromEntries(
      Array.from({ length: 12 }, (_, i) => [`part ${i} ${'x'.repeat(60)}`, 2048 * (i + 1)]),
    );
    expect(bytesChart(parts).match(/KiB<\/text>/g)).toHaveLength(12);
  });
});

describe('gallery', () => {
  test('shows real bytes, at most ten of a class, in natural order', async () => {
    await fakeRunFolder(dir, 11, 12, 8);
    const gallery = await readGallery(join(dir, 'synthesize'));
    expect(gallery.classes.map((c) => c.name)).toEqual(['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', '10']);
    expect(gallery).toMatchObject({ shown: 110, total: 132, width: 8 });
    const bytes = await readFile(join(dir, 'synthesize', 'images', '3', '2.png'));
    expect(gallery.classes[3]!.uris[2]).toBe(`data:image/png;base64,${bytes.toString('base64')}`);
  });

  test('a byte budget cuts all classes alike', async () => {
    await fakeRunFolder(dir, 5, 6, 8);
    const all = await readGallery(join(dir, 'synthesize'));
    const bytes = all.classes.flatMap((c) => c.uris).reduce((sum, uri) => sum + (uri.length - 22) * 0.75, 0);
    const { classes, shown } = await readGallery(join(dir, 'synthesize'), 10, bytes / 2);
    const counts = classes.map((c) => c.uris.length);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(1);
    expect(shown).toBeGreaterThan(5);
    expect(shown).toBeLessThan(20);
  });

  test('takes class names from set.json', async () => {
    await fakeRunFolder(dir, 2, 1, 8);
    await writeFile(join(dir, 'synthesize', 'set.json'), JSON.stringify({ classNames: ['shirt', 'bag'] }));
    expect((await readGallery(join(dir, 'synthesize'))).classes.map((c) => c.name)).toEqual(['shirt', 'bag']);
  });

  test('reads the width of JPEG and PNG headers and refuses to guess', async () => {
    const { default: sharp } = await import('sharp');
    const raw = sharp({ create: { width: 33, height: 7, channels: 3, background: 'red' } });
    expect(pixelWidth(await raw.clone().jpeg().toBuffer())).toBe(33);
    expect(pixelWidth(await raw.clone().png().toBuffer())).toBe(33);
    for (const bad of ['', 'GIF89a', '\xff\xd8\xff', '\xff\xd8\xff\xe0\x00\x00'])
      expect(pixelWidth(Buffer.from(bad, 'latin1'))).toBe(0);
  });
});

describe('report.html', () => {
  test('is self-contained: nothing is loaded from outside and no script runs', async () => {
    await fakeRunFolder(dir);
    const { html } = await writeReport(dir, fakeReport(dir));
    const text = await readFile(html, 'utf8');
    expect(text).not.toMatch(/<script|<link|<iframe|@import|url\((?!#)/);
    const targets = [...text.matchAll(/ (?:src|href|xlink:href)="([^"]*)"/g)].map((m) => m[1]!);
    expect(targets.length).toBe(100);
    expect(targets.every((target) => target.startsWith('data:image/png;base64,'))).toBe(true);
    expect(text).toContain('prefers-color-scheme: dark');
  });

  test('holds the headline, charts of every curve file, all classes, bytes, stages and the config', async () => {
    await fakeRunFolder(dir);
    const text = await readFile((await writeReport(dir, fakeReport(dir))).html, 'utf8');
    for (const part of [
      '97.2 % ± 0.3',
      'Accuracy against label bytes',
      'All 100 images are shown',
      'BN matching',
      'student 2',
    ])
      expect(text).toContain(part);
    for (const part of ['shards/*.safetensors', 'random/train', '702 MiB', 'iterations: 500'])
      expect(text).toContain(part);
    expect(text.match(/<svg /g)).toHaveLength(5);
  });

  test('a name made of HTML is text', async () => {
    await fakeRunFolder(dir, 1, 1, 8);
    const evil = '<script>alert(1)</script><img src=x onerror=1>"\'&';
    await writeFile(join(dir, 'synthesize', 'set.json'), JSON.stringify({ classNames: [evil] }));
    await writeFile(
      join(dir, 'train', 'curves.json'),
      JSON.stringify({
        series: [
          {
            name: evil,
            points: [
              [0, 1],
              [1, 2],
            ],
          },
        ],
      }),
    );
    const stages = [{ name: 'train', folder: 'train', seconds: 1, peakBytes: 1, id: evil }];
    const report = fakeReport(dir, { config: { name: evil }, stages });
    const text = await readFile((await writeReport(dir, report)).html, 'utf8');
    expect(text).not.toContain('<script>');
    expect(text).not.toContain('<img src=x');
    expect(text).toContain('&lt;script&gt;');
  });

  test('says how many images are left out', async () => {
    await fakeRunFolder(dir, 2, 12, 8);
    const text = await readFile((await writeReport(dir, fakeReport(dir))).html, 'utf8');
    expect(text).toContain('Shown: 20 of 24 images');
  });

  test('is made from the report alone where artifacts or curves are missing or broken', async () => {
    await mkdir(join(dir, 'train'), { recursive: true });
    await writeFile(join(dir, 'train', 'curves.json'), '{"series": [{"name": 1}, {"name": "x", "points": [[null, 1]]}');
    const text = await readFile((await writeReport(dir, fakeReport(dir))).html, 'utf8');
    expect(text).not.toContain('Loss curves');
    expect(text).not.toContain('Synthetic images');
    expect(text).toContain('97.2 %');
  });

  test('compares runs', async () => {
    const other = join(dir, 'other');
    await writeReport(other, fakeReport(other, { config: { name: 'all the labels' } }));
    await writeReport(dir, fakeReport(dir));
    const text = await readFile(await remakeReport(dir, [other]), 'utf8');
    expect(text).toContain('Compared with other runs');
    expect(text.match(/all the labels/g)!.length).toBeGreaterThanOrEqual(2);
  });
});

describe('report.json', () => {
  test('is read back as it was written, and nothing half-written stays', async () => {
    const report = fakeReport(dir);
    await writeReport(dir, report);
    expect(await readReport(dir)).toEqual(report);
    expect((await readdir(dir)).sort()).toEqual(['report.html', 'report.json']);
  });

  test.each([
    ['missing', null],
    ['empty', ''],
    ['cut', '{"teacher": {"top1": 0.9}'],
    ['null', 'null'],
    ['another document', '{"error": {"code": "E_DATA"}}'],
    ['without a number', JSON.stringify({ ...fakeReport('x'), labels: { bytes: 'many' } })],
  ])('%s: E_DATA with the path', async (_, text) => {
    if (text !== null) await writeFile(join(dir, 'report.json'), text);
    await expect(remakeReport(dir)).rejects.toMatchObject({
      code: 'E_DATA',
      details: { path: join(dir, 'report.json') },
    });
  });

  test('label bytes come from the report where it knows them, else from the files of the last label store', async () => {
    await fakeRunFolder(dir, 1, 1, 8);
    const report = fakeReport(dir);
    expect((await gather(dir, report)).labelBytes).toMatchObject({ 'shards/*.safetensors': 132_000 });
    const labels = { ...report.labels, breakdown: { payload: 1 } };
    expect((await gather(dir, { ...report, labels })).labelBytes).toEqual({ payload: 1 });
  });
});
