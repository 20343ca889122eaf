import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { cifar10, cifar100 } from '../../src/datasets/cifar.ts';
import { type Damage, testDataset, type Wanted } from '../util/dataset-suite.ts';
import { addOne, cifarBytes, cutOne, drawn, edit, put, put8 } from './writers.ts';

const tenNames = Array.from({ length: 10 }, (_, i) => `thing ${i}`);
const hundredNames = Array.from({ length: 100 }, (_, i) => `thing ${i}`);
const ten = drawn([7, 0, 1, 2, 3, 4, 5, 6, 8, 9, 9, 2], 32, 32, 3, 4);
const hundred = drawn(
  Array.from({ length: 103 }, (_, i) => (i * 7) % 100),
  32,
  32,
  3,
  60,
);
const testing = drawn([2, 9, 0], 32, 32, 3, 300);

const on = (name: string, change: (b: Buffer) => Uint8Array) => (dir: string) => edit(join(dir, name), change);
const without = (name: string) => async (dir: string) => {
  await rm(join(dir, name));
  return join(dir, name);
};

/** Images 0..11 over five files of 3, 3, 2, 2, 2. */
async function writeTen(dir: string): Promise<Wanted> {
  const cuts = [0, 3, 6, 8, 10, 12];
  const batches = [1, 2, 3, 4, 5].map((i) => [`data_batch_${i}.bin`, cifarBytes(ten.slice(cuts[i - 1], cuts[i]), 1)]);
  await put(dir, { ...Object.fromEntries(batches), 'test_batch.bin': cifarBytes(testing, 1) });
  await put(dir, { 'batches.meta.txt': `${tenNames.join('\n')}\n\n` }); // the official file ends in a blank line
  return { path: dir, classNames: tenNames, channels: 3, train: ten, test: testing };
}

const damages = (train: string, test: string, names: string): Damage[] => [
  { what: 'training records cut by one byte', at: 'open', apply: on(train, cutOne) },
  { what: 'test records one byte too long', at: 'open', apply: on(test, addOne) },
  { what: 'a missing training file', at: 'open', apply: without(train) },
  { what: 'a missing test file', at: 'open', apply: without(test) },
  { what: 'a missing name file', at: 'open', apply: without(names) },
  {
    what: 'one class name too few',
    at: 'open',
    apply: on(names, (b) => Buffer.from(b.toString().replace('thing 9\n', ''))),
  },
  {
    what: 'two equal class names',
    at: 'open',
    apply: on(names, (b) => Buffer.from(b.toString().replace('thing 9', 'thing 8'))),
  },
];

testDataset('cifar10', {
  format: cifar10,
  write: writeTen,
  damages: [
    ...damages('data_batch_3.bin', 'test_batch.bin', 'batches.meta.txt'),
    { what: 'a label of 10', at: 'open', apply: on('data_batch_2.bin', put8(10, 3073)) },
    {
      what: 'an empty class',
      at: 'open',
      apply: async (dir) => {
        await edit(join(dir, 'data_batch_1.bin'), put8(0, 0)); // the only image of class 7
        return dir;
      },
    },
  ],
});

testDataset('cifar100 in the folder of its archive', {
  format: cifar100,
  write: async (dir) => {
    await put(join(dir, 'cifar-100-binary'), {
      'train.bin': cifarBytes(hundred, 2),
      'test.bin': cifarBytes(testing, 2),
      'fine_label_names.txt': hundredNames.join('\r\n'),
    });
    return { path: dir, classNames: hundredNames, channels: 3, train: hundred, test: testing };
  },
  damages: [
    { what: 'records cut by one byte', at: 'open', apply: on('cifar-100-binary/train.bin', cutOne) },
    {
      what: 'a fine label of 100',
      at: 'open',
      apply: on('cifar-100-binary/test.bin', put8(100, 1)),
    },
  ],
});
