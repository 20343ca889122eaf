// Damage to safetensors files that keeps them well formed: headers that are valid JSON but lie about shapes, dtypes and
// offsets, tensors that are renamed, dropped or added, and integers inside a tensor's bytes.

import { damage, damageJson, once, pick } from './mutate.mjs';

const BYTES = { U8: 1, I8: 1, BOOL: 1, F16: 2, BF16: 2, U16: 2, I16: 2, U32: 4, I32: 4, F32: 4, I64: 8, F64: 8 };
const NAMES = [
  '__proto__',
  'constructor',
  '',
  'label.',
  'label.logits',
  'blob',
  'blobBytes',
  'recordGap',
  'recordRows',
  '\u0000',
  'é',
];
const VALUES = [
  0n,
  1n,
  -1n,
  2n,
  255n,
  256n,
  2n ** 15n,
  2n ** 31n - 1n,
  -(2n ** 31n),
  2n ** 53n,
  2n ** 62n,
  -(2n ** 63n),
];

/** Names, entries and bytes of a file that is known to be good. */
export function parse(file) {
  const length = Number(new DataView(file.buffer, file.byteOffset).getBigUint64(0, true));
  const { __metadata__: metadata, ...entries } = JSON.parse(new TextDecoder().decode(file.subarray(8, 8 + length)));
  const list = Object.entries(entries).map(
    ([
      name,
      {
        dtype,
        shape,
        data_offsets: [begin, end],
      },
    ]) => {
      return { name, dtype, shape, data: file.slice(8 + length + begin, 8 + length + end) };
    },
  );
  return { list, metadata };
}

/** A file of a header text and data. */
export function assemble(text, data) {
  const head = new TextEncoder().encode(text);
  const out = new Uint8Array(8 + head.length + data.length);
  new DataView(out.buffer).setBigUint64(0, BigInt(head.length), true);
  out.set(head, 8);
  out.set(data, 8 + head.length);
  return out;
}

function headerOf(list) {
  const entries = [];
  let at = 0;
  for (const { name, dtype, shape, data } of list) {
    entries.push([name, { dtype, shape, data_offsets: [at, at + data.length] }]);
    at += data.length;
  }
  // Doubled names are wanted sometimes, so the text is joined by hand.
  return `{${entries.map(([name, entry]) => `${JSON.stringify(name)}:${JSON.stringify(entry)}`).join(',')}}`;
}

const build = (list) => assemble(headerOf(list), Uint8Array.from(list.flatMap(({ data }) => [...data])));

/** Gives a tensor another shape; mostly its bytes follow, so that only its readers can tell. */
function reshape(tensor, roll) {
  const shape = [...tensor.shape];
  const at = roll(shape.length + 1);
  switch (roll(7)) {
    case 0:
      shape.splice(at, 0, pick(roll, [0, 1, 2]));
      break;
    case 1:
      shape.splice(at, 1);
      break;
    case 2:
      shape.reverse();
      break;
    case 3:
      if (at < shape.length) shape[at] += pick(roll, [-1, 1, 2]);
      break;
    case 4: // no bytes, whatever the other sizes say
      shape.splice(
        0,
        shape.length,
        ...pick(roll, [[0], [2 ** 40, 0], [0, 2 ** 50], [2 ** 31, 0], [tensor.shape[0] ?? 0, 0]]),
      );
      break;
    case 5:
      shape.push(pick(roll, [2 ** 20, 2 ** 32, 2 ** 53, -1, 1.5]));
      break;
    default:
      shape.push(...new Array(pick(roll, [1, 8, 64, 65])).fill(1));
  }
  const bytes = shape.reduce((n, d) => n * d, BYTES[tensor.dtype]);
  if (!(bytes >= 0 && bytes < 1 << 16 && Number.isInteger(bytes)) || once(roll, 6)) return { ...tensor, shape };
  const data = new Uint8Array(bytes);
  data.set(tensor.data.subarray(0, bytes));
  return { ...tensor, shape, data };
}

/** Writes an odd integer over one element. */
function poke(tensor, roll) {
  const size = BYTES[tensor.dtype] ?? 1;
  const count = Math.floor(tensor.data.length / size);
  if (count === 0) return tensor;
  const data = tensor.data.slice();
  const view = new DataView(data.buffer);
  for (let n = 1 + roll(3); n > 0; n--) {
    const at = size * roll(count);
    const value = once(roll, 2) ? pick(roll, VALUES) : BigInt(roll(16));
    for (let i = 0; i < size; i++) view.setUint8(at + i, Number(BigInt.asUintN(8, value >> BigInt(8 * i))));
  }
  return { ...tensor, data };
}

/** The same unsigned integers in a wider dtype, then some of them odd. */
function widen(tensor, roll) {
  const from = BYTES[tensor.dtype];
  const dtype = pick(roll, ['U16', 'U32']);
  const to = BYTES[dtype];
  if (!['U8', 'U16', 'U32'].includes(tensor.dtype) || to <= from) return poke(tensor, roll);
  const data = new Uint8Array((tensor.data.length / from) * to);
  for (const [at, byte] of tensor.data.entries()) data[Math.floor(at / from) * to + (at % from)] = byte;
  const wide = { ...tensor, dtype, data };
  return once(roll, 2) ? wide : poke(wide, roll);
}

function rewrite(list, roll) {
  const at = roll(list.length);
  const tensor = list[at];
  const out = [...list];
  switch (roll(11)) {
    case 0:
    case 1:
      out[at] = reshape(tensor, roll);
      return out;
    case 2: {
      const dtype = pick(roll, Object.keys(BYTES));
      const shape = BYTES[dtype] === BYTES[tensor.dtype] ? tensor.shape : [tensor.data.length / BYTES[dtype]];
      out[at] = { ...tensor, dtype: once(roll, 10) ? 'F8' : dtype, shape };
      return out;
    }
    case 3:
      out.splice(at, 1);
      return out;
    case 4:
      out[at] = { ...tensor, name: once(roll, 2) ? pick(roll, NAMES) : pick(roll, list).name };
      return out;
    case 5:
      out.splice(roll(out.length + 1), 0, reshape({ ...tensor, name: pick(roll, NAMES) }, roll));
      return out;
    case 6: {
      const other = roll(list.length); // exchange two contents
      [out[at], out[other]] = [
        { ...list[other], name: tensor.name },
        { ...tensor, name: list[other].name },
      ];
      return out;
    }
    case 7:
      out[at] = widen(tensor, roll);
      return out;
    default:
      out[at] = poke(tensor, roll);
      return out;
  }
}

/** A damaged copy of a good safetensors file: bytes, header text, or contents that are written anew. */
export function damageTensors(file, roll) {
  const way = roll(6);
  if (way === 0) return damage(file, roll);
  const { list } = parse(file);
  if (list.length === 0) return damage(file, roll);
  if (way === 1) {
    const data = Uint8Array.from(list.flatMap(({ data }) => [...data]));
    return assemble(damageJson(headerOf(list), roll), data);
  }
  let out = list;
  for (let n = 1 + (once(roll, 3) ? roll(3) : 0); n > 0 && out.length > 0; n--) out = rewrite(out, roll);
  return build(out);
}
