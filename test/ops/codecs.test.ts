// The codecs that keep rows one by one: dense:int8, dense:int4, topk and features, against what their heads promise,
// computed here in float64.

import { describe, expect, test } from 'vitest';
import { arrayOf, type TensorMap } from '../../src/tensor.ts';
import { halfBits, halfValue } from '../reference/half.ts';
import { codingSpec, decode, encode, fitBasis, logitsOnly, roundTrip } from '../util/codes.ts';
import { evaluateSpec, openModel, openStore } from '../util/jobs.ts';
import { native, quiet } from '../util/native.ts';
import { f32, f64, symmetric } from '../util/tensors.ts';

const half = (x: number): number => halfValue(halfBits(x));

/** Logits of the sort teachers give: spread of a few units, one row constant, one with an outlier. */
function logits(rows: number, classes: number, object: number): Float32Array {
  const z = Float32Array.from(symmetric([rows, classes], object, 8));
  z.fill(1.5, 0, classes);
  z[2 * classes - 1] = 300;
  return z;
}

describe.each([
  ['dense:int8', 255],
  ['dense:int4', 15],
] as const)('%s', (codec, levels) => {
  test.each([1, 2, 7, 200])('rows of %i classes come back within half a step', async (classes) => {
    const rows = 9;
    const z = logits(rows, classes, 400 + classes);
    const { labels, values } = await roundTrip(codec, [rows, classes], z);
    expect(labels.tensors.code!.shape).toEqual([rows, levels === 255 ? classes : Math.ceil(classes / 2)]);
    const range = arrayOf(labels.tensors.range!, 'F16');
    for (let row = 0; row < rows; row++) {
      const own = z.subarray(row * classes, (row + 1) * classes);
      const least = Math.min(...own);
      const step = halfValue(range[2 * row + 1]!);
      expect(halfValue(range[2 * row]!)).toBe(half(least));
      // the step is rounded up by at most one half-precision unit
      const exact = Math.max(0, Math.max(...own) - half(least)) / levels;
      expect(step).toBeGreaterThanOrEqual(Math.fround(exact) * (1 - 1e-6));
      expect(step).toBeLessThanOrEqual(exact * (1 + 2 ** -9) + 2 ** -24);
      const allowed = step / 2 + Math.abs(least - half(least)) + 1e-4 * Math.abs(step * levels);
      for (const [k, value] of own.entries())
        expect(Math.abs(values[row * classes + k]! - value), `row ${row} class ${k}`).toBeLessThanOrEqual(allowed);
    }
    expect(values.subarray(0, classes)).toEqual(new Float32Array(classes).fill(1.5));
  });

  test('encode after decode is the identity', async () => {
    const once = await roundTrip(codec, [4, 33], logits(4, 33, 410));
    const again = await roundTrip(codec, [4, 33], once.values);
    expect(again.values).toEqual(once.values);
  });

  test.each([Number.NaN, Number.POSITIVE_INFINITY, 1e6, -1e6])('refuses %d', async (bad) => {
    await expect(roundTrip(codec, [1, 3], [0, bad, 1])).rejects.toMatchObject({ code: 'E_DIVERGED' });
  });

  test('refuses rows of another width', async () => {
    const { labels } = await roundTrip(codec, [2, 8], logits(2, 8, 411));
    await expect(decode(codingSpec(codec, 2, 11), labels)).rejects.toMatchObject({ code: 'E_MISMATCH' });
  });
});

describe('topk', () => {
  /** Classes of a row by falling logit, ties by rising class. */
  const ranked = (own: Float32Array): number[] => [...own.keys()].sort((a, b) => own[b]! - own[a]! || a - b);
  const softmax = (own: ArrayLike<number>): number[] => {
    const top = Math.max(...Array.from(own));
    const e = Array.from(own, (z) => Math.exp(z - top));
    const sum = e.reduce((a, b) => a + b, 0);
    return e.map((v) => v / sum);
  };

  test.each([
    [1, 5],
    [3, 8],
    [10, 200],
    [50, 1000],
    [9, 9],
    [12, 9],
    [1, 1],
  ])('the %i largest of %i classes are kept as halves, the rest as the mode says', async (kept, classes) => {
    const rows = 6;
    const z = logits(rows, classes, 420 + classes).map(half);
    for (const mode of ['mr', 'ms', 'mrs']) {
      const { labels, values } = await roundTrip(`topk:${kept}:${mode}`, [rows, classes], z);
      const m = Math.min(kept, classes);
      const bits = Math.ceil(Math.log2(classes));
      expect(labels.tensors.class!.shape).toEqual([rows, Math.ceil((m * bits) / 8)]);
      expect(labels.tensors.value!.shape).toEqual([rows, m]);
      expect(Object.keys(labels.tensors).sort()).toEqual(
        mode === 'mr' ? ['class', 'value'] : ['class', 'rest', 'value'],
      );
      for (let row = 0; row < rows; row++) {
        const own = z.subarray(row * classes, (row + 1) * classes);
        const got = values.subarray(row * classes, (row + 1) * classes);
        const order = ranked(own);
        for (const k of order.slice(0, m)) expect(got[k]).toBe(own[k]);
        const rest = order.slice(m);
        if (rest.length === 0) continue;
        const wanted = {
          mr: () => -65504,
          mrs: () => Math.min(...own),
          ms: () => {
            const p = softmax(own);
            const tail = rest.reduce((sum, k) => sum + p[k]!, 0) / rest.length;
            return half(Math.log(tail) + own[order[0]!]! - Math.log(p[order[0]!]!));
          },
        }[mode]!();
        for (const k of rest) expect(Math.abs(got[k]! - wanted)).toBeLessThanOrEqual(Math.abs(wanted) * 2 ** -10);
      }
    }
  });

  test('classes are packed lowest bit first: 4, 3, 2 of five classes are 001 110 010, the bytes 156 and 0', async () => {
    const { labels } = await roundTrip('topk:3:ms', [1, 5], [1, 2, 3, 4, 5]);
    expect([...labels.tensors.class!.data]).toEqual([156, 0]);
    expect([...arrayOf(labels.tensors.value!, 'F16')].map(halfValue)).toEqual([5, 4, 3]);
  });

  test('ms leaves every kept probability as it was at temperature 1; mr divides by their sum', async () => {
    const z = Float32Array.from(symmetric([1, 50], 430, 4)).map(half);
    const p = softmax(z);
    const order = ranked(z);
    const keptSum = order.slice(0, 5).reduce((sum, k) => sum + p[k]!, 0);
    const ms = softmax((await roundTrip('topk:5:ms', [1, 50], z)).values);
    const mr = softmax((await roundTrip('topk:5:mr', [1, 50], z)).values);
    for (const k of order.slice(0, 5)) {
      expect(ms[k]).toBeCloseTo(p[k]!, 3);
      expect(mr[k]).toBeCloseTo(p[k]! / keptSum, 6);
    }
    expect(order.slice(5).every((k) => mr[k] === 0)).toBe(true);
  });

  test('zero probability makes a finite loss, with no share in it', async () => {
    const { values } = await roundTrip('topk:1:mr', [1, 3], [0, 4, 1]);
    const { loss, dStudent } = native().ops.softKl(f32([1, 3], [0.5, 0, -0.5]), f32([1, 3], values), 2, 1);
    const s = softmax([0.25, 0, -0.25]);
    expect(arrayOf(loss, 'F32')[0]).toBeCloseTo(-Math.log(s[1]!), 5);
    expect([...arrayOf(dStudent, 'F32')].every(Number.isFinite)).toBe(true);
  });

  test.each([
    'topk',
    'topk:',
    'topk:5',
    'topk:0:mr',
    'topk:-1:mr',
    'topk:1.5:mr',
    'topk:05:mr',
    'topk:5:',
    'topk:5:mx',
  ])('%s is no codec', (name) => {
    expect(() => native().codecNeeds(name)).toThrow(expect.objectContaining({ code: 'E_CONFIG' }));
  });

  test('a class that does not exist is E_DATA; fewer rows of classes are E_MISMATCH', async () => {
    const { labels } = await roundTrip('topk:2:mr', [2, 5], [1, 2, 3, 4, 5, 5, 4, 3, 2, 1]);
    const spec = codingSpec('topk:2:mr', 2, 5);
    const broken = { ...labels.tensors.class!, data: labels.tensors.class!.data.map(() => 255) };
    const tensors: TensorMap = { ...labels.tensors, class: broken };
    await expect(decode(spec, { tensors, blobs: null })).rejects.toMatchObject({ code: 'E_DATA' });
    await expect(decode(spec, { tensors: { value: labels.tensors.value! }, blobs: null })).rejects.toMatchObject({
      code: 'E_MISMATCH',
    });
  });
});

describe('features', () => {
  test('decode to the teacher’s logits up to the rounding of the features', async () => {
    const [model, store] = [openModel(), openStore()];
    const spec = { ...evaluateSpec(3), ensemble: 'mean', teacherMode: 'eval', features: true } as const;
    const answered = await native().answer([model], store, spec, quiet).promise;
    const [rows, classes] = answered.logits.shape as [number, number];
    const coding = codingSpec('features', rows, classes);
    const basis = await fitBasis(coding, answered, { teachers: [model] });
    expect(basis.weight).toEqual(model.stateDict()['classifier.weight']);
    const labels = await encode({ ...coding, basis }, answered);
    const width = answered.features!.shape[1]!;
    expect(labels.tensors.features!.shape).toEqual([rows, width]);
    const got = arrayOf(await decode({ ...coding, basis }, labels), 'F32');
    const weight = arrayOf(basis.weight!, 'F32');
    const bias = arrayOf(basis.bias!, 'F32');
    const features = Float64Array.from(arrayOf(answered.features!, 'F32'), half);
    for (let row = 0; row < rows; row++)
      for (let k = 0; k < classes; k++) {
        let sum = bias[k]!;
        for (let d = 0; d < width; d++) sum += weight[k * width + d]! * features[row * width + d]!;
        expect(got[row * classes + k]).toBeCloseTo(sum, 5);
      }
    const straight = arrayOf(answered.logits, 'F32');
    for (const [i, value] of got.entries()) expect(Math.abs(value - straight[i]!)).toBeLessThan(0.01);
  });

  test('are decoded in float64 and rounded once: sums that float32 would lose, and bit for bit', async () => {
    const [rows, classes, width] = [7, 11, 600];
    const weight = Float32Array.from(symmetric([classes, width], 440, 0.5));
    const bias = Float32Array.from(symmetric([classes], 441));
    const features = Float32Array.from(symmetric([rows, width], 442, 30)).map(half);
    weight.set([1e7, -1e7, 0.25], 0); // of class 0: 1e7 x - 1e7 x + 0.25 y
    weight.fill(0, 3, width);
    for (let row = 0; row < rows; row++) features[row * width + 1] = features[row * width]!;
    const basis = { weight: f32([classes, width], weight), bias: f32([classes], bias) };
    const spec = { ...codingSpec('features', rows, classes), basis };
    const zeros = new Float32Array(rows * classes);
    const answers = { ...logitsOnly([rows, classes], zeros), features: f32([rows, width], features) };
    const got = arrayOf(await decode(spec, await encode(spec, answers)), 'F32');
    const wanted = Float32Array.from({ length: rows * classes }, (_, at) => {
      const [row, k] = [Math.floor(at / classes), at % classes];
      let sum = bias[k]!;
      for (let d = 0; d < width; d++) sum += weight[k * width + d]! * features[row * width + d]!;
      return sum;
    });
    expect(got).toEqual(wanted);
  });

  test.each(['weight', 'bias'] as const)('a basis whose %s is float64 is refused', async (name) => {
    const basis = { weight: f32([3, 2], [1, 0, 0, 1, 1, 1]), bias: f32([3], [0, 0, 0]) };
    const wide = { ...basis, [name]: f64(basis[name].shape, arrayOf(basis[name], 'F32')) };
    const answers = { logits: f32([1, 3], [0, 0, 0]), features: f32([1, 2], [1, 2]) };
    const spec = codingSpec('features', 1, 3);
    const labels = await encode({ ...spec, basis }, answers);
    for (const work of [encode({ ...spec, basis: wide }, answers), decode({ ...spec, basis: wide }, labels)])
      await expect(work).rejects.toMatchObject({ code: 'E_MISMATCH', message: expect.stringContaining('F32') });
  });

  test('are refused without one teacher, without features and beyond half precision', async () => {
    const model = openModel();
    const answers = { logits: f32([1, 3], [0, 0, 0]), features: f32([1, 2], [1, 2]) };
    const spec = codingSpec('features', 1, 3);
    await expect(fitBasis(spec, answers)).rejects.toMatchObject({ code: 'E_CONFIG' });
    const two = fitBasis(spec, answers, { teachers: [model, openModel()] });
    await expect(two).rejects.toMatchObject({ code: 'E_CONFIG' });
    const basis = { weight: f32([3, 2], [1, 0, 0, 1, 1, 1]), bias: f32([3], [0, 0, 0]) };
    const lone = encode({ ...spec, basis }, logitsOnly([1, 3], [0, 0, 0]));
    await expect(lone).rejects.toMatchObject({ code: 'E_MISMATCH' });
    const large = encode({ ...spec, basis }, { ...answers, features: f32([1, 2], [1, 1e6]) });
    await expect(large).rejects.toMatchObject({ code: 'E_DIVERGED' });
    await expect(encode({ ...spec, basis: {} }, answers)).rejects.toMatchObject({ code: 'E_MISMATCH' });
  });
});
