// Same plan, same bytes: synthesis in one go, in shards, of some classes, interrupted. Different plans: the same images to
// 1e-5 while rounding has not grown, and as good ones afterwards.

import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { type Artifact, openArtifact } from '../../src/artifact.ts';
import { openSyntheticSet } from '../../src/datasets/synthetic-set.ts';
import { type MergeOptions, mergeShards } from '../../src/merge.ts';
import { runStage } from '../../src/run.ts';
import { arrayOf } from '../../src/tensor.ts';
import { refusal } from '../util/hostile.ts';
import { Bench, imagesOf, six } from '../util/synthesis.ts';
import { makeChain, optionsOf, RUNTIME, watching } from '../util/tiny.ts';
import { expectEachClose } from '../util/tolerance.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const bench = new Bench();
beforeAll(() => bench.open());
afterAll(() => bench.close());

const merge = (shards: readonly string[], out: string, change: Partial<MergeOptions> = {}): Promise<Artifact> =>
  mergeShards(
    shards.map((name) => bench.out(name)),
    {
      ...optionsOf(bench.out(out)),
      teacher: bench.teacher,
      ...change,
    },
  );

describe.each([
  ['lpld', { method: 'lpld' }],
  ['sre2l', { method: 'sre2l', ipc: 6, batch: 4 }], // a class is spread over forwards and so over shards
])('%s', (method, options) => {
  test('two and three shards, joined in any order, are the artifact of the whole run', async () => {
    const whole = await bench.make(`${method}-whole`, options);
    for (const count of [2, 3]) {
      const names = Array.from({ length: count }, (_, i) => `${method}-${i + 1}-of-${count}`);
      for (const [i, name] of names.entries()) {
        const shard = await bench.make(name, { ...options, shard: `${i + 1}/${count}` });
        expect(shard.manifest.summary).toMatchObject({ shard: `${i + 1}/${count}` });
        expect(shard.id).not.toBe(whole.id);
        expect(imagesOf(whole)).toMatchObject(imagesOf(shard));
      }
      const joined = await merge(names.reverse(), `${method}-joined-${count}`);
      expect(joined.manifest).toEqual(whole.manifest);
      expect(joined.id).toBe(whole.id);
      await openArtifact(joined.dir, { verify: true });
      expect((await openSyntheticSet(joined.dir)).train.count).toBe(Object.keys(imagesOf(whole)).length);
    }
  });
});

test('a selection of classes and an interrupted run have the bytes of the whole run', async () => {
  const whole = imagesOf(await bench.make('whole'));
  const some = await bench.make('some', { classes: [2, 3, 4, 5] });
  expect(Object.keys(imagesOf(some))).toHaveLength(8);
  expect(whole).toMatchObject(imagesOf(some));
  const controller = new AbortController();
  const { sink } = watching(({ what, done, total }) => {
    if (what === 'update' && done >= 0.4 * total) controller.abort();
  });
  const inputs = { teacher: bench.teacher };
  const stopped = { ...optionsOf(bench.out('stopped'), { progress: sink, signal: controller.signal }), inputs };
  expect((await refusal(() => runStage('synthesize', six(), stopped))).code).toBe('E_CANCELLED');
  expect(imagesOf(await bench.make('stopped'))).toEqual(whole);
});

describe('merge into the draft of an interrupted run', () => {
  const [roomy, cramped] = [2 ** 30, 2 ** 16]; // bytes that size a plan which the options leave open
  const open = { groupsPerForward: null, iterations: 2 };

  /** Stops a whole run at a share of its iterations: the files its draft holds. */
  async function interrupted(name: string, memory: number): Promise<string[]> {
    const controller = new AbortController();
    const { sink } = watching(({ what, done, total }) => {
      if (what === 'update' && done >= 0.6 * total) controller.abort();
    });
    const runtime = { ...RUNTIME, memory };
    const options = optionsOf(bench.out(name), { progress: sink, signal: controller.signal, runtime });
    const inputs = { teacher: bench.teacher };
    const error = await refusal(() => runStage('synthesize', six(open), { ...options, inputs }));
    expect(error.code).toBe('E_CANCELLED');
    const dir = `${bench.out(name)}.partial`;
    return readdirSync(dir, { recursive: true, encoding: 'utf8' }).filter((path) =>
      /^(images|losses)\/.*\./.test(path),
    );
  }

  test.each([
    ['another plan', roomy, cramped],
    ['the same plan', cramped, cramped],
  ])('%s: the set is that of the shards, nothing of the draft is mixed in', async (what, ofShards, ofDraft) => {
    const shard = `open-${ofShards}`;
    await bench.make(shard, { ...open, shard: '1/1' }, { memory: ofShards });
    const clean = await merge([shard], `clean-${ofShards}`);
    const begun = await interrupted(`begun-${what}`, ofDraft);
    expect(begun.filter((path) => path.startsWith('losses/')).length).toBeGreaterThan(0); // else nothing is tested here
    const other = begun.some((path) => !clean.has(path));
    expect(other).toBe(what === 'another plan');
    const joined = await merge([shard], `begun-${what}`);
    expect(joined.manifest).toEqual(clean.manifest);
    await openArtifact(joined.dir, { verify: true });
  });
});

describe('what is no whole set is refused', () => {
  beforeAll(async () => {
    for (const shard of ['1/3', '2/3', '3/3', '1/2']) await bench.make(shard.replace('/', '-'), { shard });
    await bench.make('other-lr', { shard: '2/3', lr: 0.2 });
    await bench.make('other-plan', { shard: '3/3', groupsPerForward: 1 });
    await bench.make('set');
  });

  test('by relabel and by train, with the command that joins', async () => {
    const inputs = { teacher: bench.teacher, images: bench.out('1-3') };
    const error = await refusal(() => runStage('relabel', six(), { ...optionsOf(bench.out('labels')), inputs }));
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toMatch(/shard 1\/3 of one.*\n.*lpld-native merge/);
  });

  test.each([
    ['a gap', ['1-3', '3-3'], /all 6 groups .*none that holds groups 2 to 3"\ngiven: 1\/3, 3\/3/],
    ['an overlap', ['1-3', '1-2', '2-3', '3-3'], /each group in one shard .*group 0 in .*1-3 .*1\/3.* and in .*1-2/],
    ['the same shard twice', ['1-3', '2-3', '3-3', '3-3'], /group 4 in .*3-3/],
    ['another learning rate', ['1-3', 'other-lr', '3-3'], /synthesize\.lr differs/],
    ['another number of groups per forward', ['1-3', '2-3', 'other-plan'], /synthesize\.groupsPerForward differs/],
    ['a whole set', ['set'], /a shard of synthesize .* "a whole set"/],
    ['a teacher', ['squeeze'], /a shard of synthesize .* "squeeze/],
  ])('%s: E_MISMATCH that says so', async (_what, shards, message) => {
    const error = await refusal(() => merge(shards, 'refused'));
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toMatch(message);
    expect(readdirSync(bench.root).filter((name) => name.startsWith('refused'))).toEqual([]); // no draft either
  });

  test('a shard as the output folder: E_CONFIG, and the shard stays', async () => {
    const { id } = await openArtifact(bench.out('2-3'));
    const error = await refusal(() => merge(['1-3', '2-3', '3-3'], '2-3'));
    expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringContaining('would replace what is read')]);
    expect((await openArtifact(bench.out('2-3'))).id).toBe(id);
  });

  test('plans sized by other machines: E_MISMATCH with both sizes', async () => {
    for (const [shard, memory] of [
      ['1/1', 2 ** 30],
      ['2/6', 2 ** 16],
    ] as const)
      await bench.make(`sized-${shard[0]}`, { shard, groupsPerForward: null, iterations: 2 }, { memory });
    const error = await refusal(() => merge(['sized-1', 'sized-2'], 'refused'));
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toMatch(/groups per forward \(\d+ and \d+\).*\n.*--groups-per-forward/);
  });

  test('another teacher, a damaged image and a damaged record', async () => {
    const other = bench.out('other');
    await makeChain(other, { ...six(), seed: 5 }, ['squeeze']);
    const all = ['1-3', '2-3', '3-3'];
    const teacher = join(other, 'squeeze');
    expect((await refusal(() => merge(all, 'refused', { teacher }))).message).toMatch(/teacher .* --teacher/);
    const image = join(bench.out('2-3'), 'images/0002/000.png');
    const bytes = readFileSync(image);
    bytes[bytes.length - 20]! ^= 1;
    writeFileSync(image, bytes);
    expect(await refusal(() => merge(all, 'refused'))).toMatchObject({ code: 'E_DATA', details: { path: image } });
  });
});

test.each(['0/2', '3/2', '2', '-1/2', '1/2/3', 'a/b', '1/0'])('--shard %s is E_CONFIG', async (shard) => {
  expect((await refusal(() => bench.make('refused', { shard }))).code).toBe('E_CONFIG');
});

test('more shards than forwards, and a shard of a selection, are E_CONFIG', async () => {
  expect((await refusal(() => bench.make('refused', { shard: '1/4' }))).message).toContain('1 to 3 shards');
  expect((await refusal(() => bench.make('refused', { shard: '1/2', classes: [0, 1] }))).code).toBe('E_CONFIG');
});

describe('different plans', () => {
  test.each([1, 2])('agree to 1e-5 in every loss of every group over 20 iterations, %i threads', async (threads) => {
    const losses = async (name: string, groupsPerForward: number) => {
      const artifact = await bench.make(`${name}-${threads}`, { groupsPerForward, iterations: 20 }, { threads });
      const out: Record<string, number[][]> = { ce: [], bn: [] };
      for (const { path } of artifact.manifest.files.filter((file) => file.path.startsWith('losses/'))) {
        const tensors = await artifact.readTensors(path);
        for (const key of ['ce', 'bn'])
          for (let g = 0; g < tensors[key]!.shape[1]!; g++)
            out[key]!.push([...arrayOf(tensors[key]!, 'F64')].filter((_, i) => i % tensors[key]!.shape[1]! === g));
      }
      return out;
    };
    const [alone, together] = [await losses('plan-1', 1), await losses('plan-6', 6)];
    for (const key of ['ce', 'bn'])
      for (let g = 0; g < 6; g++) {
        expect(alone[key]![g]).toHaveLength(20);
        expectEachClose(`${key} of group ${g}`, together[key]![g]!, alone[key]![g]!, 1e-5);
      }
  });
});
