// What a run was worth, as report.json (RunReport) and report.html, both inside the run folder. report.json holds every
// number; report.html is drawn from it and from the artifacts beside it, and can be made again at any time.
// Both files are written aside and renamed: whole or absent.

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writeFileAtomic } from '../atomic-file.ts';
import { expected, LpldError } from '../errors.ts';
import type { LabelBytes } from '../labels.ts';
import { gather } from './gather.ts';
import { renderHtml } from './html.ts';

/** Accuracies of n equally trained models. Shares in [0, 1]; `std` is the sample deviation (n - 1), 0 for one run. */
export interface Score {
  readonly top1: number;
  readonly std: number;
  readonly runs: readonly number[];
}

export interface StageReport {
  readonly name: string;
  readonly folder: string; // relative to the run folder, e.g. 'squeeze' or 'random/train'
  readonly seconds: number;
  readonly peakBytes: number; // peak resident memory, sampled; 0 where it was not measured
  readonly id: string; // artifact id, SHA-256 in hex
}

export interface LabelReport {
  readonly bytes: number; // on disk, everything counted
  readonly compression: number; // dense f16 store of the full epoch count / bytes
  readonly bytesPerImage: number;
  readonly records: number;
  /** Where the bytes are (payload, recipes, index, basis, container, ...); sums to `bytes`. */
  readonly breakdown?: Readonly<Record<string, number>>;
}

/** The document of a finished run: report.json, and what `run --json` prints. */
export interface RunReport {
  readonly teacher: { readonly top1: number };
  readonly student: Score;
  readonly random?: Score; // as many real images, hard labels
  readonly randomSoft?: Score; // the same real images, the same kind of soft labels
  readonly images: { readonly bytes: number; readonly count: number };
  readonly labels: LabelReport;
  readonly stages: readonly StageReport[];
  readonly out: string;
  readonly config: unknown;
}

/**
 * Mean and sample standard deviation of accuracies.
 *
 * @param runs - top-1 shares in [0, 1], at least one
 * @throws {LpldError} E_INTERNAL for no runs or a value outside [0, 1]
 */
export function score(runs: readonly number[]): Score {
  if (runs.length === 0 || runs.some((run) => !(run >= 0 && run <= 1)))
    throw new LpldError('E_INTERNAL', expected('at least one share in [0, 1]', 'runs', `[${runs}]`));
  const top1 = runs.reduce((sum, run) => sum + run, 0) / runs.length;
  const squares = runs.reduce((sum, run) => sum + (run - top1) ** 2, 0);
  return { top1, std: runs.length > 1 ? Math.sqrt(squares / (runs.length - 1)) : 0, runs: [...runs] };
}

/** The `labels` of a report from the sizes a LabelStore counts. */
export function labelReport(sizes: LabelBytes, records: number): LabelReport {
  const { payload, recipes, index, basis, container, file, compression, perImage } = sizes;
  return {
    bytes: file,
    compression,
    bytesPerImage: perImage,
    records,
    breakdown: { payload, recipes, index, basis, container },
  };
}

/** Writes report.json and report.html into the run folder and returns their paths. */
export async function writeReport(out: string, report: RunReport): Promise<{ json: string; html: string }> {
  await mkdir(out, { recursive: true });
  const json = join(out, 'report.json');
  await writeFileAtomic(json, [Buffer.from(`${JSON.stringify(report, null, 2)}\n`)]);
  return { json, html: await writeHtml(out, report, []) };
}

/**
 * Makes report.html again from report.json and the artifacts of a run folder.
 *
 * @param compare - other run folders whose students appear in the accuracy chart and a comparison table
 * @returns path of report.html
 * @throws {LpldError} E_DATA with the path where a folder holds no readable report.json
 */
export async function remakeReport(out: string, compare: readonly string[] = []): Promise<string> {
  const others = await Promise.all(compare.map(readReport));
  return writeHtml(
    out,
    await readReport(out),
    others.map((report, i) => ({ ...report, out: compare[i] ?? report.out })),
  );
}

/**
 * Reads and checks the report.json of a run folder.
 * @throws {LpldError} E_DATA with the path: missing, not JSON, or without the numbers a report needs
 */
export async function readReport(out: string): Promise<RunReport> {
  const path = join(out, 'report.json');
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (cause) {
    const advice = 'a run writes it when it has finished: lpld-native run <config> --out DIR';
    throw new LpldError(
      'E_DATA',
      expected('a finished run folder with report.json', 'the run folder', out, advice),
      { path },
      cause,
    );
  }
  try {
    const report = JSON.parse(text) as RunReport;
    assertReport(report);
    return report;
  } catch (cause) {
    const what = cause instanceof SyntaxError ? 'broken JSON' : (cause as Error).message;
    throw new LpldError('E_DATA', expected('the report of a finished run', path, what), { path }, cause);
  }
}

function assertReport(report: RunReport): void {
  const need = (name: string, ok: unknown): void => {
    if (!ok) throw new Error(`no valid ${name}`);
  };
  const isScore = (s: Score | undefined): boolean =>
    Number.isFinite(s?.top1) && Number.isFinite(s?.std) && Array.isArray(s?.runs) && s.runs.every(Number.isFinite);
  need('teacher.top1', Number.isFinite(report?.teacher?.top1));
  need('student', isScore(report.student));
  need('random', report.random === undefined || isScore(report.random));
  need('randomSoft', report.randomSoft === undefined || isScore(report.randomSoft));
  need('images', Number.isFinite(report.images?.bytes) && Number.isFinite(report.images?.count));
  for (const key of ['bytes', 'compression', 'bytesPerImage', 'records'] as const)
    need(`labels.${key}`, Number.isFinite(report.labels?.[key]));
  need('stages', Array.isArray(report.stages) && report.stages.every((s) => typeof s?.folder === 'string'));
}

async function writeHtml(out: string, report: RunReport, others: readonly RunReport[]): Promise<string> {
  const path = join(out, 'report.html');
  await writeFileAtomic(path, [Buffer.from(renderHtml(report, await gather(out, report), others))]);
  return path;
}
