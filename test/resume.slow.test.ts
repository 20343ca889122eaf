// A run killed with SIGKILL again and again ends with the artifacts of a run that nobody touched. The program runs as a
// child process (dist/, which `npm test` builds first); each life is ended at a random moment of some stage, and the
// next one goes on from what lies on the disk. A stage could lose all its lives before it first saves anything, and nothing
// would be resumed: so one life in each is ended soon after a save was seen. Artifact ids are hashes over every file, so equal
// ids are equal bytes.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { parseConfig } from '../src/config.ts';
import type { ProgressEvent } from '../src/progress.ts';
import { dice } from './util/hostile.ts';
import { idsOf, tinySource } from './util/tiny.ts';

const program = join(import.meta.dirname, '..', 'dist', 'cli.js');
const source = tinySource({
  squeeze: { epochs: 60, statsViews: 60, statsBatch: 32, stats: 'ema', statsAugment: 'train' },
  synthesize: { iterations: 500 },
  relabel: { epochs: 1500, recordsPerShard: 32 },
  prune: { pruneRatio: 0.2 },
  train: { students: 2, epochs: 500 },
});
const config = parseConfig(source);

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-kill-'));
  await writeFile(join(root, 'config.json'), JSON.stringify(source));
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Stages in which lives are ended, and how often; the phase of squeeze that collects statistics counts by itself. */
const WANTED: Readonly<Record<string, number>> = {
  start: 2,
  teacher: 4,
  'class statistics': 3,
  synthesize: 5,
  relabel: 4,
  prune: 2,
  train: 5,
  evaluate: 1,
};
const LATEST_MS: Readonly<Record<string, number>> = { start: 400, prune: 30, evaluate: 15 };

/** Stages of which some life must go on from saved work, and where in them a life is ended after a save. */
const RESUMED: Readonly<Record<string, string>> = {
  squeeze: 'teacher',
  synthesize: 'synthesize',
  relabel: 'relabel',
  train: 'train',
};
const SOON_MS = 30;

/** Whether a stage has saved what a next life goes on from: tensors of a loop, a shard of labels. */
function hasSaved(out: string, stage: string): boolean {
  const draft = join(out, `${stage}.partial`, '.draft');
  try {
    if (readdirSync(draft).some((name) => name.endsWith('.safetensors') && !name.startsWith('plan'))) return true;
    return readFileSync(join(draft, 'journal.jsonl'), 'utf8').includes('"path":"shard-');
  } catch {
    return false; // not begun
  }
}

/** Where a life is: the stage, or the phase of squeeze. */
const placeOf = (event: ProgressEvent): string =>
  event.stage === 'squeeze' && event.label in WANTED ? event.label : event.stage;

interface Life {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly place: string; // of the last event seen
  readonly resumed: readonly string[]; // stages that began with some work done
  readonly err: string;
}

interface Limit {
  readonly ms: number; // the life may still last
  readonly after: string | null; // stage that must have saved something before these begin to count
}

/** Runs the program; `plan` answers every new place with the limit of the life there, null for none. */
async function live(out: string, plan: (place: string) => Limit | null): Promise<Life> {
  const args = ['run', join(root, 'config.json'), '--out', out, '--threads', '1', '--deterministic'];
  const child = spawn(process.execPath, [program, ...args, '--save-every', '0', '--progress', 'json'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  const gone = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  let place = '';
  let err = '';
  const begun = new Map<string, number>(); // stage -> what its first progress said
  let timer: NodeJS.Timeout | undefined;
  const end = ({ ms, after }: Limit): void => {
    if (after === null || hasSaved(out, after)) timer = setTimeout(() => child.kill('SIGKILL'), ms);
    else timer = setTimeout(() => end({ ms, after }), 2);
  };
  const enter = (next: string): void => {
    if (next === place) return;
    place = next;
    const limit = timer === undefined ? plan(place) : null;
    if (limit !== null) end(limit);
  };
  enter('start');
  createInterface({ input: child.stderr }).on('line', (line) => {
    if (!line.startsWith('{')) err += `${line}\n`;
    else {
      const event = JSON.parse(line) as ProgressEvent;
      enter(placeOf(event));
      if (event.event === 'progress' && !begun.has(event.stage)) begun.set(event.stage, event.done);
    }
  });
  const [code, signal] = await gone;
  clearTimeout(timer);
  const resumed = [...begun].filter(([, done]) => done > 0).map(([stage]) => stage);
  return { code, signal, place, resumed, err };
}

test('after at least 20 SIGKILLs over all stages every artifact equals that of an uninterrupted run', {
  timeout: 600_000, // two minutes on two idle cores
}, async () => {
  const whole = join(root, 'whole');
  const began = performance.now();
  const untouched = await live(whole, () => null);
  expect(untouched.code, untouched.err).toBe(0);
  expect(untouched.resumed).toEqual([]); // what begins anew does not look as if it went on
  const wholeSeconds = (performance.now() - began) / 1000;
  const wanted = await idsOf(whole, config);
  const seconds = async (stage: string): Promise<number> =>
    (JSON.parse(await readFile(join(whole, stage, 'run.json'), 'utf8')) as { seconds: number }).seconds;

  const seed = Number(process.env.LPLD_DICE ?? Math.floor(Math.random() * 2 ** 31));
  const roll = dice(seed);
  const left = { ...WANTED };
  const killed: Record<string, number> = {};
  const resumed = new Set<string>();
  const out = join(root, 'killed');
  /** A life in a stage is long enough to be worth something and short enough that the stage outlives its quota. */
  const spans: Record<string, number> = {};
  for (const place of Object.keys(WANTED)) {
    const stage = place === 'teacher' || place === 'class statistics' ? 'squeeze' : place;
    const share = stage === 'squeeze' ? 0.5 : 1;
    spans[place] = LATEST_MS[place] ?? (1000 * share * (await seconds(stage))) / WANTED[place]!;
  }
  let kills = 0;
  let last: Life;
  do {
    last = await live(out, (place) => {
      if (!((left[place] ?? 0) > 0)) return null;
      if (place === 'start' && roll(2) === 0) return null;
      left[place]! -= 1;
      const stage = Object.keys(RESUMED).find((one) => RESUMED[one] === place && !resumed.has(one));
      // The last life of a stage that was not resumed yet: it leaves something to go on from.
      if (stage !== undefined && left[place] === 0) return { ms: roll(SOON_MS), after: stage };
      return { ms: roll(Math.ceil(spans[place]!)), after: null };
    });
    for (const stage of last.resumed) resumed.add(stage);
    if (last.signal !== 'SIGKILL') continue;
    kills += 1;
    killed[last.place] = (killed[last.place] ?? 0) + 1;
  } while (last.signal === 'SIGKILL');
  console.log(`one run ${wholeSeconds.toFixed(1)} s; ${kills} kills (dice ${seed}): ${JSON.stringify(killed)}`);

  expect(last.code, last.err).toBe(0);
  expect(kills).toBeGreaterThanOrEqual(20);
  for (const place of ['teacher', 'class statistics', 'synthesize', 'relabel', 'train'])
    expect(killed[place] ?? 0, `kills in ${place}`).toBeGreaterThan(0);
  for (const stage of Object.keys(RESUMED)) expect(resumed, 'went on, not from zero').toContain(stage);
  expect(await idsOf(out, config)).toEqual(wanted);
});
