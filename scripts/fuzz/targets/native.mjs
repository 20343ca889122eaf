// The addon under specs that lie: tensors of other shapes, dtypes and contents than their fields ask for, numbers out of
// range. What a TypeScript program cannot send is E_INTERNAL; a crash or a read outside a buffer is what is looked for.

import { once, pick } from '../mutate.mjs';
import { CLASSES, EXECUTION, labelsOf, openRoom, quiet, SIZE } from '../stores.mjs';

const BYTES = { U8: 1, I8: 1, BOOL: 1, F16: 2, BF16: 2, U16: 2, I16: 2, U32: 4, I32: 4, F32: 4, I64: 8, F64: 8 };
const NUMBERS = [
  0,
  1,
  -1,
  2,
  0.5,
  3,
  4,
  7,
  255,
  65535,
  65536,
  2 ** 31 - 1,
  2 ** 31,
  2 ** 40,
  2 ** 53,
  Number.NaN,
  1e308,
];
const WORDS = [0, 1, 2, 3, 4, 5, 127, 128, 255, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1, 2 ** 32 - 2];
const isView = (value) => typeof value?.dtype === 'string';

function lyingView({ dtype, shape, data }, roll) {
  const way = roll(5);
  if (way < 2 && data.length >= BYTES[dtype]) {
    const bytes = data.slice();
    const view = new DataView(bytes.buffer);
    for (let n = 1 + roll(3); n > 0; n--) {
      const at = BYTES[dtype] * roll(bytes.length / BYTES[dtype]);
      if (BYTES[dtype] < 4) view.setUint8(at, pick(roll, WORDS) & 255);
      else view.setUint32(at, pick(roll, WORDS));
      if (BYTES[dtype] >= 4) view.setUint32(at, pick(roll, WORDS), true);
    }
    return { dtype, shape, data: bytes };
  }
  const out = [...shape];
  const at = roll(out.length + 1);
  if (way === 2) out.splice(at, roll(2), pick(roll, [0, 1, 2, 3, 5, 13]));
  else if (way === 3)
    out.splice(0, out.length, ...pick(roll, [[], [0], [1], [0, 4], [2 ** 40, 0], [0, 2 ** 62], [-1], [0.5]]));
  const type = way === 4 ? pick(roll, Object.keys(BYTES)) : dtype;
  const bytes = out.reduce((n, d) => n * d, BYTES[type]);
  if (!(bytes >= 0 && bytes <= 1 << 16 && Number.isInteger(bytes)) || once(roll, 10))
    return { dtype: type, shape: out, data };
  const copy = new Uint8Array(bytes);
  copy.set(data.subarray(0, bytes));
  return { dtype: type, shape: out, data: copy };
}

/** Places of a spec that can lie: [holder, key]. */
function places(value, out = []) {
  for (const [key, inner] of Object.entries(value ?? {})) {
    if (isView(inner) || ['number', 'bigint', 'string', 'boolean'].includes(typeof inner)) out.push([value, key]);
    else if (typeof inner === 'object' && inner !== null && !(inner instanceof Uint8Array)) places(inner, out);
  }
  return out;
}

function lying(spec, roll) {
  const copy = structuredClone(spec);
  for (let n = 1 + (once(roll, 3) ? roll(3) : 0); n > 0; n--) {
    const [holder, key] = pick(roll, places(copy));
    if (key === 'threads') continue; // any number of threads is started
    if (isView(holder[key])) holder[key] = lyingView(holder[key], roll);
    else if (typeof holder[key] === 'bigint') holder[key] = pick(roll, [0n, -1n, 2n ** 64n, 2n ** 64n - 1n]);
    else if (typeof holder[key] === 'number') holder[key] = key === 'size' ? 1 + roll(9) : pick(roll, NUMBERS);
    else if (typeof holder[key] === 'string')
      holder[key] = pick(roll, ['', 'topk:1:mr', 'topk:999999:mrs', 'dense:int4', 'features', 'x']);
  }
  return copy;
}

/** @param {import('../worker.mjs').Place} place */
export async function open({ load }) {
  const { tensor } = await load('tensor');
  const room = await openRoom(load);
  const { native, model, images, recipes, input, plan } = room;
  const weights = model.stateDict();
  const steps = plan.recordIds.length;
  const lr = tensor('F64', [steps], new Float64Array(steps).fill(1e-6));
  const optimizer = {
    kind: 'sgd',
    lr,
    momentum: 0.5,
    beta1: 0.9,
    beta2: 0.99,
    eps: 1e-8,
    weightDecay: 0,
    decay: 'all',
  };
  const good = [];
  const add = (name, spec, call) => good.push({ name, spec, call });
  const asked = { ...EXECUTION, recipes, input };
  for (const codec of native.codecs()) {
    const { spec, basis: _, ...labels } = await labelsOf(room, codec);
    add('decode', { ...spec, ...labels }, (s) => native.decode(s, quiet).promise);
    add(
      'label',
      { ...asked, ...spec, images: null, ensemble: 'mean', teacherMode: 'eval', hashPixels: true },
      (s) => native.label([model], images, s, quiet).promise,
    );
    const target = {
      kind: 'soft',
      temperature: 2,
      teacherTemperature: 2,
      lossScale: 1,
      images: null,
      ...spec,
      ...labels,
    };
    add(
      'train',
      { ...asked, target, optimizer, hashPixels: true },
      (s) => native.train(model, images, s, quiet).promise,
    );
  }
  add('evaluate', asked, (s) => native.evaluate(model, images, s, quiet).promise);
  add(
    'answer',
    { ...asked, ensemble: 'mean', teacherMode: 'train', features: true },
    (s) => native.answer([model], images, s, quiet).promise,
  );
  add('render', { recipes, size: SIZE }, (s) => native.ops.renderBatch(images, s.recipes, s.size));
  add('weights', { weights }, (s) => model.loadStateDict(s.weights));
  const append = { pixels: new Uint8Array(2 * 6 * 5 * 3), labels: Int32Array.of(0, CLASSES - 1) };
  const appended = { height: 6, width: 5, resize: 'none', size: 4, centerCrop: 0 };
  const resized = [appended, { ...appended, resize: 'exact' }, { ...appended, resize: 'shorter', centerCrop: 3 }];
  for (const spec of resized)
    add('append', spec, (s) => {
      const store = native.createImageStore({ channels: 3, device: 'cpu' });
      store.append(append.pixels, append.labels, { ...s, size: Math.min(s.size, 4096) });
      store.dispose();
    });
  return {
    allows: ({ code }) => ['E_DATA', 'E_MISMATCH', 'E_CONFIG', 'E_INTERNAL', 'E_DIVERGED', 'E_DEVICE'].includes(code),
    async make(roll) {
      const { name, spec, call } = pick(roll, good);
      const bad = lying(spec, roll);
      const shown = JSON.stringify({ name, ...bad }, (_, v) =>
        typeof v === 'bigint' ? `${v}n` : v instanceof Uint8Array ? [...v] : v,
      );
      return {
        files: { 'spec.json': new TextEncoder().encode(shown) },
        run: async () => call(bad),
        after: () => model.loadStateDict(weights),
      };
    },
  };
}
