// normAct: the fused float32 and bfloat16 bodies and the one composed of ATen's ops (float64) against the formula, with
// gradients; what rounding, NaN, the ReLU's corner and large means do to them; every refusal. Through the door float32 and
// bfloat16 without groups are composed too: their fused body runs without gradients only, so it is met through forward().

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { NativeOps } from '../../src/native.ts';
import { arrayOf, elements, type TensorView, tensor } from '../../src/tensor.ts';
import { bfloatBits, bfloatValue, toBfloat } from '../reference/bfloat.ts';
import { type NormActCase, type NormActResult, normAct } from '../reference/norm-act.ts';
import { expectGradient } from '../util/gradcheck.ts';
import { MODEL, openModel } from '../util/jobs.ts';
import { nativeChecks } from '../util/native-checks.ts';
import { ops } from '../util/native.ts';
import { f32, f64, positive, symmetric, values } from '../util/tensors.ts';
import { expectClose, expectSameBytes, TOLERANCE } from '../util/tolerance.ts';

type Make = typeof f32;
const bf16: Make = (shape, of) => tensor('BF16', shape, Uint16Array.from(of, bfloatBits));
const doubles = (view: TensorView): Float64Array =>
  view.dtype === 'BF16' ? Float64Array.from(arrayOf(view, 'BF16'), bfloatValue) : values(view);

/** A case with its shape [N, C, H, W] and the `center` that the formula does not know. */
interface Case extends NormActCase {
  readonly shape: readonly number[];
  readonly center: Float64Array; // [C]
}

/** Seeded inputs; those of the shape of x are exact in bfloat16, so that every dtype computes the same problem. */
function caseOf(shape: readonly number[], groups: number, relu: boolean, residual: boolean): Case {
  const [images, channels, height, width] = shape as [number, number, number, number];
  const object = 1000 * channels + 10 * groups;
  const coarse = (k: number): Float64Array => symmetric(shape, object + k, 2).map(toBfloat);
  return {
    shape,
    images,
    channels,
    area: height * width,
    groups,
    relu,
    scale: positive([channels], object).map((v, c) => (c % 3 === 2 ? -v : v)), // an affine weight may be negative
    shift: symmetric([channels], object + 1),
    center: symmetric([channels], object + 2),
    x: coarse(3),
    residual: residual ? coarse(4) : null,
    gradY: coarse(5),
    gradMean: symmetric([groups, channels], object + 6, 9),
    gradVariance: symmetric([groups, channels], object + 7, 9),
  };
}

type Out = ReturnType<NativeOps['normAct']>;

function run(make: Make, of: Case, residualAs = make): Out {
  const { shape, channels, groups, relu } = of;
  const row = (v: Float64Array): TensorView => f32([channels], v);
  return ops().normAct(
    make(shape, of.x),
    of.residual === null ? null : residualAs(shape, of.residual),
    { scale: row(of.scale), shift: row(of.shift), center: row(of.center), relu, groups },
    {
      y: f64(shape, of.gradY),
      mean: f64([groups, channels], of.gradMean),
      variance: f64([groups, channels], of.gradVariance),
    },
  );
}

function expectLike(out: Out, of: Case, dtype: TensorView['dtype'], wanted: NormActResult, tolerance: Tolerances): void {
  expect([out.y.dtype, out.y.shape, out.dx.dtype, out.dx.shape]).toEqual([dtype, of.shape, dtype, of.shape]);
  expectClose('y', doubles(out.y), wanted.y, tolerance.wide);
  expectClose('dx', doubles(out.dx), wanted.dx, tolerance.wide);
  expect(out.dResidual !== undefined).toBe(of.residual !== null);
  if (out.dResidual) expectClose('dResidual', doubles(out.dResidual), wanted.dResidual, tolerance.wide);
  if (of.groups === 0) {
    expect(Object.keys(out).filter((name) => name === 'mean' || name === 'variance')).toEqual([]);
    return;
  }
  for (const name of ['mean', 'variance'] as const) {
    const moments = out[name]!;
    expect([moments.dtype, moments.shape]).toEqual(['F64', [of.groups, of.channels]]);
    expectClose(name, values(moments), wanted[name], tolerance.moments);
  }
}

interface Tolerances {
  readonly wide: number; // of what has the shape and dtype of x
  readonly moments: number; // double sums of what was added in float
}
const DTYPES: readonly (readonly [TensorView['dtype'], Make, Tolerances])[] = [
  ['F64', f64, { wide: TOLERANCE.F64, moments: TOLERANCE.F64 }],
  ['F32', f32, { wide: TOLERANCE.F32, moments: TOLERANCE.F32 }],
  ['BF16', bf16, { wide: 2 ** -7, moments: TOLERANCE.F32 }],
];

/** [N, C, H, W] and groups; 64 pixels are summed at a time: less, exactly, one more, several and a rest. */
const SHAPES: readonly (readonly [shape: readonly number[], groups: number])[] = [
  [[1, 1, 1, 1], 1],
  [[2, 3, 9, 11], 0],
  [[2, 3, 9, 11], 1],
  [[4, 5, 8, 8], 2],
  [[6, 17, 7, 13], 3],
  [[2, 17, 3, 5], 2],
  [[1, 64, 5, 13], 1],
  [[3, 64, 12, 11], 3],
  [[5, 1, 13, 10], 1],
];
const CASES = SHAPES.flatMap(([shape, groups]) =>
  [false, true].flatMap((relu) => [false, true].map((residual) => caseOf(shape, groups, relu, residual))),
).map((of) => {
  const tail = `${of.relu ? ', ReLU' : ''}${of.residual ? ', residual' : ''}`;
  return [`[${of.shape}], ${of.groups} groups${tail}`, of] as const;
});

describe.each(CASES)('%s', (_name, of) => {
  const wanted = normAct(of);

  test.each(DTYPES)('%s equals the formula', (dtype, make, tolerance) => {
    expectLike(run(make, of), of, dtype, wanted, tolerance);
  });

  test('bfloat16 is float32 rounded once', () => {
    const [narrow, wide] = [run(bf16, of), run(f32, of)];
    for (const name of ['y', 'dx', 'dResidual'] as const)
      if (wide[name]) expectSameBytes(name, narrow[name]!.data, bf16(of.shape, values(wide[name])).data);
    for (const name of ['mean', 'variance'] as const) expect(narrow[name]).toEqual(wide[name]);
  });
});

describe('a residual of another dtype takes the composed body', () => {
  const of = caseOf([6, 17, 7, 13], 3, true, true);

  test.each([
    ['F32', f32, bf16, TOLERANCE.F32],
    ['BF16', bf16, f32, 2 ** -7],
  ] as const)('%s: it equals the formula and the fused body', (dtype, make, other, wide) => {
    const composed = run(make, of, other);
    expect(composed.dResidual!.dtype).toBe(dtype === 'F32' ? 'BF16' : 'F32');
    const { dResidual, ...rest } = composed;
    expectLike({ ...rest, dResidual: run(make, of).dResidual! }, of, dtype, normAct(of), {
      wide,
      moments: TOLERANCE.F32,
    });
    expectClose('dResidual', doubles(dResidual!), normAct(of).dResidual, 2 ** -7);
    expectSameBytes('y', composed.y.data, run(make, of).y.data);
  });
});

describe('central differences of the float64 body', () => {
  const weighted = (a: Float64Array, b: Float64Array): number => a.reduce((sum, v, i) => sum + v * b[i]!, 0);

  test.each([
    [0, true],
    [1, false],
    [2, true],
  ])('%i groups, ReLU %s', (groups, relu) => {
    const of = caseOf([4, 3, 5, 3], groups, relu, true);
    const loss = (change: Partial<Case>): number => {
      const out = run(f64, { ...of, ...change });
      const moments = groups
        ? weighted(values(out.mean!), of.gradMean) + weighted(values(out.variance!), of.gradVariance)
        : 0;
      return weighted(values(out.y), of.gradY) + moments;
    };
    const { dx, dResidual } = run(f64, of);
    expectGradient('x', (x) => loss({ x }), of.x, values(dx));
    expectGradient('residual', (residual) => loss({ residual }), of.residual!, values(dResidual!));
  });
});

describe('moments', () => {
  const of = caseOf([6, 5, 9, 11], 3, true, true);
  const MEAN = 1000;
  /** x = MEAN + values in [-2, 2), as the dtype of the body holds it; std about 1.15. */
  const far = (center: number): Case => ({
    ...of,
    x: symmetric(of.shape, 900, 2).map((v) => Math.fround(MEAN + v)),
    scale: of.scale.map(() => 1),
    shift: of.shift.map(() => -MEAN),
    center: of.center.map(() => center),
  });

  test.each([0, 1, 10])('a mean 1000 times the spread costs no digits, the center %d spreads off', (off) => {
    const at = far(MEAN + 1.15 * off);
    const out = run(f32, at);
    const wanted = normAct(at);
    expectClose('mean', values(out.mean!), wanted.mean, 1e-8);
    for (const [i, variance] of values(out.variance!).entries())
      expect(Math.abs(variance / wanted.variance[i]! - 1)).toBeLessThan(1e-4);
    expectClose('dx', values(out.dx), wanted.dx, 1e-4); // y itself is a difference of two numbers near 1000
  });

  test('the center moves nothing but rounding', () => {
    const out = run(f32, { ...of, center: of.center.map((v) => v + 0.5) });
    expectLike(out, of, 'F32', normAct(of), { wide: TOLERANCE.F32, moments: TOLERANCE.F32 });
    expectSameBytes('y', out.y.data, run(f32, of).y.data);
  });

  test('equal values have variance 0, never less', () => {
    const flat = { ...of, x: of.x.map(() => Math.fround(0.1)) };
    for (const [, make] of DTYPES) {
      const variance = values(run(make, flat).variance!);
      expect(Math.min(...variance)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...variance)).toBeLessThan(1e-7);
    }
  });

  test.each(DTYPES)('%s: a group does not see the others', (_dtype, make) => {
    const per = of.x.length / 3;
    const other = run(make, { ...of, x: of.x.map((v, i) => (i < per ? v : -3 * v)) });
    const same = run(make, of);
    const first = (view: TensorView): Uint8Array => view.data.subarray(0, view.data.length / 3);
    for (const name of ['y', 'dx', 'dResidual', 'mean', 'variance'] as const)
      expectSameBytes(`${name} of group 0`, first(other[name]!), first(same[name]!));
    expect(other.mean).not.toEqual(same.mean);
  });
});

describe.each(DTYPES)('%s edges', (_dtype, make) => {
  const one = { shape: [1, 1, 1, 3], images: 1, channels: 1, area: 3, groups: 0, relu: true } as const;
  const at = (...v: number[]): Float64Array => Float64Array.from(v);
  const small = {
    ...one,
    scale: at(2),
    shift: at(-1),
    center: at(0),
    gradMean: at(),
    gradVariance: at(),
    gradY: at(1, 1, 1),
  };
  /** Moments whose own gradient is 0: the fused body where there is one. */
  const fused = { groups: 1, gradMean: at(0), gradVariance: at(0) };

  test.each([
    ['without groups', {}],
    ['with a group', fused],
  ])('the ReLU at exactly 0 gives 0 and passes no gradient, %s', (_what, change) => {
    const plain = run(make, { ...small, ...change, x: at(0.25, 0.5, 0.75), residual: null });
    expect([...doubles(plain.y)].map(Math.abs)).toEqual([0, 0, 0.5]);
    expect([...doubles(plain.dx)]).toEqual([0, 0, 2]);
    const added = run(make, { ...small, ...change, x: at(1, 1, 1), residual: at(-1, -0.5, -2) });
    expect([...doubles(added.y)].map(Math.abs)).toEqual([0, 0.5, 0]);
    expect([...doubles(added.dResidual!)]).toEqual([0, 1, 0]);
  });

  test.each([
    ['without groups', {}],
    ['with a group', fused],
  ])('infinities are kept or cut off, %s', (_what, change) => {
    const out = run(make, { ...small, ...change, x: at(Infinity, -Infinity, 1), residual: null });
    expect([...doubles(out.y)].map((v) => v + 0)).toEqual([Infinity, 0, 1]);
  });

  test.each([
    ['x', true],
    ['x', false],
    ['residual', true],
    ['residual', false],
  ] as const)('one NaN in %s is seen in y, ReLU %s, and in the moments of its own group and channel', (where, relu) => {
    const of = caseOf([4, 3, 9, 11], 2, relu, true);
    const broken = Float64Array.from(of[where]!);
    const index = 2 * 3 * 99 + 99 + 70; // image 2, the first of group 1; channel 1; pixel 70
    broken[index] = Number.NaN;
    const out = run(make, { ...of, [where]: broken });
    const lost = (view: TensorView): number[] =>
      [...doubles(view).entries()].filter(([, v]) => Number.isNaN(v)).map(([i]) => i);
    expect(lost(out.y)).toEqual([index]);
    for (const name of ['mean', 'variance'] as const) expect(lost(out[name]!)).toEqual(where === 'x' ? [4] : []);
    if (where === 'x') expect(lost(out.dx)).toContain(index);
  });
});

test.each(['fp32', 'bf16'] as const)('%s: NaN in an image reaches the logits of a frozen model', (precision) => {
  const model = openModel();
  const shape = [2, MODEL.inChannels, MODEL.inputSize, MODEL.inputSize];
  const pixels = Float32Array.from(symmetric(shape, 901));
  pixels.fill(Number.NaN, 0, pixels.length / 2);
  const logits = values(ops().forward(model, f32(shape, pixels), precision));
  const classes = logits.length / 2;
  expect([...logits].map(Number.isNaN)).toEqual(Array.from(logits, (_, i) => i < classes));
});

test('the bits do not depend on OMP_NUM_THREADS', async () => {
  const script = join(import.meta.dirname, '..', 'fixtures', 'norm-act-threads.mjs');
  const runs = ['1', '2', '3'].map((threads) =>
    promisify(execFile)(process.execPath, [script], { env: { ...process.env, OMP_NUM_THREADS: threads } }),
  );
  const hashes = (await Promise.all(runs)).map(({ stdout }) => stdout.trim());
  expect(hashes[0]).toMatch(/^[0-9a-f]{64}$/);
  expect(new Set(hashes).size).toBe(1);
});

describe('refusals', () => {
  const good = caseOf([4, 3, 2, 2], 2, true, true);
  const vector = new Float64Array(4);
  const met: { code: string; message: string }[] = [];
  const NAMED = 'norm_act: expected x [G*n, C, H, W], scale, shift, center [C] and residual like x, received ';

  test.each<[string, Partial<Case>]>([
    ['a scale of more channels', { scale: vector }],
    ['a shift of more channels', { shift: vector }],
    ['a center of more channels', { center: vector }],
    ['a residual of another shape', { residual: null }],
    ['a negative number of groups', { groups: -1 }],
    ['a batch that is no multiple of the groups', { groups: 3 }],
  ])('%s, in every dtype', (what, change) => {
    const of = { ...good, ...change };
    const spec = {
      scale: f32([of.scale.length], of.scale),
      shift: f32([of.shift.length], of.shift),
      center: f32([of.center.length], of.center),
      relu: true,
      groups: of.groups,
    };
    const moments = f64([2, 3], new Float64Array(6));
    for (const [, make] of DTYPES) {
      const residual = what.includes('residual') ? make([4, 3, 2, 1], new Float64Array(24)) : make(good.shape, good.x);
      const grads = { y: f64(good.shape, good.gradY), mean: moments, variance: moments };
      let error = { code: 'none', message: '' };
      try {
        ops().normAct(make(good.shape, good.x), residual, spec, grads);
      } catch (thrown) {
        error = thrown as typeof error;
      }
      expect(error.code).toBe('E_INTERNAL');
      expect(error.message).toContain(`${NAMED}[4, 3, 2, 2], [${of.scale.length}], G = ${of.groups}`);
      met.push(error);
    }
  });

  test.each(DTYPES)('%s of another rank', (_dtype, make) => {
    const of = { ...good, shape: [4, 3, 4] };
    expect(() => run(make, of)).toThrow(expect.objectContaining({ code: 'E_INTERNAL' }));
  });

  test('none written in norm_act.cpp is left that nothing meets', () => {
    const checks = nativeChecks(['native/ops']).filter(({ where }) => where.startsWith('native/ops/norm_act'));
    expect(checks.length).toBeGreaterThan(0);
    const unmet = checks.filter(
      ({ code, message }) => !met.some((error) => error.code === code && message?.test(error.message)),
    );
    expect(unmet.map(({ where }) => where)).toEqual([]);
  });
});

test('inputs are as long as the shapes say', () => {
  for (const [, of] of CASES) expect(of.x.length).toBe(elements(of.shape));
});
