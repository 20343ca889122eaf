// Files written as torch.save writes them: read back by this package's reader, and by Python's torch.load where there is one.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { Dict, type PickleHost, readPickle } from '../../src/interchange/pickle.ts';
import { PyFloat, PyName, PyTuple, type PyValue, writePickle } from '../../src/interchange/pickle-writer.ts';
import { materialize, readTorchFile, type StoredTensor } from '../../src/interchange/torch-file.ts';
import { torchFile } from '../../src/interchange/torch-writer.ts';
import { type TensorView, tensor } from '../../src/tensor.ts';
import { refusal, scratch } from '../util/hostile.ts';
import { pythonWith, runPython, withoutPython } from '../util/python.ts';

const tensors: Record<string, TensorView> = {
  f32: tensor('F32', [2, 3], Float32Array.of(0, 0.5, -1, 1 / 3, 1e-30, 3e38)),
  f16: tensor('F16', [3], Uint16Array.of(0x3c00, 0xbc00, 0x0001)),
  i64: tensor('I64', [2, 1, 2], BigInt64Array.of(0n, -1n, 2n ** 40n, 7n)),
  bool: tensor('BOOL', [5], Uint8Array.of(1, 0, 0, 1, 1)),
};

/** A file with all of them in a list, and plain values around. */
function write(): string {
  const path = join(scratch(), 'a.tar');
  const chunks = torchFile((put) => [null, ...Object.values(tensors).map(put), new PyFloat(0.1), [1, 300, -5], 'text']);
  writeFileSync(path, Buffer.concat(chunks));
  return path;
}

describe('pickles', () => {
  const host: PickleHost = {
    path: 'x',
    globals: new Map([['m.f', (args: readonly unknown[]) => new Dict([['args', [...args] as never]])]]),
    persistent: (id) => ['kept', id],
  };
  const round = (value: PyValue): unknown => readPickle(writePickle(value), 0, host).value;

  test.each<[string, PyValue, unknown]>([
    ['None', null, null],
    ['bools', [true, false], [true, false]],
    ['ints', [0, 255, 256, 65536, -1, 2 ** 31 - 1, -(2 ** 31)], [0, 255, 256, 65536, -1, 2 ** 31 - 1, -(2 ** 31)]],
    ['floats', [new PyFloat(0.1), new PyFloat(-0)], [0.1, -0]],
    ['text', 'aé\n', 'aé\n'],
    [
      'tuples of every length',
      [0, 1, 2, 3, 4].map((n) => new PyTuple(Array(n).fill(1))),
      [0, 1, 2, 3, 4].map((n) => Array(n).fill(1)),
    ],
    ['a call', new PyName('m', 'f', new PyTuple([1, 'a'])), new Dict([['args', [1, 'a']]])],
    ['an empty list', [], []],
  ])('%s come back', (_, value, wanted) => {
    expect(round(value)).toEqual(wanted);
  });

  test('an int of more than 32 bits is refused, and so is half a number', async () => {
    for (const value of [2 ** 31, 0.5, Number.NaN]) expect((await refusal(() => round(value))).code).toBe('E_INTERNAL');
  });
});

describe('files', () => {
  test('come back with every bit', async () => {
    const value = (await readTorchFile(write())) as unknown[];
    expect(value[0]).toBeNull();
    expect(value.slice(1, 5).map((t) => materialize(t as StoredTensor))).toEqual(Object.values(tensors));
    expect(value.slice(5)).toEqual([0.1, [1, 300, -5], 'text']);
  });

  test('equal values are equal bytes, and storages begin at multiples of 64', () => {
    const make = (): Buffer => Buffer.concat(torchFile((put) => [put(tensors.f32!), put(tensors.bool!)]));
    const file = make();
    expect(make().equals(file)).toBe(true);
    for (const { data } of [tensors.f32!, tensors.bool!]) expect(file.indexOf(data) % 64).toBe(0);
  });

  test('a dtype that label files do not need is refused', async () => {
    const bad = tensor('F64', [1], Float64Array.of(1));
    expect((await refusal(() => torchFile((put) => put(bad)))).code).toBe('E_INTERNAL');
  });

  const python = pythonWith('torch');
  test.skipIf(python === null)(
    `torch.load reads them, weights only, also mapped${withoutPython(python, 'torch')}`,
    () => {
      const script = `
import json, sys, torch
for mmap in (False, True):
    none, f32, f16, i64, flags, number, ints, text = torch.load(sys.argv[1], weights_only=True, mmap=mmap)
    assert none is None and type(number) is float and [type(n) for n in ints] == [int] * 3
    assert [t.dtype for t in (f32, f16, i64, flags)] == [torch.float32, torch.float16, torch.int64, torch.bool]
    assert all(t.is_contiguous() for t in (f32, f16, i64, flags))
    print(json.dumps([f32.tolist(), f16.tolist(), i64.tolist(), flags.tolist(), number, ints, text]))`;
      const [plain, mapped] = runPython(python!, script, [write()]).trim().split('\n');
      expect(mapped).toBe(plain);
      const f32 = Float32Array.of(1 / 3, 1e-30, 3e38);
      expect(JSON.parse(plain!)).toEqual([
        [[0, 0.5, -1], [...f32]],
        [1, -1, 2 ** -24],
        [[[0, -1]], [[2 ** 40, 7]]],
        [true, false, false, true, true],
        0.1,
        [1, 300, -5],
        'text',
      ]);
    },
  );
});
