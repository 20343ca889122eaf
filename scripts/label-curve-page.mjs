#!/usr/bin/env node
// Points of label-curve.mjs: students of several seeds pooled into one row, and rows drawn as a page and as an SVG of its own,
// by the charts of report.html. Bytes on a logarithmic axis, a colour a series, a line through the points of one codec, bars
// of one standard deviation.
//   node scripts/label-curve-page.mjs DIR [--out DIR/curve.html]
// draws every finished point of a folder of label-curve.mjs, whichever calls made them; the SVG lies beside the page.

import { existsSync, readdirSync, readFileSync, realpathSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { openArtifact } from '../dist/index.js';
import { curveChart } from '../dist/report/charts-accuracy.js';
import { escapeHtml, page, table } from '../dist/report/page.js';
import { THEME } from '../dist/report/style.js';

/**
 * A point made with one seed, or several pooled.
 * @typedef {{name: string, series: string, codec: string, records: number, file: number, top1: number[], mean: number,
 *   std: number | null, bySeed?: {seed: string, file: number, mean: number}[], [field: string]: any}} Row - top1 in percent
 */

/** Mean and sample standard deviation; null for fewer than two values. */
export function meanAndStd(values) {
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  const variance = values.reduce((sum, value) => sum + (value - mean) ** 2, 0) / (values.length - 1);
  return { mean, std: values.length > 1 ? Math.sqrt(variance) : null };
}

const BYTES = ['payload', 'recipes', 'index', 'basis', 'container', 'file'];

/**
 * One row of a point's rows by seed: the students of all of them together, bytes as means of the stores. The spread is that of
 * single students, of labels and weights of different seeds.
 *
 * @param {{seed: string, row: Row}[]} made - in the order of the seeds
 * @returns {Row}
 */
export function pooled(made) {
  const [{ row: first }, ...others] = made;
  if (others.length === 0) return first;
  const mean = (field) => Math.round(made.reduce((sum, { row }) => sum + row[field], 0) / made.length);
  const bytes = Object.fromEntries(BYTES.filter((field) => field in first).map((field) => [field, mean(field)]));
  const top1 = made.flatMap(({ row }) => row.top1);
  const bySeed = made.map(({ seed, row }) => ({ seed, file: row.file, mean: row.mean }));
  return { ...first, ...bytes, top1, ...meanAndStd(top1), bySeed };
}

/** Folder of a point made with a seed, below the curve's. */
export const pointFolder = (name, seed) => (seed === '0' ? name : join(name, `seed-${seed}`));

/**
 * Every finished point of a folder, pooled over its seeds, and the teacher they share.
 *
 * @param {string} dir
 * @returns {{rows: Row[], teacher: string | undefined}}
 */
export function finishedRows(dir) {
  const folders = (at) => readdirSync(at, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  const groups = new Set();
  const rows = folders(dir).flatMap(({ name }) => {
    const seeds = folders(join(dir, name)).flatMap(({ name: folder }) => /^seed-(.+)$/.exec(folder)?.[1] ?? []);
    const made = ['0', ...seeds.sort((a, b) => Number(a) - Number(b))].flatMap((seed) => {
      const file = join(dir, pointFolder(name, seed), 'point.json');
      if (!existsSync(file)) return [];
      const { made: flags, row } = JSON.parse(readFileSync(file, 'utf8'));
      const { point: _, seed: own, ...shared } = JSON.parse(flags);
      groups.add(JSON.stringify(shared));
      return [{ seed: own, row }];
    });
    return made.length === 0 ? [] : [pooled(made)];
  });
  if (groups.size > 1)
    throw new Error(`expected points of one teacher and setting but received\n${[...groups].join('\n')}`);
  const [shared = '{}'] = groups;
  return { rows, teacher: JSON.parse(shared).teacher };
}

/** The accuracy of a teacher as a level, where its artifact is there and says one. */
export async function teacherLevel(dir) {
  if (dir === undefined || !existsSync(join(dir, 'manifest.json'))) return [];
  const { manifest } = await openArtifact(dir);
  const { teacher } = /** @type {{teacher?: {top1: number} | null}} */ (manifest.summary);
  return teacher == null ? [] : [{ name: 'teacher', top1: teacher.top1 }];
}

/**
 * Writes BASE.html and BASE.svg.
 *
 * @param {string} base - path without an ending
 * @param {Row[]} rows - those without label bytes become dashed lines
 * @param {{title: string, about: string, levels?: {name: string, top1: number}[]}} texts - top1 in [0, 1]
 */
export function writePage(base, rows, { title, about, levels = [] }) {
  const stores = rows.filter(({ file }) => file > 0);
  const free = rows.filter(({ file }) => file === 0).map(({ name, mean }) => ({ name, top1: mean / 100 }));
  if (stores.length === 0) return;
  const series = [...new Set(stores.map((row) => row.series))].map((name) => ({
    name,
    points: stores
      .filter((row) => row.series === name)
      .map((row) => ({
        name: row.name,
        bytes: row.file,
        top1: row.mean / 100,
        std: (row.std ?? 0) / 100,
        line: row.codec,
      })),
  }));
  const svg = curveChart(series, [...levels, ...free]);
  const sorted = [...rows].sort((a, b) => a.series.localeCompare(b.series) || b.file - a.file);
  const cells = sorted.map(({ name, series: of, codec, records, file, mean, std, top1, bySeed }) => [
    ...[name, of, codec, records.toLocaleString('en'), file.toLocaleString('en')],
    `${mean.toFixed(2)}${std === null ? '' : ` ± ${std.toFixed(2)}`}`,
    `${top1.length}${bySeed === undefined ? '' : ` of ${bySeed.length} seeds`}`,
  ]);
  const header = ['point', 'series', 'codec', 'records', 'bytes', 'top-1, %', 'students'];
  const note = 'Bytes are those of all files of a store. Bars are one standard deviation of single students.';
  const body = [
    `<h1>${escapeHtml(title)}</h1><p class="note">${escapeHtml(about)}</p>`,
    `<figure>${svg}</figure><p class="note">${note}</p>`,
    table(header, cells, ['', 'm', 'm', 'n', 'n', 'n', 'n']),
  ];
  writeFileSync(`${base}.html`, page(title, body));
  const style = `<style>${THEME} svg { background: var(--paper); font-family: system-ui, sans-serif; }</style>`;
  writeFileSync(
    `${base}.svg`,
    svg.replace(/^<svg [^>]*>/, (open) => `${open}${style}`),
  );
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { positionals, values } = parseArgs({ allowPositionals: true, options: { out: { type: 'string' } } });
  const [dir] = positionals;
  const { rows, teacher } =
    dir === undefined || !existsSync(dir) ? { rows: [], teacher: undefined } : finishedRows(dir);
  if (rows.length === 0) {
    console.error(`expected a folder of label-curve.mjs with a finished point but received ${dir ?? 'nothing'}`);
    process.exit(2);
  }
  const base = (values.out ?? join(dir, 'curve.html')).replace(/\.html$/, '');
  const about = `${rows.length} points of ${dir}`;
  writePage(base, rows, { title: 'Accuracy against label bytes', about, levels: await teacherLevel(teacher) });
  console.log(`${base}.html`);
}
