// Stores that Python wrote: what they mean, and that whatever is wrong with them is E_DATA naming the file. The store in
// fixtures/fkd is as SRe2L leaves it (make_fkd_files.py); the others are made of it or by hand.

import { cpSync, mkdirSync, readFileSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { batchFile, type FkdBatch, INDICES_FILE } from '../../src/interchange/fkd.ts';
import { fkdFile } from '../../src/interchange/fkd-export.ts';
import { openFkd, readFkdFile } from '../../src/interchange/fkd-import.ts';
import { IMPORT_FORMATS } from '../../src/interchange/index.ts';
import { PyFloat, PyName, PyTuple, type PyValue } from '../../src/interchange/pickle-writer.ts';
import { torchFile } from '../../src/interchange/torch-writer.ts';
import { arrayOf, type TensorView, tensor } from '../../src/tensor.ts';
import { badData, dice, mutate, refusal, scratch } from '../util/hostile.ts';

const fixture = new URL('../fixtures/fkd', import.meta.url).pathname;
const target = { images: 6, size: 8, inputSize: 8, numClasses: 3 };

/** A copy of the fixture that may be spoilt. */
function copied(): string {
  const dir = join(scratch(), 'fkd');
  cpSync(fixture, dir, { recursive: true });
  return dir;
}

/** f16 bits of a number that f16 holds exactly. */
const half = (value: number): number => {
  const word = new DataView(new ArrayBuffer(4));
  word.setFloat32(0, value);
  const u = word.getUint32(0);
  return value === 0 ? 0 : ((u >>> 16) & 0x8000) | ((((u >>> 23) & 0xff) - 112) << 10) | ((u >>> 13) & 0x3ff);
};

test('the table of formats that are imported', () => {
  expect(IMPORT_FORMATS.map(({ name, holds }) => [name, holds])).toEqual([
    ['fkd', 'labels'],
    ['folder', 'images'],
  ]);
});

describe('a store of SRe2L', () => {
  /** What make_fkd_files.py put into the rows of a batch. */
  const rowsOf = (epoch: number, batch: number): number[] =>
    Array.from({ length: batch === 0 ? 4 : 2 }, (_, i) => i + 10 * epoch + 5 * batch);

  test('crops, flips, partners, boxes of numpy integers and logits are read', async () => {
    const store = await openFkd(fixture, target);
    expect(store).toMatchObject({ batch: 4, batchesPerEpoch: 2, epochs: 2, records: 4, dropLast: false });
    const boxes = [
      [1, 2, 4, 6],
      [0, 0, 8, 3],
      [3, 3, 0, 0],
      [2, 0, 6, 8],
    ];
    for (let record = 0; record < 4; record++) {
      const { epoch, batch, recipes, logits } = await store.read(record);
      expect([epoch, batch]).toEqual([record >> 1, record % 2]);
      const k = rowsOf(epoch, batch);
      const n = k.length;
      const crop = k.flatMap((i) => [i % 3, (i + 1) % 4, 5 - (i % 3) + (i % 4), 8 - ((i + 1) % 4) - (i % 3)]);
      expect([...arrayOf(recipes.crop, 'I32')]).toEqual(crop);
      expect([...arrayOf(recipes.flip, 'U8')]).toEqual(k.map((i) => i % 2));
      expect([...arrayOf(recipes.mixKind, 'U8')]).toEqual(Array(n).fill(1));
      expect([...arrayOf(recipes.mixIndex, 'I32')]).toEqual([...k.keys()].reverse());
      expect([...arrayOf(recipes.mixBox, 'I32')]).toEqual(Array(n).fill(boxes[record]).flat());
      const area = boxes[record]![2]! * boxes[record]![3]!;
      expect([...arrayOf(recipes.lambda, 'F32')]).toEqual(Array(n).fill(1 - area / 64));
      const wanted = Array.from({ length: 3 * n }, (_, i) => half((i - 4) / 8 + epoch + 2 * batch));
      expect([...arrayOf(logits, 'F16')]).toEqual(wanted);
    }
  });

  test('its orders are torch permutations 0 and 2 of a generator seeded 42, also when it is read from the middle', async () => {
    // torch.randperm(6, generator=g) thrice with torch 2.13; the second is drawn and discarded
    const orders = [
      [0, 3, 2, 4, 1, 5],
      [4, 5, 0, 3, 1, 2],
    ];
    const read = async (record: number): Promise<number[]> => {
      const { recipes } = await (await openFkd(fixture, target)).read(record);
      return [...arrayOf(recipes.index, 'I32')];
    };
    const both = [0, 1].map(async (epoch) => [...(await read(2 * epoch)), ...(await read(2 * epoch + 1))]);
    expect(await Promise.all(both)).toEqual(orders);
    const store = await openFkd(fixture, target);
    for (const record of [3, 0, 2, 1]) // a generator that is asked for an earlier epoch begins again
      expect([...arrayOf((await store.read(record)).recipes.index, 'I32')]).toEqual(await read(record));
  });

  test('the names of numpy 1 read as those of numpy 2', async () => {
    const [old, now] = [join(fixture, 'numpy-1-names.tar'), join(fixture, batchFile(0, 0))];
    expect(readFileSync(old).includes('numpy.core.multiarray')).toBe(true);
    expect(await readFkdFile(old, 4)).toEqual(await readFkdFile(now, 4));
  });

  test('a list of images is taken where there is one', async () => {
    const dir = copied();
    writeFileSync(join(dir, INDICES_FILE), '{"0": [5, 4, 3, 2, 1, 0], "1": [0, 1, 2, 3, 4, 5]}');
    const store = await openFkd(dir, target);
    expect([...arrayOf((await store.read(1)).recipes.index, 'I32')]).toEqual([1, 0]);
    expect(store.files.map(({ name }) => name)).toContain(INDICES_FILE);
  });

  test('an empty folder after the last epoch and an epoch cut short are read; LPLD leaves both', async () => {
    const dir = copied();
    rmSync(join(dir, batchFile(1, 1)));
    mkdirSync(join(dir, 'epoch_2'));
    expect(await openFkd(dir, target)).toMatchObject({ epochs: 2, records: 3, batchesPerEpoch: 2 });
  });
});

describe('a store that does not fit names the file', () => {
  const cases: [string, string, (dir: string) => void, RegExp, object?][] = [
    [
      'no epochs',
      'epoch_0',
      (dir) => rmSync(join(dir, 'epoch_0'), { recursive: true }) ?? rmSync(join(dir, 'epoch_1'), { recursive: true }),
      /label batches/,
    ],
    ['a missing epoch', 'epoch_0', (dir) => rmSync(join(dir, 'epoch_0'), { recursive: true }), /without gaps/],
    ['a missing first batch', batchFile(1, 0), (dir) => rmSync(join(dir, batchFile(1, 0))), /without gaps/],
    ['a missing last batch', batchFile(0, 1), (dir) => rmSync(join(dir, batchFile(0, 1))), /every epoch|no file/],
    [
      'a batch too many',
      batchFile(1, 2),
      (dir) => cpSync(join(dir, batchFile(1, 1)), join(dir, batchFile(1, 2))),
      /no file/,
    ],
    ['an empty batch', batchFile(1, 0), (dir) => truncateSync(join(dir, batchFile(1, 0)), 0), /content/],
    ['a cut batch', batchFile(1, 0), (dir) => truncateSync(join(dir, batchFile(1, 0)), 1500), /zip/],
    [
      'a short batch in the middle',
      batchFile(0, 0),
      (dir) => cpSync(join(dir, batchFile(0, 1)), join(dir, batchFile(1, 0))),
      /./,
    ],
    ['logits of other classes', batchFile(0, 0), () => {}, /logits of 4 classes/, { numClasses: 4 }],
    ['other images: more', batchFile(0, 2), () => {}, /every epoch but the last/, { images: 12 }],
    ['other images: fewer', batchFile(0, 1), () => {}, /no file/, { images: 4 }],
    ['crops of images of another size', batchFile(0, 0), () => {}, /whole number of px of 7/, { size: 7 }],
    ['a box outside the input', batchFile(0, 0), () => {}, /corners inside 6 x 6/, { inputSize: 6 }],
    ['a list that is no object', INDICES_FILE, (dir) => writeFileSync(join(dir, INDICES_FILE), '[1]'), /an object/],
    ['a list that is no JSON', INDICES_FILE, (dir) => writeFileSync(join(dir, INDICES_FILE), '{'), /JSON/],
    [
      'a list without the epoch',
      INDICES_FILE,
      (dir) => writeFileSync(join(dir, INDICES_FILE), '{"7": [1]}'),
      /epoch 0/,
    ],
    ['a list too short', INDICES_FILE, (dir) => writeFileSync(join(dir, INDICES_FILE), '{"0": [1, 2]}'), /4 images/],
    [
      'a list too long',
      INDICES_FILE,
      (dir) => writeFileSync(join(dir, INDICES_FILE), `{"0": [${Array(7).fill(1)}]}`),
      /at most 6/,
    ],
    [
      'an image that is not there',
      INDICES_FILE,
      (dir) => writeFileSync(join(dir, INDICES_FILE), '{"0": [6, 1, 2, 3]}'),
      /below 6/,
    ],
    [
      'an image that is no number',
      INDICES_FILE,
      (dir) => writeFileSync(join(dir, INDICES_FILE), '{"0": ["1", 1, 2, 3]}'),
      /below 6/,
    ],
  ];
  test.each(cases)('%s', async (what, file, spoil, message, change = {}) => {
    const dir = copied();
    spoil(dir);
    const run = async (): Promise<void> => {
      const store = await openFkd(dir, { ...target, ...change });
      for (let record = 0; record < store.records; record++) await store.read(record);
    };
    if (what !== 'a short batch in the middle') {
      expect(await badData(join(dir, file), run)).toMatch(message);
      return;
    }
    expect(await badData(join(dir, batchFile(1, 0)), run)).toMatch(/F32 \[4,4\]/);
  });
});

const f32 = (shape: number[], value = 0): TensorView =>
  tensor('F32', shape, new Float32Array(shape.reduce((n, d) => n * d, 1)).fill(value));
const good: FkdBatch = {
  coords: tensor('F32', [2, 4], Float32Array.of(0, 0, 1, 1, 0.5, 0.25, 0.5, 0.75)),
  flip: tensor('BOOL', [2], Uint8Array.of(0, 1)),
  mixIndex: tensor('I64', [2], BigInt64Array.of(1n, 0n)),
  lambda: 0.5,
  box: [0, 1, 2, 3],
  logits: tensor('F16', [2, 3], Uint16Array.of(0, 0x3c00, 0xbc00, 1, 2, 3)),
};

/** Writes bytes to a file of their own and reads it as a batch of two. */
async function reading(bytes: Uint8Array | readonly Uint8Array[]): Promise<string> {
  const path = join(scratch(), 'batch_0.tar');
  writeFileSync(path, Buffer.concat(Array.isArray(bytes) ? bytes : [bytes as Uint8Array]));
  return badData(path, () => readFkdFile(path, 2));
}

describe('a hostile batch is E_DATA and nothing of it is run', () => {
  /** The list of six with some parts replaced. */
  const parts = (change: Record<number, (put: (view: TensorView) => PyValue) => PyValue>, length = 6): Uint8Array[] =>
    torchFile((put) => {
      const list: PyValue[] = [
        put(good.coords),
        put(good.flip),
        put(good.mixIndex!),
        new PyFloat(0.5),
        good.box,
        put(good.logits),
      ];
      for (const [i, make] of Object.entries(change)) list[Number(i)] = make(put);
      return list.slice(0, length);
    });
  const call = (module: string, name: string, ...args: PyValue[]): PyName =>
    new PyName(module, name, new PyTuple(args));
  const int64 = (kind: PyValue, data: string): PyValue =>
    call(
      'numpy._core.multiarray',
      'scalar',
      call('numpy', 'dtype', kind, false, true),
      call('_codecs', 'encode', data, 'latin1'),
    );

  test('the batch is good before it is broken', async () => {
    const path = join(scratch(), 'batch_0.tar');
    writeFileSync(path, Buffer.concat(fkdFile(good)));
    expect(await readFkdFile(path, 2)).toEqual(good);
    writeFileSync(path, Buffer.concat(parts({ 2: () => null, 3: () => null, 4: () => null })));
    expect(await readFkdFile(path, null)).toEqual({ ...good, mixIndex: null, lambda: null, box: null });
    writeFileSync(
      path,
      Buffer.concat(
        parts({
          3: () => int64('f8', '\0\0\0\0\0\0\xe0\x3f'),
          4: () => Array(4).fill(int64('i8', '\x02\0\0\0\0\0\0\0')),
        }),
      ),
    );
    expect(await readFkdFile(path, 2)).toEqual({ ...good, box: [2, 2, 2, 2] });
  });

  test.each<[string, Uint8Array[], RegExp]>([
    ['os.system', parts({ 3: () => call('os', 'system', 'echo run') }), /"os.system"\na label batch needs no other/],
    ['builtins.eval by its name alone', parts({ 3: () => new PyName('builtins', 'eval') }), /"builtins.eval"/],
    ['numpy.load', parts({ 3: () => call('numpy', 'load', 'x') }), /"numpy.load"/],
    ['numpy arrays', parts({ 3: () => call('numpy._core.multiarray', '_reconstruct') }), /_reconstruct"/],
    ['a codec that is not latin1', parts({ 3: () => call('_codecs', 'encode', 'a', 'utf-7') }), /latin1/],
    ['text beyond latin1', parts({ 3: () => call('_codecs', 'encode', 'Ω', 'latin1') }), /character 937/],
    ['a dtype of objects', parts({ 3: () => call('numpy', 'dtype', 'O8', false, true) }), /"O8"/],
    ['a dtype named like a method', parts({ 3: () => call('numpy', 'dtype', 'toString') }), /"toString"/],
    ['a scalar of too few bytes', parts({ 3: () => int64('i8', '\x01') }), /8 bytes .* received 1/],
    ['a scalar without a dtype', parts({ 3: () => call('numpy.core.multiarray', 'scalar', 1, 2) }), /a dtype/],
    ['a scalar beyond 2^53', parts({ 3: () => int64('i8', '\0\0\0\0\0\0\0\x40') }), /below 2\^53/],
    ['five parts', parts({}, 5), /a list of six .* received "5 values"/],
    ['a number instead of a list', torchFile(() => 1), /a list of six .* received "number"/],
    ['crops of another shape', parts({ 0: (put) => put(f32([2, 3])) }), /F32 \[2,4\] for crop/],
    [
      'crops in half precision',
      parts({ 0: (put) => put(tensor('F16', [2, 4], new Uint16Array(8))) }),
      /received "F16 \[2,4\]"/,
    ],
    ['another number of rows', parts({ 0: (put) => put(f32([3, 4])) }), /F32 \[2,4\]/],
    ['flips as floats', parts({ 1: (put) => put(f32([2])) }), /F32 \[2,7\] for cutouts .* "F32 \[2\]"/],
    ['flips as integers', parts({ 1: (put) => put(tensor('I64', [2], new BigInt64Array(2))) }), /BOOL \[2\] for flips/],
    ['logits in float32', parts({ 5: (put) => put(f32([2, 3])) }), /F16 \[2,any\] for logits/],
    ['logits of no class', parts({ 5: (put) => put(tensor('F16', [2, 0], new Uint16Array(0))) }), /F16 \[2,any\]/],
    [
      'infinite logits',
      parts({ 5: (put) => put(tensor('F16', [2, 1], Uint16Array.of(0, 0xfc00))) }),
      /finite logits for row 1/,
    ],
    [
      'NaN logits',
      parts({ 5: (put) => put(tensor('F16', [2, 1], Uint16Array.of(0x7e00, 0))) }),
      /finite logits for row 0/,
    ],
    ['partners of another length', parts({ 2: (put) => put(tensor('I64', [3], new BigInt64Array(3))) }), /I64 \[2\]/],
    ['a box without partners', parts({ 2: () => null }), /None for lambda and box/],
    ['lambda as text', parts({ 3: () => 'half' }), /a number or None/],
    ['a box of three', parts({ 4: () => [1, 2, 3] }), /four integers/],
    ['a box of floats', parts({ 4: () => [0, 0, 1, new PyFloat(1.5)] }), /four integers/],
    ['a box of text', parts({ 4: () => ['a', 'b', 'c', 'd'] }), /four integers/],
  ])('%s', async (_, bytes, message) => {
    expect(await reading(bytes)).toMatch(message);
  });

  test('lists nested a hundred thousand deep', async () => {
    const deep = Buffer.concat([
      Buffer.from([0x80, 2]),
      Buffer.alloc(100_000, ']'),
      Buffer.alloc(99_999, 'a'),
      Buffer.from('.'),
    ]);
    const [file] = [Buffer.concat(torchFile(() => 'x'.repeat(deep.length - 8)))];
    const at = file.indexOf(Buffer.from([0x80, 2, 0x58]));
    deep.copy(file, at); // same length: the text's opcode, four bytes of length, the text, STOP
    expect(await reading(file)).toMatch(/a list of six .* received "1 values"/);
  });

  const index = (change: Partial<Record<'coords' | 'mixIndex' | 'flip', TensorView>>): FkdBatch => ({
    ...good,
    ...change,
  });
  test.each<[string, FkdBatch, RegExp]>([
    [
      'a crop that leaves the image',
      index({ coords: tensor('F32', [2, 4], Float32Array.of(0, 0, 1, 1, 0.5, 0, 0.75, 1)) }),
      /a crop inside 8 x 8/,
    ],
    [
      'a crop without height',
      index({ coords: tensor('F32', [2, 4], Float32Array.of(0, 0, 0, 1, 0, 0, 1, 1)) }),
      /a crop inside/,
    ],
    ['a crop between pixels', index({ coords: f32([2, 4], 0.3) }), /whole number of px/],
    ['a negative crop', index({ coords: f32([2, 4], -0.125) }), /whole number of px/],
    ['a crop that is no number', index({ coords: f32([2, 4], Number.NaN) }), /whole number of px/],
    ['an infinite crop', index({ coords: f32([2, 4], Number.POSITIVE_INFINITY) }), /whole number of px/],
    ['a partner outside', index({ mixIndex: tensor('I64', [2], BigInt64Array.of(0n, 2n)) }), /a row below 2/],
    ['a partner below zero', index({ mixIndex: tensor('I64', [2], BigInt64Array.of(-1n, 0n)) }), /a row below 2/],
    [
      'a partner beyond 2^53',
      index({ mixIndex: tensor('I64', [2], BigInt64Array.of(2n ** 62n, 0n)) }),
      /a row below 2/,
    ],
    ['a cutout around no pixel', index({ flip: f32([2, 7], 0.3) }), /centre of the cutout/],
    ['a cutout outside', index({ flip: f32([2, 7], 1) }), /0 to 7 for centre of the cutout/],
    [
      'a cutout of no colour',
      index({ flip: tensor('F32', [2, 7], new Float32Array(14).fill(0.5, 4, 5)) }),
      /colour of row 0/,
    ],
    ['a flip of two', index({ flip: tensor('BOOL', [2], Uint8Array.of(0, 2)) }), /a bool for flip of row 1/],
    ['corners in falling order', { ...good, box: [3, 0, 2, 4] }, /corners inside/],
    ['a weight of mixup above one', { ...good, box: null, lambda: 1.5 }, /a weight in \[0, 1\]/],
    ['mixup without a weight', { ...good, box: null, lambda: null }, /a weight in \[0, 1\]/],
  ])('%s', async (_, batch, message) => {
    const dir = scratch();
    mkdirSync(join(dir, 'epoch_0'));
    const path = join(dir, batchFile(0, 0));
    writeFileSync(path, Buffer.concat(fkdFile(batch)));
    const store = await openFkd(dir, { ...target, images: 2 });
    expect(await badData(path, () => store.read(0))).toMatch(message);
  });
});

test('2000 random mutations of batches are read or refused with E_DATA naming the file', async () => {
  const roll = dice(7);
  const originals = [batchFile(0, 0), batchFile(1, 1), 'numpy-1-names.tar'].map((name) =>
    readFileSync(join(fixture, name)),
  );
  originals.push(Buffer.concat(fkdFile(good)));
  const path = join(scratch(), 'm.tar');
  let refused = 0;
  for (let i = 0; i < 2000; i++) {
    writeFileSync(path, mutate(new Uint8Array(originals[i % originals.length]!), roll));
    const outcome = await readFkdFile(path, null).catch((thrown: unknown) => refusal(() => Promise.reject(thrown)));
    if (!('code' in outcome)) continue;
    refused += 1;
    expect([outcome.code, outcome.details.path], outcome.stack).toEqual(['E_DATA', path]);
  }
  expect(refused).toBeGreaterThan(500);
}, 60_000);
