// --verify-data: the id of a dataset stays, the content read is kept in run.json, and other content under the same id is
// refused by name, for a finished artifact and for an interrupted one.

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { SMALL_FILE_BYTES } from '../src/datasets/identity.ts';
import type { RunOptions } from '../src/run.ts';
import { runStage } from '../src/run.ts';
import { drawn, edit, idxPair, put } from './datasets/writers.ts';
import { refusal } from './util/hostile.ts';
import { optionsOf, tiny, watching } from './util/tiny.ts';

let root = '';
let data = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-verify-'));
  data = join(root, 'data');
  // The image file has to be a large one; most images are of a class that is left out.
  const labels = Array.from({ length: SMALL_FILE_BYTES / 64 + 100 }, (_, i) => (i < 120 ? i % 2 : 2));
  const [images, classes] = idxPair(drawn(labels, 8, 8, 1, 0));
  await put(data, { 'train-images-idx3-ubyte': images, 'train-labels-idx1-ubyte': classes });
});
afterAll(() => rm(root, { recursive: true, force: true }));

const config = () =>
  tiny({ dataset: { format: 'idx', path: data, classes: [0, 1] }, squeeze: { epochs: 30, batch: 10 } });
const squeeze = (name: string, change: Partial<RunOptions>) =>
  runStage('squeeze', config(), { ...optionsOf(join(root, name), change), inputs: {} });
/** Turns over the last byte of the images: nothing of it is in a class that is kept. */
const change = () =>
  edit(join(data, 'train-images-idx3-ubyte'), (bytes) => bytes.fill(bytes.at(-1)! ^ 255, bytes.length - 1));
const notes = async (name: string) => JSON.parse(await readFile(join(root, name, 'run.json'), 'utf8'));

test('the id is the same with and without; other content is refused with E_DATA that names the dataset', async () => {
  const plain = await squeeze('plain', {});
  const first = await squeeze('verified', { verifyData: true });
  expect(first.id).toBe(plain.id);
  expect((await notes('plain')).data).toBeUndefined();
  expect((await notes('verified')).data).toEqual({ name: 'idx', content: expect.stringMatching(/^[0-9a-f]{64}$/) });
  expect((await squeeze('verified', { verifyData: true })).id).toBe(first.id);

  await change();
  expect((await squeeze('verified', {})).id).toBe(first.id); // names, sizes and small files say the same
  const error = await refusal(() => squeeze('verified', { verifyData: true }));
  expect(error).toMatchObject({ code: 'E_DATA', details: { dataset: 'idx', id: first.manifest.inputs.dataset } });
  expect(error.message).toContain('dataset idx');
  expect(error.message).toContain('restore the files');
  await change();
  expect((await squeeze('verified', { verifyData: true })).id).toBe(first.id);
});

test('an artifact made without verification says that there is nothing to compare with', async () => {
  await squeeze('unverified', {});
  const { sink, steps } = watching();
  await squeeze('unverified', { verifyData: true, progress: sink });
  expect(steps.map((step) => step.line)).toContain(
    'made before its data was verified: there is no content hash to compare with',
  );
  expect((await notes('unverified')).data).toBeUndefined(); // a finished artifact is not written to
});

test('an interrupted artifact is not finished from other content', async () => {
  const controller = new AbortController();
  const { sink } = watching((step) => {
    if (step.label === 'teacher' && step.done > step.total / 3) controller.abort();
  });
  const stopped = { verifyData: true, progress: sink, signal: controller.signal };
  expect((await refusal(() => squeeze('stopped', stopped))).code).toBe('E_CANCELLED');
  await change();
  expect(await refusal(() => squeeze('stopped', { verifyData: true }))).toMatchObject({ code: 'E_DATA' });
  await change();
  await squeeze('stopped', { verifyData: true });
  expect((await openArtifact(join(root, 'stopped'))).id).toBe((await openArtifact(join(root, 'plain'))).id);
});
