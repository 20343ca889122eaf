// Specs cross the border whole: a field that is missing or of another type is E_INTERNAL and named, before anything
// starts. The cases are made from the valid specs, so a new field is covered the day it is added to them.

import { describe, expect, test } from 'vitest';
import { elements, type TensorView } from '../src/tensor.ts';
import { denseCode, halves } from './util/codes.ts';
import {
  APPEND,
  evaluateSpec,
  labelSpec,
  MODEL,
  openModel,
  openStore,
  statsSpec,
  synthesizeSpec,
  trainSpec,
} from './util/jobs.ts';
import { native, ops } from './util/native.ts';
import { f32, i32, i64, u8 } from './util/tensors.ts';

type Plain = Record<string, unknown>;
const isPlain = (value: unknown): value is Plain =>
  typeof value === 'object' && value !== null && !Array.isArray(value) && !(value instanceof Uint8Array);

/** A spec by its name in messages, and a call that is given it. */
interface Case {
  readonly make: () => Plain;
  readonly call: (spec: never) => unknown;
  /** Objects whose keys are names of tensors, not fields. */
  readonly maps: readonly string[];
}

const soft = (): Plain => ({
  ...trainSpec(1),
  target: {
    kind: 'soft',
    ...denseCode(1),
    tensors: halves([2, 3], [0, 1, 2, 3, 4, 5]),
    blobs: { data: u8([2], [0, 0]), offset: i64([2], [0, 2]) },
    basis: { any: f32([1], [0]) },
    images: i32([2], [0, 1]),
    temperature: 4,
    teacherTemperature: 4,
    lossScale: 1,
  },
});

const CASES: Record<string, Case> = {
  'model spec': {
    make: () => ({ ...MODEL }),
    call: (spec) => native().createModel(spec),
    maps: [],
  },
  'image store spec': {
    make: () => ({ channels: 1, device: 'cpu' }),
    call: (spec) => native().createImageStore(spec),
    maps: [],
  },
  'append spec': {
    make: () => ({ ...APPEND }),
    call: (spec) => openStore().append(new Uint8Array(64), Int32Array.of(0), spec),
    maps: [],
  },
  'train spec': {
    make: () => ({ ...trainSpec(1) }),
    call: (spec) => native().train(openModel(), openStore(), spec, () => {}),
    maps: [],
  },
  'train spec, soft': {
    make: soft,
    call: (spec) => native().train(openModel(), openStore(), spec, () => {}),
    maps: ['target.tensors', 'target.basis'],
  },
  'collectStats spec': {
    make: () => ({ ...statsSpec(1, openModel()) }),
    call: (spec) => native().collectStats(openModel(), openStore(), spec, () => {}),
    maps: ['state'],
  },
  'synthesize spec': {
    make: () => ({ ...synthesizeSpec(1) }),
    call: (spec) => native().synthesize(openModel(), spec, () => {}),
    maps: [],
  },
  'label spec': {
    make: () => ({ ...labelSpec(1), basis: { any: f32([1], [0]) } }),
    call: (spec) => native().label([openModel()], openStore(), spec, () => {}),
    maps: ['basis'],
  },
  'evaluate spec': {
    make: () => ({ ...evaluateSpec(1) }),
    call: (spec) => native().evaluate(openModel(), openStore(), spec, () => {}),
    maps: [],
  },
};

/** Dotted paths of all fields, with their values: sections, tensors and the parts of tensors included. */
function fields(value: Plain, prefix = ''): [path: string, value: unknown][] {
  return Object.entries(value).flatMap(([key, inner]) => {
    const path = prefix + key;
    return [[path, inner] as [string, unknown], ...(isPlain(inner) ? fields(inner, `${path}.`) : [])];
  });
}

/** A copy with the field at `path` replaced, or left out for undefined. */
function changed(spec: Plain, path: string, value: unknown): Plain {
  const [key, ...rest] = path.split('.') as [string, ...string[]];
  // names of tensors contain dots: take the longest key that is there
  const known = Object.keys(spec).find((name) => path === name || path.startsWith(`${name}.`)) ?? key;
  const inner = path.slice(known.length + 1);
  const copy = { ...spec };
  if (inner === '' && rest.length + 1 >= 1 && value === undefined) delete copy[known];
  else copy[known] = inner === '' ? value : changed(spec[known] as Plain, inner, value);
  return copy;
}

const INTEGERS =
  /(^|\.)(threads|size|groups|imagesPerGroup|step|numClasses|inChannels|inputSize|channels|height|width|centerCrop)$/;

/** Fields that may be null. */
const NULLABLE = /(^|\.)(blobs|features|images|sample|whole)$/;

/** Values of other types than the field has. */
function wrongs(path: string, value: unknown): unknown[] {
  if (NULLABLE.test(path)) return [Symbol('s'), 1, 'x', true];
  const others: unknown[] = [null, Symbol('s'), () => {}];
  if (typeof value === 'number') {
    const broken = INTEGERS.test(path) ? [0.5, Number.NaN, Number.POSITIVE_INFINITY, 2 ** 60, 1n] : [];
    return [...others, '1', true, {}, ...broken];
  }
  if (typeof value === 'bigint') return [...others, 1, '1', -1n, 2n ** 64n];
  if (typeof value === 'boolean') return [...others, 0, 'true', {}];
  if (typeof value === 'string') return [...others, 1, true, {}];
  if (value instanceof Uint8Array) return [...others, [0], 'x', new Uint16Array(value.length), value.buffer];
  // what a shape may hold is tested once, with tensors
  const broken = path.endsWith('.shape') ? [] : [[0.5], [Number.NaN], [2 ** 60]];
  if (Array.isArray(value)) return [...others, 1, 'x', {}, ['1'], [null], ...broken];
  return [null, Symbol('s'), 1, 'x', true];
}

function refusal(work: () => unknown): { code: unknown; message: string } {
  try {
    work();
  } catch (thrown) {
    const { code, message } = thrown as { code: unknown; message: string };
    return { code, message };
  }
  return { code: 'none', message: 'it was accepted' };
}

describe.each(Object.entries(CASES))('%s', (title, { make, call, maps }) => {
  const name = title.split(',')[0]!;
  const all = (): [string, unknown][] =>
    fields(make()).filter(([path]) => !maps.some((map) => path.startsWith(`${map}.`)));

  test('is accepted as it is', async () => {
    await (call(make() as never) as { promise?: Promise<unknown> } | undefined)?.promise;
  });

  test('a missing field is E_INTERNAL and named', () => {
    for (const [path] of all()) {
      const { code, message } = refusal(() => call(changed(make(), path, undefined) as never));
      expect(`${path}: ${code} ${message}`).toMatch(/: E_INTERNAL /);
      expect(message, path).toContain(`${name}.${path}`);
    }
  });

  test('a field of another type is E_INTERNAL and named', () => {
    const accepted: string[] = [];
    for (const [path, value] of all())
      for (const wrong of wrongs(path, value)) {
        const shown = `${path} = ${typeof wrong === 'bigint' ? `${wrong}n` : (JSON.stringify(wrong) ?? String(wrong))} (${String(wrong)})`;
        const { code, message } = refusal(() => call(changed(make(), path, wrong) as never));
        if (code !== 'E_INTERNAL' || !message.includes(`${name}.${path}`))
          accepted.push(`${shown}: ${code} ${message}`);
      }
    expect(accepted).toEqual([]);
  });

  test('nothing at all is E_INTERNAL', () => {
    for (const wrong of [undefined, null, 1, 'x'])
      expect(refusal(() => call(wrong as never))).toEqual({
        code: 'E_INTERNAL',
        message: `expected an object for ${name}`,
      });
  });

  test('a getter that throws is the caller’s own error', () => {
    const mine = new RangeError('mine');
    const [first] = Object.keys(make());
    const spec = Object.defineProperty(make(), first!, {
      get: () => {
        throw mine;
      },
    });
    expect(() => call(spec as never)).toThrow(mine);
  });
});

test('an unknown field is ignored: the types in src/native.ts are what refuses it', () => {
  const model = native().createModel({ ...MODEL, colour: 'red' } as never);
  model.dispose();
});

describe('tensors', () => {
  const take = (view: unknown): unknown => ops().toPixels(view as TensorView, f32([1], [0]), f32([1], [1]));
  const good = f32([1, 1, 2, 2], [0, 0.5, 1, 2]);

  test('each dtype is read with its own size', () => {
    for (const [dtype, bytes] of Object.entries({
      U8: 1,
      I8: 1,
      BOOL: 1,
      F16: 2,
      BF16: 2,
      I16: 2,
      I32: 4,
      F32: 4,
      I64: 8,
      F64: 8,
    })) {
      const view = { dtype, shape: [1, 1, 2, 2], data: new Uint8Array(4 * bytes) };
      if (!['BOOL'].includes(dtype)) expect(() => take(view), dtype).not.toThrow();
      for (const size of [4 * bytes - 1, 4 * bytes + 1, 0])
        expect(
          refusal(() => take({ ...view, data: new Uint8Array(size) })),
          `${dtype} ${size}`,
        ).toMatchObject({
          code: 'E_INTERNAL',
          message: `expected ${4 * bytes} bytes for argument 1 of shape [1, 1, 2, 2], received ${size}`,
        });
    }
  });

  test.each([
    ['an unknown dtype', { ...good, dtype: 'C64' }],
    ['a dtype in lower case', { ...good, dtype: 'f32' }],
    ['a negative size', { ...good, shape: [1, 1, -2, 2] }],
    ['a size that is no whole number', { ...good, shape: [1, 1, 2.5, 2] }],
    ['a size that is no number', { ...good, shape: [1, 1, Number.NaN, 2], data: new Uint8Array(0) }],
    ['more elements than bytes', { ...good, shape: [1, 1, 2, 3] }],
    ['a shape whose product overflows', { ...good, shape: [2 ** 31, 2 ** 31, 2 ** 31, 1] }],
    ['a shape that no machine holds', { ...good, shape: [1, 1, 2 ** 40, 2] }],
    ['a shape that is no array', { ...good, shape: Int32Array.of(1, 1, 2, 2) }],
    ['a detached buffer', { ...good, data: structuredClone(good.data) }],
  ])('%s is E_INTERNAL', (what, view) => {
    if (what === 'a detached buffer')
      structuredClone(view.data.buffer, { transfer: [view.data.buffer as ArrayBuffer] });
    expect(refusal(() => take(view)).code).toBe('E_INTERNAL');
  });

  test('a view into a larger buffer is read from its own start', () => {
    const bytes = new Uint8Array(21);
    bytes.set(good.data, 5);
    const inner = { ...good, data: bytes.subarray(5) };
    expect(elements(inner.shape) * 4).toBe(inner.data.length);
    expect(take(inner)).toEqual(take(good));
  });
});
