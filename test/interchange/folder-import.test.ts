// Distilled images of others as an artifact: the same bytes in the order label stores mean, usable wherever --images is.

import {
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, test, vi } from 'vitest';
import { openArtifact } from '../../src/artifact.ts';
import { SMALL_FILE_BYTES } from '../../src/datasets/identity.ts';
import { encodeImage } from '../../src/datasets/images.ts';
import { openDataset } from '../../src/datasets/index.ts';
import { openSyntheticSet } from '../../src/datasets/synthetic-set.ts';
import { runStage } from '../../src/run.ts';
import { exporting, importing, madeImages, relabelTo } from '../util/exchange.ts';
import { badData, refusal, scratch } from '../util/hostile.ts';
import { testImage } from '../util/images.ts';
import { optionsOf, tiny } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 });

const config = tiny({ relabel: { epochs: 3 }, train: { epochs: 3 } });
const { root, images } = madeImages(config);

/** A copy of the tiny set's images as a folder. */
async function folder(): Promise<string> {
  const out = join(scratch(), 'images');
  await exporting({ format: 'folder', labels: null, images: images(), out });
  return out;
}
const bringIn = (dir: string) => importing({ format: 'folder', dir, images: null, out: join(scratch(), 'set') });

test('what was exported comes back as the same set: description and every byte', async () => {
  const [before, after] = [await openArtifact(images()), await bringIn(await folder())];
  const filesOf = ({ manifest }: typeof before) => manifest.files.filter(({ path }) => path.startsWith('images/'));
  expect(filesOf(after)).toEqual(filesOf(before));
  const [ours, theirs] = [await openSyntheticSet(images()), await openSyntheticSet(after.dir)];
  expect(theirs.description).toEqual(ours.description);
  expect(after.manifest).toMatchObject({ stage: 'import-images', summary: { images: 6, ipc: 2, size: 8 } });
  expect((await bringIn(await folder())).id).toBe(after.id);
});

test('a size of views is refused, as images have their own', async () => {
  const options = { format: 'folder', dir: await folder(), images: null, out: join(scratch(), 'set'), inputSize: 8 };
  const error = await refusal(() => importing(options));
  expect([error.code, error.message]).toEqual(['E_CONFIG', expect.stringContaining('for --input-size but received 8')]);
});

test('a final slash in --out changes nothing', async () => {
  const dir = join(scratch(), 'images/');
  await exporting({ format: 'folder', labels: null, images: images(), out: `${dir}` });
  expect(readdirSync(dir)).toContain('0002');
  const out = `${join(scratch(), 'set')}/`;
  const made = await importing({ format: 'folder', dir, images: null, out });
  expect(made.id).toBe((await bringIn(dir)).id);
  expect(readdirSync(out)).toContain('set.json');
  expect((await importing({ format: 'folder', dir, images: null, out })).id).toBe(made.id);
});

test('names of the published scripts keep their order, and labels imported for them train students', async () => {
  const labels = await relabelTo(root(), 'labels', config);
  const fkd = join(scratch(), 'fkd');
  await exporting({ format: 'fkd', labels, images: images(), out: fkd });
  const dir = await folder();
  for (const name of readdirSync(dir).filter((entry) => /^\d+$/.test(entry))) {
    for (const file of readdirSync(join(dir, name)))
      renameSync(join(dir, name, file), join(dir, name, `class${name.slice(1)}_id${file}`));
    renameSync(join(dir, name), join(dir, `new${name.slice(1)}`));
  }
  const set = await bringIn(dir);
  const pool = await importing({ format: 'fkd', dir: fkd, images: set.dir, out: join(scratch(), 'pool') });
  expect(pool.manifest.inputs.images).toBe(set.id);
  const students: string[] = [];
  for (const [from, given] of [
    [images(), labels],
    [set.dir, pool.dir],
  ] as const) {
    const out = join(scratch(), 'train');
    const made = await runStage('train', config, { ...optionsOf(out), inputs: { images: from, labels: given } });
    students.push(made.manifest.files.find(({ path }) => path === 'student-0.safetensors')!.sha256);
  }
  expect(students[1]).toBe(students[0]);
  const error = await refusal(() =>
    runStage('train', config, { ...optionsOf(join(scratch(), 'x')), inputs: { images: pool.dir, labels: pool.dir } }),
  );
  expect([error.code, error.message]).toEqual([
    'E_MISMATCH',
    expect.stringMatching(/synthesize or import for --images/),
  ]);
});

test('other pixels in a file of the same size are another set, in the same --out too', async () => {
  const [dir, out, side] = [scratch(), join(scratch(), 'set'), 1032]; // larger than the id of a dataset looks into
  const path = join(dir, 'only', '0.png');
  mkdirSync(join(dir, 'only'));
  const pixels = new Uint8Array(side * side);
  const write = (): Promise<unknown> =>
    sharp(pixels, { raw: { width: side, height: side, channels: 1 } })
      .png({ compressionLevel: 0 })
      .toFile(path);
  const bringIn = async (replace = false) => {
    await write();
    const made = await importing({ format: 'folder', dir, images: null, out, replace });
    const { id } = await openDataset('folder', dir, { classes: null, verify: true, skipUnreadable: false });
    expect(readFileSync(made.path('images/0000/000.png')).equals(readFileSync(path))).toBe(true);
    return { made: made.id, key: made.manifest.key, dataset: id, bytes: statSync(path).size };
  };
  const before = await bringIn();
  expect(before.bytes).toBeGreaterThan(SMALL_FILE_BYTES);
  expect(await bringIn()).toEqual(before);
  pixels[side * side - 1] = 255;
  expect((await refusal(() => bringIn())).details.keys).toEqual(['id of folder']);
  const after = await bringIn(true);
  expect([after.dataset, after.bytes]).toEqual([before.dataset, before.bytes]); // else nothing is tested here
  expect(after.key).not.toBe(before.key);
  expect(after.made).not.toBe(before.made);
});

test('constants and names without dataset.json are those of ImageNet and the folders', async () => {
  const dir = await folder();
  rmSync(join(dir, 'dataset.json'));
  const { description } = await openSyntheticSet((await bringIn(dir)).dir);
  expect(description).toMatchObject({ classNames: ['0000', '0001', '0002'], mean: [0.449], std: [0.226], channels: 1 });
});

describe('a folder that is no distilled set names the file', () => {
  const image = (dir: string, size: [number, number], encoding: 'jpeg' | 'png', name: string): Promise<void> =>
    encodeImage(testImage(1, size[0], size[1], 1), size[0], size[1], 1, encoding).then((bytes) =>
      writeFileSync(join(dir, name), bytes),
    );
  test.each<[string, string, (dir: string) => unknown, RegExp]>([
    [
      'more of one class',
      '0001',
      (dir) => cpSync(join(dir, '0001/000.png'), join(dir, '0001/002.png')),
      /2 images, as the first/,
    ],
    ['fewer of one class', '0002', (dir) => rmSync(join(dir, '0002/001.png')), /received 1/],
    [
      'another size',
      '0001/000.png',
      (dir) => image(dir, [9, 9], 'png', '0001/000.png'),
      /8 x 8 px, .* received "9 x 9"/,
    ],
    ['not square', '0000/000.png', (dir) => image(dir, [8, 9], 'png', '0000/000.png'), /8 x 8 px, .* received "8 x 9"/],
    [
      'another encoding',
      '0002/001.jpg',
      async (dir) => {
        await image(dir, [8, 8], 'jpeg', '0002/001.jpg');
        rmSync(join(dir, '0002/001.png'));
      },
      /png, as the first image is/,
    ],
    ['a cut image', '0001/001.png', (dir) => truncateSync(join(dir, '0001/001.png'), 60), /./],
    ['an empty class', '0003', (dir) => mkdirSync(join(dir, '0003')), /./],
  ])('%s', async (_, file, spoil, message) => {
    const dir = await folder();
    rmSync(join(dir, 'dataset.json'));
    await spoil(dir);
    expect(await badData(join(dir, file), () => bringIn(dir))).toMatch(message);
  });

  test('a split into train and val', async () => {
    const dir = await folder();
    rmSync(join(dir, 'dataset.json'));
    const both = scratch();
    for (const part of ['train', 'val']) cpSync(dir, join(both, part), { recursive: true });
    expect(await badData(both, () => bringIn(both))).toMatch(/train and test folders/);
    rmSync(join(both, 'val'), { recursive: true });
    expect(await badData(both, () => bringIn(both))).toMatch(/train and test folders/); // also a split without the other half
  });

  test('a folder of images for a format of images is one too many, none for labels one too few', async () => {
    const dir = await folder();
    const out = join(scratch(), 'set');
    const many = await refusal(() => importing({ format: 'folder', dir, images: images(), out }));
    expect([many.code, many.message]).toEqual(['E_CONFIG', expect.stringMatching(/no folder for --format folder/)]);
    const few = await refusal(() => importing({ format: 'fkd', dir, images: null, out }));
    expect([few.code, few.message]).toEqual([
      'E_CONFIG',
      expect.stringMatching(/the folder of the images .* --images/),
    ]);
    expect((await refusal(() => importing({ format: 'npz', dir, images: null, out }))).message).toMatch(
      /one of fkd, folder/,
    );
    expect(readFileSync(join(dir, 'dataset.json')).length).toBeGreaterThan(10);
  });
});
