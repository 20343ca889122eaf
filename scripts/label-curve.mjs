#!/usr/bin/env node
// Student accuracy against the bytes of the labels: one teacher, one set of images, several label stores, several students
// on each. Every point is three commands of the CLI (relabel, train, evaluate) into a folder of its own, so that a second
// call with the same flags goes on where the first stopped; a point made with the same flags is read from its point.json. Bytes are those of all files of the store, basis included.
//   node scripts/label-curve.mjs --config PRESET --teacher T --images I --out DIR [--points POINTS.json] [--only NAME,...]
//     [--students 3] [--seeds 0,1,2] [--threads 1] [--set KEY=VALUE ...]
// Every seed makes labels and students of its own, which are pooled (label-curve-page.mjs); --seed N is --seeds N. Writes
// DIR/curve.json, .md, .html and .svg after each point. A point is {name, series, relabel, train}: flags of the two stages;
// `relabel` is null where the targets are hard. Seed 0 lies in DIR/NAME, others below it.

import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { LabelStore, openArtifact } from '../dist/index.js';
import { meanAndStd, pointFolder, pooled, teacherLevel, writePage } from './label-curve-page.mjs';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const CLI = join(ROOT, 'dist/cli.js');

const { values: flags } = parseArgs({
  options: {
    config: { type: 'string' },
    teacher: { type: 'string' },
    images: { type: 'string' },
    out: { type: 'string' },
    points: { type: 'string', default: join(ROOT, 'scripts/label-curve.json') },
    only: { type: 'string' },
    students: { type: 'string', default: '3' },
    seed: { type: 'string', default: '0' },
    seeds: { type: 'string' },
    threads: { type: 'string', default: '1' },
    set: { type: 'string', multiple: true, default: [] },
  },
});
for (const name of ['config', 'teacher', 'images', 'out'])
  if (flags[name] === undefined) {
    console.error(`expected --${name} but received nothing`);
    process.exit(2);
  }

const seeds = (flags.seeds ?? flags.seed).split(',');
if (new Set(seeds).size < seeds.length || seeds.some((seed) => !/^\d+$/.test(seed))) {
  console.error(`expected different whole numbers for --seeds but received ${flags.seeds ?? flags.seed}`);
  process.exit(2);
}

/** The points to make, in the order of the file; --only chooses some. */
function wantedPoints() {
  const all = JSON.parse(readFileSync(flags.points, 'utf8'));
  const only = flags.only?.split(',');
  const unknown = only?.filter((name) => !all.some((point) => point.name === name)) ?? [];
  if (unknown.length === 0) return all.filter(({ name }) => only?.includes(name) ?? true);
  console.error(`expected names of ${flags.points} for --only but received ${unknown.join(', ')}`);
  process.exit(2);
}

function cli(stage, seed, args) {
  const settings = flags.set.flatMap((setting) => ['--set', setting]);
  const common = ['--config', flags.config, '--seed', seed, '--threads', flags.threads, '--quiet', '--json'];
  execFileSync(process.execPath, [CLI, stage, ...common, ...settings, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
}

/** Bytes of a store as inspect counts them, and the records it holds. */
async function contents(dir) {
  const store = await LabelStore.open(await openArtifact(dir));
  await store.close();
  const { payload, recipes, index, basis, container, file, compression } = store.bytes();
  const bytes = { payload, recipes, index, basis, container, file, compression };
  return { codec: store.index.codec, records: store.numRecords, ...bytes };
}

/** Makes what is missing of a point with a seed. @returns its row of the table */
async function measure({ name, series, relabel, train }, seed) {
  const at = (part) => join(flags.out, pointFolder(name, seed), part);
  const images = ['--images', flags.images];
  if (relabel !== null)
    cli('relabel', seed, [...relabel, '--teacher', flags.teacher, ...images, '--out', at('labels')]);
  const labels = relabel === null ? [] : ['--labels', at('labels')];
  // A store is never pruned again here; the hard control has the Recipes of the full plan.
  const students = ['--set', `train.students=${flags.students}`, '--out', at('students')];
  cli('train', seed, [...train, ...images, ...labels, ...students]);
  cli('evaluate', seed, ['--students', at('students'), '--out', at('score')]);
  const { runs } = JSON.parse(readFileSync(join(at('score'), 'evaluation.json'), 'utf8'));
  const top1 = runs.map((run) => 100 * run.top1);
  const store = relabel === null ? { codec: 'hard', records: 0, file: 0 } : await contents(at('labels'));
  return { name, series, relabel, train, ...store, top1, ...meanAndStd(top1) };
}

/** A point's row with a seed, from its folder where it was made with these flags. */
async function kept(point, seed) {
  const { config, teacher, images, students, set } = flags;
  const made = JSON.stringify({ point, config, teacher, images, students, seed, set });
  const file = join(flags.out, pointFolder(point.name, seed), 'point.json');
  if (existsSync(file)) {
    const found = JSON.parse(readFileSync(file, 'utf8'));
    if (found.made === made) return found.row;
  }
  const row = await measure(point, seed);
  writeFileSync(file, `${JSON.stringify({ made, row })}\n`);
  return row;
}

function commitOf() {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { cwd: ROOT, encoding: 'utf8' }).trim();
  } catch {
    return 'unknown'; // a package has no history
  }
}

const commit = commitOf();
const machine = {
  cpu: cpus()[0]?.model ?? 'unknown',
  cores: cpus().length,
  node: process.version,
  threads: flags.threads,
};

function markdown(rows) {
  const bytes = (value) => (value === undefined ? '' : value.toLocaleString('en'));
  const line = ({ name, codec, records, file, payload, index, basis, container, mean, std, top1 }) =>
    `| ${name} | ${codec} | ${records} | ${[file, payload, index, basis, container].map(bytes).join(' | ')} | ${mean.toFixed(2)}${std === null ? '' : ` ± ${std.toFixed(2)}`} | ${top1.map((v) => v.toFixed(2)).join(', ')} |`;
  const table = (series) =>
    [
      `## ${series}\n`,
      '| point | codec | records | bytes | payload | index | basis | container | top-1 | students |',
      '|---|---|---|---|---|---|---|---|---|---|',
      ...rows
        .filter((row) => row.series === series)
        .sort((a, b) => b.file - a.file)
        .map(line),
      '',
    ].join('\n');
  return [...new Set(rows.map(({ series }) => series))].map(table).join('\n');
}

const rows = [];
const about = `${flags.config}, ${flags.students} students of seed ${seeds.join(', ')} a point, commit ${commit}`;
const texts = { title: 'Accuracy against label bytes', about, levels: await teacherLevel(flags.teacher) };
for (const point of wantedPoints()) {
  const made = [];
  for (const seed of seeds) made.push({ seed, row: await kept(point, seed) });
  const row = pooled(made);
  rows.push(row);
  writeFileSync(join(flags.out, 'curve.json'), `${JSON.stringify({ flags, machine, commit, rows }, null, 1)}\n`);
  writeFileSync(join(flags.out, 'curve.md'), markdown(rows));
  writePage(join(flags.out, 'curve'), rows, texts);
  console.log(
    `${row.name}: ${row.file} bytes, ${row.mean.toFixed(2)} (${row.top1.map((v) => v.toFixed(2)).join(', ')})`,
  );
}
