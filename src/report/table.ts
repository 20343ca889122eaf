// Text tables for the terminal: the headline of a run, its stages, the plan of a dry run. Plain text, no colour, so that
// they read the same in a pipe, a log and a terminal.

import { counted, formatBytes, formatMean, formatRatio, formatSeconds, formatShare } from './format.ts';
import type { RunReport, StageReport } from './index.ts';

export interface PlannedStage {
  readonly name: string;
  readonly folder: string;
  readonly action: 'run' | 'keep';
  readonly bytes: number; // on disk, estimate
  readonly seconds: number; // on this machine, rough estimate
}

/**
 * Lays rows out in columns, two spaces apart.
 *
 * @param header - column names; a name that begins with '>' makes its column right-aligned
 * @param rows - cells; every row has as many as the header
 * @returns lines joined by newlines, no trailing space, no trailing newline
 */
export function textTable(header: readonly string[], rows: readonly (readonly string[])[]): string {
  const names = header.map((name) => name.replace(/^>/, ''));
  const widths = names.map((name, c) => Math.max(name.length, ...rows.map((row) => (row[c] ?? '').length)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, c) => (header[c]?.startsWith('>') ? cell.padStart(widths[c] ?? 0) : cell.padEnd(widths[c] ?? 0)))
      .join('  ')
      .trimEnd();
  return [line(names), line(widths.map((width) => '-'.repeat(width))), ...rows.map(line)].join('\n');
}

/** Rows `[what, value, remark]` that say what a run was worth; the terminal and the HTML report show the same ones. */
export function headline(report: RunReport): [string, string, string][] {
  const rows: [string, string, string][] = [
    ['teacher', formatShare(report.teacher.top1), 'top-1 on the test images'],
    ['student', formatMean(report.student), `synthetic images, soft labels${runs(report.student.runs)}`],
  ];
  if (report.randomSoft)
    rows.push([
      'random, soft',
      formatMean(report.randomSoft),
      `as many real images, soft labels${runs(report.randomSoft.runs)}`,
    ]);
  if (report.random)
    rows.push([
      'random, hard',
      formatMean(report.random),
      `as many real images, hard labels${runs(report.random.runs)}`,
    ]);
  const labels = `${counted(report.labels.records, 'record')}, ${formatBytes(report.labels.bytesPerImage)} per image`;
  rows.push(
    ['label bytes', formatBytes(report.labels.bytes), labels],
    ['compression', formatRatio(report.labels.compression), 'against dense f16 labels of every epoch'],
    ['image bytes', formatBytes(report.images.bytes), `${report.images.count} images`],
  );
  return rows;
}

function runs(values: readonly number[]): string {
  return values.length > 1 ? `, ${values.length} runs` : '';
}

/** The table a finished run prints. */
export function headlineTable(report: RunReport): string {
  return textTable(['result', '>value', 'what it is'], headline(report));
}

export function stageTable(stages: readonly StageReport[]): string {
  const rows = stages.map((stage) => [
    stage.folder,
    formatSeconds(stage.seconds),
    stage.peakBytes > 0 ? formatBytes(stage.peakBytes) : '-',
    stage.id.slice(0, 12),
  ]);
  return textTable(['stage', '>time', '>peak memory', 'artifact id'], rows);
}

/** What `run --dry-run` prints: one row per stage and the sums of what would run. */
export function planTable(stages: readonly PlannedStage[]): string {
  const rows = stages.map((s) => [
    s.folder,
    s.action,
    formatBytes(s.bytes),
    s.action === 'run' ? formatSeconds(s.seconds) : '-',
  ]);
  const todo = stages.filter((stage) => stage.action === 'run');
  const sum = (pick: (stage: PlannedStage) => number): number => todo.reduce((total, stage) => total + pick(stage), 0);
  const total = ['', `${todo.length} to run`, formatBytes(sum((s) => s.bytes)), formatSeconds(sum((s) => s.seconds))];
  return textTable(['stage', 'action', '>disk', '>time, about'], [...rows, total]);
}
