// The dense:f16 codec: numpy's float16 bits, decode of every half, refusals. (The codec contract itself: src/label-format.)

import { describe, expect, test } from 'vitest';
import { arrayOf, type TensorMap } from '../../src/tensor.ts';
import { halfBits, halfValue } from '../reference/half.ts';
import { codingSpec, decode, encode, logitsOnly, roundTrip } from '../util/codes.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { native } from '../util/native.ts';
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

  test('encodes to the bits of numpy float16', async () => {
    const { labels } = await roundTrip('dense:f16', [rows, K], input.slice(0, rows * K));
    const coded = labels.tensors;
    expect(labels.blobs).toBe(null);
    expect(Object.keys(coded)).toEqual(['logits']);
    expect([coded.logits!.dtype, coded.logits!.shape]).toEqual(['F16', [rows, K]]);
    expect(Int32Array.from(arrayOf(coded.logits!, 'F16'))).toEqual(wanted.slice(0, rows * K));
  });

  test('decodes every finite half to its value', async () => {
    const bits = Uint16Array.from({ length: 0x7c00 }, (_, i) => i);
    const both = Uint16Array.from([...bits, ...bits.map((b) => b | 0x8000)]);
    const view = { dtype: 'F16', shape: [both.length / K, K], data: new Uint8Array(both.buffer) } as const;
    const spec = codingSpec('dense:f16', both.length / K, K);
    const got = await decode(spec, { tensors: { logits: view }, blobs: null });
    expect([got.dtype, got.shape]).toEqual(['F32', [both.length / K, K]]);
    expect(values(got)).toEqual(Float64Array.from(both, halfValue));
  });

  test('encode after decode is the identity', async () => {
    const once = await roundTrip('dense:f16', [rows, K], input.slice(0, rows * K));
    const again = await roundTrip('dense:f16', [rows, K], once.values);
    expect(again.labels).toEqual(once.labels);
  });

  test.each([
    ['an infinity', Number.POSITIVE_INFINITY],
    ['a NaN', Number.NaN],
    ['a logit that would round to infinity', 65520],
    ['the same, negative', -65520],
  ])('refuses %s', async (_what, value) => {
    await expect(encode(codingSpec('dense:f16', 1, 3), logitsOnly([1, 3], [0, value, 1]))).rejects.toEqual(
      expect.objectContaining({ code: 'E_DIVERGED' }),
    );
  });

  test.each([
    ['no logits', {}],
    ['another class count', { logits: { dtype: 'F16', shape: [1, 4], data: new Uint8Array(8) } as const }],
    ['another dtype', { logits: f32([1, 3], [0, 1, 2]) }],
  ])('refuses to decode %s', async (_what, tensors) => {
    const decoded = decode(codingSpec('dense:f16', 1, 3), { tensors: tensors as TensorMap, blobs: null });
    await expect(decoded).rejects.toEqual(expect.objectContaining({ code: 'E_MISMATCH' }));
  });

  test('an unknown codec is refused and the known ones are named', () => {
    expect(() => native().codecNeeds('dense:f15')).toThrow(/dense:f16/);
  });
});
