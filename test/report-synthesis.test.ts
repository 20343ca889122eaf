// What reports show of the images themselves: pictures from the making, within-class similarity, the loss of each layer,
// several sets side by side.

import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { decodeImage, encodeGrid } from '../src/datasets/images.ts';
import { layerChart, similarityChart } from '../src/report/charts-synthesis.ts';
import { compareSets } from '../src/report/compare.ts';
import { writeReport } from '../src/report/index.ts';
import { readSynthesis } from '../src/report/synthesis.ts';
import { resolveRuntime } from '../src/run.ts';
import { loadTeacher } from '../src/stages/shared.ts';
import { withinClass } from '../src/stages/within-class.ts';
import { refusal } from './util/hostile.ts';
import { native } from './util/native.ts';
import { fakeReport, fakeRunFolder } from './util/run-folder.ts';
import { Bench } from './util/synthesis.ts';
import { optionsOf } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const bench = new Bench();
beforeAll(() => bench.open());
afterAll(() => bench.close());

describe('snapshots', () => {
  const folder = () => bench.out('snapshots/pictures');
  const names = (): string[] => readdirSync(folder()).sort();

  test('every n iterations one picture of the first forward, outside the artifact, which stays the same', async () => {
    const plain = await bench.make('plain');
    const artifact = await bench.make('pictures', {}, { snapshotEvery: 5 });
    expect(artifact.manifest).toEqual(plain.manifest);
    expect(names()).toEqual(['000005.png', '000010.png']);
    const picture = await decodeImage(readFileSync(join(folder(), '000010.png')), 'p', 1);
    expect([picture.height, picture.width]).toEqual([2 * 8 + 2, 2 * 8 + 2]); // two classes of two images at 8 px
  });

  test('the last one shows the finished images, a row a class', async () => {
    const artifact = await bench.make('pictures', { iterations: 10 }, { snapshotEvery: 10 }, { replace: true });
    expect(names()).toEqual(['000010.png']); // those of other images are gone
    const picture = await decodeImage(readFileSync(join(folder(), '000010.png')), 'p', 1);
    for (const [row, column] of [
      [0, 0],
      [0, 1],
      [1, 0],
      [1, 1],
    ] as const) {
      const name = `images/000${row}/00${column}.png`;
      const image = await decodeImage(readFileSync(artifact.path(name)), name, 1);
      for (let y = 0; y < 8; y++) {
        const at = (row * 10 + y) * 18 + column * 10;
        expect(picture.pixels.subarray(at, at + 8)).toEqual(image.pixels.subarray(y * 8, y * 8 + 8));
      }
    }
  });

  test('a grid of rows of unequal length is white where there is no image', async () => {
    const image = (level: number) => new Uint8Array(2 * 2 * 3).fill(level);
    const { pixels, height, width } = await decodeImage(
      await encodeGrid([[image(1), image(2)], [image(3)]], 2, 3),
      'g',
      3,
    );
    expect([height, width]).toEqual([6, 6]);
    const at = (y: number, x: number): number => pixels[(y * 6 + x) * 3]!;
    expect([at(0, 0), at(1, 5), at(5, 1), at(5, 5), at(2, 0), at(0, 3)]).toEqual([1, 2, 3, 255, 255, 255]);
  });
});

describe('what the artifact keeps', () => {
  test('the loss of each layer adds up to the BN distance, and the mean cosine of every class is there', async () => {
    const artifact = await bench.make('kept');
    const { layers, similarity } = await readSynthesis(artifact.dir);
    expect(layers.map(({ name }) => name)).toEqual(['features.0.norm', 'features.1.norm']);
    const curves = await artifact.readJson<{ series: { name: string; points: [number, number][] }[] }>('curves.json');
    const total = curves.series.find(({ name }) => name === 'BN distance')!.points;
    for (const [i, [iteration, value]] of total.entries()) {
      expect(layers[0]!.points[i]![0]).toBe(iteration);
      const sum = 10 * layers[0]!.points[i]![1] + layers[1]!.points[i]![1]; // firstBnMultiplier
      expect(sum / value).toBeCloseTo(1, 5);
    }
    expect(similarity!.classes.map(({ classId }) => classId)).toEqual([0, 1, 2, 3, 4, 5]);
    const mean = similarity!.classes.reduce((sum, { cosine }) => sum + cosine!, 0) / 6;
    expect(similarity!.mean).toBeCloseTo(mean, 5);
    expect(artifact.manifest.summary).toMatchObject({ withinClassSimilarity: similarity!.mean });
  });

  test('one image a class has no similarity, and that is no number', async () => {
    const artifact = await bench.make('single', { ipc: 1 });
    expect(artifact.manifest.summary).toMatchObject({ withinClassSimilarity: null });
    expect((await readSynthesis(artifact.dir)).similarity).toBeNull();
  });

  test('equal images of a class are alike to 1, in stores of their own class', async () => {
    const artifact = await bench.make('kept');
    const runtime = resolveRuntime(optionsOf(bench.root));
    const teacher = await openArtifact(bench.teacher);
    const model = await loadTeacher(native(), runtime, teacher);
    const facts = await teacher.readJson<Parameters<typeof withinClass>[2]>('dataset.json');
    const files = [0, 0, 0, 4, 4].map((label) => ({
      label,
      name: 'x',
      path: artifact.path(`images/000${label}/000.png`),
    }));
    const { mean, classes } = await withinClass({ native: native(), runtime }, model, facts, files, 8);
    model.dispose();
    expect(classes).toEqual([
      { classId: 0, cosine: 1 },
      { classId: 4, cosine: 1 },
    ]);
    expect(mean).toBe(1);
  });
});

describe('report.html', () => {
  const dir = () => bench.out('report');
  const fill = async (layers: number): Promise<string> => {
    await fakeRunFolder(dir(), 3, 2, 8);
    const at = (file: string): string => join(dir(), 'synthesize', file);
    const series = Array.from({ length: layers }, (_, l) => ({
      name: `layer${l}`,
      points: Array.from({ length: 90 }, (_, i) => [i + 1, (l + 1) / (i + 1)]),
    }));
    await writeFile(at('layers.json'), JSON.stringify({ x: 'iteration', series }));
    const classes = [0, 1, 2].map((classId) => ({ classId, cosine: 0.5 + classId / 10 }));
    await writeFile(at('similarity.json'), JSON.stringify({ mean: 0.6, classes }));
    const shots = join(dir(), 'snapshots', 'synthesize');
    await mkdir(shots, { recursive: true });
    for (let i = 1; i <= 9; i++)
      await writeFile(join(shots, `00${i}000.png`), await encodeGrid([[new Uint8Array(64).fill(i)]], 8, 1));
    return readFileSync((await writeReport(dir(), fakeReport(dir()))).html, 'utf8');
  };

  test('shows a few snapshots up to the last, the similarity and the layers', async () => {
    const text = await fill(3);
    const iterations = [...text.matchAll(/<figcaption>iteration (\d+)/g)].map(([, i]) => Number(i));
    expect(iterations).toEqual([2000, 3000, 5000, 6000, 8000, 9000]);
    expect(text).toContain('Shown: 6 of 9');
    expect(text).toContain('Over all classes: 0.600');
    for (const name of ['layer0', 'layer2']) expect(text).toContain(`>${name}</text>`);
    expect(text).not.toMatch(/NaN|Infinity/);
  });

  test('leaves out what is broken', async () => {
    await fill(3);
    for (const file of ['layers.json', 'similarity.json'])
      writeFileSync(join(dir(), 'synthesize', file), '{"mean": "high", "classes": 3, "series": 1}');
    const text = readFileSync((await writeReport(dir(), fakeReport(dir()))).html, 'utf8');
    expect(text).not.toContain('Within-class similarity');
    expect(text).not.toContain('BatchNorm layers');
  });

  test('many layers are a heat map with every layer named, fewer are lines', () => {
    const layers = (n: number, value: (i: number) => number) =>
      Array.from({ length: n }, (_, l) => ({
        name: `bn${l}`,
        points: Array.from({ length: 200 }, (_, i): [number, number] => [i + 1, value(i)]),
      }));
    const many = layerChart(
      layers(20, (i) => 1 / (i + 1)),
      'iteration',
    );
    for (const name of ['bn0', 'bn19']) expect(many).toContain(`>${name}</text>`);
    expect(many.match(/<path/g)!.length).toBeGreaterThan(20 * 60);
    expect(
      layerChart(
        layers(6, (i) => i),
        'iteration',
      ).match(/<path/g)!.length,
    ).toBeLessThan(60);
    for (const value of [() => 0, () => 5]) expect(layerChart(layers(9, value), 'x')).not.toMatch(/NaN|Infinity/);
  });

  test('the line of a mean stands where the mean is', () => {
    const at = (mean: number): number => {
      const svg = similarityChart(['a'], [{ name: 's', mean, values: [0.9] }]);
      return Number(/<path d="M([\d.]+) [\d.]+L\1 [\d.]+"[^>]*stroke="var\(--c1\)"/.exec(svg)?.[1]);
    };
    const span = (at(0.69) - at(0.66)) / 3; // a hundredth, between axes that are the same
    expect(span).toBeGreaterThan(5);
    expect((at(0.664) - at(0.66)) / span).toBeCloseTo(0.4, 1);
  });

  test('a class without similarity has no mark', () => {
    const svg = similarityChart(['a', 'b'], [{ name: 's', mean: 0.5, values: [0.5, null] }]);
    expect(svg).not.toMatch(/NaN|Infinity/);
    for (const name of ['a', 'b']) expect(svg).toContain(`>${name}</text>`);
  });
});

describe('compare', () => {
  test('artifacts and run folders of the same classes on one page', async () => {
    const lpld = await bench.make('lpld');
    const run = bench.out('cda-run');
    mkdirSync(run);
    await bench.make('cda-run/synthesize', { method: 'cda', iterations: 9 });
    const html = await compareSets([lpld.dir, run], bench.out('compare.html'));
    const text = readFileSync(html, 'utf8');
    expect(text.match(/<img /g)).toHaveLength(2 * 6 * 2);
    expect(text).toContain('2 sets of images from one teacher');
    for (const part of ['<b>lpld</b>', '<b>cda-run</b>', '>cda<', 'BN distance', 'cross-entropy'])
      expect(text).toContain(part);
    const { similarity } = await readSynthesis(lpld.dir);
    expect(text).toContain(`>${similarity!.mean.toFixed(3)}</td>`);
    expect(text).not.toMatch(/<script|NaN|undefined/);
  });

  test('a set has one colour in all charts, though sets before it lack losses or similarity', async () => {
    await bench.make('real', { method: 'random' });
    await bench.make('single', { ipc: 1 });
    await bench.make('lpld');
    const folders = ['real', 'single', 'lpld'].map((name) => bench.out(name));
    const html = await compareSets(folders, bench.out('colours.html'));
    const charts = readFileSync(html, 'utf8').match(/<svg[\s\S]*?<\/svg>/g)!;
    expect(charts.map((svg) => /aria-label="([^"]*)"/.exec(svg)![1])).toEqual([
      'within-class similarity',
      'cross-entropy',
      'BN distance',
    ]);
    const colours = (svg: string): string[] => [...new Set(svg.match(/var\(--c\d\)/g))].sort();
    expect(colours(charts[0]!)).toEqual(['var(--c3)']); // lpld alone
    for (const svg of charts.slice(1)) expect(colours(svg)).toEqual(['var(--c2)', 'var(--c3)']);
  });

  test('other classes are E_MISMATCH, a folder without images E_DATA', async () => {
    await bench.make('all');
    await bench.make('few', { classes: [0, 1] });
    const compare = (...names: string[]) =>
      refusal(() =>
        compareSets(
          names.map((name) => bench.out(name)),
          'x.html',
        ),
      );
    expect((await compare('all', 'few')).code).toBe('E_MISMATCH');
    expect((await compare('all', 'squeeze')).code).toBe('E_DATA');
    expect((await compare('all', 'nothing')).code).toBe('E_DATA');
    const json = await refusal(() => compareSets([bench.out('all'), bench.out('all')], bench.out('report.json')));
    expect([json.code, json.message]).toEqual(['E_CONFIG', expect.stringContaining('ends in .html')]);
  });
});
