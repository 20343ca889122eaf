import { describe, expect, test } from 'vitest';
import { createProgress, type ProgressEvent, type ProgressMode, type ProgressStream } from '../src/progress.ts';

function capture(isTTY: boolean): ProgressStream & { text: string } {
  const stream = {
    text: '',
    isTTY,
    columns: 120,
    write: (chunk: string) => {
      stream.text += chunk;
    },
  };
  return stream as unknown as ProgressStream & { text: string };
}

function clock(): { now: () => number; pass: (seconds: number) => void } {
  let ms = 1_000_000;
  return {
    now: () => ms,
    pass: (seconds) => {
      ms += seconds * 1000;
    },
  };
}

const events = (text: string): ProgressEvent[] =>
  text
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as ProgressEvent);

describe('json', () => {
  test('every line is one event with all fields, and rate and ETA follow from the clock', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('json', stream, { now }).stage('synthesize');
    stage.start(100, 'iteration', 'group 1');
    stage.update(0);
    pass(10);
    stage.update(20, { ce: 1.5 });
    const last = events(stream.text).at(-1)!;
    expect(last).toEqual({
      event: 'progress',
      stage: 'synthesize',
      label: 'group 1',
      done: 20,
      total: 100,
      unit: 'iteration',
      rate: 2,
      eta: 40,
      values: { ce: 1.5 },
      time: new Date(now()).toISOString(),
    });
  });

  test('a resumed phase does not count the units that were done before', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('json', stream, { now }).stage('train');
    stage.start(1000, 'step', 'student 0');
    stage.update(900);
    pass(10);
    stage.update(910);
    expect(events(stream.text).at(-1)).toMatchObject({ rate: 1, eta: 90 });
  });

  test('the rate is that of the last half minute', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('json', stream, { now }).stage('train');
    stage.start(10_000, 'step', '');
    stage.update(0);
    for (let i = 1; i <= 60; i++) {
      pass(1);
      stage.update(i);
    }
    for (let i = 1; i <= 60; i++) {
      pass(1);
      stage.update(60 + 10 * i);
    }
    expect(events(stream.text).at(-1)!.rate).toBeCloseTo(10, 6);
  });

  test('losses that are not finite are left out and every line stays JSON', () => {
    const stream = capture(false);
    const stage = createProgress('json', stream, clock()).stage('train');
    stage.start(2, 'step', '');
    stage.update(2, { loss: Number.NaN, bn: Number.POSITIVE_INFINITY, ok: 3 });
    expect(events(stream.text).at(-1)!.values).toEqual({ ok: 3 });
  });

  test('thousands of updates in one moment are a few lines, and the last one is always among them', () => {
    const stream = capture(false);
    const stage = createProgress('json', stream, clock()).stage('train');
    stage.start(5000, 'step', '');
    for (let i = 1; i <= 5000; i++) stage.update(i);
    stage.finish();
    const all = events(stream.text);
    expect(all.length).toBeLessThan(6);
    expect(all.at(-1)).toMatchObject({ event: 'finish', done: 5000 });
    expect(all.at(-2)).toMatchObject({ event: 'progress', done: 5000 });
  });

  test('close() finishes stages that a failure left open, once', () => {
    const stream = capture(false);
    const sink = createProgress('json', stream, clock());
    sink.stage('a').start(3, 'step', '');
    const b = sink.stage('b');
    b.start(3, 'step', '');
    b.finish();
    sink.close();
    sink.close();
    const finished = events(stream.text).filter((event) => event.event === 'finish');
    expect(finished.map((event) => event.stage)).toEqual(['b', 'a']);
  });
});

describe('plain', () => {
  test('prints at most every 5 s or at each tenth, never faster than once a second, and the end', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('plain', stream, { now }).stage('relabel');
    stage.start(1000, 'image', 'views');
    for (let i = 1; i <= 1000; i++) {
      pass(0.02); // 20 s in all, a tenth every 2 s
      stage.update(i, { loss: 0.5 });
    }
    stage.finish();
    const lines = stream.text.trimEnd().split('\n');
    expect(lines[0]).toBe('relabel: views, 1000 images');
    expect(lines.length).toBeGreaterThanOrEqual(10);
    expect(lines.length).toBeLessThanOrEqual(12);
    expect(lines.at(-1)).toMatch(/^relabel: 1000\/1000 images \(100 %\), 50 images\/s, loss 0\.5$/);
    expect(lines[3]).toMatch(/ETA \d/);
  });

  test('a slow phase still prints every 5 s', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('plain', stream, { now }).stage('train');
    stage.start(100_000, 'step', 'student 0');
    for (let i = 1; i <= 100; i++) {
      pass(1);
      stage.update(i);
    }
    expect(stream.text.trimEnd().split('\n').length).toBe(1 + 20);
  });

  test('a stage that stops early says where; log lines carry the stage', () => {
    const stream = capture(false);
    const stage = createProgress('plain', stream, clock()).stage('train');
    stage.start(10, 'step', 'student 0');
    stage.log('resumed at step 4');
    stage.update(4);
    stage.finish();
    expect(stream.text).toContain('train: resumed at step 4\n');
    expect(stream.text).toMatch(/train: stopped at 4\/10 steps \(40 %\)\n$/);
  });

  test('the end of a phase is one line, however often it is reported, and one unit is no plural', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('plain', stream, { now }).stage('evaluate');
    for (const total of [1, 2]) {
      stage.start(total, 'batch', 'test images');
      for (let i = 0; i < 3; i++) {
        pass(6);
        stage.update(total);
      }
    }
    stage.finish();
    expect(stream.text.split('\n')).toEqual([
      'evaluate: test images, 1 batch',
      'evaluate: 1/1 batch (100 %)',
      'evaluate: test images, 2 batches',
      'evaluate: 2/2 batches (100 %)',
      '',
    ]);
  });

  test('an unknown total shows no percentage', () => {
    const stream = capture(false);
    const { now, pass } = clock();
    const stage = createProgress('plain', stream, { now }).stage('fetch');
    stage.start(0, 'byte', 'download');
    pass(6);
    stage.update(500);
    expect(stream.text).toBe('fetch: download\nfetch: 500 bytes\n');
  });

  test('bar on a stream that is no terminal prints plain lines without control characters', () => {
    const stream = capture(false);
    const stage = createProgress('bar', stream, clock()).stage('train');
    stage.start(1, 'step', 'student 0');
    stage.update(1);
    stage.finish();
    expect(stream.text).toContain('train: 1/1 step (100 %)');
    expect([...stream.text].every((c) => c === '\n' || c >= ' ')).toBe(true);
  });
});

describe('bar', () => {
  const draw = (color: boolean): string => {
    const stream = capture(true);
    const { now, pass } = clock();
    const sink = createProgress('bar', stream, { now, color });
    const stage = sink.stage('synthesize');
    stage.start(200, 'iteration', 'group 1');
    stage.update(0);
    pass(10);
    stage.update(100, { ce: 0.25 });
    stage.log('a note');
    sink.close();
    return stream.text;
  };

  test('shows stage, share, count, rate, ETA and the last loss', () => {
    const text = draw(false);
    expect(text).toContain('synthesize');
    expect(text).toContain('50 %');
    expect(text).toContain('100/200');
    expect(text).toContain('10 iterations/s');
    expect(text).toContain('ETA 10 s');
    expect(text).toContain('ce 0.25');
    expect(text).toContain('synthesize: a note\n');
  });

  test.each([
    [100, /^synthesize █{10}░{10} {2}50 % {2}group 1 100\/200 {2}10 iterations\/s {2}ETA 10 s {2}ce 0\.25$/],
    [75, /^synthesize █{5}░{5} {2}50 % {2}100\/200 {2}10 iterations\/s {2}ETA 10 s {2}ce 0\.25$/],
    [61, /^synthesize {2}50 % {2}100\/200 {2}10 iterations\/s {2}ETA 10 s {2}ce 0\.25$/],
  ])('in %d columns the line says as much as fits, how far first', (columns, line) => {
    const stream = Object.assign(capture(true), { columns });
    const { now, pass } = clock();
    const stage = createProgress('bar', stream, { now, color: false }).stage('synthesize');
    stage.start(200, 'iteration', 'group 1');
    stage.update(0);
    pass(10);
    stage.update(100, { ce: 0.25 });
    stage.finish();
    const esc = String.fromCharCode(27);
    const moves = new RegExp(`${esc}\\[\\??\\d*[A-Za-z]|${esc}[78]|[\\r\\n]`);
    const drawn = stream.text.split(moves).filter((part) => part.includes('100/200'));
    for (const part of drawn) {
      expect(part.trimEnd()).toMatch(line);
      expect(part.trimEnd().length).toBeLessThanOrEqual(columns);
    }
    expect(drawn.length).toBeGreaterThan(0);
  });

  test('without colour no colour sequence is written, with it the stage is bold', () => {
    const sgr = new RegExp(`${String.fromCharCode(27)}\\[[0-9;]*m`);
    expect(draw(false)).not.toMatch(sgr);
    expect(draw(true)).toMatch(sgr);
  });

  test('gives line wrapping back when it is closed', () => {
    const text = draw(false);
    expect(text.lastIndexOf('\x1b[?7h')).toBeGreaterThan(text.lastIndexOf('\x1b[?7l'));
  });
});

test.each<ProgressMode>(['none', 'json', 'plain', 'bar'])(
  '%s: updates before start and after finish are ignored',
  (mode) => {
    const stream = capture(mode === 'bar');
    const stage = createProgress(mode, stream, clock()).stage('x');
    stage.update(1);
    stage.finish();
    stage.finish();
    stage.update(2);
    expect(stream.text).toBe('');
  },
);
