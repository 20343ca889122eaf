// What a running job owes its caller: progress that cannot pile up, a cancel that is quick and harms nothing, a listener
// that may throw, a shutdown that waits; and all of it for every job.

import { execFile } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { JobProgress } from '../src/native.ts';
import { busyJob, codeOf, JOBS, type JobName, openModel, openStore, trainSpec } from './util/jobs.ts';
import { native, quiet } from './util/native.ts';
import { values } from './util/tensors.ts';

const NAMES = Object.keys(JOBS) as JobName[];
const pause = (milliseconds: number): Promise<void> => new Promise((done) => setTimeout(done, milliseconds));
const block = (milliseconds: number): void => {
  const until = performance.now() + milliseconds;
  while (performance.now() < until);
};

describe.each(NAMES)('%s', (name) => {
  test('a cancelled job rejects with E_CANCELLED, soon, and its handles work as before', async () => {
    const [model, store] = [openModel(), openStore()];
    const job = JOBS[name](model, store, 20_000);
    await pause(20);
    job.cancel();
    job.cancel();
    const asked = performance.now();
    expect(await codeOf(() => job.promise)).toBe('E_CANCELLED');
    expect(performance.now() - asked).toBeLessThan(2000);
    expect([model.state, store.state]).toEqual(['open', 'open']);
    for (const next of NAMES) expect(await codeOf(() => JOBS[next](model, store, 2).promise), next).toBe('ok');
    model.loadStateDict(model.stateDict());
    job.cancel(); // long settled: without effect
    expect(await codeOf(() => JOBS[name](model, store, 2).promise)).toBe('ok');
  });

  test('a throwing listener rejects the job with what was thrown, once, and the handles work as before', async () => {
    const [model, store] = [openModel(), openStore()];
    const thrown = Object.assign(new Error('mine'), { code: 'E_MINE' });
    let calls = 0;
    const job = JOBS[name](model, store, 20_000, () => {
      calls++;
      throw thrown;
    });
    await expect(job.promise).rejects.toBe(thrown);
    expect(calls).toBe(1);
    expect(await codeOf(() => JOBS[name](model, store, 2).promise)).toBe('ok');
  });

  test('reports done steps in rising order and ends at the total, with a loss that is a number', async () => {
    const seen: JobProgress[] = [];
    const steps = 60;
    await JOBS[name](openModel(), openStore(), steps, (progress) => void seen.push(progress)).promise;
    for (const [i, { done, total, loss }] of seen.entries()) {
      expect([total, typeof loss]).toEqual([steps, 'number']);
      if (i > 0) expect(done).toBeGreaterThan(seen[i - 1]!.done);
    }
    expect(seen.at(-1)).toMatchObject({ done: steps, total: steps });
  });

  test('a second run on equal handles gives equal bytes', async () => {
    const once = (): Promise<unknown> => JOBS[name](openModel(), openStore(), 5).promise;
    expect(await once()).toEqual(await once());
  });
});

describe('progress', () => {
  test.each(['train', 'synthesize'] as const)('a %s of one step reports its loss at the end', async (name) => {
    const seen: JobProgress[] = [];
    await JOBS[name](openModel(), openStore(), 1, (progress) => void seen.push(progress)).promise;
    expect(seen.at(-1)).toMatchObject({ done: 1, total: 1 });
    expect(seen.at(-1)!.loss).toSatisfy(Number.isFinite);
  });

  test('thousands of fast steps make at most ten calls a second, from the first steps to the last', async () => {
    const [model, store] = [openModel(), openStore()];
    const seen: JobProgress[] = [];
    const begun = performance.now();
    await native().train(model, store, trainSpec(4000), (progress) => void seen.push(progress)).promise;
    const seconds = (performance.now() - begun) / 1000;
    expect(seconds).toBeGreaterThan(0.2); // else nothing is tested here
    expect(seen.length).toBeGreaterThan(2);
    expect(seen.length).toBeLessThanOrEqual(Math.ceil(seconds * 10) + 2);
    expect(seen[0]!.done).toBeLessThan(2000);
    expect(seen.at(-1)!.done).toBe(4000);
    expect(seen.at(-1)!.loss).toSatisfy(Number.isFinite);
  });

  test('a job that ends while its listener is busy still reports its end, once', async () => {
    const seen: JobProgress[] = [];
    const steps = 500;
    await native().train(openModel(), openStore(), trainSpec(steps), (progress) => {
      seen.push(progress);
      if (seen.length === 1) block(1500);
    }).promise;
    expect(seen[0]!.done).toBeLessThan(steps); // else nothing is tested here
    expect(seen.filter(({ done }) => done === steps)).toHaveLength(1);
    expect(seen.at(-1)).toMatchObject({ done: steps, total: steps, loss: expect.closeTo(0, 0) });
  });

  test('a slow listener skips steps instead of queueing them, and timers fire between its calls', async () => {
    const calls: number[] = [];
    let timerAt = Number.POSITIVE_INFINITY;
    const running = busyJob(openModel(), openStore(), () => {
      calls.push(performance.now());
      if (calls.length === 1)
        setTimeout(() => {
          timerAt = calls.length;
        }, 0);
      block(250); // two reports become due meanwhile
      if (calls.length === 6) running.cancel();
    });
    const begun = performance.now();
    expect(await running.end).toBe('E_CANCELLED');
    expect(calls.length).toBeLessThanOrEqual(7); // at most one more after the cancel
    expect(performance.now() - begun).toBeLessThan(4000);
    expect(timerAt).toBeLessThanOrEqual(2);
  });

  test('a job goes on while JavaScript is blocked', async () => {
    const spec = trainSpec(1500);
    const begun = performance.now();
    await native().train(openModel(), openStore(), spec, quiet).promise;
    const alone = performance.now() - begun;
    const job = native().train(openModel(), openStore(), spec, quiet);
    block(3 * alone); // a busy machine may have slowed down meanwhile
    const asked = performance.now();
    expect(values((await job.promise).loss)).toHaveLength(1500);
    expect(performance.now() - asked).toBeLessThan(alone / 2);
  });
});

describe('the listener', () => {
  test.each([
    ['a string', 'text'],
    ['undefined', undefined],
    ['null', null],
    ['a number', 7],
    ['an object', { code: 'E_MINE' }],
  ])('throwing %s rejects the job with that value', async (_what, thrown) => {
    const job = JOBS.train(openModel(), openStore(), 20_000, () => {
      throw thrown;
    });
    const outcome = await job.promise.then(
      () => 'finished',
      (reason) => ({ reason }),
    );
    expect(outcome).toEqual({ reason: thrown });
  });

  test('may cancel its own job, and may start another one', async () => {
    const [model, store] = [openModel(), openStore()];
    const others: Promise<unknown>[] = [];
    const job = JOBS.train(model, store, 20_000, () => {
      if (others.length === 0) others.push(JOBS.evaluate(openModel(), openStore(), 1).promise);
      job.cancel();
    });
    expect(await codeOf(() => job.promise)).toBe('E_CANCELLED');
    expect(await Promise.all(others)).toMatchObject([{ count: 2 }]);
  });

  test.each([undefined, null, {}, 'f'])('%j instead of a function is E_INTERNAL and starts nothing', async (wrong) => {
    const [model, store] = [openModel(), openStore()];
    expect(await codeOf(() => native().train(model, store, trainSpec(1), wrong as never).promise)).toBe('E_INTERNAL');
    expect([model.state, store.state]).toEqual(['open', 'open']);
  });
});

describe('cancel', () => {
  test('a queued job that is cancelled never starts, and the one behind it does', async () => {
    const running = busyJob(openModel(), openStore());
    const [model, store] = [openModel(), openStore()];
    let calls = 0;
    const queued = JOBS.train(model, store, 3, () => void calls++);
    const behind = JOBS.evaluate(openModel(), openStore(), 1);
    queued.cancel();
    await running.stop();
    await expect(queued.promise).rejects.toMatchObject({ code: 'E_CANCELLED' });
    expect(await behind.promise).toMatchObject({ count: 2 });
    expect([calls, model.optimizerState(), model.state]).toEqual([0, {}, 'open']);
  });

  test('a training job stopped between steps keeps whole steps: moments, weights and count belong together', async () => {
    const [model, store] = [openModel(), openStore()];
    const running = busyJob(model, store);
    await pause(100);
    await running.stop();
    const steps = Number(values(model.optimizerState().step!)[0]);
    expect(steps).toBeGreaterThan(0);
    const again = openModel();
    await native().train(again, openStore(), trainSpec(steps), quiet).promise;
    expect(again.stateDict()).toEqual(model.stateDict());
    expect(again.optimizerState()).toEqual(model.optimizerState());
  });
});

test('shutdown cancels running and queued jobs, waits, and leaves the addon usable', async () => {
  const running = busyJob(openModel(), openStore());
  const [model, store] = [openModel(), openStore()];
  const queued = JOBS.evaluate(model, store, 1);
  await pause(20);
  native().shutdown();
  expect(await running.end).toBe('E_CANCELLED');
  expect(await codeOf(() => queued.promise)).toBe('E_CANCELLED');
  expect([model.state, store.state]).toEqual(['open', 'open']);
  expect(await codeOf(() => JOBS.evaluate(model, store, 1).promise)).toBe('ok');
  native().shutdown();
});

test('a failing job rejects and the next one on the same handles succeeds', async () => {
  const [model, store] = [openModel(), openStore()];
  const spec = trainSpec(2);
  const bad = { ...spec, input: { ...spec.input, size: 6 } };
  expect(await codeOf(() => native().train(model, store, bad, quiet).promise)).not.toBe('ok');
  for (const name of NAMES) expect(await codeOf(() => JOBS[name](model, store, 2).promise), name).toBe('ok');
});

test.skipIf(availableParallelism() < 2)('a job ends the idle OpenMP workers of the thread that starts it', async () => {
  const script = join(import.meta.dirname, 'fixtures', 'idle-threads.mjs');
  const env = { ...process.env, OMP_NUM_THREADS: '4' }; // LibTorch uses no more than there are cores
  const { stdout } = await promisify(execFile)(process.execPath, [script], { env });
  const { made, left } = JSON.parse(stdout);
  expect(made).toBeGreaterThan(0);
  expect(left).toBe(0);
});
