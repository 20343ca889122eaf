// report.html: one file that shows a whole run anywhere, offline, for good. No script, no link to anything outside:
// charts are inline SVG, images are data URIs (a content security policy in the page enforces it). Every text that comes
// from files is escaped.

import { stringify } from 'yaml';
import { bytesChart, lossChart } from './charts.ts';
import { type AccuracyPoint, accuracyChart } from './charts-accuracy.ts';
import { formatBytes, formatMean, formatRatio, formatSeconds, formatShare } from './format.ts';
import type { Curves, Gallery, RunFolder } from './gather.ts';
import type { RunReport } from './index.ts';
import { escapeHtml, page, table } from './page.ts';
import { layersPart, similarityPart, snapshotsPart } from './synthesis-html.ts';
import { headline } from './table.ts';

const SERIES_DRAWN = 40;

/**
 * The HTML document of a run.
 *
 * @param folder - what gather() found beside report.json
 * @param others - reports of other runs, for the accuracy chart and a comparison table; may be empty
 */
export function renderHtml(report: RunReport, folder: RunFolder, others: readonly RunReport[]): string {
  const title = `${nameOf(report)}: ${formatMean(report.student)} with ${formatBytes(report.labels.bytes)} of labels`;
  const body = [
    `<h1>${escapeHtml(nameOf(report))}</h1>`,
    `<p class="note">${escapeHtml(about(report))}</p>`,
    hero(report),
    table(['', '>top-1 or size', ''], headline(report), ['', 'n', 'm']),
    others.length > 0 ? comparison([report, ...others]) : '',
    accuracy(report, others),
    gallery(folder.gallery),
    similarityPart(folder.synthesis.similarity, folder.gallery.names),
    snapshotsPart(folder.synthesis),
    curves(folder.curves),
    layersPart(folder.synthesis.layers),
    labelBytes(folder.labelBytes),
    stages(report),
    '<h2>Config</h2>',
    `<pre>${escapeHtml(stringify(report.config ?? {}).trimEnd())}</pre>`,
  ];
  return page(title, body);
}

function nameOf(report: RunReport): string {
  const name = (report.config as { name?: unknown } | null)?.name;
  if (typeof name === 'string' && name !== '') return name;
  return (
    String(report.out ?? '')
      .split('/')
      .filter(Boolean)
      .at(-1) ?? 'run'
  );
}

function about(report: RunReport): string {
  const description = (report.config as { description?: unknown } | null)?.description;
  const isGiven = typeof description === 'string' && description !== '';
  return isGiven ? description : 'Dataset distillation with soft labels: accuracy and bytes of one run.';
}

function hero(report: RunReport): string {
  const cards: [string, string][] = [
    [formatMean(report.student), 'student, top-1'],
    [formatShare(report.teacher.top1), 'teacher, top-1'],
    [formatBytes(report.labels.bytes), 'of soft labels'],
    [formatRatio(report.labels.compression), 'smaller than dense labels'],
  ];
  return `<div class="hero">${cards.map(([value, what]) => `<div><b>${value}</b><span>${what}</span></div>`).join('')}</div>`;
}

function comparison(reports: readonly RunReport[]): string {
  const rows = reports.map((r) => [
    nameOf(r),
    formatShare(r.teacher.top1),
    formatMean(r.student),
    r.random ? formatMean(r.random) : '-',
    formatBytes(r.labels.bytes),
    formatRatio(r.labels.compression),
    formatBytes(r.images.bytes),
  ]);
  const header = ['run', 'teacher', 'student', 'random, hard', 'label bytes', 'compression', 'image bytes'];
  return `<h2>Compared with other runs</h2>${table(header, rows, ['', 'n', 'n', 'n', 'n', 'n', 'n'])}`;
}

function accuracy(report: RunReport, others: readonly RunReport[]): string {
  const points: AccuracyPoint[] = [];
  const add = (name: string, score: RunReport['random'], bytes: number): void => {
    if (score && bytes > 0) points.push({ name, bytes, top1: score.top1, std: score.std });
  };
  add('student', report.student, report.labels.bytes);
  add('random, soft', report.randomSoft, report.labels.bytes);
  for (const other of others) add(nameOf(other), other.student, other.labels.bytes);
  if (points.length === 0) return '';
  const levels = [{ name: 'teacher', top1: report.teacher.top1 }];
  if (report.random) levels.push({ name: 'random, hard', top1: report.random.top1 });
  const many = points.some((p) => p.std > 0) ? ' Bars are one standard deviation.' : '';
  const note = `Students by the bytes of soft labels they were trained on; dashed lines need no soft labels.${many}`;
  return `<h2>Accuracy against label bytes</h2><figure>${accuracyChart(points, levels)}</figure><p class="note">${note}</p>`;
}

function gallery(images: Gallery): string {
  if (images.total === 0) return '';
  const sharp = images.width > 0 && images.width <= 96 ? ' class="px"' : ''; // small images are magnified: keep their pixels
  const rows = images.classes.map((group) => {
    const cells = group.uris
      .map((uri, i) => `<img${sharp} alt="${escapeHtml(group.name)} ${i}" src="${uri}">`)
      .join('');
    return `<div class="class"><span>${escapeHtml(group.name)}</span><div>${cells}</div></div>`;
  });
  const capped =
    images.shown < images.total
      ? ` Shown: ${images.shown} of ${images.total} images, at most 10 of a class and about 4 MiB in all.`
      : ` All ${images.total} images are shown.`;
  const note = `<p class="note">The files of the distilled set as they are, ${images.classes.length} classes.${capped}</p>`;
  const label = Math.min(16, Math.max(...images.classes.map((group) => group.name.length)) + 1);
  return `<h2>Synthetic images</h2>${note}<div class="classes" style="--label:${label}ch">${rows.join('\n')}</div>`;
}

function curves(all: readonly Curves[]): string {
  if (all.length === 0) return '';
  const figures = all.map(({ folder, x, series }) => {
    const cut =
      series.length > SERIES_DRAWN ? `<p class="note">${SERIES_DRAWN} of ${series.length} curves are drawn.</p>` : '';
    const chart = lossChart(`loss curves of ${folder}`, series.slice(0, SERIES_DRAWN), x);
    return `<h3>${escapeHtml(folder)}</h3><figure>${chart}</figure>${cut}`;
  });
  return `<h2>Loss curves</h2>${figures.join('\n')}`;
}

function labelBytes(parts: Readonly<Record<string, number>>): string {
  const total = Object.values(parts).reduce((sum, bytes) => sum + bytes, 0);
  if (!(total > 0)) return '';
  const note = `<p class="note">${formatBytes(total)} in all, everything on disk counted.</p>`;
  return `<h2>Where the label bytes are</h2><figure>${bytesChart(parts)}</figure>${note}`;
}

function stages(report: RunReport): string {
  if (report.stages.length === 0) return '';
  const rows = report.stages.map((s) => [
    s.folder,
    formatSeconds(s.seconds),
    s.peakBytes > 0 ? formatBytes(s.peakBytes) : '-',
    String(s.id ?? '').slice(0, 12),
  ]);
  const seconds = report.stages.reduce((sum, stage) => sum + (Number.isFinite(stage.seconds) ? stage.seconds : 0), 0);
  const note = `<p class="note">${formatSeconds(seconds)} of work in all. Memory is the largest sampled resident size.</p>`;
  return `<h2>Stages</h2>${table(['stage', 'time', 'peak memory', 'artifact id'], rows, ['', 'n', 'n', 'm'])}${note}`;
}
