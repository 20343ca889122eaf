// Leaving the process, or a worker thread, in the middle of native work: no way out may end in a signal, and none may
// hang. Each way is tried several times, since what goes wrong here is a race. Runs the built package (dist/).
// Source: environment cleanup hooks do not run on process.exit() nor after an uncaught exception, and exit() destroys
// LibTorch's statics under a thread that still computes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const fixtures = join(import.meta.dirname, 'fixtures');
const TIMEOUT = 120_000;

interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly out: string;
  readonly err: string;
  /** From the line 'leaving' to the end, milliseconds; from the start where there is no such line. */
  readonly took: number;
}

async function run(script: string, way: string, signal?: NodeJS.Signals): Promise<Ending> {
  const child = spawn(process.execPath, [join(fixtures, script), way], { stdio: ['ignore', 'pipe', 'pipe'] });
  const killer = setTimeout(() => child.kill('SIGKILL'), 40_000);
  let [out, err] = ['', ''];
  let left = performance.now();
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
    if (!text.includes('leaving')) return;
    left = performance.now();
    if (signal !== undefined) child.kill(signal);
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    err += text;
  });
  const [code, by] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
  clearTimeout(killer);
  return { code, signal: by, out, err, took: performance.now() - left };
}

/** Runs a way out several times, two processes at a time. */
async function runs(times: number, script: string, way: string, signal?: NodeJS.Signals): Promise<Ending[]> {
  const endings: Ending[] = [];
  let begun = 0;
  const one = async (): Promise<void> => {
    while (begun++ < times) endings.push(await run(script, way, signal));
  };
  await Promise.all([one(), one()]);
  return endings;
}

/** The different ways in which the processes ended; what they said is added where it explains an unwanted one. */
const tally = (endings: readonly Ending[], wanted: string): string[] => [
  ...new Set(
    endings.map(({ code, signal, err }) => {
      const ending = String(code ?? signal);
      return ending === wanted ? ending : `${ending} ${err.slice(0, 600)}`.trim();
    }),
  ),
];
const slowest = (endings: readonly Ending[]): number => Math.max(...endings.map(({ took }) => took));

describe('the main thread computes', { timeout: TIMEOUT }, () => {
  test.each([
    [10, 'exit', 7, 'process.exit()'],
    [5, 'exitAtOnce', 7, 'process.exit() right after the start'],
    [5, 'exitWithQueue', 7, 'process.exit() with four jobs waiting'],
    [10, 'exitInListener', 7, 'process.exit() in the progress listener'],
    [10, 'throw', 1, 'an uncaught exception'],
    [10, 'reject', 1, 'an unhandled rejection'],
    [3, 'rejectedJob', 1, 'a cancelled job whose rejection nobody handles'],
    [3, 'shutdownThenExit', 7, 'shutdown(), then process.exit()'],
  ] as const)('%d times %s: exit code %d, soon (%s)', async (times, way, code, _what) => {
    const endings = await runs(times, 'exit-main.mjs', way);
    expect(tally(endings, String(code))).toEqual([String(code)]);
    expect(slowest(endings)).toBeLessThan(5000);
    const said = { throw: 'thrown on purpose', reject: 'rejected on purpose', rejectedJob: 'E_CANCELLED' };
    for (const { out, err } of endings) {
      expect(out).toBe('leaving\n');
      if (way in said) expect(err).toContain(said[way as keyof typeof said]);
      else expect(err).toBe('');
    }
  });

  test('5 times SIGTERM without a handler ends the process by that signal', async () => {
    const endings = await runs(5, 'exit-main.mjs', 'wait', 'SIGTERM');
    expect(tally(endings, 'SIGTERM')).toEqual(['SIGTERM']);
    expect(slowest(endings)).toBeLessThan(5000);
  });

  test('3 times the natural end: a pending job is finished first, its promise settles', async () => {
    const heard = await runs(3, 'exit-main.mjs', 'natural');
    expect(tally(heard, '0')).toEqual(['0']);
    for (const { out, err } of heard) expect({ out, err }).toEqual({ out: 'leaving\nfinished 8\n', err: '' });
    expect(tally(await runs(3, 'exit-main.mjs', 'naturalUnheard'), '0')).toEqual(['0']);
  });
});

describe('worker threads compute', { timeout: TIMEOUT }, () => {
  test.each([
    [10, 'terminate', 0, 'terminate() while its job computes; the engine works on'],
    [10, 'terminateSeveral', 0, 'terminate() of one that computes and two that wait, twice'],
    [10, 'terminateQueued', 0, 'terminate() of two whose jobs wait behind one of the main thread'],
    [5, 'workerExit', 0, 'process.exit() inside the worker'],
    [5, 'workerThrow', 0, 'an uncaught exception inside the worker'],
    [10, 'exit', 7, 'process.exit() of the main thread while two workers have jobs'],
    [10, 'exitWithMain', 7, 'process.exit() of the main thread while it computes and two workers wait'],
  ] as const)('%d times %s: exit code %d (%s)', async (times, way, code, _what) => {
    const endings = await runs(times, 'exit-workers.mjs', way);
    expect(tally(endings, String(code))).toEqual([String(code)]);
    expect(slowest(endings)).toBeLessThan(30_000); // from the start, of a job of minutes, on a machine however busy
    for (const { err } of endings) expect(err).toBe('');
  });

  test('3 times three workers and the main thread with one seed: equal losses', async () => {
    expect(tally(await runs(3, 'exit-workers.mjs', 'same'), '0')).toEqual(['0']);
  });
});

describe('memory after 200 rounds', { timeout: TIMEOUT }, () => {
  test.each([
    ['disposed', 'models of 8 MiB made and disposed at once', 3, 100],
    ['dropped', 'models of 8 MiB left to the garbage collector', 1, 300],
    ['store', 'image stores of 8 MiB filled and disposed', 2, 100],
    ['jobs', 'jobs whose spec holds 8 MiB', 2, 200],
  ] as const)('%s: %s (%d processes) grow by less than %d MiB', async (what, _text, times, limit) => {
    for (const { code, signal, out, err } of await runs(times, 'memory.mjs', what)) {
      expect({ code, signal, err }).toEqual({ code: 0, signal: null, err: '' });
      expect(out).toMatch(/^-?\d+\n$/);
      expect(Number(out)).toBeLessThan(limit);
    }
  });
});
