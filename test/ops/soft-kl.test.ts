// The distillation loss: section 12 of lpld-sre2l-cda, PyTorch's kl_div (with log targets too), finite differences.

import { describe, expect, test } from 'vitest';
import { halfBits, halfValue } from '../reference/half.ts';
import { softKl } from '../reference/soft-kl.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { expectGradient } from '../util/gradcheck.ts';
import { ops } from '../util/native.ts';
import { f32, f64, symmetric, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const S = Float64Array.from({ length: 10 }, (_, k) => 5 * Math.sin(k)); // [2, 5]
const T = Float64Array.from({ length: 10 }, (_, k) => 8 * Math.cos(0.7 * k)); // [2, 5]
const HALF = T.map((v) => halfValue(halfBits(v)));
const SMOOTH = T.map((v) => 0.8 * v + 0.2 / 5); // label smoothing on logits, IN21K
const ROW = [-0.00220667, -0.0004958, 0.00092829, 0.00107119, 0.00070299];

const run = (
  make: typeof f64,
  s: Float64Array,
  t: Float64Array,
  classes: number,
  temperature: number,
  scale: number,
) => {
  const shape = [s.length / classes, classes];
  const out = ops().softKl(make(shape, s), make(shape, t), temperature, scale);
  return { loss: values(out.loss)[0]!, dStudent: values(out.dStudent) };
};

/** target, scale, the printed float64 value; the float32 loss carries a few 1e-6 from cancellation. */
const PRINTED: readonly (readonly [string, Float64Array, number, number])[] = [
  ['T = 20', T, 1, 0.022148756],
  ['T = 20, times T squared', T, 400, 8.85950239],
  ['teacher rounded to f16', HALF, 1, 0.02215184],
  ['smoothed teacher logits', SMOOTH, 1, 0.0135763551],
];

describe('golden vector', () => {
  test.each(PRINTED)('%s', (_name, teacher, scale, wanted) => {
    const tolerance = teacher === HALF ? 5e-6 : 1e-7; // the f16 value was printed from a float32 loss
    expectClose('reference', [softKl(S, teacher, 5, 20, scale).loss], [wanted], tolerance);
    expectClose('native float64', [run(f64, S, teacher, 5, 20, scale).loss], [wanted], tolerance);
    expectClose('native float32', [run(f32, S, teacher, 5, 20, scale).loss], [wanted], 1e-5); // section 12: 1e-5
  });

  test('gradient of row 0, T = 20', () => {
    expectClose('reference', softKl(S, T, 5, 20, 1).dStudent.slice(0, 5), ROW, 5e-6); // printed with 8 decimals
    expectClose('native', run(f32, S, T, 5, 20, 1).dStudent.slice(0, 5), ROW, 5e-6);
  });
});

/** temperature, scale; 1 and 3 were made with log targets. */
const CASES = [
  [0, 20, 1],
  [1, 20, 400],
  [2, 1, 1],
  [3, 4, 16],
] as const;

describe('against PyTorch, [7, 11]', () => {
  const file = golden('gradients');
  const s = symmetric([7, 11], 130, 6);
  const t = symmetric([7, 11], 131, 9);

  test.each(CASES)('case %i: T = %i, scale %i', (i, temperature, scale) => {
    const loss = values(goldenTensor(file, `kl.${i}.loss`));
    const ds = values(goldenTensor(file, `kl.${i}.ds`));
    const reference = softKl(s, t, 11, temperature, scale);
    expectClose('reference loss', [reference.loss], loss, TOLERANCE.F64, file.provenance);
    expectClose('reference gradient', reference.dStudent, ds, TOLERANCE.F64, file.provenance);
    const wide = run(f64, s, t, 11, temperature, scale);
    expectClose('float64 loss', [wide.loss], loss, TOLERANCE.F64, file.provenance);
    expectClose('float64 gradient', wide.dStudent, ds, TOLERANCE.F64, file.provenance);
    const narrow = run(f32, s, t, 11, temperature, scale);
    expectClose('float32 loss', [narrow.loss], loss, 1e-5, file.provenance); // cancellation in log q - log p
    expectClose('float32 gradient', narrow.dStudent, ds, TOLERANCE.F32, file.provenance);
  });

  test('the gradient equals central differences of the loss', () => {
    const { dStudent } = run(f64, s, t, 11, 4, 1);
    expectGradient('softKl', (v) => run(f64, v, t, 11, 4, 1).loss, s, dStudent);
  });
});

describe('properties', () => {
  test('equal logits, and logits that differ by a constant per row, cost nothing', () => {
    const shifted = T.map((v, i) => v + (i < 5 ? 3 : -7));
    expect(Math.abs(run(f64, shifted, T, 5, 20, 1).loss)).toBeLessThan(1e-14);
  });

  test('logits of +-30000 stay finite', () => {
    const far = Float64Array.of(30000, -30000, 0, 1, 2, -30000, 30000, 0, 1, 2);
    const { loss, dStudent } = run(f32, S, far, 5, 1, 1);
    expect([loss, ...dStudent].every(Number.isFinite)).toBe(true);
    expectClose('loss', [loss], [softKl(S, far, 5, 1, 1).loss], 1e-5);
  });

  test.each([0, -1])('refuses temperature %d', (temperature) => {
    expect(() => run(f64, S, T, 5, temperature, 1)).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }));
  });

  test('refuses logits of two shapes', () => {
    expect(() => ops().softKl(f64([2, 5], S), f64([5, 2], T), 20, 1)).toThrow(
      expect.objectContaining({ code: 'E_INTERNAL' }),
    );
  });
});
