// scripts/label-curve.mjs on points that are made already: kept files of older calls, seeds pooled, and what is drawn.

import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeEach, describe, expect, test } from 'vitest';
import { finishedRows, pooled } from '../scripts/label-curve-page.mjs';

const root = join(import.meta.dirname, '..');
const folder = mkdtempSync(join(tmpdir(), 'lpld-curve-'));
const out = join(folder, 'out');
const script = join(root, 'scripts/label-curve.mjs');
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const POINTS = [
  { name: 'plain-1x', series: 'plain', relabel: ['--codec', 'dense:f16'], train: [] },
  { name: 'plain-10x', series: 'plain', relabel: ['--codec', 'dense:f16', '--prune-ratio', '0.9'], train: [] },
  { name: 'hard', series: 'reference', relabel: null, train: ['--targets', 'hard'] },
];
const shared = { config: 'quickstart', teacher: join(folder, 'no-teacher'), images: 'images', students: '3' };
const flags = ['--config', 'quickstart', '--teacher', shared.teacher, '--images', 'images', '--out', out];
const points = join(folder, 'points.json');

/** A point.json as the script has written them since its first version. */
function keep(at: string, name: string, seed: string, file: number, top1: number[]): void {
  const point = POINTS.find((one) => one.name === name)!;
  const mean = top1.reduce((sum, value) => sum + value, 0) / top1.length;
  const bytes = file === 0 ? {} : { payload: file - 100, recipes: 0, index: 60, basis: 0, container: 40 };
  const row = { ...point, codec: file === 0 ? 'hard' : 'dense:f16', records: 9, ...bytes, file, top1, mean, std: 0.5 };
  const made = JSON.stringify({ point, ...shared, seed, set: [] });
  mkdirSync(join(out, at), { recursive: true });
  writeFileSync(join(out, at, 'point.json'), `${JSON.stringify({ made, row })}\n`);
}

const run = (...args: string[]): string =>
  execFileSync(process.execPath, [script, ...flags, '--points', points, ...args], { encoding: 'utf8' });
const curve = (): { rows: Record<string, unknown>[] } => JSON.parse(readFileSync(join(out, 'curve.json'), 'utf8'));

beforeEach(() => {
  rmSync(out, { recursive: true, force: true });
  writeFileSync(points, JSON.stringify(POINTS));
  keep('plain-1x', 'plain-1x', '0', 50_000, [70, 72, 74]);
  keep('plain-10x', 'plain-10x', '0', 5_000, [60, 61, 62]);
  keep('hard', 'hard', '0', 0, [50, 51, 52]);
});

describe('label-curve.mjs', () => {
  test('keeps points of seed 0 that older calls made, and draws them', () => {
    expect(run()).toBe(
      'plain-1x: 50000 bytes, 72.00 (70.00, 72.00, 74.00)\nplain-10x: 5000 bytes, 61.00 (60.00, 61.00, 62.00)\nhard: 0 bytes, 51.00 (50.00, 51.00, 52.00)\n',
    );
    expect(curve().rows.map((row) => row.mean)).toEqual([72, 61, 51]);
    const html = readFileSync(join(out, 'curve.html'), 'utf8');
    for (const text of ['>plain</text>', '>hard 51.0</text>', '>10 kB</text>', '<td>plain-10x</td>'])
      expect(html).toContain(text);
    expect(html).not.toMatch(/NaN|<script/);
    const svg = readFileSync(join(out, 'curve.svg'), 'utf8');
    expect(svg).toMatch(/^<svg [^>]*xmlns="http:\/\/www\.w3\.org\/2000\/svg"[^>]*><style>/);
    for (const [, name] of svg.matchAll(/var\(--(\w+)\)/g)) expect(svg, name).toContain(`--${name}: #`);
  });

  test('--seeds pools the students of all seeds; their spread is that of all', () => {
    keep('plain-1x/seed-1', 'plain-1x', '1', 50_010, [80, 82, 84]);
    run('--seeds', '0,1', '--only', 'plain-1x');
    const [row] = curve().rows;
    expect(row).toMatchObject({ file: 50_005, payload: 49_905, top1: [70, 72, 74, 80, 82, 84], mean: 77 });
    expect(row!.std).toBeCloseTo(Math.sqrt((49 + 25 + 9 + 9 + 25 + 49) / 5), 12);
    expect(row!.bySeed).toEqual([
      { seed: '0', file: 50_000, mean: 72 },
      { seed: '1', file: 50_010, mean: 82 },
    ]);
    expect(readFileSync(join(out, 'curve.html'), 'utf8')).toContain('>6 of 2 seeds<');
  });

  test('a page of a folder has every finished point with all of its seeds', () => {
    keep('plain-10x/seed-2', 'plain-10x', '2', 5_000, [63, 64, 65]);
    mkdirSync(join(out, 'begun', 'labels'), { recursive: true });
    const { rows, teacher } = finishedRows(out);
    expect(teacher).toBe(shared.teacher);
    expect(Object.fromEntries(rows.map(({ name, top1 }) => [name, top1.length]))).toEqual({
      hard: 3,
      'plain-10x': 6,
      'plain-1x': 3,
    });
    const page = join(folder, 'page.html');
    execFileSync(process.execPath, [join(root, 'scripts/label-curve-page.mjs'), out, '--out', page]);
    expect(existsSync(page) && existsSync(page.replace('.html', '.svg'))).toBe(true);
  });

  test('points of two teachers are not drawn as one curve', () => {
    const file = join(out, 'hard', 'point.json');
    writeFileSync(file, readFileSync(file, 'utf8').replace('no-teacher', 'another'));
    expect(() => finishedRows(out)).toThrow(/^expected points of one teacher and setting but received/);
  });

  test.each(['0,0', '0,x'])('--seeds %s is refused', (seeds) => {
    const { status, stderr } = spawnSync(process.execPath, [script, ...flags, '--points', points, '--seeds', seeds], {
      encoding: 'utf8',
    });
    expect(stderr).toBe(`expected different whole numbers for --seeds but received ${seeds}\n`);
    expect(status).toBe(2);
  });

  test('one seed is its own row', () => {
    const row = { name: 'a', series: 's', codec: 'c', records: 1, file: 1, top1: [1], mean: 1, std: null };
    expect(pooled([{ seed: '0', row }])).toBe(row);
  });
});
