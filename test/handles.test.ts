// The life of a handle: every method and property of Model and ImageStore, and every call that takes one, in each of the
// states open, busy and disposed. A busy or disposed handle refuses with E_CONFIG; anything that is no handle is E_INTERNAL.

import { describe, expect, test } from 'vitest';
import type { NativeImageStore, NativeModel } from '../src/native.ts';
import { APPEND, busyJob, codeOf, JOBS, type JobName, openModel, openStore, recipesOf } from './util/jobs.ts';
import { native, ops } from './util/native.ts';
import { f32, values } from './util/tensors.ts';

interface Handles {
  readonly model: NativeModel;
  readonly store: NativeImageStore;
  /** Read before the handles were busy or disposed. */
  readonly weights: ReturnType<NativeModel['stateDict']>;
  readonly stats: ReturnType<ReturnType<typeof ops>['initialClassStats']>;
}
type Outcome = 'ok' | 'E_CONFIG';
type Row = readonly [call: (handles: Handles) => unknown, open: Outcome, busy: Outcome, disposed: Outcome];

const MODEL_ROWS = {
  state: [({ model }) => model.state, 'ok', 'ok', 'ok'],
  parameterCount: [({ model }) => model.parameterCount, 'ok', 'ok', 'E_CONFIG'],
  normLayers: [({ model }) => model.normLayers, 'ok', 'ok', 'E_CONFIG'],
  stateDict: [({ model }) => model.stateDict(), 'ok', 'E_CONFIG', 'E_CONFIG'],
  loadStateDict: [({ model, weights }) => model.loadStateDict(weights), 'ok', 'E_CONFIG', 'E_CONFIG'],
  optimizerState: [({ model }) => model.optimizerState(), 'ok', 'E_CONFIG', 'E_CONFIG'],
  loadOptimizerState: [({ model }) => model.loadOptimizerState({}), 'ok', 'E_CONFIG', 'E_CONFIG'],
  dispose: [({ model }) => model.dispose(), 'ok', 'E_CONFIG', 'ok'],
} satisfies Record<Exclude<keyof NativeModel, symbol>, Row>;

const STORE_ROWS = {
  state: [({ store }) => store.state, 'ok', 'ok', 'ok'],
  count: [({ store }) => store.count, 'ok', 'ok', 'ok'],
  bytes: [({ store }) => store.bytes, 'ok', 'ok', 'ok'],
  append: [({ store }) => store.append(new Uint8Array(64), Int32Array.of(0), APPEND), 'ok', 'E_CONFIG', 'E_CONFIG'],
  sizes: [({ store }) => store.sizes(), 'ok', 'E_CONFIG', 'E_CONFIG'],
  labels: [({ store }) => store.labels(), 'ok', 'E_CONFIG', 'E_CONFIG'],
  image: [({ store }) => store.image(0), 'ok', 'E_CONFIG', 'E_CONFIG'],
  dispose: [({ store }) => store.dispose(), 'ok', 'E_CONFIG', 'ok'],
} satisfies Record<Exclude<keyof NativeImageStore, symbol>, Row>;

const job =
  (name: JobName) =>
  ({ model, store }: Handles): unknown =>
    JOBS[name](model, store, 1).promise;
const refusing = (call: Row[0]): Row => [call, 'ok', 'E_CONFIG', 'E_CONFIG'];

const CALL_ROWS: Record<string, Row> = {
  train: refusing(job('train')),
  collectStats: refusing(job('collectStats')),
  synthesize: refusing(job('synthesize')),
  label: refusing(job('label')),
  evaluate: refusing(job('evaluate')),
  similarity: refusing(job('similarity')),
  'ops.renderBatch': refusing(({ store }) => ops().renderBatch(store, recipesOf(1), 8)),
  'ops.initialClassStats': refusing(({ model }) => ops().initialClassStats(model, 'ema')),
  'ops.finishClassStats': refusing(({ model, stats }) => ops().finishClassStats(model, 'ema', stats)),
  'ops.forward': refusing(({ model }) => ops().forward(model, f32([1, 1, 8, 8], new Float32Array(64)), 'fp32')),
};

function open(): Handles {
  const [model, store] = [openModel(), openStore()];
  return { model, store, weights: model.stateDict(), stats: ops().initialClassStats(model, 'ema') };
}

describe.each([
  ['Model', MODEL_ROWS],
  ['ImageStore', STORE_ROWS],
  ['calls', CALL_ROWS],
] as [string, Record<string, Row>][])('%s', (_kind, rows) => {
  const table = Object.entries(rows).map(([name, row]) => [name, row] as const);

  test.each(table)('%s on open handles', async (_name, [call, wanted]) => {
    expect(await codeOf(() => call(open()))).toBe(wanted);
  });

  test.each(table)('%s while a job runs', async (_name, [call, , wanted]) => {
    const handles = open();
    const running = busyJob(handles.model, handles.store);
    expect([handles.model.state, handles.store.state]).toEqual(['busy', 'busy']);
    expect(await codeOf(() => call(handles))).toBe(wanted);
    expect([running.ended(), handles.model.state, handles.store.state]).toEqual([false, 'busy', 'busy']);
  });

  test.each(table)('%s after dispose', async (_name, [call, , , wanted]) => {
    const handles = open();
    handles.model.dispose();
    handles.store.dispose();
    expect([handles.model.state, handles.store.state]).toEqual(['disposed', 'disposed']);
    expect(await codeOf(() => call(handles))).toBe(wanted);
    expect([handles.model.state, handles.store.state]).toEqual(['disposed', 'disposed']);
  });
});

test('the tables name every method and property that the addon defines', () => {
  const members = (handle: object): string[] =>
    Object.getOwnPropertyNames(Object.getPrototypeOf(handle)).filter((name) => name !== 'constructor');
  const { model, store } = open();
  expect(members(model).sort()).toEqual(Object.keys(MODEL_ROWS).sort());
  expect(members(store).sort()).toEqual(Object.keys(STORE_ROWS).sort());
});

test('[Symbol.dispose] is dispose', () => {
  const { model, store } = open();
  for (const handle of [model, store]) {
    handle[Symbol.dispose]();
    expect(handle.state).toBe('disposed');
  }
});

test('a disposed store holds nothing', () => {
  const store = openStore();
  expect([store.count, store.bytes]).toEqual([6, 6 * 64]);
  store.dispose();
  store.dispose();
  expect([store.count, store.bytes]).toEqual([0, 0]);
});

describe('two jobs', () => {
  test.each(Object.keys(JOBS) as JobName[])('%s makes its handles busy until it has settled', async (name) => {
    const { model, store } = open();
    const running = JOBS[name](model, store, 3);
    const other = name === 'synthesize' ? 'open' : 'busy';
    expect([model.state, store.state]).toEqual(['busy', other]);
    await running.promise;
    expect([model.state, store.state]).toEqual(['open', 'open']);
  });

  test('a second job on the same model, or on the same store, is refused and disturbs nothing', async () => {
    const { model, store } = open();
    const running = busyJob(model, store);
    for (const name of Object.keys(JOBS) as JobName[]) {
      if (name !== 'synthesize') expect(await codeOf(() => JOBS[name](openModel(), store, 1).promise)).toBe('E_CONFIG');
      if (name !== 'collectStats')
        expect(await codeOf(() => JOBS[name](model, openStore(), 1).promise)).toBe('E_CONFIG');
    }
    expect(running.ended()).toBe(false);
    expect(await running.stop()).toBe('E_CANCELLED');
    expect(await codeOf(() => JOBS.evaluate(model, store, 1).promise)).toBe('ok');
  });

  test('a refused job leaves the handle that was free open', async () => {
    const { model, store } = open();
    const free = openStore();
    busyJob(model, store);
    expect(await codeOf(() => JOBS.evaluate(model, free, 1).promise)).toBe('E_CONFIG');
    expect(free.state).toBe('open');
  });

  test('jobs on other handles wait and succeed, first in, first out', async () => {
    const running = busyJob(openModel(), openStore());
    const order: number[] = [];
    const queued = [0, 1, 2].map((i) =>
      JOBS.evaluate(openModel(), openStore(), 1).promise.then((result) => {
        order.push(i);
        return result.count;
      }),
    );
    await new Promise((done) => setTimeout(done, 50));
    expect([order, running.ended()]).toEqual([[], false]);
    await running.stop();
    expect(await Promise.all(queued)).toEqual([2, 2, 2]);
    expect(order).toEqual([0, 1, 2]);
  });

  test('one call may not use a handle that its own spec disposes of or makes busy while it is read', async () => {
    const { model, store } = open();
    const recipes = recipesOf(1);
    const spec = (during: () => void) => ({
      precision: 'fp32' as const,
      threads: 1,
      deterministic: true,
      input: { size: 8, normalize: f32([1, 256], new Float32Array(256)) },
      get recipes() {
        during();
        return recipes;
      },
    });
    const inner: Promise<unknown>[] = [];
    const start = () => inner.push(JOBS.evaluate(model, store, 1).promise);
    expect(await codeOf(() => native().evaluate(model, store, spec(start), () => {}).promise)).toBe('E_CONFIG');
    await Promise.all(inner);
    const dispose = () => model.dispose();
    expect(await codeOf(() => native().evaluate(model, store, spec(dispose), () => {}).promise)).toBe('E_CONFIG');
    expect([model.state, store.state]).toEqual(['disposed', 'open']);
  });
});

describe('wrong objects', () => {
  const impostors = ({ model, store }: Handles, wrong: 'model' | 'store'): [string, unknown][] => [
    ['nothing', undefined],
    ['null', null],
    ['a number', 1],
    ['a string', 'model'],
    ['an empty object', {}],
    ['a lookalike', { state: 'open', normLayers: [], count: 1, dispose() {} }],
    ['the other handle', wrong === 'model' ? store : model],
    ['an object that inherits from a handle', Object.create(wrong === 'model' ? model : store)],
    ['a proxy of a handle', new Proxy(wrong === 'model' ? model : store, {})],
    ['the class', (wrong === 'model' ? model : store).constructor],
  ];

  test.each(Object.keys(JOBS) as JobName[])('%s refuses what is no handle', (name) => {
    const handles = open();
    const { model, store } = handles;
    // the check comes before the spec is read: an empty one does
    const start = native()[name] as unknown as (...args: unknown[]) => unknown;
    for (const [what, impostor] of impostors(handles, 'model'))
      expect(() => start(name === 'label' ? [impostor] : impostor, store, {}, () => {}), what).toThrow(
        expect.objectContaining({ code: 'E_INTERNAL', message: 'expected a Model handle' }),
      );
    if (name === 'synthesize') return;
    for (const [what, impostor] of impostors(handles, 'store'))
      expect(() => start(name === 'label' ? [model] : model, impostor, {}, () => {}), what).toThrow(
        expect.objectContaining({ code: 'E_INTERNAL', message: 'expected an ImageStore handle' }),
      );
  });

  test('a method called on another object is a TypeError', () => {
    const { model, store } = open();
    for (const other of [store, {}, Object.create(model)])
      expect(() => model.stateDict.call(other)).toThrow(/Illegal invocation|Invalid argument/);
    for (const other of [model, {}, Object.create(store)])
      expect(() => store.sizes.call(other)).toThrow(/Illegal invocation|Invalid argument/);
  });

  test('a model from one class cannot be made by calling or by an empty spec', () => {
    const { model } = open();
    const Model = model.constructor as unknown as { new (spec: unknown): NativeModel; (spec: unknown): NativeModel };
    expect(() => Model({})).toThrow(TypeError);
    expect(() => new Model({})).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }));
  });
});

test('a store may be read by one job after another, and a copy of its tensors is the caller’s own', async () => {
  const { model, store } = open();
  const before = store.image(0);
  before.data.fill(0);
  const weights = model.stateDict();
  for (const view of Object.values(weights)) view.data.fill(0);
  expect(values(store.image(0)).some((value) => value !== 0)).toBe(true);
  expect(Object.values(model.stateDict()).some((view) => view.data.some((byte) => byte !== 0))).toBe(true);
  const first = await JOBS.label(model, store, 3).promise;
  first.tensors.logits!.data.fill(0);
  expect((await JOBS.label(model, store, 3).promise).tensors.logits!.data.some((byte) => byte !== 0)).toBe(true);
});
