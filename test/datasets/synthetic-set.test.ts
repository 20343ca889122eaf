import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { openDraft } from '../../src/artifact.ts';
import { encodeImage } from '../../src/datasets/images.ts';
import { imageName, openSyntheticSet, type SetDescription } from '../../src/datasets/synthetic-set.ts';
import { imagesOf, readAll, scratch } from '../util/dataset-suite.ts';
import { testImage } from '../util/images.ts';
import { edit } from './writers.ts';

const SET: SetDescription = {
  channels: 3,
  size: 12,
  classNames: ['a', 'b', 'c', 'd'],
  mean: [0.5, 0.4, 0.3],
  std: [0.2, 0.2, 0.2],
  classes: [1, 3],
  ipc: 2,
  encoding: 'png',
};
const HEADER = {
  stage: 'synthesize',
  stageVersion: 1,
  config: {},
  inputs: {},
  deviceClass: 'cpu',
  precision: 'fp32',
} as const;
const pixelsOf = (classId: number, id: number, size = 12): Uint8Array => testImage(10 * classId + id, size, size, 3);

interface Change {
  readonly set?: Partial<Record<keyof SetDescription, unknown>>;
  readonly size?: number; // px of the images written
  readonly also?: string; // a further file
  readonly without?: string;
}

async function publish(dir: string, { set = {}, size = 12, also, without }: Change = {}): Promise<string> {
  const draft = await openDraft(dir, HEADER);
  for (const classId of SET.classes)
    for (let id = 0; id < SET.ipc; id++) {
      const name = imageName(classId, id, 'png');
      if (name !== without)
        await draft.writeFile(name, await encodeImage(pixelsOf(classId, id, size), size, size, 3, 'png'));
    }
  if (also !== undefined) await draft.writeFile(also, await encodeImage(pixelsOf(0, 0), 12, 12, 3, 'png'));
  if (without !== 'set.json') await draft.writeJson('set.json', { ...SET, ...set });
  await draft.publish({});
  return dir;
}

describe('openSyntheticSet', () => {
  const dirs = scratch();
  let dir = '';
  beforeAll(async () => {
    dir = await publish(join(await dirs.make(), 'set'));
  });

  test('is a Dataset of exactly the images listed, in order of class and id', async () => {
    const dataset = await openSyntheticSet(dir, { verify: true });
    const { classNames, channels, mean, std } = SET;
    expect(dataset).toMatchObject({ classNames, channels, mean, std, test: null, description: SET });
    const wanted = [1, 1, 3, 3].map((label, i) => ({ label, height: 12, width: 12, pixels: pixelsOf(label, i % 2) }));
    expect([...dataset.train.labels]).toEqual([1, 1, 3, 3]);
    expect(await imagesOf(dataset.train, 3)).toEqual(wanted);
  });

  test('the id follows the content, not the folder', async () => {
    const { id } = await openSyntheticSet(dir);
    const copy = await publish(join(await dirs.make(), 'elsewhere'));
    const other = await publish(join(await dirs.make(), 'set'), { set: { mean: [0.5, 0.4, 0.31] } });
    expect((await openSyntheticSet(copy)).id).toBe(id);
    expect((await openSyntheticSet(other)).id).not.toBe(id);
  });

  test('names have at least four and three digits', () => {
    expect(imageName(7, 3, 'jpeg')).toBe('images/0007/003.jpg');
    expect(imageName(12345, 1234, 'png')).toBe('images/12345/1234.png');
  });

  test.each<[string, Change, string]>([
    ['a class outside classNames', { set: { classes: [1, 4] } }, 'set.json'],
    ['classes out of order', { set: { classes: [3, 1] } }, 'set.json'],
    ['one mean for three channels', { set: { mean: [0.5] } }, 'set.json'],
    ['two classes of one name', { set: { classNames: ['a', 'b', 'b', 'd'] } }, 'set.json'],
    ['an encoding of another name', { set: { encoding: 'webp' } }, 'set.json'],
    ['an ipc larger than the images there', { set: { ipc: 3 } }, 'manifest.json'],
    ['an ipc smaller than the images there', { set: { ipc: 1 } }, 'manifest.json'],
    ['an image of a class not listed', { also: 'images/0000/000.png' }, 'manifest.json'],
    ['an image missing', { without: 'images/0003/001.png' }, 'manifest.json'],
    ['set.json missing', { without: 'set.json' }, 'manifest.json'],
    ['images of another size', { size: 10 }, 'images/0001/000.png'],
    ['one channel stated for colour images', { set: { channels: 1, mean: [0.5], std: [0.2] } }, 'images/0001/000.png'],
  ])('%s: E_DATA with its path', async (_what, change, culprit) => {
    const bad = await publish(join(await dirs.make(), 'set'), change);
    const refusal = { code: 'E_DATA', details: { path: join(bad, culprit) } };
    await expect(openSyntheticSet(bad).then(readAll)).rejects.toMatchObject(refusal);
  });

  test('a deleted image, one of another length and one of other bytes are refused', async () => {
    const broken = await publish(join(await dirs.make(), 'set'));
    const path = join(broken, 'images/0003/001.png');
    const refusal = { code: 'E_DATA', details: { path } };
    await edit(path, (b) => {
      b[40]! ^= 1;
      return b;
    });
    await openSyntheticSet(broken); // names and sizes are right
    await expect(openSyntheticSet(broken, { verify: true })).rejects.toMatchObject(refusal);
    await edit(path, (b) => b.subarray(1));
    await expect(openSyntheticSet(broken)).rejects.toMatchObject(refusal);
    await rm(path);
    await expect(openSyntheticSet(broken)).rejects.toMatchObject(refusal);
  });
});
