import { readdirSync, readFileSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { canonicalJson, parseStrictJson } from '../src/canonical-json.ts';
import {
  MAX_HEADER_BYTES,
  parseSafetensors,
  readHeader,
  readSafetensors,
  SafetensorsFile,
  writeSafetensors,
} from '../src/safetensors.ts';
import { DTYPE_BYTES, type DType, elements, type TensorMap, tensor } from '../src/tensor.ts';
import { badData, dice, mutate, refusal, scratch } from './util/hostile.ts';

const sample: TensorMap = {
  odd: tensor('U8', [3], Uint8Array.of(1, 2, 3)),
  'b.weight': tensor('F32', [4, 2], Float32Array.of(0, 1, 2, 3, 4, 5, 6, 7)),
  a: tensor('I64', [], BigInt64Array.of(-5n)),
  none: tensor('F16', [0, 7], new Uint16Array(0)),
};

/** A file of a header text and data, with the length field a test wants. */
function raw(header: string | Uint8Array, data: number[] = [], length?: bigint): Uint8Array {
  const text = typeof header === 'string' ? new TextEncoder().encode(header) : header;
  const file = new Uint8Array(8 + text.length + data.length);
  new DataView(file.buffer).setBigUint64(0, length ?? BigInt(text.length), true);
  file.set(text, 8);
  file.set(data, 8 + text.length);
  return file;
}

const one = (begin: number, end: number, shape = '[2]', dtype = 'U8'): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":[${begin},${end}]}`;

describe('round trip', () => {
  test('all dtypes and random shapes come back equal, with metadata', async () => {
    const dir = scratch();
    const roll = dice(1);
    const dtypes = Object.keys(DTYPE_BYTES) as DType[];
    for (let round = 0; round < 40; round++) {
      const tensors: TensorMap = {};
      for (let i = 0; i < roll(6); i++) {
        const dtype = dtypes[roll(dtypes.length)]!;
        const shape = Array.from({ length: roll(4) }, () => roll(5));
        const data = Uint8Array.from({ length: elements(shape) * DTYPE_BYTES[dtype] }, () => roll(256));
        tensors[`t${roll(100)}.é"\\`] = { dtype, shape, data };
      }
      const path = join(dir, `${round}.safetensors`);
      await writeSafetensors(path, tensors, { note: 'ü\n"' });
      expect(await readSafetensors(path)).toEqual(tensors);
      expect(parseSafetensors(readFileSync(path), path).tensors).toEqual(tensors);
      expect((await readHeader(path)).metadata).toEqual({ note: 'ü\n"' });
    }
  });

  test('the bytes are the ones the format prescribes, whatever the order of the input', async () => {
    const dir = scratch();
    const path = join(dir, 'x.safetensors');
    const written = await writeSafetensors(path, { b: sample.odd!, a: sample.odd! }, { z: '1', y: '2' });
    const header =
      '{"__metadata__":{"y":"2","z":"1"},"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[3],"data_offsets":[3,6]}}';
    const padded = header.padEnd(Math.ceil(header.length / 8) * 8);
    expect(readFileSync(path)).toEqual(Buffer.from(raw(padded, [1, 2, 3, 1, 2, 3])));
    const other = await writeSafetensors(
      join(dir, 'y.safetensors'),
      { a: sample.odd!, b: sample.odd! },
      { y: '2', z: '1' },
    );
    expect(other).toEqual(written);
    expect(readdirSync(dir).sort()).toEqual(['x.safetensors', 'y.safetensors']);
  });

  test('every tensor is aligned to its element size in the file', async () => {
    const path = join(scratch(), 'x.safetensors');
    await writeSafetensors(path, sample);
    const { tensors, dataStart } = await readHeader(path);
    for (const [name, { dtype, begin }] of tensors) expect((dataStart + begin) % DTYPE_BYTES[dtype], name).toBe(0);
  });

  test('names such as __proto__ are names like any other', () => {
    const { tensors } = parseSafetensors(raw(`{"__proto__":${one(0, 2)}}`, [7, 8]), 'x');
    expect(Object.keys(tensors)).toEqual(['__proto__']);
    expect(Object.getPrototypeOf(tensors)).toBe(Object.prototype);
  });

  test('a write that fails leaves the old file and no temporary one', async () => {
    const dir = scratch();
    const path = join(dir, 'x.safetensors');
    await writeSafetensors(path, { a: sample.odd! });
    const before = readFileSync(path);
    const error = await refusal(() =>
      writeSafetensors(path, { a: { dtype: 'F32', shape: [3], data: new Uint8Array(3) } }),
    );
    expect(error.code).toBe('E_INTERNAL');
    expect(readFileSync(path)).toEqual(before);
    expect(readdirSync(dir)).toEqual(['x.safetensors']);
  });
});

describe('ranged reads', () => {
  test('every range of rows equals the slice of the whole', async () => {
    const path = join(scratch(), 'x.safetensors');
    await writeSafetensors(path, sample);
    await using file = await SafetensorsFile.open(path);
    for (let start = 0; start <= 4; start++)
      for (let end = start; end <= 4; end++) {
        const rows = await file.rows('b.weight', start, end);
        expect(rows.shape).toEqual([end - start, 2]);
        expect(rows.data).toEqual(sample['b.weight']!.data.slice(8 * start, 8 * end));
      }
  });

  test('bytes outside the rows are not read', async () => {
    const path = join(scratch(), 'x.safetensors');
    await writeSafetensors(path, sample);
    await using file = await SafetensorsFile.open(path);
    const { begin } = file.entry('b.weight');
    truncateSync(path, file.header.dataStart + begin + 16); // rows 0 and 1 are left
    expect((await file.rows('b.weight', 0, 2)).data).toEqual(sample['b.weight']!.data.slice(0, 16));
    expect(await badData(path, () => file.rows('b.weight', 1, 3))).toMatch('file shrank');
  });

  test.each([
    [-1, 2],
    [3, 2],
    [0, 5],
    [0.5, 1],
    [0, 1e15],
  ])('rows %d to %d of 4 are refused', async (start, end) => {
    const path = join(scratch(), 'x.safetensors');
    await writeSafetensors(path, sample);
    await using file = await SafetensorsFile.open(path);
    await badData(path, () => file.rows('b.weight', start, end));
    await badData(path, () => file.rows('a', 0, 0));
    await badData(path, () => file.tensor('absent'));
  });
});

describe('hostile files', () => {
  const deep = `{"a":${'['.repeat(50_000)}${']'.repeat(50_000)}}`;
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /at least 8 bytes/],
    ['seven bytes', new Uint8Array(7), /at least 8 bytes/],
    ['no header', raw(''), /duplicate|JSON/],
    ['header length of 2^63', raw('{}', [], 2n ** 63n), /at most 100000000/],
    ['header just over the cap', raw('{}', [], BigInt(MAX_HEADER_BYTES) + 1n), /at most/],
    ['header longer than the file', raw('{}', [], 3n), /truncated/],
    ['not UTF-8', raw(Uint8Array.of(0x7b, 0x22, 0xff, 0x22, 0x7d)), /UTF-8/],
    ['byte order mark', raw('\ufeff{}'), /JSON|\{/],
    ['not JSON', raw('{"a":}'), /JSON/],
    ['a list', raw('[]'), /\{/],
    ['leading space', raw(' {}'), /\{/],
    ['duplicate tensor', raw(`{"a":${one(0, 2)},"a":${one(0, 2)}}`, [1, 2]), /duplicate key/],
    ['duplicate through an escape', raw(`{"a":${one(0, 2)},"\\u0061":${one(0, 2)}}`, [1, 2]), /duplicate key/],
    [
      'duplicate key inside',
      raw(`{"a":{"dtype":"U8","dtype":"U8","shape":[2],"data_offsets":[0,2]}}`, [1, 2]),
      /duplicate/,
    ],
    ['metadata that is not strings', raw('{"__metadata__":{"a":1}}'), /object of strings/],
    ['metadata null', raw('{"__metadata__":null}'), /object of strings/],
    ['tensor null', raw('{"a":null}'), /an object/],
    ['deep nesting', raw(deep), /levels/],
    ['extra key', raw('{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0],"x":1}}'), /the keys/],
    ['unknown dtype', raw(`{"a":${one(0, 2, '[2]', 'F8')}}`, [1, 2]), /dtype of a/],
    ['inherited dtype', raw(`{"a":${one(0, 2, '[2]', 'toString')}}`, [1, 2]), /dtype of a/],
    ['negative size', raw(`{"a":${one(0, 2, '[-2]')}}`, [1, 2]), /list of sizes/],
    ['fractional size', raw(`{"a":${one(0, 2, '[0.5]')}}`, [1, 2]), /list of sizes/],
    ['rank 65', raw(`{"a":${one(0, 1, JSON.stringify(new Array(65).fill(1)))}}`, [1]), /list of sizes/],
    ['product overflow', raw(`{"a":${one(0, 2, '[4294967296,4294967296,4294967296]')}}`, [1, 2]), /below 2\^53/],
    ['overflow hidden by a zero', raw(`{"a":${one(0, 0, '[4294967296,4294967296,0]')}}`), /below 2\^53/],
    ['three offsets', raw('{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1,2]}}', [1, 2]), /two offsets/],
    ['negative offset', raw(`{"a":${one(-2, 0)}}`, [1, 2]), /two offsets/],
    ['end before begin', raw(`{"a":${one(2, 0)}}`, [1, 2]), /2 bytes for U8/],
    ['size is not shape x dtype', raw(`{"a":${one(0, 2, '[3]')}}`, [1, 2]), /3 bytes for U8/],
    ['hole in front', raw(`{"a":${one(1, 3)}}`, [1, 2, 3]), /no holes/],
    ['hole between', raw(`{"a":${one(0, 2)},"b":${one(3, 5)}}`, [1, 2, 3, 4, 5]), /no holes/],
    ['overlap', raw(`{"a":${one(0, 2)},"b":${one(1, 3)}}`, [1, 2, 3]), /no overlap/],
    ['same bytes twice', raw(`{"a":${one(0, 2)},"b":${one(0, 2)}}`, [1, 2]), /no overlap/],
    ['one byte too few', raw(`{"a":${one(0, 2)}}`, [1]), /file size/],
    ['one byte too many', raw(`{"a":${one(0, 2)}}`, [1, 2, 3]), /file size/],
    ['data without tensors', raw('{}', [1]), /file size/],
  ];

  test.each(cases)('%s is E_DATA from memory and from disk', async (_, bytes, message) => {
    const path = join(scratch(), 'x.safetensors');
    writeFileSync(path, bytes);
    expect(await badData(path, () => parseSafetensors(bytes, path))).toMatch(message);
    expect(await badData(path, () => readSafetensors(path))).toMatch(message);
    expect(await badData(path, () => readHeader(path))).toMatch(message);
  });

  test('a huge header length allocates nothing: a sparse file of 1 TiB is refused at once', async () => {
    const path = join(scratch(), 'x.safetensors');
    writeFileSync(path, raw('{}', [], 2n ** 39n));
    truncateSync(path, 2 ** 40);
    expect(statSync(path).size).toBe(2 ** 40);
    expect(await badData(path, () => readHeader(path))).toMatch('at most');
  });

  test('a missing file and a folder are E_DATA', async () => {
    const dir = scratch();
    await badData(join(dir, 'none'), () => readHeader(join(dir, 'none')));
    await badData(dir, () => readHeader(dir));
  });

  test('3000 random mutations are read or refused with E_DATA', async () => {
    const dir = scratch();
    const path = join(dir, 'x.safetensors');
    await writeSafetensors(path, sample, { a: 'b' });
    const good = new Uint8Array(readFileSync(path));
    const roll = dice(7);
    let refused = 0;
    for (let i = 0; i < 3000; i++) {
      const bytes = mutate(good, roll);
      try {
        const { tensors } = parseSafetensors(bytes, path);
        for (const { dtype, shape, data } of Object.values(tensors))
          expect(data.byteLength).toBe(elements(shape) * DTYPE_BYTES[dtype]);
      } catch (thrown) {
        refused += 1;
        expect((thrown as { code: string }).code, String(thrown)).toBe('E_DATA');
      }
    }
    expect(refused).toBeGreaterThan(1000);
  });

  test('refused files are closed', async () => {
    const path = join(scratch(), 'x.safetensors');
    writeFileSync(path, raw('{"a":}'));
    const before = readdirSync('/proc/self/fd').length;
    for (let i = 0; i < 50; i++) await badData(path, () => readHeader(path));
    expect(readdirSync('/proc/self/fd').length).toBeLessThan(before + 25);
  });
});

describe('canonical JSON', () => {
  test('one spelling per value', () => {
    const value = { b: [1, -0, 1e21, 0.1], a: { z: null, y: 'é\u2028"', x: undefined }, 10: true, 9: false };
    expect(canonicalJson(value)).toBe('{"10":true,"9":false,"a":{"y":"é\u2028\\"","z":null},"b":[1,0,1e+21,0.1]}');
    expect(canonicalJson(JSON.parse(canonicalJson(value)))).toBe(canonicalJson(value));
  });

  test.each([[Number.NaN], [Number.POSITIVE_INFINITY], [1n], [new Map()], [undefined], [() => 0], [new Uint8Array(1)]])(
    '%s has no canonical form',
    async (value) => {
      expect((await refusal(() => canonicalJson({ a: [value] }))).message).toMatch('$.a[0]');
    },
  );

  test('duplicate keys are found at every depth and nowhere else', () => {
    const fine = '{"a":{"a":[{"a":"a\\":"},{"a":"}{"}]},"b":"a","c":"\\\\"}';
    expect(parseStrictJson(fine)).toEqual(JSON.parse(fine));
    expect(() => parseStrictJson('[{"a":[{"b":1 , "c":2,"b" : 3}]}]')).toThrow('duplicate key "b"');
    expect(() => parseStrictJson(`{"a":"${'x\\n'.repeat(2_000_000)}","a":1}`)).toThrow('duplicate key "a"');
  });
});
