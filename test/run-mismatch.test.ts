// Good things that do not belong together are refused before any work: artifacts in the wrong role, labels of another
// image set, weights of another architecture. And weights that fit are imported, whoever wrote them.

import { existsSync } from 'node:fs';
import { cp, mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { loadNative } from '../src/addon.ts';
import { openArtifact, openDraft } from '../src/artifact.ts';
import type { Config } from '../src/config.ts';
import type { LpldError } from '../src/errors.ts';
import { readWeights } from '../src/interchange/index.ts';
import { runStage } from '../src/run.ts';
import { writeSafetensors } from '../src/safetensors.ts';
import type { StageName } from '../src/stages/types.ts';
import { arrayOf, type TensorMap } from '../src/tensor.ts';
import { cli } from './util/cli.ts';
import { refusal } from './util/hostile.ts';
import { hashesOf, makeChain, optionsOf, tiny, watching } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const config = tiny();
const otherImages = tiny({ seed: 1 });
const fourClasses = tiny({ dataset: { classes: [0, 1, 2, 3] } });
let root = '';
const at = (path: string): string => join(root, path);
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-mismatch-'));
  await makeChain(at('a'), config, ['squeeze', 'synthesize', 'relabel', 'prune', 'train']);
  await cp(at('a/squeeze'), at('b/squeeze'), { recursive: true });
  await makeChain(at('b'), otherImages, ['synthesize']);
  await makeChain(at('four'), fourClasses, ['squeeze', 'synthesize']);
});
afterAll(() => rm(root, { recursive: true, force: true }));

/** Runs a stage that must be refused; no artifact may appear. */
async function refused(stage: StageName, inputs: Record<string, string>, of: Config = config): Promise<LpldError> {
  const folders = Object.fromEntries(Object.entries(inputs).map(([role, folder]) => [role, at(folder)]));
  const error = await refusal(() => runStage(stage, of, { ...optionsOf(at('refused')), inputs: folders }));
  for (const left of ['refused', 'refused.partial']) expect(await readdir(root)).not.toContain(left);
  return error;
}

describe('artifacts in the wrong role', () => {
  test.each([
    ['synthesize', { teacher: 'a/synthesize' }, 'squeeze', 'synthesize'],
    ['relabel', { teacher: 'a/squeeze', images: 'a/squeeze' }, 'synthesize', 'squeeze'],
    ['prune', { labels: 'a/synthesize' }, 'relabel or prune', 'synthesize'],
    ['train', { images: 'a/synthesize', labels: 'a/train' }, 'relabel or prune', 'train'],
    ['evaluate', { students: 'a/squeeze' }, 'train', 'squeeze'],
  ] as const)('%s', async (stage, inputs, wanted, given) => {
    const error = await refused(stage, inputs);
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain(`expected an artifact of ${wanted}`);
    expect(error.message).toContain(`one of ${given}`);
  });

  test('a folder that is no artifact is E_DATA with its path', async () => {
    const error = await refused('relabel', { teacher: 'a/squeeze', images: 'a' });
    expect(error.code).toBe('E_DATA');
    expect(String(error.details.path)).toContain(at('a'));
    expect(error.message).toContain(`did you mean ${at('a/synthesize')}?`); // a run folder
    expect((await refused('evaluate', { students: 'nowhere' })).message).toContain('there is no such folder');
    await mkdir(at('begun/train.partial'), { recursive: true });
    expect((await refused('evaluate', { students: 'begun/train' })).message).toContain('it is not finished');
  });
});

describe('an output folder that holds something else', () => {
  const hold = (stage: StageName, inputs: Record<string, string>, out: string, of: Config = config) =>
    runStage(stage, of, {
      ...optionsOf(at(out)),
      inputs: Object.fromEntries(Object.entries(inputs).map(([role, folder]) => [role, at(folder)])),
    });
  const kept = async (folder: string, work: () => Promise<unknown>): Promise<LpldError> => {
    const before = (await openArtifact(at(folder))).id;
    const error = await refusal(work);
    expect((await openArtifact(at(folder), { verify: true })).id).toBe(before);
    expect(error.code).toBe('E_CONFIG');
    return error;
  };

  test('what a stage reads is not replaced by what it makes', async () => {
    const half = tiny({ prune: { pruneRatio: 0, codec: 'dense:int8' } });
    await symlink(at('a/prune'), at('pool'));
    for (const out of ['a/prune', 'a/prune/', 'pool']) {
      const error = await kept('a/prune', () => hold('prune', { labels: 'a/prune' }, out, half));
      expect(error.message).toContain('another folder than that of labels');
    }
  });

  test.each([
    ['', 'the name of a folder'],
    ['note.txt', 'a folder'],
    ['note.txt/x', 'a folder'],
  ])('a folder that cannot be one: %j', async (out, wanted) => {
    await writeFile(at('note.txt'), 'x');
    const inputs = { labels: at('a/relabel') };
    const error = await refusal(() => runStage('prune', config, { ...optionsOf(out && at(out)), inputs }));
    expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringContaining(`expected ${wanted} for --out`)]);
    expect(existsSync('.partial')).toBe(false);
  });

  test('an artifact of another stage is not replaced', async () => {
    const error = await kept('a/squeeze', () => hold('evaluate', { students: 'a/train' }, 'a/squeeze'));
    expect(error.message).toContain('it holds what squeeze made');
    expect(await readdir(at('a'))).not.toContain('squeeze.partial');
  });

  test("one of the same stage is on the user's word, and the log says so; so it does of what was only begun", async () => {
    const lines = async (of: Config, replace = false): Promise<string[]> => {
      const { sink, steps } = watching();
      await runStage('prune', of, {
        ...optionsOf(at('pools'), { progress: sink }),
        replace,
        inputs: { labels: at('a/relabel') },
      });
      return steps.map(({ line }) => line).filter((line) => line !== '');
    };
    expect(await lines(config)).toEqual([]);
    expect(await lines(config)).toEqual([]); // kept
    const other = tiny({ prune: { pruneRatio: 0.25 } });
    expect(await lines(other, true)).toEqual([`${at('pools')} is replaced when this is done: as asked`]);
    await rm(at('pools'), { recursive: true });
    const { manifest } = await openArtifact(at('a/prune'));
    await openDraft(at('pools'), { ...manifest, config: {} });
    expect(await lines(other)).toEqual([expect.stringContaining('another config or other inputs is discarded')]);
  });
});

describe('an artifact without its manifest.json', () => {
  const lost = async (folder: string): Promise<void> => {
    await cp(at('a/prune'), at(folder), { recursive: true });
    await rm(at(`${folder}/manifest.json`));
  };
  const LIKELY = /looks like an artifact without its manifest\.json.*restore that file, or remove the folder and run/;

  test('is called one where a stage would write or read, and left as it is', async () => {
    await lost('lost');
    const names = (await readdir(at('lost'))).sort();
    const write = await refusal(() =>
      runStage('prune', config, { ...optionsOf(at('lost')), inputs: { labels: at('a/relabel') } }),
    );
    expect([write.code, write.message]).toEqual(['E_CONFIG', expect.stringMatching(LIKELY)]);
    const read = await refused('train', { images: 'a/synthesize', labels: 'lost' });
    expect([read.code, read.message]).toEqual(['E_DATA', expect.stringMatching(LIKELY)]);
    expect((await readdir(at('lost'))).sort()).toEqual(names);
  });

  test('a draft, a run folder and a folder of something else are called what they are', async () => {
    await mkdir(at('half.partial/.draft'), { recursive: true });
    const draft = await refused('train', { images: 'a/synthesize', labels: 'half.partial' });
    expect(draft.message).toContain(`not finished: run the command that makes ${at('half')} again`);
    await mkdir(at('whole/squeeze'), { recursive: true });
    await mkdir(at('photos'));
    for (const file of ['whole/config.json', 'photos/a.jpg']) await writeFile(at(file), '{}');
    const into = (out: string) =>
      refusal(() => runStage('prune', config, { ...optionsOf(at(out)), inputs: { labels: at('a/relabel') } }));
    expect((await into('whole')).message).toContain('looks like a run folder');
    expect((await into('photos')).message).toContain('it holds other files: choose another folder');
    for (const labels of ['photos', 'photos/a.jpg'])
      expect((await refused('train', { images: 'a/synthesize', labels })).message).toContain('holds no manifest.json');
  });

  test('inspect names it, also among the artifacts of a run folder, and passes over one in the making', async () => {
    await lost('run/prune');
    await cp(at('a/squeeze'), at('run/squeeze'), { recursive: true });
    await mkdir(at('run/train.partial/.draft'), { recursive: true });
    for (const dir of ['run', 'run/prune']) {
      const { code, err } = await cli(['inspect', at(dir)]);
      expect([dir, code, err]).toEqual([dir, 3, expect.stringMatching(LIKELY)]);
      expect(err).toContain(at('run/prune'));
    }
    await rm(at('run/prune'), { recursive: true });
    expect((await cli(['inspect', at('run')])).code).toBe(0);
  });
});

describe('artifacts of other data', () => {
  test.each(['a/relabel', 'a/prune'])('labels of another image set: %s', async (labels) => {
    const error = await refused('train', { images: 'b/synthesize', labels });
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('expected labels of the images');
    expect(error.details).toEqual({ labels: at(labels), images: at('b/synthesize') });
  });

  test('a teacher of other classes than the images', async () => {
    const error = await refused('relabel', { teacher: 'four/squeeze', images: 'a/synthesize' });
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('images of 4 classes');
  });

  test('students of other classes than the dataset', async () => {
    const error = await refused('evaluate', { students: 'a/train' }, fourClasses);
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('3 classes');
  });

  test('labels made at another input size', async () => {
    const error = await refused(
      'train',
      { images: 'a/synthesize', labels: 'a/relabel' },
      tiny({ dataset: { inputSize: 12 } }),
    );
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('12 px');
    expect(error.message).toContain('8 px');
  });

  test('a teacher without class statistics', async () => {
    const without = tiny({ squeeze: { stats: 'none' } });
    await makeChain(at('none'), without, ['squeeze']);
    const error = await refused('synthesize', { teacher: 'none/squeeze' });
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('class statistics');
  });
});

const pth = join(import.meta.dirname, 'fixtures', 'teacher.pth');

const NET = { options: { stem: 'imagenet', widths: [4, 4], pooling: 'avg' }, device: 'cpu', seed: 1n } as const;

/** The values make_teacher.py describes. */
function expectTeacher(weights: TensorMap): void {
  const model = loadNative().createModel({ ...NET, arch: 'convnet', numClasses: 3, inChannels: 1, inputSize: 8 });
  const names = Object.keys(model.stateDict()); // in the network's order, as the script numbers them
  model.dispose();
  expect(Object.keys(weights).sort()).toEqual([...names].sort());
  for (const [k, name] of names.entries()) {
    if (name.endsWith('num_batches_tracked')) {
      expect([...arrayOf(weights[name]!, 'I64')]).toEqual([11n]);
      continue;
    }
    const more = /norm\.weight|running_var/.test(name) ? 0.75 : 0;
    const values = [...arrayOf(weights[name]!, 'F32')];
    expect(values, name).toEqual(values.map((_, i) => ((7 * i + 3 * k) % 32) / 64 - 0.25 + more));
  }
}

describe('imported teachers', () => {
  const squeeze = (folder: string, weights: string, change: Record<string, unknown> = {}) =>
    runStage('squeeze', tiny({ squeeze: { ...change, weights } }), { ...optionsOf(at(folder)), inputs: {} });

  test('.pth of PyTorch and .safetensors give the same teacher and statistics, and nothing is trained', async () => {
    const fromTorch = await squeeze('pth', pth);
    const file = at('teacher.safetensors');
    await writeSafetensors(file, await readWeights(pth));
    const fromSafetensors = await squeeze('safetensors', file);
    expectTeacher(await fromTorch.readTensors('teacher.safetensors'));
    expect(hashesOf(fromSafetensors)).toEqual(hashesOf(fromTorch));
    expect(fromTorch.has('stats.safetensors')).toBe(true);
    expect(fromTorch.has('curves.json')).toBe(false);
  });

  test('the same weights under another path are the same teacher; other weights are another', async () => {
    const copied = at('copied.pth');
    await cp(pth, copied);
    const [here, there] = [await squeeze('here', pth), await squeeze('there', copied)];
    expect(there.id).toBe(here.id);
    const weights = await readWeights(pth);
    arrayOf(weights['classifier.bias']!, 'F32')[0]! += 1;
    await writeSafetensors(at('changed.safetensors'), weights);
    expect((await squeeze('changed', at('changed.safetensors'))).manifest.key).not.toBe(here.manifest.key);
  });

  test('weights of another architecture are refused by the names of their tensors', async () => {
    const wide = await refusal(() => squeeze('wide', pth, { widths: [8, 8] }));
    expect(wide.code).toBe('E_MISMATCH');
    expect(wide.message).toContain('features.0.conv.weight');
    const deep = await refusal(() => squeeze('deep', pth, { widths: [4, 4, 4] }));
    expect(deep.code).toBe('E_MISMATCH');
    expect(deep.message).toContain('features.2.conv.weight');
    const resnet = await refusal(() => squeeze('resnet', pth, { arch: 'resnet18' }));
    expect(resnet.code).toBe('E_MISMATCH');
    expect(resnet.message).toMatch(/conv1\.weight/);
  });

  test('a small-stem net refuses the 7x7 convolution of an ImageNet stem by name', async () => {
    const model = loadNative().createModel({ ...NET, arch: 'resnet18', numClasses: 3, inChannels: 1, inputSize: 32 });
    await writeSafetensors(at('imagenet.safetensors'), model.stateDict());
    model.dispose();
    const error = await refusal(() => squeeze('stem', at('imagenet.safetensors'), { arch: 'resnet18', stem: 'small' }));
    expect(error.code).toBe('E_MISMATCH');
    expect(error.message).toContain('conv1.weight');
    expect(error.message).toMatch(/7/);
  });

  test('weights that are not there are E_DATA with the path', async () => {
    const error = await refusal(() => squeeze('absent', at('absent.pth')));
    expect(error.code).toBe('E_DATA');
    expect(error.details.path).toBe(at('absent.pth'));
  });
});
