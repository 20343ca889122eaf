import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { readWeights, WEIGHT_FORMATS } from '../src/interchange/index.ts';
import { Dict, type PickleHost, readPickle, type Value } from '../src/interchange/pickle.ts';
import { readTorchFile } from '../src/interchange/torch-file.ts';
import { writeSafetensors } from '../src/safetensors.ts';
import { arrayOf, type DType, elements, type TensorView, tensor } from '../src/tensor.ts';
import { badData, dice, mutate, scratch } from './util/hostile.ts';

const fixture = (name: string): string => new URL(`fixtures/${name}`, import.meta.url).pathname;

/** i / 8 - 1 for i = 0, 1, ...: the values make_torch_files.py fills tensors with. */
const ramp = (count: number): number[] => Array.from({ length: count }, (_, i) => i / 8 - 1);

/** Bits of a float in f16 or bf16; exact for the values used here. */
function bits(value: number, dtype: 'F16' | 'BF16'): number {
  const word = new DataView(new ArrayBuffer(4));
  word.setFloat32(0, value);
  const u = word.getUint32(0);
  if (dtype === 'BF16') return u >>> 16;
  if (value === 0) return 0;
  return ((u >>> 16) & 0x8000) | ((((u >>> 23) & 0xff) - 127 + 15) << 10) | ((u >>> 13) & 0x3ff);
}

function values(view: TensorView): number[] {
  const array = arrayOf(view, view.dtype);
  return Array.from(array as ArrayLike<number | bigint>, Number);
}

describe('state dicts of torch.save', () => {
  test.each(['zip.pth', 'legacy.pth', 'module.pth', 'nested.pth'])('%s is read flat, without prefix', async (name) => {
    const weights = await readWeights(fixture(name));
    expect(Object.keys(weights)).toEqual(['conv1.weight', 'bn1.running_mean', 'bn1.num_batches_tracked']);
    expect(weights['conv1.weight']!.shape).toEqual([2, 3, 3, 3]);
    expect(values(weights['conv1.weight']!)).toEqual(ramp(54));
    expect(values(weights['bn1.running_mean']!)).toEqual(ramp(2));
    expect(weights['bn1.num_batches_tracked']).toMatchObject({ dtype: 'I64', shape: [] });
    expect(values(weights['bn1.num_batches_tracked']!)).toEqual([7]);
  });

  test.each([
    ['half.pth', 'F16'],
    ['bfloat16.pth', 'BF16'],
  ] as const)('%s keeps its bits', async (name, dtype) => {
    const weights = await readWeights(fixture(name));
    expect(weights['conv1.weight']!.dtype).toBe(dtype);
    expect(values(weights['conv1.weight']!)).toEqual(ramp(54).map((v) => bits(v, dtype)));
  });

  test.each(['views.pth', 'views-legacy.pth'])(
    '%s: views of shared storages become row-major tensors',
    async (name) => {
      const weights = await readWeights(fixture(name));
      const base = ramp(24);
      const at = (r: number, c: number): number => base[6 * r + c]!;
      const grid = (rows: number[], columns: number[]): number[] => rows.flatMap((r) => columns.map((c) => at(r, c)));
      expect(values(weights.tied!)).toEqual(base);
      expect(weights.transposed!.shape).toEqual([6, 4]);
      expect(values(weights.transposed!)).toEqual([0, 1, 2, 3, 4, 5].flatMap((c) => [0, 1, 2, 3].map((r) => at(r, c))));
      expect(values(weights.window!)).toEqual(grid([1, 2], [2, 3, 4]));
      expect(values(weights.every_other!)).toEqual(grid([0, 1, 2, 3], [0, 2, 4]));
      expect(values(weights.expanded!)).toEqual(new Array(6).fill(2.5));
      expect(weights.empty).toMatchObject({ shape: [0, 3] });
    },
  );

  test('every storage type has its dtype', async () => {
    const weights = await readWeights(fixture('dtypes.pth'));
    const dtypes = Object.fromEntries(Object.entries(weights).map(([name, { dtype }]) => [name, dtype]));
    const wanted: Record<string, DType> = {
      float64: 'F64',
      int64: 'I64',
      int32: 'I32',
      int16: 'I16',
      int8: 'I8',
      uint8: 'U8',
      bool: 'BOOL',
      parameter: 'F32',
    };
    expect(dtypes).toEqual(wanted);
    for (const name of ['float64', 'int64', 'int32', 'int16', 'int8', 'uint8'])
      expect(values(weights[name]!), name).toEqual([0, 1, 2, 3, 4]);
    expect(values(weights.bool!)).toEqual([1, 0, 1]);
    expect(values(weights.parameter!)).toEqual(ramp(4));
  });

  test('the state dict of a network, with the attributes torch hangs on it', async () => {
    const weights = await readWeights(fixture('network.pth'));
    expect(Object.keys(weights)).toEqual([
      '0.weight',
      '0.bias',
      '1.weight',
      '1.bias',
      '1.running_mean',
      '1.running_var',
      '1.num_batches_tracked',
    ]);
    expect(values(weights['0.weight']!)).toEqual(ramp(18));
  });

  test('.safetensors loses the prefix too, only where all names have it', async () => {
    const dir = scratch();
    const t = tensor('U8', [1], Uint8Array.of(1));
    const path = join(dir, 'a.SAFETENSORS');
    await writeSafetensors(path, { 'module.a': t, 'module.b': t });
    expect(Object.keys(await readWeights(path))).toEqual(['a', 'b']);
    await writeSafetensors(path, { 'module.a': t, b: t });
    expect(Object.keys(await readWeights(path)).sort()).toEqual(['b', 'module.a']);
  });
});

describe('what is not weights is refused by name', () => {
  test.each(['malicious.pth', 'malicious-legacy.pth', 'malicious-plain.pth'])('%s names os.system', async (name) => {
    const path = fixture(name);
    expect(readFileSync(path).includes('system')).toBe(true);
    expect(await badData(path, () => readWeights(path))).toMatch(
      /weights only .* received "posix\.system"\nsave the weights/,
    );
  });

  test('an unknown ending, a text file, an empty file, a folder, a missing file', async () => {
    const dir = scratch();
    expect(await badData(join(dir, 'a.onnx'), () => readWeights(join(dir, 'a.onnx')))).toMatch('.safetensors, .pth');
    const path = join(dir, 'a.pth');
    await badData(path, () => readWeights(path));
    for (const content of ['', 'hello', 'PK', 'PK\x03\x04', '\x80', '\x80\x02.']) {
      writeFileSync(path, content, 'latin1');
      await badData(path, () => readWeights(path));
    }
    await badData(dir, () => readTorchFile(dir));
  });

  test('every format of the table has a test file here', () => {
    expect(WEIGHT_FORMATS.map((f) => f.name)).toEqual(['safetensors', 'torch']);
  });
});

/** Bytes of a hand-made pickle: strings stand for their characters, numbers for bytes. */
const bytes = (...parts: (string | number)[]): Uint8Array =>
  Uint8Array.from(parts.flatMap((p) => (typeof p === 'number' ? [p] : [...Buffer.from(p, 'latin1')])));
const u32 = (n: number): string => Buffer.from(Uint32Array.of(n).buffer).toString('latin1');

describe('the pickle machine', () => {
  const host: PickleHost = {
    path: 'x',
    globals: new Map([
      ['m.f', (args: readonly Value[]) => [...args]],
      ['m.T', null],
    ]),
    persistent: (id) => [id],
  };
  const read = (...parts: (string | number)[]): Value => readPickle(bytes(...parts), 0, host).value;

  test('reads what it knows', () => {
    expect(read(0x80, 2, 'K', 7, '.')).toBe(7);
    expect(read('J', u32(0xffffffff), '.')).toBe(-1);
    expect(read(0x8a, 2, 0xff, 0x7f, '.')).toBe(32767);
    expect(read(0x8a, 2, 0xff, 0xff, '.')).toBe(-1);
    expect(read(0x8a, 8, '\0\0\0\0\0\0\0\x40', '.')).toBe(2n ** 62n);
    expect(read('G', '\x3f\xf8\0\0\0\0\0\0', '.')).toBe(1.5);
    expect(read('X', u32(3), 'a\xc3\xa9', '.')).toBe('aé');
    expect(read('}(X', u32(1), 'a', 'K', 1, 'X', u32(1), 'b', 0x88, 'u.')).toEqual(
      new Dict([
        ['a', 1],
        ['b', true],
      ]),
    );
    expect(read(']q', 5, '(N', 0x89, 'eh', 5, 'a.')).toHaveLength(3); // a list that holds itself
    expect(read('cm\nf\nK', 1, 'K', 2, 0x86, 'R.')).toEqual([1, 2]);
    expect(read('K', 9, 'Q.')).toEqual([9]);
    expect(readPickle(bytes('xxK', 1, '.rest'), 2, host).end).toBe(5);
  });

  test.each<[string, (string | number)[], RegExp]>([
    ['no end', ['K', 1], /its end/],
    ['nothing on the stack', ['.'], /pickle stack/],
    ['a mark as value', ['(.'], /pickle stack/],
    ['no mark', ['t.'], /a mark/],
    ['protocol 6', [0x80, 6, '.'], /protocol/],
    ['another name', ['cos\nsystem\n.'], /"os.system"/],
    ['builtins eval', ['cbuiltins\neval\n.'], /"builtins.eval"/],
    ['a name put together on the stack', ['X', u32(2), 'os', 'X', u32(6), 'system', 0x93, '.'], /"os.system"/],
    ['a whitelisted name that is not a function', ['cm\nT\n)R.'], /a function .*"m.T"/],
    ['REDUCE of a string', ['X', u32(1), 'a', ')R.'], /a known name/],
    ['REDUCE without a tuple', ['cm\nf\nK', 1, 'R.'], /a known name/],
    ['INST', ['(ios\nsystem\n.'], /opcode.*0x69/],
    ['OBJ', ['(cm\nf\no.'], /opcode.*0x6f/],
    ['NEWOBJ', ['cm\nf\n)', 0x81, '.'], /opcode.*0x81/],
    ['EXT1', [0x82, 1, '.'], /opcode.*0x82/],
    ['textual PERSID', ['Pid\n.'], /opcode.*0x50/],
    ['BUILD on a list', [']}b.'], /a dict/],
    ['no memo entry', ['h', 1, '.'], /memo/],
    ['string longer than the file', ['X', u32(0xffffffff), 'a.'], /more bytes/],
    ['string that is not UTF-8', ['X', u32(1), 0xff, '.'], /UTF-8/],
    ['name without newline', ['c', 'm'.repeat(2000)], /short line/],
    ['APPEND to a dict', ['}Na.'], /a list/],
    ['odd SETITEMS', ['}(Nu.'], /pairs/],
    ['unknown opcode', [0x01, '.'], /opcode.*0x1/],
  ])('refuses %s', async (_, parts, message) => {
    expect(await badData('x', () => read(...parts))).toMatch(message);
  });

  test('a long stream of shared values takes linear time and memory', () => {
    // x = (x, x), 50,000 times: 2^50000 leaves, if anything walked them.
    const doubling = bytes('h', 0, 'h', 0, 0x86, 'q', 0);
    const stream = Uint8Array.from([
      ...bytes('Nq', 0),
      ...Array.from({ length: 50_000 }, () => [...doubling]).flat(),
      0x2e,
    ]);
    expect(readPickle(stream, 0, host).value).toHaveLength(2);
  });
});

describe('tensors must lie inside their storages', () => {
  const P = (...parts: (string | number)[]): (string | number)[] => parts;
  const text = (s: string): (string | number)[] => ['X', u32(s.length), s];
  const long = (n: number): (string | number)[] => ['J', u32(n)];
  const storage = (count: number, type = 'FloatStorage', key = '0'): (string | number)[] =>
    P('(', ...text('storage'), `ctorch\n${type}\n`, ...text(key), ...text('cpu'), ...long(count), 'tQ');
  const sizes = (list: number[]): (string | number)[] => ['(', ...list.flatMap(long), 't'];
  const rebuild = (count: number, offset: number, shape: number[], strides: number[]): (string | number)[] =>
    P(
      'ctorch._utils\n_rebuild_tensor_v2\n(',
      ...storage(count),
      ...long(offset),
      ...sizes(shape),
      ...sizes(strides),
      0x89,
      'NtR',
    );
  const magic = bytes(0x80, 2, 0x8a, 10, 0x6c, 0xfc, 0x9c, 0x46, 0xf9, 0x20, 0x6a, 0xa8, 0x50, 0x19, '.');

  /** A legacy file with one entry `w` and one storage of `count` floats. */
  function legacy(tensorParts: (string | number)[], count: number, data = 4 * count): Uint8Array {
    const head = bytes(0x80, 2, 'M', 0xe9, 0x03, '.', 0x80, 2, '}', ...text('little_endian'), 0x88, 's.');
    const body = bytes(0x80, 2, '}', ...text('w'), ...tensorParts, 's.', 0x80, 2, ']', ...text('0'), 'a.');
    const length = Buffer.from(BigInt64Array.of(BigInt(count)).buffer);
    return Uint8Array.from([...magic, ...head, ...body, ...length, ...new Uint8Array(data)]);
  }
  const run = async (file: Uint8Array): Promise<unknown> => {
    const path = join(scratch(), 'a.pth');
    writeFileSync(path, file);
    try {
      return await readWeights(path);
    } catch (thrown) {
      return badData(path, () => Promise.reject(thrown));
    }
  };

  test('the hand-made file is good before it is broken', async () => {
    expect(await run(legacy(rebuild(6, 0, [2, 3], [3, 1]), 6))).toMatchObject({ w: { dtype: 'F32', shape: [2, 3] } });
    expect(await run(legacy(rebuild(6, 5, [1], [9]), 6))).toMatchObject({ w: { shape: [1] } });
    expect(await run(legacy(rebuild(6, 0, [0, 3], [99, 99]), 6))).toMatchObject({ w: { shape: [0, 3] } });
  });

  test.each<[string, Uint8Array, RegExp]>([
    ['one element past the end', legacy(rebuild(6, 1, [2, 3], [3, 1]), 6), /elements inside 6/],
    ['stride past the end', legacy(rebuild(6, 0, [2, 3], [4, 1]), 6), /elements inside 6/],
    ['negative offset', legacy(rebuild(6, -1, [2], [1]), 6), /storage, offset/],
    ['negative stride', legacy(rebuild(6, 5, [2], [-1]), 6), /storage, offset/],
    ['fewer strides than sizes', legacy(rebuild(6, 0, [2, 3], [1]), 6), /2 strides/],
    ['rank 65', legacy(rebuild(6, 0, new Array(65).fill(1), new Array(65).fill(1)), 6), /storage, offset/],
    ['expanded to 4 GiB', legacy(rebuild(6, 0, [2 ** 30], [0]), 6), /tensors together/],
    ['element count beyond 2^53', legacy(rebuild(6, 0, [2 ** 30, 2 ** 30], [0, 0]), 6), /elements inside 6/],
    ['unknown storage', legacy(P(...storage(6, 'FooStorage')), 6), /"torch.FooStorage"/],
    ['a storage instead of a tensor', legacy(storage(6), 6), /a tensor for w/],
    ['another element count in the data', legacy(rebuild(6, 0, [6], [1]), 5), /6 elements/],
    ['data cut', legacy(rebuild(6, 0, [6], [1]), 6, 23), /truncated/],
    [
      'one storage with two sizes',
      legacy(P('(', ...rebuild(6, 0, [6], [1]), ...rebuild(7, 0, [7], [1]), 't'), 6),
      /as before/,
    ],
    ['wrong magic', legacy(rebuild(6, 0, [6], [1]), 6).fill(0, 4, 5), /magic/],
  ])('%s is E_DATA', async (_, file, message) => {
    expect(await run(file)).toMatch(message);
  });

  test('many tensors that share one storage may not ask for more memory than a few files of that size', async () => {
    const parts = Array.from({ length: 3000 }, () => rebuild(10_000, 0, [10_000], [1])).flat();
    expect(await run(legacy(P('(', ...parts, 't'), 10_000))).toMatch(/tensors together/);
  });
});

test('3000 random mutations of real files are read or refused with E_DATA', async () => {
  const dir = scratch();
  const roll = dice(23);
  const good = ['zip.pth', 'legacy.pth', 'views.pth', 'malicious.pth', 'views-legacy.pth'].map((n) =>
    readFileSync(fixture(n)),
  );
  const path = join(dir, 'm.pth');
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    writeFileSync(path, mutate(new Uint8Array(good[i % good.length]!), roll));
    try {
      for (const view of Object.values(await readWeights(path)))
        expect(view.data.byteLength % Math.max(1, elements(view.shape))).toBe(0);
    } catch (thrown) {
      refused += 1;
      expect((thrown as { code: string }).code, String((thrown as Error).stack)).toBe('E_DATA');
      expect((thrown as { details: { path: string } }).details.path).toBe(path);
    }
  }
  expect(refused).toBeGreaterThan(1000);
  expect(existsSync(path)).toBe(true);
}, 60_000);
