// Files that ask for more than they hold, one small file each: what the fuzzer found. All are refused before anything of
// the promised size is made; test/fuzz.test.ts looks for more.

import { writeFileSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { deflateSync, gzipSync } from 'node:zlib';
import { describe, expect, test } from 'vitest';
import { openDraft, parseManifest } from '../src/artifact.ts';
import { decodeImage, encodeImage } from '../src/datasets/images.ts';
import { openDataset } from '../src/datasets/index.ts';
import { numpyScalars } from '../src/interchange/numpy-scalar.ts';
import { type PickleHost, readPickle } from '../src/interchange/pickle.ts';
import { readWeights } from '../src/interchange/weights.ts';
import { checkIndex } from '../src/label-format.ts';
import { LabelStore } from '../src/labels.ts';
import { planCounts } from '../src/plan.ts';
import { codingSpec, encode, logitsOnly } from './util/codes.ts';
import { badData, scratch } from './util/hostile.ts';
import { native } from './util/native.ts';
import { f32 } from './util/tensors.ts';

const ascii = (text: string): number[] => [...new TextEncoder().encode(text)];
const word = (n: number): number[] => [n & 255, (n >> 8) & 255, (n >> 16) & 255, n >>> 24];
const text = (s: string): number[] => [0x58, ...word(s.length), ...ascii(s)];

describe('pickles', () => {
  const host = (path: string): PickleHost => ({ path, persistent: () => null, ...numpyScalars(path) });
  const read = (...ops: (number | readonly number[])[]) =>
    badData('p', () => readPickle(Uint8Array.from([...ops.flat(), 0x2e]), 0, host('p')));
  /** A list of two of the same lists, 40 times over: 2^40 texts when it is printed. */
  const laughs = [0x5d, ...text('ha'), 0x61, 0x71, 0];
  for (let level = 0; level < 40; level++) laughs.push(0x5d, 0x28, 0x68, 0, 0x68, 0, 0x65, 0x71, 0);

  test('a name that is endless in print is refused without being printed', async () => {
    expect(await read(laughs, text('x'), 0x93)).toMatch(/text for a name in the pickle/);
  });

  test('a file whose magic number is endless in print', async () => {
    const path = join(scratch(), 'a.pth');
    writeFileSync(path, Uint8Array.from([0x80, 2, ...laughs, 0x2e]));
    expect(await badData(path, () => readWeights(path))).toMatch(/magic number.*a container/);
  });

  test('one text turned to bytes again and again is not copied each time', async () => {
    const name = [0x63, ...ascii('_codecs\nencode\n')];
    expect(await read(name, text('x'.repeat(9)), text('latin1'), 0x86, 0x52)).toMatch(/at most 8 bytes/);
  });

  test('millions of one-byte opcodes are not run', async () => {
    expect(await read(new Array<number>(5_000_000).fill(0x29))).toMatch(/opcodes/);
  });
});

describe('torch files', () => {
  /** A legacy file of `names` that all name one tensor of `count` floats. */
  function legacy(names: number, count: number): Uint8Array {
    const magic = ['80028a0a6cfc9c46f9206aa850192e', '80024de9032e', '80027d71008c0d6c6974746c655f656e6469616e88732e'];
    const head = magic.flatMap((hex) => [...Buffer.from(hex, 'hex')]);
    const g = (module: string, name: string) => [0x63, ...ascii(`${module}\n${name}\n`)];
    const storage = [0x28, ...text('storage'), ...g('torch', 'FloatStorage'), ...text('0'), ...text('cpu')];
    const sizes = [0x4a, ...word(count), 0x85, 0x4b, 1, 0x85];
    const made = [
      ...g('torch._utils', '_rebuild_tensor_v2'),
      0x28,
      ...storage,
      0x4a,
      ...word(count),
      0x74,
      0x51,
      0x4b,
      0,
    ];
    const tensor = [...made, ...sizes, 0x89, 0x4e, 0x74, 0x52, 0x71, 9];
    const items = Array.from({ length: names }, (_, i) => [...text(`w${i}`), ...(i === 0 ? tensor : [0x68, 9])]);
    const body = [0x80, 2, 0x7d, 0x28, ...items.flat(), 0x75, 0x2e, 0x80, 2, 0x5d, ...text('0'), 0x61, 0x2e];
    return Uint8Array.from([...head, ...body, ...word(count), 0, 0, 0, 0, ...new Uint8Array(4 * count)]);
  }

  test('a tensor under many names is held once', async () => {
    const path = join(scratch(), 'a.pth');
    writeFileSync(path, legacy(1000, 1000));
    const weights = Object.values(await readWeights(path));
    expect(weights.length).toBe(1000);
    expect(new Set(weights.map(({ data }) => data.buffer)).size).toBe(1);
  });
});

/** A labels.json that is good. */
const index = {
  format: 2,
  codec: 'dense:f16',
  recipes: 'derived',
  numClasses: 5,
  recordsPerShard: 8,
  batch: 4,
  inputSize: 8,
  seed: '7',
  streamVersion: 1,
  augment: {},
  plan: { epochs: 2, images: 12 },
  shards: [],
};

describe('labels.json', () => {
  test.each([
    ['a seed that is no number', { seed: 'x' }, /\[0, 2\^64\) for seed/],
    ['a seed between integers', { seed: 1.5 }, /\[0, 2\^64\) for seed/],
    ['a seed below 0', { seed: '-1' }, /\[0, 2\^64\) for seed/],
    ['a seed of 2^64', { seed: String(2n ** 64n) }, /\[0, 2\^64\) for seed/],
    ['more logits in a record than memory holds', { numClasses: 2 ** 29 }, /logits a record/],
  ])('%s', async (_, change, message) => {
    expect(checkIndex(index, 'l')).toMatchObject({ batch: 4 });
    expect(await badData('l', () => checkIndex({ ...index, ...change }, 'l'))).toMatch(message);
  });
});

describe('label stores', () => {
  const stage = { stage: 'x', stageVersion: 1, config: {}, inputs: {}, deviceClass: 'cpu', precision: 'fp32' } as const;

  test('2^40 records that labels.json promises are not made room for', async () => {
    const draft = await openDraft(join(scratch(), 'labels'), stage);
    const shard = { file: 'shard-00000.safetensors', firstId: 0, lastId: 2 ** 40 - 1, records: 2 ** 40, rows: 2 ** 40 };
    await draft.writeJson('labels.json', { ...index, recordsPerShard: 2 ** 41, shards: [shard] });
    const artifact = await draft.publish({});
    const path = join(artifact.dir, shard.file);
    expect(await badData(path, () => LabelStore.open(artifact))).toMatch(/a file of the x artifact/);
  });

  test('the records of a plan are counted without a list of them', () => {
    const plan = { images: 12, batch: 4, epochs: 2 ** 29, pruneRatio: 0, dropLast: true, keep: 'prefix' } as const;
    expect(planCounts(plan)).toMatchObject({ batchesPerEpoch: 3, fullRecords: 3 * 2 ** 29, kept: 3 * 2 ** 29 });
  });
});

test('a manifest with a number beyond all numbers', async () => {
  const fields = '"stage":"x","stageVersion":1,"inputs":{},"deviceClass":"cpu","precision":"fp32","key":"","files":[]';
  const manifest = `{"format":1,${fields},"config":1e999,"summary":{}}`;
  expect(await badData('m', () => parseManifest(manifest, 'm'))).toMatch(/finite numbers/);
});

describe('images and data sets', () => {
  test('a PNG and a JPEG that promise far more pixels than their bytes can hold', async () => {
    const png = Buffer.from(await encodeImage(new Uint8Array(192), 8, 8, 3, 'png'));
    png.writeUInt32BE(16_000, 16);
    png.writeUInt32BE(16_000, 20);
    expect(await badData('i', () => decodeImage(png, 'i', 3))).toMatch(/promises more/);
    const jpeg = Buffer.from(await encodeImage(new Uint8Array(192), 8, 8, 3, 'jpeg'));
    const frame = jpeg.indexOf(Buffer.of(0xff, 0xc0));
    jpeg.writeUInt16BE(60_000, frame + 5);
    jpeg.writeUInt16BE(60_000, frame + 7);
    expect(await badData('i', () => decodeImage(jpeg, 'i', 3))).toMatch(/promises more/);
  });

  test('the most that deflate can hold is still read', async () => {
    const png = await encodeImage(new Uint8Array(1000 * 1000 * 3), 1000, 1000, 3, 'png');
    expect(await decodeImage(png, 'i', 3)).toMatchObject({ height: 1000, width: 1000 });
    expect(deflateSync(new Uint8Array(1 << 24), { level: 9 }).length * 1032).toBeGreaterThan(1 << 24);
    const jpeg = await encodeImage(new Uint8Array(2000 * 2000), 2000, 2000, 1, 'jpeg');
    expect(await decodeImage(jpeg, 'i', 1)).toMatchObject({ height: 2000, width: 2000 });
  });

  const options = { classes: null, verify: false, skipUnreadable: false };
  async function folder(files: Readonly<Record<string, Uint8Array | string>>): Promise<string> {
    const dir = scratch();
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(dir, name)), { recursive: true });
      await writeFile(join(dir, name), content);
    }
    return dir;
  }

  test.each([
    ['beyond 65535 px', [1, 2 ** 31, 2], /65535 px a side/],
    ['beyond what its packed bytes can hold', [1, 32768, 32768], /packed ones/],
  ])('packed IDX images %s', async (_, dims, message) => {
    const name = 'train-images-idx3-ubyte.gz';
    const images = gzipSync(Uint8Array.from([0, 0, 8, 3, ...dims.flatMap((n) => [...word(n)].reverse())]));
    const labels = Uint8Array.of(0, 0, 8, 1, 0, 0, 0, 1, 0);
    const dir = await folder({ [name]: images, 'train-labels-idx1-ubyte': labels });
    expect(await badData(join(dir, name), () => openDataset('idx', dir, options))).toMatch(message);
  });

  test.each(['../../etc', '/etc', '..', 'a/b', 'a\\b'])('a WNID that leads elsewhere: %s', async (wnid) => {
    const dir = await folder({ 'wnids.txt': `${wnid}\n`, 'words.txt': `${wnid}\tone\n` });
    const path = join(dir, 'wnids.txt');
    expect(await badData(path, () => openDataset('tiny-imagenet', dir, options))).toMatch(/letters and digits/);
  });
});

test('tensors of a basis are found by their whole name, zero bytes and all', async () => {
  const spec = codingSpec('dense:f16', 1, 2);
  const labels = await encode(spec, logitsOnly([1, 2], [1, 2]));
  const strange = { 'a\u0000b': f32([1], [1]), __proto__x: f32([1], [2]) };
  const job = native().decode({ ...spec, basis: strange, ...labels }, () => {});
  expect((await job.promise).logits.shape).toEqual([1, 2]);
});
