// Progress people and programs can read, always on one stream (stderr in the CLI), never on stdout.
// A sink makes one StageProgress per stage; stages know only that interface. Modes: `bar` on a terminal, `plain` lines in
// a pipe, `json` lines for programs, `none`. Nothing here throws: a broken stream must not stop a run.

import cliProgress from 'cli-progress';
import { counted, formatNumber, formatSeconds, plural } from './report/format.ts';

/** What a stage reports while it works. Rate and ETA are worked out here. */
export interface StageProgress {
  /**
   * Begins a phase of `total` units (0: not known); call update(done) at once where saved work is resumed, so that ETA is right.
   *
   * @param unit - one of them in the singular: 'step', 'batch'
   */
  start(total: number, unit: string, label: string): void;
  /** @param done - units finished, of `total`; @param values - the latest losses by name; those not finite are left out */
  update(done: number, values?: Readonly<Record<string, number>>): void;
  log(line: string): void;
  finish(): void;
}

export interface ProgressSink {
  /** @param name - shown before every line, e.g. 'squeeze' or 'random/train' */
  stage(name: string): StageProgress;
  /** Ends whatever is still drawn (after a failure or Ctrl-C) and gives the terminal back. */
  close(): void;
}

export type ProgressMode = 'bar' | 'plain' | 'json' | 'none';

export type ProgressStream = NodeJS.WritableStream & { readonly isTTY?: boolean; readonly columns?: number };

export interface ProgressEvent {
  readonly event: 'start' | 'progress' | 'log' | 'finish';
  readonly stage: string;
  readonly label: string;
  readonly done: number;
  readonly total: number;
  readonly unit: string;
  readonly rate: number | null; // units per second
  readonly eta: number | null; // seconds
  readonly values: Readonly<Record<string, number>>;
  readonly time: string; // ISO 8601
  readonly line?: string; // of a log event
}

/**
 * Makes a sink. `bar` falls back to `plain` on a stream that is no terminal.
 *
 * @param options.now - clock in milliseconds, for tests
 * @param options.color - false leaves out ANSI colour; default: unless NO_COLOR is set
 */
export function createProgress(
  mode: ProgressMode,
  stream: ProgressStream,
  options: { now?: () => number; color?: boolean } = {},
): ProgressSink {
  const now = options.now ?? Date.now;
  if (mode === 'none') return sink(() => () => {}, now);
  if (mode === 'json') return sink(() => jsonWriter(stream, now), now);
  if (mode === 'plain' || stream.isTTY !== true) return sink((name) => plainWriter(stream, name, now), now);
  const color = options.color ?? !process.env.NO_COLOR;
  return sink((name) => barWriter(stream, name, color), now);
}

/** A sink that shows nothing. */
export const noProgress: ProgressSink = createProgress('none', process.stderr);

type Writer = (event: ProgressEvent) => void;

const WINDOW_MS = 30_000; // the rate is measured over the last half minute

function sink(writerOf: (name: string) => Writer, now: () => number): ProgressSink {
  const open = new Set<StageProgress>();
  return {
    stage(name) {
      const stage = trackStage(name, writerOf(name), now, () => open.delete(stage));
      open.add(stage);
      return stage;
    },
    close() {
      for (const stage of [...open]) stage.finish();
    },
  };
}

function trackStage(name: string, write: Writer, now: () => number, onFinish: () => void): StageProgress {
  let phase = { total: 0, unit: '', label: '' };
  let running = false;
  let done = 0;
  let values: Record<string, number> = {};
  let samples: { time: number; done: number }[] = [];

  const emit = (event: ProgressEvent['event'], line?: string): void => {
    const first = samples[0];
    const last = samples.at(-1);
    const elapsed = first && last ? (last.time - first.time) / 1000 : 0;
    const rate = first && last && elapsed > 0 && last.done > first.done ? (last.done - first.done) / elapsed : null;
    const eta = rate === null ? null : Math.max(0, phase.total - done) / rate;
    const time = new Date(now()).toISOString();
    const fact = {
      event,
      stage: name,
      label: phase.label,
      done,
      total: phase.total,
      unit: phase.unit,
      rate,
      eta,
      values,
      time,
    };
    write(line === undefined ? fact : { ...fact, line });
  };
  const end = (): void => {
    if (running) emit('finish');
    running = false;
  };
  return {
    start(total, unit, label) {
      end();
      phase = { total, unit, label };
      done = 0;
      values = {};
      samples = [];
      running = true;
      emit('start');
    },
    update(next, latest) {
      if (!running) return;
      done = next;
      for (const [key, value] of Object.entries(latest ?? {}))
        if (Number.isFinite(value)) values = { ...values, [key]: value };
      const time = now();
      samples.push({ time, done });
      while (samples.length > 2 && (samples[1]?.time ?? time) < time - WINDOW_MS) samples.shift();
      emit('progress');
    },
    log: (line) => emit('log', line),
    finish() {
      end();
      onFinish();
    },
  };
}

function jsonWriter(stream: ProgressStream, now: () => number): Writer {
  let last = Number.NEGATIVE_INFINITY;
  return (event) => {
    const time = now();
    if (event.event === 'progress' && event.done < event.total && time - last < 250) return;
    last = event.event === 'progress' ? time : last;
    stream.write(`${JSON.stringify(event)}\n`);
  };
}

function plainWriter(stream: ProgressStream, name: string, now: () => number): Writer {
  let last = { time: 0, tenth: 0, done: 0 };
  return (event) => {
    const { done, total } = event;
    const time = now();
    const tenth = total > 0 ? Math.floor((10 * done) / total) : 0;
    if (event.event === 'log') stream.write(`${name}: ${event.line}\n`);
    else if (event.event === 'start') {
      last = { time, tenth: 0, done: 0 };
      stream.write(`${name}: ${event.label}${total > 0 ? `, ${counted(total, event.unit)}` : ''}\n`);
    } else if (event.event === 'finish') {
      if (done < total) stream.write(`${name}: stopped at ${status(event)}\n`);
    } else {
      const age = time - last.time;
      const ended = total > 0 && done >= total;
      if (ended ? last.done >= total : age < 5000 && !(tenth > last.tenth && age >= 1000)) return;
      last = { time, tenth, done };
      stream.write(`${name}: ${status(event)}\n`);
    }
  };
}

function percent(event: ProgressEvent): number {
  return event.total > 0 ? Math.floor((100 * Math.min(event.done, event.total)) / event.total) : 100;
}

function status(event: ProgressEvent): string {
  const { done, total, unit } = event;
  const share = total > 0 ? `${done}/${counted(total, unit)} (${percent(event)} %)` : counted(done, unit);
  return [share, ...pace(event)].join(', ');
}

function pace(event: ProgressEvent): string[] {
  const parts = event.rate === null ? [] : [`${formatNumber(event.rate)} ${plural(event.unit)}/s`];
  if (event.eta !== null && event.done < event.total) parts.push(`ETA ${formatSeconds(event.eta)}`);
  return [...parts, ...Object.entries(event.values).map(([key, value]) => `${key} ${formatNumber(value)}`)];
}

function drawBar(cells: number, share: number): string {
  const full = Math.round(cells * share);
  return '\u2588'.repeat(full) + '\u2591'.repeat(cells - full);
}

const CLEAR_LINE = '\r\x1b[K';

function barWriter(stream: ProgressStream, name: string, color: boolean): Writer {
  const title = color ? `\x1b[1m${name}\x1b[22m` : name;
  const format = (_: unknown, params: { progress: number }, payload: { event: ProgressEvent }): string => {
    const { event } = payload;
    const share = `${String(percent(event)).padStart(3)} %`;
    const count = `${event.done}/${event.total}`;
    const width = stream.columns ?? 80;
    const forms = [
      [drawBar(20, params.progress), share, ` ${event.label} ${count}`, ` ${pace(event).join('  ')}`],
      [drawBar(10, params.progress), share, ` ${count}`, ` ${pace(event).join('  ')}`],
      [share, ` ${count}`, ` ${pace(event).join('  ')}`],
    ].map((parts) => parts.join(' '));
    const fitting = forms.find((form) => name.length + 1 + form.length <= width);
    return `${title} ${fitting ?? forms.at(-1)}`; // what is still too long is cut: lines do not wrap meanwhile
  };
  const make = (): cliProgress.SingleBar =>
    new cliProgress.SingleBar({ stream, format, forceRedraw: true, gracefulExit: false, emptyOnZero: true });
  let bar: cliProgress.SingleBar | undefined;
  return (event) => {
    if (event.event === 'log') {
      stream.write(`${bar ? CLEAR_LINE : ''}${name}: ${event.line}\n`);
    } else if (event.event === 'start') {
      bar = make();
      bar.start(event.total, 0, { event });
    } else if (event.event === 'progress') {
      bar?.update(Math.min(event.done, event.total), { event });
    } else {
      bar?.update(Math.min(event.done, event.total), { event });
      bar?.stop();
      bar = undefined;
    }
  };
}
