// Seeded damage to bytes and to JSON. Every case has dice of its own, made from (seed, target, case), so that one case can
// be repeated without those before it.

/** Mulberry32 seeded by a text: returns integers in [0, n). For test inputs only. */
export function dice(text) {
  let a = 2166136261;
  for (let i = 0; i < text.length; i++) a = Math.imul(a ^ text.charCodeAt(i), 16777619) >>> 0;
  return (n) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

export const pick = (roll, list) => list[roll(list.length)];
/** True once in n. */
export const once = (roll, n) => roll(n) === 0;

const BYTES = [0x00, 0x01, 0x22, 0x2c, 0x2d, 0x30, 0x39, 0x5b, 0x5d, 0x7b, 0x7d, 0x7f, 0x80, 0xfe, 0xff];
/** Lengths, offsets and counts that programs get wrong. */
const WORDS = [0, 1, 2, 3, 4, 7, 8, 255, 256, 65535, 65536, 2 ** 24, 2 ** 31 - 1, 2 ** 31, 2 ** 32 - 1];
const LONGS = [...WORDS.map(BigInt), 2n ** 32n, 2n ** 40n, 2n ** 53n - 1n, 2n ** 53n, 2n ** 63n - 1n, 2n ** 63n];

/** Writes an integer that lies over 2, 4 or 8 bytes at `at`. */
function lie(bytes, at, roll) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const little = roll(4) > 0;
  const width = pick(roll, [2, 4, 4, 8]);
  if (at + width > bytes.length) return;
  if (width === 8) view.setBigUint64(at, BigInt.asUintN(64, pick(roll, LONGS) - BigInt(roll(2))), little);
  else if (width === 4) view.setUint32(at, (once(roll, 3) ? bytes.length - roll(9) : pick(roll, WORDS)) >>> 0, little);
  else view.setUint16(at, pick(roll, WORDS) & 0xffff, little);
}

function splice(bytes, from, roll) {
  const start = roll(from.length);
  const piece = from.slice(start, start + 1 + roll(64));
  const at = roll(bytes.length + 1);
  const rest = bytes.subarray(once(roll, 2) ? at : Math.min(bytes.length, at + piece.length));
  return Uint8Array.from([...bytes.subarray(0, at), ...piece, ...rest]);
}

function damageOnce(bytes, other, roll) {
  if (bytes.length === 0) return Uint8Array.of(roll(256));
  const at = roll(bytes.length);
  switch (roll(8)) {
    case 0:
      bytes[at] ^= 1 << roll(8);
      return bytes;
    case 1:
      bytes[at] = once(roll, 2) ? pick(roll, BYTES) : roll(256);
      return bytes;
    case 2:
      return bytes.slice(0, at);
    case 3:
      return splice(
        bytes,
        Uint8Array.from({ length: 1 + roll(24) }, () => roll(256)),
        roll,
      );
    case 4:
      bytes.copyWithin(roll(bytes.length), at, at + 1 + roll(64));
      return bytes;
    case 5:
      return splice(bytes, other, roll);
    default:
      lie(bytes, once(roll, 2) ? at : Math.min(at, roll(64)), roll);
      return bytes;
  }
}

/** A damaged copy: one to four of bit flips, bytes, cuts, insertions, splices (also of `other`) and integers that lie. */
export function damage(bytes, roll, other = bytes) {
  let out = Uint8Array.from(bytes);
  for (let n = 1 + (once(roll, 3) ? roll(4) : 0); n > 0; n--) out = damageOnce(out, other, roll);
  return out;
}

const RAW = '\u0000raw:'; // a value that is put into the text as it stands
const deep = (levels) => `${RAW}${'['.repeat(levels)}${']'.repeat(levels)}`;

const ODD = [
  null, true, false, 0, 1, -1, 2, 0.5, -0.5, 255, 65536, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 53 - 1, 2 ** 53, 1e308,
  '', '0', 'x', '../evil', '/evil', 'a\\..\\b', 'a\u0000b', '\ud800', '__proto__', 'constructor', [], {}, [[]],
  `${RAW}1e999`, `${RAW}-0`, `${RAW}{"a":1,"a":2}`, `${RAW}{"__proto__":{"polluted":1}}`,
]; // biome-ignore format: a list

/** All places of a value: [holder, key]. */
function places(value, out = []) {
  if (typeof value !== 'object' || value === null) return out;
  for (const key of Object.keys(value)) {
    out.push([value, key]);
    places(value[key], out);
  }
  return out;
}

function replaceNumber(number, roll) {
  return pick(roll, [
    number + 1,
    number - 1,
    -number,
    2 * number,
    number + 0.5,
    1000 * number,
    2 ** (8 * (1 + roll(7))),
  ]);
}

/** A JSON text of a changed copy: values replaced, keys removed, added, doubled or exchanged. Still JSON but for rare cases. */
export function damageJson(text, roll) {
  const value = JSON.parse(text);
  for (let n = 1 + (once(roll, 3) ? roll(3) : 0); n > 0; n--) {
    const all = places(value);
    if (all.length === 0) break;
    const [holder, key] = pick(roll, all);
    const [other, otherKey] = pick(roll, all);
    switch (roll(8)) {
      case 0:
        if (Array.isArray(holder)) holder.splice(Number(key), 1);
        else delete holder[key];
        break;
      case 1:
        if (Array.isArray(holder)) holder.push(structuredClone(holder[key]));
        else holder[`${key}x`] = structuredClone(holder[key]);
        break;
      case 2:
        [holder[key], other[otherKey]] = [structuredClone(other[otherKey]), structuredClone(holder[key])];
        break;
      case 3:
        holder[key] = once(roll, 20) ? deep(pick(roll, [199, 201, 5000])) : [holder[key]];
        break;
      case 4:
      case 5:
        holder[key] = typeof holder[key] === 'number' ? replaceNumber(holder[key], roll) : pick(roll, ODD);
        break;
      default:
        holder[key] = pick(roll, ODD);
    }
  }
  return JSON.stringify(value).replace(/"\\u0000raw:((?:[^"\\]|\\.)*)"/g, (_, raw) => JSON.parse(`"${raw}"`));
}
