// Image bytes to pixels and back: the only file of the package that imports sharp.
// The invariant: decoded pixels equal Pillow's, value for value (test/fixtures holds Pillow's answers): no rotation by
// EXIF, no colour management, alpha dropped, and CMYK and luma computed by Pillow's integer formulas.
// QUIRK(grey16): a 16-bit grey PNG becomes its high bytes, as Pillow makes of 16-bit RGB; changed because Pillow's own
// conversion of 16-bit grey clips at 255 and turns nearly every picture white.

import type { Sharp, SharpOptions } from 'sharp';
import { expected, LpldError } from '../errors.ts';

export interface DecodedImage {
  readonly pixels: Uint8Array; // [height, width, channels] uint8, packed
  readonly height: number; // px
  readonly width: number; // px
  /** Channels of the file itself before conversion: 1 for grey (with or without alpha), 3 for everything else. */
  readonly sourceChannels: 1 | 3;
}

export type ImageEncoding = 'jpeg' | 'png';

interface Header {
  readonly colour: 'grey' | 'rgb' | 'cmyk';
  readonly depth: 8 | 16; // bits per channel after unpacking
}

type SharpFunction = (input: Uint8Array, options: SharpOptions) => Sharp;
let loaded: Promise<SharpFunction> | undefined;

/** Loads sharp on first use, so that help and type checks work where it is not installed for this platform. */
function sharp(): Promise<SharpFunction> {
  loaded ??= import('sharp').then(
    (m) => m.default as unknown as SharpFunction,
    (cause: unknown) => {
      loaded = undefined;
      const advice = 'reinstall the package for this platform';
      throw new LpldError(
        'E_DEVICE',
        expected('sharp', 'image decoding', 'an import error', advice),
        { reason: 'sharp' },
        cause,
      );
    },
  );
  return loaded;
}

/**
 * Decodes one JPEG or PNG file to packed uint8 pixels.
 *
 * @param bytes - the whole file
 * @param path - its path, for errors only
 * @param channels - channels wanted: 1 (colour becomes ITU-R 601 luma) or 3 (grey is repeated)
 * @returns pixels [height, width, channels] in 0..255, equal to Pillow's `Image.open(...).convert('L' | 'RGB')`
 * @throws {LpldError} E_DATA with details.path if the bytes are no JPEG or PNG, or are truncated or corrupt
 */
export async function decodeImage(bytes: Uint8Array, path: string, channels: 1 | 3): Promise<DecodedImage> {
  const header = readHeader(bytes, path);
  const open = await sharp();
  const sourceChannels = header.colour === 'grey' ? 1 : 3;
  let raw: { data: Uint8Array<ArrayBuffer>; info: { width: number; height: number; channels: number } };
  try {
    raw = await pipeline(open(bytes, { failOn: 'error', ignoreIcc: true }), header).toBuffer({
      resolveWithObject: true,
    });
  } catch (cause) {
    throw broken(path, cause instanceof Error ? cause.message : String(cause), cause);
  }
  const { width, height } = raw.info;
  const native = header.colour === 'cmyk' ? 4 : sourceChannels;
  const octets = header.depth === 16 ? 2 : 1;
  if (raw.data.length !== width * height * native * octets)
    throw new LpldError('E_INTERNAL', expected(`${native} channels`, path, raw.info.channels), { path });
  let pixels = new Uint8Array(raw.data.buffer, raw.data.byteOffset, raw.data.byteLength); // no Buffer leaves this file
  if (header.depth === 16) pixels = highBytes(pixels);
  if (header.colour === 'cmyk') pixels = cmykToRgb(pixels);
  if (sourceChannels === 1 && channels === 3) pixels = repeatGrey(pixels);
  if (sourceChannels === 3 && channels === 1) pixels = luma(pixels);
  return { pixels, height, width, sourceChannels };
}

/**
 * Encodes packed uint8 pixels as a JPEG (quality 75, chroma 4:2:0) or PNG file.
 * The JPEG decodes to exactly the pixels of Pillow's default `save`; one channel makes a one-component file.
 *
 * @param pixels - [height, width, channels] uint8
 * @param channels - 1 or 3
 * @returns the file's bytes
 * @throws {LpldError} E_INTERNAL if the length is not height * width * channels
 */
export async function encodeImage(
  pixels: Uint8Array,
  height: number,
  width: number,
  channels: 1 | 3,
  encoding: ImageEncoding,
): Promise<Uint8Array> {
  if (pixels.length !== height * width * channels)
    throw new LpldError('E_INTERNAL', expected(`${height} x ${width} x ${channels} bytes`, 'pixels', pixels.length));
  const open = await sharp();
  const image = open(pixels, { raw: { width, height, channels } }).toColourspace(channels === 1 ? 'b-w' : 'srgb');
  const jpeg = { quality: 75, chromaSubsampling: '4:2:0', optimiseCoding: false, mozjpeg: false };
  return encoding === 'jpeg' ? image.jpeg(jpeg).toBuffer() : image.png().toBuffer();
}

const GAP = 2; // px between images of a grid

/**
 * Encodes equal square images side by side as one PNG, 2 white px between them.
 *
 * @param rows - images [size, size, channels] uint8 of each row; rows may differ in length, one has at least one image
 */
export async function encodeGrid(
  rows: readonly (readonly Uint8Array[])[],
  size: number,
  channels: 1 | 3,
): Promise<Uint8Array> {
  const step = size + GAP;
  const width = step * Math.max(...rows.map((row) => row.length)) - GAP;
  const height = step * rows.length - GAP;
  const canvas = new Uint8Array(height * width * channels).fill(255);
  const line = size * channels;
  for (const [r, row] of rows.entries())
    for (const [c, image] of row.entries())
      for (let y = 0; y < size; y++)
        canvas.set(image.subarray(y * line, (y + 1) * line), ((r * step + y) * width + c * step) * channels);
  return encodeImage(canvas, height, width, channels, 'png');
}

function pipeline(image: Sharp, { colour, depth }: Header): Sharp {
  if (colour === 'cmyk') return image.pipelineColourspace('cmyk').toColourspace('cmyk').raw();
  const opaque = image.removeAlpha();
  if (depth === 16) return opaque.toColourspace(colour === 'grey' ? 'grey16' : 'rgb16').raw({ depth: 'ushort' });
  return opaque.toColourspace(colour === 'grey' ? 'b-w' : 'srgb').raw();
}

function broken(path: string, received: string, cause?: unknown): LpldError {
  const advice =
    'restore the file, or leave it out: --set dataset.skipUnreadable=true; data inspect: --skip-unreadable';
  return new LpldError('E_DATA', expected('a readable JPEG or PNG image', path, received, advice), { path }, cause);
}

/**
 * Refuses sizes that no file of this length can fill, before the decoder makes room for them: deflate makes at most 1032
 * bytes of one, and a block of 64 pixels takes at least a bit of a JPEG.
 */
function checkPromise(promised: number, bytes: number, path: string): void {
  if (promised > 1032 * bytes) throw broken(path, 'a header that promises more than the file holds');
}

/** What the file says of itself. Walks PNG chunks to IEND, because libpng accepts a file cut just before it. */
function readHeader(bytes: Uint8Array, path: string): Header {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 33 && view.getUint32(0) === 0x89504e47 && view.getUint32(4) === 0x0d0a1a0a)
    return png(view, path);
  if (bytes.length >= 4 && view.getUint16(0) === 0xffd8) return jpeg(view, path);
  throw broken(path, bytes.length === 0 ? 'an empty file' : 'another file type');
}

function png(view: DataView, path: string): Header {
  let at = 8;
  for (;;) {
    const end = at + 12 <= view.byteLength ? at + 12 + view.getUint32(at) : Number.POSITIVE_INFINITY;
    if (end > view.byteLength) throw broken(path, 'a truncated PNG');
    if (view.getUint32(at + 4) === 0x49454e44) break; // IEND
    at = end;
  }
  const type = view.getUint8(25);
  const [width, height, bits] = [view.getUint32(16), view.getUint32(20), view.getUint8(24)];
  const samples = type === 2 ? 3 : type === 4 ? 2 : type === 6 ? 4 : 1;
  checkPromise((height * width * bits * samples) / 8, view.byteLength, path);
  return { colour: type === 0 || type === 4 ? 'grey' : 'rgb', depth: bits === 16 ? 16 : 8 };
}

function jpeg(view: DataView, path: string): Header {
  let at = 2;
  while (at + 10 <= view.byteLength) {
    if (view.getUint8(at) !== 0xff) throw broken(path, 'a JPEG without a frame header');
    const marker = view.getUint8(at + 1);
    if (marker === 0xff) {
      at += 1; // fill byte
      continue;
    }
    const frame = marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
    if (frame) {
      const components = view.getUint8(at + 9);
      checkPromise(view.getUint16(at + 5) * view.getUint16(at + 7), view.byteLength, path);
      return { colour: components === 1 ? 'grey' : components === 4 ? 'cmyk' : 'rgb', depth: 8 };
    }
    at += 2 + view.getUint16(at + 2);
  }
  throw broken(path, 'a truncated JPEG');
}

function highBytes(pixels: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(pixels.length / 2);
  for (let i = 0; i < out.length; i++) out[i] = pixels[2 * i + 1]!; // little endian
  return out;
}

function repeatGrey(grey: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(grey.length * 3);
  for (let i = 0; i < grey.length; i++) out.fill(grey[i]!, 3 * i, 3 * i + 3);
  return out;
}

function luma(rgb: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array(rgb.length / 3);
  for (let i = 0, o = 0; o < out.length; i += 3, o++)
    out[o] = (rgb[i]! * 19595 + rgb[i + 1]! * 38470 + rgb[i + 2]! * 7471 + 0x8000) >> 16;
  return out;
}

function cmykToRgb(cmyk: Uint8Array): Uint8Array<ArrayBuffer> {
  const out = new Uint8Array((cmyk.length / 4) * 3);
  for (let i = 0, o = 0; i < cmyk.length; i += 4) {
    const light = 255 - cmyk[i + 3]!;
    for (let c = 0; c < 3; c++) {
      const product = cmyk[i + c]! * light + 128;
      out[o++] = Math.max(0, light - (((product >> 8) + product) >> 8));
    }
  }
  return out;
}
