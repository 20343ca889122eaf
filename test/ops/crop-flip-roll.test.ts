// The augmentation of synthesis: against PyTorch, against gathered loops, and its adjoint by an inner product.

import { describe, expect, test } from 'vitest';
import { cropFlipRoll, cropFlipRollBackward, type View } from '../reference/crop-flip-roll.ts';
import { golden, goldenTensor } from '../util/golden.ts';
import { ops } from '../util/native.ts';
import { f32, f64, i32, rowsOf, symmetric, u8, values } from '../util/tensors.ts';
import { expectClose, TOLERANCE } from '../util/tolerance.ts';

const file = golden('gradients');
const recorded = file.info.crop as { crop: number[][][]; flip: number[][]; roll: number[][][] };
const SIZE = 9;
const PLANES = 4; // two images of two channels per group
const SHAPE = [4, 2, SIZE, SIZE];
const PER_GROUP = PLANES * SIZE * SIZE;

const viewsOf = (i: number): View[] =>
  [0, 1].map((g) => ({ crop: recorded.crop[i]![g]!, flip: recorded.flip[i]![g]!, roll: recorded.roll[i]![g]! }));

function both(x: Float64Array, grad: Float64Array, views: View[]): { y: Float64Array; dx: Float64Array } {
  const per = (f: typeof cropFlipRoll, v: Float64Array): Float64Array =>
    Float64Array.from(views.flatMap((view, g) => [...f(rowsOf(v, PER_GROUP, g, g + 1), PLANES, SIZE, view)]));
  return { y: per(cropFlipRoll, x), dx: per(cropFlipRollBackward, grad) };
}

function run(
  make: typeof f64,
  x: Float64Array,
  grad: Float64Array,
  views: View[],
): { y: Float64Array; dx: Float64Array } {
  const out = ops().cropFlipRoll(
    make(SHAPE, x),
    2,
    i32(
      [2, 4],
      views.flatMap((v) => v.crop),
    ),
    u8(
      [2],
      views.map((v) => v.flip),
    ),
    i32(
      [2, 2],
      views.flatMap((v) => v.roll),
    ),
    make(SHAPE, grad),
  );
  expect(out.y.shape).toEqual(SHAPE);
  return { y: values(out.y), dx: values(out.dx) };
}

describe.each([0, 1, 2])('recorded views %i', (i) => {
  const x = symmetric(SHAPE, 100 + i);
  const grad = symmetric(SHAPE, 110 + i);
  const y = values(goldenTensor(file, `crop.${i}.y`));
  const dx = values(goldenTensor(file, `crop.${i}.dx`));

  test('the reference equals PyTorch', () => {
    const reference = both(x, grad, viewsOf(i));
    expectClose('y', reference.y, y, TOLERANCE.F64, file.provenance);
    expectClose('dx', reference.dx, dx, TOLERANCE.F64, file.provenance);
  });

  test('native equals PyTorch in float64 and float32', () => {
    const wide = run(f64, x, grad, viewsOf(i));
    expectClose('y', wide.y, y, TOLERANCE.F64, file.provenance);
    expectClose('dx', wide.dx, dx, TOLERANCE.F64, file.provenance);
    const narrow = run(f32, x, grad, viewsOf(i));
    expectClose('y', narrow.y, y, TOLERANCE.F32, file.provenance);
    expectClose('dx', narrow.dx, dx, TOLERANCE.F32, file.provenance);
  });

  test('backward is the adjoint of forward: <grad, A x> = <A* grad, x>', () => {
    const { y: forward, dx: backward } = run(f64, x, grad, viewsOf(i));
    const dot = (a: Float64Array, b: Float64Array): number => a.reduce((s, v, k) => s + v * b[k]!, 0);
    expectClose('inner product', [dot(backward, x)], [dot(grad, forward)], 1e-12);
  });
});

describe('single parts', () => {
  const x = symmetric(SHAPE, 119);
  const whole: View = { crop: [0, 0, SIZE, SIZE], flip: 0, roll: [0, 0] };

  test('the whole image, no flip, no roll: identity', () => {
    expect(run(f64, x, x, [whole, whole]).y).toEqual(x);
  });

  test('roll moves rows down and columns right, circularly, each group by its own offset', () => {
    const { y } = run(f64, x, x, [
      { ...whole, roll: [2, -3] },
      { ...whole, roll: [0, 1] },
    ]);
    const at = (v: Float64Array, image: number, r: number, c: number): number =>
      v[image * 2 * SIZE * SIZE + ((r + SIZE) % SIZE) * SIZE + ((c + SIZE) % SIZE)]!;
    for (let r = 0; r < SIZE; r++)
      for (let c = 0; c < SIZE; c++) {
        expect(at(y, 0, r, c)).toBe(at(x, 0, r - 2, c + 3));
        expect(at(y, 2, r, c)).toBe(at(x, 2, r, c - 1));
      }
  });

  test('the flip happens before the roll', () => {
    const { y } = run(f64, x, x, [{ ...whole, flip: 1, roll: [0, 2] }, whole]);
    expect(y[2]).toBe(x[SIZE - 1]);
  });

  test('the gradient is zero outside the crop, and nowhere inside it', () => {
    const view = { crop: [2, 3, 4, 5], flip: 1, roll: [1, 1] };
    const { dx } = run(f64, x, symmetric(SHAPE, 118), [view, view]);
    for (const [at, value] of dx.entries()) {
      const [r, c] = [Math.floor(at / SIZE) % SIZE, at % SIZE];
      expect(value !== 0, `row ${r}, column ${c}`).toBe(r >= 2 && r < 6 && c >= 3 && c < 8);
    }
  });

  test.each([
    ['a crop past the edge', [5, 0, 5, 9]],
    ['an empty crop', [0, 0, 0, 9]],
    ['a negative corner', [0, -1, 9, 9]],
    ['a corner below the edge', [9, 0, 1, 1]],
    ['a top and height whose sum is no int32', [2 ** 31 - 1, 0, 1, 9]],
    ['a left and width whose sum is no int32', [0, 2 ** 31 - 9, 9, 9]],
    ['a height that no int32 adds to', [1, 0, 2 ** 31 - 1, 9]],
    ['a width that no int32 adds to', [0, 8, 9, 2 ** 31 - 8]],
  ])('refuses %s', (_what, crop) => {
    expect(() => run(f64, x, x, [{ ...whole, crop }, whole])).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }));
  });
});
