// The dense:f16 codec: numpy's float16 bits, decode of every half, refusals. (The codec contract itself: src/label-format.)

import { describe, expect, test } from 'vitest';
import { arrayOf } from '../../src/tensor.ts';
import { halfBits, halfValue } from '../reference/half.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { native, ops } from '../util/native.ts';
import { f32, values } from '../util/tensors.ts';

const file = golden('half');
const input = arrayOf(goldenTensor(file, 'f32'), 'F32');
const wanted = arrayOf(goldenTensor(file, 'f16'), 'I32');
const K = 8;
const rows = Math.floor(input.length / K);

test('the reference rounds as numpy does: ties, subnormals, both signs', () => {
  const got = Int32Array.from(input, halfBits);
  expect(got).toEqual(wanted);
});

describe('dense:f16', () => {
  test('is among the codecs', () => {
    expect(native().codecs()).toContain('dense:f16');
  });

  test('encodes to the bits of numpy float16', () => {
    const coded = ops().encode('dense:f16', f32([rows, K], input.slice(0, rows * K)), {});
    expect(Object.keys(coded)).toEqual(['logits']);
    expect([coded.logits!.dtype, coded.logits!.shape]).toEqual(['F16', [rows, K]]);
    expect(Int32Array.from(arrayOf(coded.logits!, 'F16'))).toEqual(wanted.slice(0, rows * K));
  });

  test('decodes every finite half to its value', () => {
    const bits = Uint16Array.from({ length: 0x7c00 }, (_, i) => i);
    const both = Uint16Array.from([...bits, ...bits.map((b) => b | 0x8000)]);
    const view = { dtype: 'F16', shape: [both.length / K, K], data: new Uint8Array(both.buffer) } as const;
    const got = ops().decode('dense:f16', { logits: view }, {}, K);
    expect([got.dtype, got.shape]).toEqual(['F32', [both.length / K, K]]);
    expect(values(got)).toEqual(Float64Array.from(both, halfValue));
  });

  test('encode after decode is the identity', () => {
    const once = ops().encode('dense:f16', f32([rows, K], input.slice(0, rows * K)), {});
    const again = ops().encode('dense:f16', ops().decode('dense:f16', once, {}, K), {});
    expect(again).toEqual(once);
  });

  test.each([
    ['an infinity', Number.POSITIVE_INFINITY],
    ['a NaN', Number.NaN],
    ['a logit that would round to infinity', 65520],
    ['the same, negative', -65520],
  ])('refuses %s', (_what, value) => {
    expect(() => ops().encode('dense:f16', f32([1, 3], [0, value, 1]), {})).toThrow(
      expect.objectContaining({ code: 'E_DIVERGED' }),
    );
  });

  test.each([
    ['no logits', {}],
    ['another class count', { logits: { dtype: 'F16', shape: [1, 4], data: new Uint8Array(8) } as const }],
    ['another dtype', { logits: f32([1, 3], [0, 1, 2]) }],
  ])('refuses to decode %s', (_what, tensors) => {
    expect(() => ops().decode('dense:f16', tensors, {}, 3)).toThrow(expect.objectContaining({ code: 'E_MISMATCH' }));
  });

  test('an unknown codec is refused and the known ones are named', () => {
    expect(() => ops().encode('dense:f15', f32([1, 2], [0, 1]), {})).toThrow(/dense:f16/);
  });
});
