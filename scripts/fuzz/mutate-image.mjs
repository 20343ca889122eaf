// Damage to images that goes past the outer checks: PNG chunks with right checksums and wrong contents, JPEG segments whose
// frame header, tables or lengths lie.

import { crc32, deflateSync } from 'node:zlib';
import { damage, once, pick } from './mutate.mjs';

const SIDES = [0, 1, 2, 7, 8, 255, 256, 4096, 16383, 65535, 65536, 2 ** 24, 2 ** 31 - 1, 2 ** 32 - 1];
const PNG_HEAD = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a);

function chunksOf(png) {
  const view = new DataView(png.buffer, png.byteOffset, png.byteLength);
  const chunks = [];
  for (let at = 8; at + 12 <= png.length; at += 12 + view.getUint32(at)) {
    const length = view.getUint32(at);
    chunks.push({ type: png.slice(at + 4, at + 8), data: png.slice(at + 8, at + 8 + length) });
  }
  return chunks;
}

function pngOf(chunks) {
  const parts = [PNG_HEAD];
  for (const { type, data, length = data.length, broken = false } of chunks) {
    const head = Buffer.alloc(4);
    head.writeUInt32BE(length >>> 0);
    const crc = Buffer.alloc(4);
    crc.writeUInt32BE((crc32(data, crc32(type)) ^ (broken ? 1 : 0)) >>> 0);
    parts.push(head, type, data, crc);
  }
  return new Uint8Array(Buffer.concat(parts));
}

const typed = (name, data) => ({ type: new TextEncoder().encode(name), data });
const EXTRA = [
  () => typed('tRNS', Uint8Array.of(0, 1)),
  () => typed('PLTE', new Uint8Array(768)),
  () => typed('PLTE', new Uint8Array(5)),
  () => typed('iCCP', Uint8Array.of(65, 0, 0, ...deflateSync(new Uint8Array(1000)))),
  () => typed('zTXt', Uint8Array.of(65, 0, 0, ...deflateSync(new Uint8Array(1 << 20)))),
  () => typed('eXIf', Uint8Array.of(0x4d, 0x4d, 0, 42, 0xff, 0xff, 0xff, 0xff)),
  () => typed('acTL', new Uint8Array(8)),
  () => typed('IDAT', deflateSync(new Uint8Array(1 << 16))),
  () => typed('IHDR', new Uint8Array(13)),
  () => typed('IEND', new Uint8Array(0)),
];

/** A damaged copy of a good PNG. */
export function damagePng(png, roll) {
  if (once(roll, 3)) return damage(png, roll);
  const chunks = chunksOf(png);
  const at = roll(chunks.length);
  const chunk = chunks[at];
  switch (roll(6)) {
    case 0: {
      const data = chunks[0].data.slice();
      const view = new DataView(data.buffer);
      if (once(roll, 2)) view.setUint32(4 * roll(2), pick(roll, SIDES));
      else data[8 + roll(5)] = pick(roll, [0, 1, 2, 3, 4, 5, 6, 7, 8, 16, 32, 255]);
      chunks[0] = { ...chunks[0], data };
      break;
    }
    case 1:
      chunks.splice(at, 1);
      break;
    case 2:
      chunks.splice(roll(chunks.length + 1), 0, once(roll, 2) ? chunk : pick(roll, EXTRA)());
      break;
    case 3:
      chunks[at] = { ...chunk, length: pick(roll, [0, 1, chunk.data.length + 1, 65536, 2 ** 31 - 1, 2 ** 32 - 1]) };
      break;
    case 4:
      chunks[at] = { ...chunk, broken: true };
      break;
    default:
      chunks[at] = { ...chunk, data: damage(chunk.data, roll) };
  }
  return pngOf(chunks);
}

/** Places of a JPEG's markers before its scan. */
function segmentsOf(jpeg) {
  const places = [];
  for (let at = 2; at + 4 <= jpeg.length && jpeg[at] === 0xff; at += 2 + jpeg[at + 2] * 256 + jpeg[at + 3]) {
    places.push(at);
    if (jpeg[at + 1] === 0xda) break;
  }
  return places;
}

/** A damaged copy of a good JPEG. */
export function damageJpeg(jpeg, roll) {
  if (once(roll, 3)) return damage(jpeg, roll);
  const out = Uint8Array.from(jpeg);
  const view = new DataView(out.buffer);
  const places = segmentsOf(out);
  const at = pick(roll, places);
  const frame = places.find((place) => out[place + 1] >= 0xc0 && out[place + 1] <= 0xc2) ?? at;
  switch (roll(6)) {
    case 0:
      view.setUint16(frame + 5 + 2 * roll(2), pick(roll, SIDES) & 0xffff);
      return out;
    case 1:
      out[frame + 9] = pick(roll, [0, 1, 2, 3, 4, 5, 255]);
      return out;
    case 2:
      out[frame + 10 + roll(9)] = pick(roll, [0, 1, 0x11, 0x12, 0x21, 0x22, 0x41, 0x44, 0xff]);
      return out;
    case 3:
      view.setUint16(at + 2, pick(roll, [0, 1, 2, 3, 65535]));
      return out;
    case 4:
      out[at + 1] = pick(
        roll,
        [0xc0, 0xc1, 0xc2, 0xc3, 0xc4, 0xc9, 0xcc, 0xd8, 0xd9, 0xda, 0xdb, 0xdd, 0xe0, 0xff, 0x00],
      );
      return out;
    default: {
      const start = places.at(-1); // the scan's own bytes
      return Uint8Array.from([...out.subarray(0, start), ...damage(out.subarray(start), roll)]);
    }
  }
}

export const damageImage = (bytes, roll) => (bytes[0] === 0x89 ? damagePng : damageJpeg)(bytes, roll);
