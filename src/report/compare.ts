// One page that shows several sets of synthetic images side by side: the same classes of each, within-class similarity,
// their losses, and what students made of them where a run is finished. For SRe2L, CDA and LPLD images of one
// teacher, or any others of the same classes.

import { existsSync } from 'node:fs';
import { basename, join, resolve } from 'node:path';
import { openArtifact } from '../artifact.ts';
import { writeFileAtomic } from '../atomic-file.ts';
import { expected, LpldError } from '../errors.ts';
import { lossChart } from './charts.ts';
import { similarityChart } from './charts-synthesis.ts';
import { formatMean, formatNumber } from './format.ts';
import { type Gallery, readGallery } from './gather.ts';
import { readReport } from './index.ts';
import { escapeHtml, page, table } from './page.ts';
import { readCurves, type Series } from './read.ts';
import { readSynthesis, type Similarity } from './synthesis.ts';
import { SIMILARITY_NOTE } from './synthesis-html.ts';

const CLASSES = 20; // shown of many
const PER_CLASS = 5; // images of each class of each set
const BYTES = 12 * 1024 * 1024; // of image files embedded in all

interface Compared {
  readonly place: number; // among all sets: its colour in every chart
  readonly name: string;
  readonly teacher: string; // artifact id
  readonly options: Readonly<Record<string, unknown>>; // of synthesize
  readonly seed: unknown;
  readonly losses: { readonly lossCe?: number; readonly lossBn?: number };
  readonly series: readonly Series[];
  readonly similarity: Similarity | null;
  readonly gallery: Gallery;
  readonly student: string; // top-1, or '-' where the run is not finished
}

/**
 * Writes the page.
 *
 * @param folders - run folders or synthesize artifacts, two or more; columns in this order
 * @param out - path of the HTML file
 * @throws {LpldError} E_CONFIG for a path that ends otherwise than in .html; E_MISMATCH for sets of different classes, E_DATA for a folder that holds no synthetic images
 */
export async function compareSets(folders: readonly string[], out: string): Promise<string> {
  if (!/\.html?$/i.test(out))
    throw new LpldError('E_CONFIG', expected('a file that ends in .html', '--out', out), { path: out });
  const sets: Compared[] = [];
  for (const [place, folder] of folders.entries()) sets.push(await readSet(folder, place, BYTES / folders.length));
  const [first, ...others] = sets as [Compared, ...Compared[]];
  const classes = namesOf(first);
  for (const [i, other] of others.entries())
    if (JSON.stringify(namesOf(other)) !== JSON.stringify(classes))
      throw new LpldError(
        'E_MISMATCH',
        expected(`the classes of ${folders[0]} (${listed(classes)})`, folders[i + 1]!, listed(namesOf(other))),
        { path: folders[i + 1] },
      );
  await writeFileAtomic(out, [Buffer.from(render(named(sets, folders), classes))]);
  return out;
}

const namesOf = ({ gallery }: Compared): string[] => gallery.classes.map(({ name }) => name);
const listed = (names: readonly string[]): string =>
  `${names.slice(0, 3).join('; ')}${names.length > 3 ? `; ... ${names.length} in all` : ''}`;

async function readSet(folder: string, place: number, budget: number): Promise<Compared> {
  const dir = existsSync(join(folder, 'synthesize', 'manifest.json')) ? join(folder, 'synthesize') : folder;
  const { manifest } = await openArtifact(dir);
  if (manifest.stage !== 'synthesize' || !manifest.files.some(({ path }) => path === 'set.json'))
    throw new LpldError('E_DATA', expected('a run folder or an artifact of synthesize', 'report', folder), {
      path: dir,
    });
  const { synthesize, seed } = manifest.config as { synthesize: Record<string, unknown>; seed: unknown };
  const finished = dir !== folder && existsSync(join(folder, 'report.json'));
  const { similarity } = await readSynthesis(dir);
  return {
    place,
    name: basename(resolve(folder)),
    teacher: manifest.inputs.teacher ?? '',
    options: synthesize,
    seed,
    losses: manifest.summary as Compared['losses'],
    series: (await readCurves(join(dir, 'curves.json'))).series,
    similarity,
    gallery: await readGallery(dir, PER_CLASS, budget),
    student: finished ? formatMean((await readReport(folder)).student) : '-',
  };
}

/** Names that tell the sets apart: the folder's, or its path where two folders are called alike. */
function named(sets: readonly Compared[], folders: readonly string[]): Compared[] {
  const alike = new Set(sets.map(({ name }) => name)).size < sets.length;
  return alike ? sets.map((set, i) => ({ ...set, name: folders[i]! })) : [...sets];
}

function render(sets: readonly Compared[], classes: readonly string[]): string {
  const teachers = new Set(sets.map(({ teacher }) => teacher).filter((id) => id !== ''));
  const about =
    teachers.size === 1
      ? `${sets.length} sets of images from one teacher (${[...teachers][0]!.slice(0, 12)}).`
      : `${sets.length} sets of images. Their teachers differ, so their similarities are not measured alike.`;
  return page(`Synthetic images compared: ${sets.map(({ name }) => name).join(', ')}`, [
    '<h1>Synthetic images compared</h1>',
    `<p class="note">${about}</p>`,
    summary(sets),
    similarities(sets),
    sideBySide(sets, classes),
    ...['cross-entropy', 'BN distance'].map((name) => losses(sets, name)),
  ]);
}

function summary(sets: readonly Compared[]): string {
  const number = (value: unknown): string => (typeof value === 'number' ? formatNumber(value) : '-');
  const rows = sets.map(({ name, options, seed, similarity, losses, student }) => [
    name,
    String(options.method),
    String(options.ipc),
    number(options.iterations),
    number(options.lr),
    number(options.rBn),
    String(seed),
    similarity === null ? '-' : similarity.mean.toFixed(3),
    number(losses.lossCe),
    number(losses.lossBn),
    student,
  ]);
  const header = [
    'set',
    'method',
    'IPC',
    'iterations',
    'lr',
    'rBn',
    'seed',
    'similarity',
    'CE',
    'BN distance',
    'student',
  ];
  return table(header, rows, ['', '', ...Array<string>(9).fill('n')]);
}

function similarities(sets: readonly Compared[]): string {
  const known = sets.filter(({ similarity }) => similarity !== null);
  const [first] = known;
  if (first === undefined) return '';
  const shown = first.similarity!.classes.slice(0, 2 * CLASSES);
  const chart = similarityChart(
    shown.map(({ classId }) => first.gallery.names[classId] ?? String(classId)),
    known.map(({ name, place, similarity }) => ({
      name,
      place,
      mean: similarity!.mean,
      values: shown.map(({ classId }) => similarity!.classes.find((one) => one.classId === classId)?.cosine ?? null),
    })),
  );
  return `<h2>Within-class similarity</h2><figure>${chart}</figure><p class="note">${SIMILARITY_NOTE} Dashed: means over all classes.</p>`;
}

function sideBySide(sets: readonly Compared[], classes: readonly string[]): string {
  const header = sets.map(({ name }) => `<b>${escapeHtml(name)}</b>`).join('');
  const rows = classes.slice(0, CLASSES).map((name, row) => {
    const cells = sets.map(({ gallery }) => {
      const sharp = gallery.width > 0 && gallery.width <= 96 ? ' class="px"' : '';
      const images = gallery.classes[row]!.uris.map(
        (uri, i) => `<img${sharp} alt="${escapeHtml(name)} ${i}" src="${uri}">`,
      );
      return `<div>${images.join('')}</div>`;
    });
    return `<span>${escapeHtml(name)}</span>${cells.join('')}`;
  });
  const cut = classes.length > CLASSES ? ` The first ${CLASSES} of ${classes.length} classes.` : '';
  const note = `<p class="note">The first ${PER_CLASS} images of each class, as their files are.${cut}</p>`;
  return `<h2>The same classes side by side</h2>${note}<div class="side" style="--sets:${sets.length}"><span></span>${header}${rows.join('')}</div>`;
}

function losses(sets: readonly Compared[], name: string): string {
  const series = sets.flatMap((set) => {
    const found = set.series.find((one) => one.name === name);
    return found === undefined ? [] : [{ name: set.name, place: set.place, points: found.points }];
  });
  if (series.length === 0) return '';
  return `<h2>${escapeHtml(name)}</h2><figure>${lossChart(name, series, 'iteration')}</figure><p class="note">Mean over all groups, before weights.</p>`;
}
