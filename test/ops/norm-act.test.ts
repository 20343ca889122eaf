// normAct: the fused float32 and bfloat16 bodies and the one composed of ATen's ops (float64) against the formula, with
// gradients; what rounding, NaN, the ReLU's corner and large means do to them; every refusal.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, test } from 'vitest';
import type { TensorView } from '../../src/tensor.ts';
import { normAct } from '../reference/norm-act.ts';
import { expectGradient } from '../util/gradcheck.ts';
import { ops } from '../util/native.ts';
import { nativeChecks } from '../util/native-checks.ts';
import { bf16, CASES, type Case, caseOf, DTYPES, doubles, expectLike, run } from '../util/norm-act.ts';
import { f32, f64, symmetric, values } from '../util/tensors.ts';
import { expectClose, expectSameBytes, TOLERANCE } from '../util/tolerance.ts';

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
    ['F32', f32, 'BF16', bf16, TOLERANCE.F32],
    ['BF16', bf16, 'F32', f32, 2 ** -7],
  ] as const)('%s: it equals the formula, and y the fused one', (dtype, make, residualDtype, residualAs, wide) => {
    const composed = run(make, of, residualAs);
    expect(composed.dResidual!.dtype).toBe(residualDtype);
    expectLike(composed, of, dtype, normAct(of), { wide, moments: TOLERANCE.F32 });
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

  test('equal values have variance 0, never less: exactly at the center, to rounding off it', () => {
    const flat = caseOf([4, 64, 9, 11], 2, false, false);
    const x = flat.x.map((_, i) => flat.center[Math.floor(i / 99) % 64]!); // each channel its own number
    const variance = (make: typeof f64, center: Float64Array): Float64Array =>
      values(run(make, { ...flat, x, center }).variance!);
    expect(variance(f32, flat.center).every((v) => v === 0)).toBe(true);
    for (const [, make] of DTYPES) {
      const off = variance(make, new Float64Array(64));
      expect(Math.min(...off)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...off)).toBeLessThanOrEqual(TOLERANCE.F32);
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

test.each(['normAct', 'batchNormAct'])('the bits of %s do not depend on OMP_NUM_THREADS', async (op) => {
  const script = join(import.meta.dirname, '..', 'fixtures', 'norm-act-threads.mjs');
  const runs = ['1', '2', '3'].map((threads) =>
    promisify(execFile)(process.execPath, [script, op], { env: { ...process.env, OMP_NUM_THREADS: threads } }),
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
