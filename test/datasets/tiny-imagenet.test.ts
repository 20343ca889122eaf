import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { encodeImage } from '../../src/datasets/images.ts';
import { tinyImagenet } from '../../src/datasets/tiny-imagenet.ts';
import { ALL, imagesOf, scratch, testDataset, type Wanted, type WantedImage } from '../util/dataset-suite.ts';
import { drawn, edit, pngOf, put } from './writers.ts';

// In byte order; wnids.txt lists them in another one, as the official file does.
const WNIDS = ['n01443537', 'n01629819', 'n02123394'];
const WORDS = ['goldfish, Carassius auratus', 'crane', 'crane'];
const NAMES = ['goldfish, Carassius auratus', 'crane (n01629819)', 'crane (n02123394)'];
const train = drawn([0, 0, 0, 1, 1, 1, 2, 2, 2], 64, 64, 3, 1);
const testing = drawn([2, 0, 1, 1], 64, 64, 3, 40);

// PNG bytes under .JPEG names: the decoder goes by content, and the pixels are known without a JPEG round trip.
async function trainFiles(inner: string): Promise<Record<string, Uint8Array>> {
  const files: Record<string, Uint8Array> = {};
  for (const [i, image] of train.entries()) {
    const wnid = WNIDS[image.label]!;
    files[`train/${wnid}/${inner}${wnid}_${[0, 10, 2][i % 3]}.JPEG`] = await pngOf(image, 3);
  }
  return files;
}

async function official(dir: string): Promise<Wanted> {
  await put(dir, await trainFiles('images/'));
  const annotations = testing.map((image, i) => `val_${i}.JPEG\t${WNIDS[image.label]}\t0\t32\t44\t62`);
  for (const [i, image] of testing.entries()) await put(dir, { [`val/images/val_${i}.JPEG`]: await pngOf(image, 3) });
  await put(dir, {
    'train/n01443537/n01443537_boxes.txt': 'n01443537_0.JPEG\t0\t10\t63\t58\n',
    'val/val_annotations.txt': `${annotations.reverse().join('\n')}\n`,
    'wnids.txt': `${[WNIDS[2], WNIDS[0], WNIDS[1]].join('\n')}\n`,
    'words.txt': `n00001740\tentity\n${WNIDS.map((wnid, i) => `${wnid}\t${WORDS[i]}`).join('\n')}\n`,
  });
  return { path: dir, classNames: NAMES, channels: 3, train, test: testing };
}

async function packed(dir: string): Promise<Wanted> {
  const root = join(dir, 'tiny-imagenet-200');
  const sorted = [...testing].sort((a, b) => a.label - b.label);
  await put(root, await trainFiles(''));
  for (const [i, image] of sorted.entries())
    await put(root, { [`val/${WNIDS[image.label]}/val_${i}.JPEG`]: await pngOf(image, 3) });
  await put(root, {
    'classes.tsv': `index\twnid\tname\n${WNIDS.map((wnid, i) => `${i}\t${wnid}\t${WORDS[i]}`).join('\n')}\n`,
    'val_annotations.txt': 'not needed in this layout\n',
  });
  return { path: dir, classNames: NAMES, channels: 3, train, test: sorted };
}

const remove = (name: string) => async (dir: string) => {
  await rm(join(dir, name), { recursive: true });
  return join(dir, name);
};

testDataset('tiny-imagenet, official layout', {
  format: tinyImagenet,
  write: official,
  damages: [
    { what: 'a missing class folder', at: 'open', apply: remove('train/n01629819') },
    { what: 'a missing validation image', at: 'open', apply: remove('val/images/val_2.JPEG') },
    { what: 'missing annotations', at: 'open', apply: remove('val/val_annotations.txt') },
    {
      what: 'an image without annotation',
      at: 'open',
      apply: async (dir) => {
        await put(dir, { 'val/images/val_9.JPEG': 'x' });
        return join(dir, 'val/val_annotations.txt');
      },
    },
    {
      what: 'an annotation with a foreign WNID',
      at: 'open',
      apply: (dir) =>
        edit(join(dir, 'val/val_annotations.txt'), (b) => Buffer.from(b.toString().replace('n02123394', 'n99999999'))),
    },
    {
      what: 'an annotation without a tab',
      at: 'open',
      apply: (dir) => edit(join(dir, 'val/val_annotations.txt'), (b) => Buffer.from(b.toString().replace('\t', ' '))),
    },
    {
      what: 'a WNID listed twice',
      at: 'open',
      apply: (dir) => edit(join(dir, 'wnids.txt'), (b) => Buffer.concat([b, b])),
    },
    {
      what: 'an image of 64x63 pixels',
      at: 'read',
      apply: async (dir) => {
        const [small] = drawn([0], 63, 64, 3, 0) as [WantedImage];
        const bytes = await pngOf(small, 3);
        return edit(join(dir, 'train/n01443537/images/n01443537_2.JPEG'), () => bytes);
      },
    },
    {
      what: 'a truncated image',
      at: 'read',
      apply: (dir) => edit(join(dir, 'val/images/val_0.JPEG'), (b) => b.subarray(0, b.length / 2)),
    },
  ],
});

testDataset('tiny-imagenet, packed layout', { format: tinyImagenet, write: packed, damages: [] });

describe('tiny-imagenet: real bytes', () => {
  const dirs = scratch();

  test('a grey JPEG becomes three equal channels', async () => {
    const dir = await dirs.make();
    await official(dir);
    const [grey] = drawn([0], 64, 64, 1, 8) as [WantedImage];
    const bytes = await encodeImage(grey.pixels, 64, 64, 1, 'jpeg');
    await edit(join(dir, 'train/n01443537/images/n01443537_0.JPEG'), () => bytes);
    expect((await readFile(join(dir, 'train/n01443537/images/n01443537_0.JPEG'))).subarray(0, 2)).toEqual(
      Buffer.of(0xff, 0xd8),
    );
    const { pixels } = (await imagesOf((await tinyImagenet.open(dir, ALL)).train, 3))[0]!;
    for (let i = 0; i < pixels.length; i += 3)
      expect(pixels[i] === pixels[i + 1] && pixels[i] === pixels[i + 2]).toBe(true);
    expect(new Set(pixels).size).toBeGreaterThan(50);
  });
});
