// Damage to torch files that goes past the outer checks: zips whose directories lie, and pickles of valid opcodes that ask
// for too much, name what is not theirs, or refer to themselves. Written from the formats' descriptions, not through src/.

import { crc32 } from 'node:zlib';
import { damage, once, pick } from './mutate.mjs';

const text = (s) => new TextEncoder().encode(s);
const u32 = (n) => [n & 255, (n >>> 8) & 255, (n >>> 16) & 255, n >>> 24];
const u16 = (n) => [n & 255, (n >>> 8) & 255];

/** Entries of a good zip of stored files: name and data. */
export function unzip(file) {
  const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
  let end = file.length - 22;
  while (view.getUint32(end, true) !== 0x06054b50) end--;
  const entries = [];
  let at = view.getUint32(end + 16, true);
  for (let n = view.getUint16(end + 10, true); n > 0; n--) {
    const [size, nameBytes] = [view.getUint32(at + 24, true), view.getUint16(at + 28, true)];
    const [extra, comment, local] = [
      view.getUint16(at + 30, true),
      view.getUint16(at + 32, true),
      view.getUint32(at + 42, true),
    ];
    const name = new TextDecoder().decode(file.subarray(at + 46, at + 46 + nameBytes));
    const start = local + 30 + view.getUint16(local + 26, true) + view.getUint16(local + 28, true);
    entries.push({ name, data: file.slice(start, start + size) });
    at += 46 + nameBytes + extra + comment;
  }
  return entries;
}

/** A zip of stored entries; an entry may lie about size, crc, flags, method, offset, attributes, and share another's data. */
export function zip(entries, tail = {}) {
  const [parts, central] = [[], []];
  let at = 0;
  for (const entry of entries) {
    const { name, data } = entry;
    const size = entry.size ?? data.length;
    const shared = [
      ...u16(20), ...u16(entry.flags ?? 0), ...u16(entry.method ?? 0), ...u32(0), ...u32(entry.crc ?? crc32(data)),
      ...u32(entry.packed ?? size), ...u32(size), ...u16(text(name).length), ...u16(0),
    ]; // biome-ignore format: a record
    const offset = entry.offset ?? at;
    central.push(
      Uint8Array.from([
        ...u32(0x02014b50), ...u16(0x314), ...shared, ...u16(0), ...u16(0), ...u16(0), ...u32(entry.attributes ?? 0),
        ...u32(offset), ...text(name),
      ]), // biome-ignore format: a record
    );
    if (entry.offset !== undefined) continue; // its bytes are another's
    const local = Uint8Array.from([...u32(0x04034b50), ...shared, ...text(name)]);
    parts.push(local, data);
    at += local.length + data.length;
  }
  const directory = Buffer.concat(central);
  const count = tail.count ?? entries.length;
  const end = [...u32(0x06054b50), ...u32(0), ...u16(count), ...u16(count), ...u32(tail.bytes ?? directory.length)];
  return new Uint8Array(Buffer.concat([...parts, directory, Uint8Array.from([...end, ...u32(tail.at ?? at), 0, 0])]));
}

const put = (i) => [0x71, i];
const get = (i) => [0x68, i];
const string = (s) => [0x58, ...u32(text(s).length), ...text(s)];
const global = (module, name) => [0x63, ...text(`${module}\n${name}\n`)];
const int = (n) => [0x4a, ...u32(n)];
const long = (hex) => [0x8a, hex.length / 2, ...Buffer.from(hex, 'hex').reverse()];

/** A list of lists of the same lists: 2^levels texts when it is printed. */
function laughs(levels) {
  const out = [0x5d, ...string('ha'), 0x61, ...put(200)];
  for (let n = 0; n < levels; n++) out.push(0x5d, 0x28, ...get(200), ...get(200), 0x65, ...put(200));
  return out;
}

/** Short runs of opcodes that a reader may stumble over. */
const PIECES = [
  () => laughs(40),
  () => [...laughs(40), ...laughs(40), 0x93], // STACK_GLOBAL of them
  () => [0x5d, ...put(201), ...get(201), 0x61], // a list in itself
  () => [0x7d, ...put(202), ...string('k'), ...get(202), 0x73], // a dict in itself
  () => [...global('os', 'system'), ...string('touch evil'), 0x85, 0x52],
  () => [...global('builtins', 'eval'), ...string('1'), 0x85, 0x52],
  () => [...global('collections', 'OrderedDict'), 0x29, 0x52],
  () => [...global('torch', 'Size'), 0x28, ...int(-1), 0x74, 0x85, 0x52],
  () => [...global('_codecs', 'encode'), ...string('x'.repeat(999)), ...string('latin1'), 0x86, 0x52],
  () => [...global('torch._utils', '_rebuild_tensor_v2'), ...get(1), ...int(0), ...int(1), 0x85, 0x87, 0x52],
  () => [0x28, ...string('storage'), ...global('torch', 'FloatStorage'), ...string('0'), ...string('cpu'), ...int(2 ** 31 - 1), 0x74, 0x51],
  () => [0x28, 0x28, 0x28, 0x74, 0x74, 0x74],
  () => new Array(3000).fill(0x5d),
  () => new Array(3000).fill(0x28),
  () => [0x58, 0xff, 0xff, 0xff, 0xff],
  () => [0x42, 0xff, 0xff, 0xff, 0x7f],
  () => [0x54, 0, 0, 0, 0x80],
  () => long('ff'.repeat(255)),
  () => long('00ffffffffffffffff'),
  () => [0x47, 0x7f, 0xf8, 0, 0, 0, 0, 0, 0], // NaN
  () => [0x6a, 0xff, 0xff, 0xff, 0xff],
  () => [0x30], [0x2e], [0x62], [0x52], [0x51], [0x93], [0x61], [0x65], [0x73], [0x75], [0x86], [0x74], [0x94], [0x4e], [0x29],
].map((piece) => (typeof piece === 'function' ? piece : () => piece)); // biome-ignore format: a list

/** Pieces of a torch pickle that hold numbers: their places, found by opcode and never inside a string we know of. */
function numbersIn(pickle) {
  const found = [];
  for (let at = 0; at < pickle.length; at++) if ([0x4a, 0x4b, 0x4d].includes(pickle[at])) found.push(at);
  return found;
}

/** A damaged copy of a pickle: bytes, opcodes put in, numbers that lie. */
export function damagePickle(pickle, roll) {
  const way = roll(4);
  if (way === 0) return damage(pickle, roll);
  if (way === 1) {
    const numbers = numbersIn(pickle);
    if (numbers.length === 0) return damage(pickle, roll);
    const at = pick(roll, numbers);
    const width = { 74: 4, 75: 1, 77: 2 }[pickle[at]];
    const value = pick(roll, [0, 1, 2, 3, 64, 255, 65535, 2 ** 24, 2 ** 31 - 1, -1, -2, -(2 ** 31)]);
    return Uint8Array.from([...pickle.subarray(0, at), ...int(value), ...pickle.subarray(at + 1 + width)]);
  }
  let out = pickle;
  for (let n = 1 + roll(2); n > 0; n--) {
    const at = once(roll, 4) ? out.length - 1 : roll(out.length);
    const over = once(roll, 3) ? roll(6) : 0;
    out = Uint8Array.from([...out.subarray(0, at), ...pick(roll, PIECES)(), ...out.subarray(at + over)]);
  }
  return out;
}

const ENTRY_LIES = [
  (entry, roll) => ({ ...entry, size: pick(roll, [0, 1, 65536, 2 ** 31, 2 ** 32 - 1]) }),
  (entry, roll) => ({ ...entry, packed: pick(roll, [0, 1, 65536, 2 ** 32 - 1]) }),
  (entry) => ({ ...entry, method: 8 }),
  (entry, roll) => ({ ...entry, flags: 1 << roll(16) }),
  (entry) => ({ ...entry, crc: 1 }),
  (entry, roll) => ({ ...entry, offset: pick(roll, [0, 1, 65536, 2 ** 31, 2 ** 32 - 1]) }),
  (entry, roll) => ({
    ...entry,
    name: pick(roll, ['../evil', '/evil', 'a/../../evil', 'C:\\evil', '', 'archive/', 'é\u0000']),
  }),
  (entry) => ({ ...entry, name: entry.name.replace(/^[^/]*/, 'other') }),
  (entry) => ({ ...entry, attributes: 0o120777 << 16 }),
  (entry, roll) => ({ ...entry, data: damage(entry.data, roll) }),
  (entry, roll) => ({ ...entry, data: entry.data.slice(0, roll(entry.data.length + 1)) }),
];

/** A damaged copy of a good zip of torch.save: bytes, directory, entries, or its pickle. */
export function damageTorchZip(file, roll) {
  const way = roll(6);
  if (way === 0) return damage(file, roll);
  const entries = unzip(file);
  const at = roll(entries.length);
  if (way === 1) entries[at] = pick(roll, ENTRY_LIES)(entries[at], roll);
  else if (way === 2) {
    if (once(roll, 2)) entries.splice(at, 1);
    else entries.splice(roll(entries.length + 1), 0, pick(roll, ENTRY_LIES)(entries[at], roll));
    if (once(roll, 8))
      for (let n = 0; n < 300; n++) entries.push({ ...entries[0], name: `archive/data/x${n}`, offset: 0 });
  } else {
    const pickled = entries.findIndex(({ name }) => name.endsWith('data.pkl'));
    entries[pickled] = { ...entries[pickled], data: damagePickle(entries[pickled].data, roll) };
  }
  const tail = once(roll, 12)
    ? pick(roll, [{ count: 65535 }, { count: 0 }, { bytes: 2 ** 31 }, { at: 2 ** 32 - 1 }, { at: 0 }])
    : {};
  return zip(entries, tail);
}
