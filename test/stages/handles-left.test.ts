// A stage that fails leaves no native handle behind, wherever it fails: whoever catches the error and tries again must not
// wait for the garbage collector. Every stage is made to fail once at each kind of progress and each kind of file written.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { ArtifactDraft, openArtifact } from '../../src/artifact.ts';
import { openDataset } from '../../src/datasets/index.ts';
import { resolveRuntime, runStage } from '../../src/run.ts';
import { writeSafetensors } from '../../src/safetensors.ts';
import { Handles } from '../../src/stages/handles.ts';
import { loadStore } from '../../src/stages/images.ts';
import { loadTeacher } from '../../src/stages/shared.ts';
import { openTeachers } from '../../src/stages/teachers.ts';
import type { StageName } from '../../src/stages/types.ts';
import { watchHandles } from '../util/handle-watch.ts';
import { refusal } from '../util/hostile.ts';
import { native } from '../util/native.ts';
import { inputsIn, makeChain, optionsOf, RUNTIME, tiny, watching } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 60_000 });

const CHAIN: readonly StageName[] = ['squeeze', 'synthesize', 'relabel', 'prune', 'train'];
const FAST = { squeeze: { epochs: 1 }, synthesize: { iterations: 8 }, train: { epochs: 4 } };
const config = tiny(FAST);
let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-handles-'));
  await makeChain(root, config, CHAIN);
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Failure = 'throw' | 'abort';

/** Runs a stage, calls `at` with the name of every moment that a failure can be made at. */
async function runWith(
  stage: StageName,
  at: (moment: string) => void,
  change: { given?: typeof config; memory?: number; signal?: AbortSignal } = {},
): Promise<void> {
  const { sink } = watching(({ what, label }) => at(`${what} ${label}`));
  const prototype = ArtifactDraft.prototype;
  const spies = (['writeFiles', 'writeJson', 'writeTensors', 'saveState'] as const).map((method) => {
    const original = prototype[method] as (...args: unknown[]) => Promise<void>;
    return vi.spyOn(prototype, method).mockImplementation(async function (this: ArtifactDraft, ...args: unknown[]) {
      at(`${method} ${typeof args[0] === 'string' ? args[0] : ''}`);
      return original.apply(this, args);
    });
  });
  const out = await mkdtemp(join(root, 'out-'));
  try {
    await runStage(stage, change.given ?? config, {
      ...optionsOf(join(out, 'made'), {
        progress: sink,
        runtime: { ...RUNTIME, memory: change.memory ?? RUNTIME.memory! },
        ...(change.signal === undefined ? {} : { signal: change.signal }),
      }),
      inputs: inputsIn(root, stage, CHAIN),
    });
  } finally {
    for (const spy of spies) spy.mockRestore();
  }
}

const cases: [name: string, stage: StageName, change: { given?: typeof config; memory?: number }][] = [
  ['squeeze', 'squeeze', {}],
  ['squeeze, streaming', 'squeeze', { memory: 24_000 }],
  ['synthesize', 'synthesize', {}],
  ['synthesize, real images', 'synthesize', { given: tiny({ ...FAST, synthesize: { method: 'random' } }) }],
  ['relabel', 'relabel', {}],
  ['relabel with a fit', 'relabel', { given: tiny({ ...FAST, relabel: { codec: 'klt:2' } }) }],
  ['prune by a metric', 'prune', { given: tiny({ ...FAST, prune: { keep: 'metric', metric: 'correct' } }) }],
  ['train', 'train', {}],
  ['evaluate', 'evaluate', {}],
  ['evaluate, streaming', 'evaluate', { given: tiny({ ...FAST, evaluate: { batch: 64 } }), memory: 24_000 }],
];

describe.each(cases)('%s', (_, stage, change) => {
  test.each<Failure>(['throw', 'abort'])('leaves no handle where it is stopped: %s', async (failure) => {
    const watch = watchHandles();
    const moments = new Map<string, number>(); // how often each happens
    await runWith(stage, (moment) => moments.set(moment, (moments.get(moment) ?? 0) + 1), change);
    expect(watch.live()).toEqual([]);
    const opens = watch.made;
    expect(moments.size).toBeGreaterThan(2);
    let stopped = 0;
    for (const [moment, times] of moments)
      for (const turn of new Set([1, Math.ceil(times / 2)])) {
        watch.clear();
        const controller = new AbortController();
        let seen = 0;
        const at = (now: string): void => {
          if (now !== moment || ++seen !== turn) return;
          if (failure === 'throw') throw new Error(`made to fail at ${moment}`);
          controller.abort();
        };
        const failed = await runWith(stage, at, { ...change, signal: controller.signal }).then(
          () => false,
          () => true,
        );
        if (failed) stopped++;
        expect(watch.live(), `${failure} at ${moment}, time ${turn}`).toEqual([]);
      }
    expect(stopped).toBeGreaterThan(0);
    if (stage !== 'prune') expect(opens).toBeGreaterThan(change.memory === undefined ? 0 : 5); // streaming takes many
  });
});

describe('what is refused half-way', () => {
  test('labels of other images leave no store and no model of the training', async () => {
    const watch = watchHandles();
    const error = await refusal(() => runWith('train', () => {}, { given: tiny({ dataset: { inputSize: 16 } }) }));
    expect(error.code).toBe('E_MISMATCH');
    expect(watch.made).toBeGreaterThan(0);
    expect(watch.live()).toEqual([]);
  });

  test('weights that do not fit leave no model, imported or read from an artifact', async () => {
    const watch = watchHandles();
    const path = join(root, 'other.safetensors');
    await writeSafetensors(path, { x: { dtype: 'U8', shape: [1], data: new Uint8Array(1) } });
    const error = await refusal(() => runWith('squeeze', () => {}, { given: tiny({ squeeze: { weights: path } }) }));
    expect(error.code).toBe('E_MISMATCH');
    const artifact = await openArtifact(join(root, 'squeeze'));
    const runtime = resolveRuntime(optionsOf(root));
    const readTensors = vi.spyOn(artifact, 'readTensors').mockRejectedValue(new Error('a damaged file'));
    await expect(loadTeacher(native(), runtime, artifact)).rejects.toThrow('a damaged file');
    readTensors.mockResolvedValue({});
    await expect(loadTeacher(native(), runtime, artifact)).rejects.toMatchObject({ code: 'E_MISMATCH' });
    expect(watch.made).toBe(3);
    expect(watch.live()).toEqual([]);
  });

  test('an ensemble whose second teacher cannot be read leaves no first', async () => {
    const watch = watchHandles();
    const [teacher, teacher2] = [await openArtifact(join(root, 'squeeze')), await openArtifact(join(root, 'squeeze'))];
    vi.spyOn(teacher2, 'readTensors').mockRejectedValue(new Error('a damaged file'));
    const { load } = await openTeachers({ teacher, teacher2 });
    await expect(load(native(), resolveRuntime(optionsOf(root)))).rejects.toThrow('a damaged file');
    expect(watch.made).toBe(2);
    expect(watch.live()).toEqual([]);
  });

  test('a split that does not fit or cannot be read leaves no store', async () => {
    const watch = watchHandles();
    const { train, channels } = await openDataset('digits', '', {
      classes: null,
      skipUnreadable: false,
      verify: false,
    });
    const runtime = resolveRuntime(optionsOf(root, { runtime: { ...RUNTIME, memory: 1000 } }));
    expect((await refusal(() => loadStore({ native: native(), runtime }, train, channels))).code).toBe('E_DEVICE');
    const broken = {
      ...train,
      read(): never {
        throw new Error('unread');
      },
    };
    await expect(loadStore({ native: native(), runtime }, broken, channels)).rejects.toThrow('unread');
    expect(watch.made).toBe(2);
    expect(watch.live()).toEqual([]);
  });
});

describe('Handles', () => {
  const handle = (log: string[], name: string, fails = false): Disposable => ({
    [Symbol.dispose]() {
      log.push(name);
      if (fails) throw new Error(name);
    },
  });

  test('are disposed last first, all of them even where one refuses, and once', () => {
    const log: string[] = [];
    const handles = new Handles();
    for (const name of ['a', 'b', 'c']) handles.add(handle(log, name, name === 'b'));
    expect(() => handles[Symbol.dispose]()).toThrow('b');
    handles[Symbol.dispose]();
    expect(log).toEqual(['c', 'b', 'a']);
  });

  test('are left alone once they were handed on', () => {
    const log: string[] = [];
    {
      using handles = new Handles();
      const one = handles.add(handle(log, 'a'));
      const moved = handles.move();
      expect(moved.all).toEqual([one]);
      expect(handles.all).toEqual([]);
      handles[Symbol.dispose]();
      expect(log).toEqual([]);
      moved[Symbol.dispose]();
    }
    expect(log).toEqual(['a']);
  });
});
