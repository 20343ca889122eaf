// Decoding against Pillow's own pixels (test/fixtures/expected.json), encoding against Pillow's files, broken files.

import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { decodeImage, encodeImage } from '../../src/datasets/images.ts';
import { testImage } from '../util/images.ts';

interface Golden {
  height: number;
  width: number;
  rgb: string;
  grey: string;
}

const at = (name: string): string => fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
const file = (name: string): Buffer => readFileSync(at(`images/${name}`));
const goldens = JSON.parse(readFileSync(at('expected.json'), 'utf8')) as {
  pillow: string;
  images: Record<string, Golden>;
};

describe(`decodeImage equals Pillow ${goldens.pillow}`, () => {
  for (const [name, { height, width, rgb, grey }] of Object.entries(goldens.images))
    test(name, async () => {
      const colour = await decodeImage(file(name), name, 3);
      expect([colour.height, colour.width]).toEqual([height, width]);
      expect(Buffer.from(colour.pixels).equals(Buffer.from(rgb, 'base64'))).toBe(true);
      const single = await decodeImage(file(name), name, 1);
      expect(Buffer.from(single.pixels).equals(Buffer.from(grey, 'base64'))).toBe(true);
      expect(single.sourceChannels).toBe(/^(grey|one-bit)/.test(name) ? 1 : 3);
    });
});

describe('encodeImage', () => {
  test.each(['rgb', 'noise'])('a colour JPEG decodes to the pixels of Pillow default save: %s', async (name) => {
    const { pixels, height, width } = await decodeImage(file(`${name}.png`), name, 3);
    const ours = await decodeImage(await encodeImage(pixels, height, width, 3, 'jpeg'), name, 3);
    expect(ours.pixels).toEqual((await decodeImage(file(`${name}.jpg`), name, 3)).pixels);
  });

  test('a grey JPEG has one component and the pixels of Pillow default save', async () => {
    const { pixels, height, width } = await decodeImage(file('grey.png'), 'grey', 1);
    const ours = await decodeImage(await encodeImage(pixels, height, width, 1, 'jpeg'), 'ours', 1);
    expect(ours.sourceChannels).toBe(1);
    expect(ours.pixels).toEqual((await decodeImage(file('grey.jpg'), 'grey', 1)).pixels);
  });

  test.each([1, 3] as const)('a PNG of %i channels gives back every value', async (channels) => {
    const pixels = testImage(5, 7, 12, channels);
    const back = await decodeImage(await encodeImage(pixels, 7, 12, channels, 'png'), 'x', channels);
    expect(back).toEqual({ pixels, height: 7, width: 12, sourceChannels: channels });
  });

  test('the same pixels give the same bytes', async () => {
    const pixels = testImage(1, 9, 20, 3);
    for (const encoding of ['jpeg', 'png'] as const)
      expect(await encodeImage(pixels, 9, 20, 3, encoding)).toEqual(await encodeImage(pixels, 9, 20, 3, encoding));
  });

  test('a wrong length is E_INTERNAL', async () => {
    await expect(encodeImage(new Uint8Array(5), 2, 2, 1, 'png')).rejects.toMatchObject({ code: 'E_INTERNAL' });
  });
});

describe('broken files are E_DATA with their path', () => {
  const refused = { code: 'E_DATA', details: { path: 'some/file' } };

  test.each(['rgb.png', 'noise.png', 'grey16.png', 'rgb.jpg', 'progressive.jpg', 'cmyk.jpg', 'grey.jpg'])(
    '%s cut anywhere in its data',
    async (name) => {
      const bytes = file(name);
      // a JPEG without its last two bytes, the end marker, may still hold every pixel; Pillow reads it and so do we
      const whole = name.endsWith('.jpg') ? bytes.length - 2 : bytes.length;
      for (let length = 0; length < whole; length++)
        await expect(decodeImage(bytes.subarray(0, length), 'some/file', 3), `${length} bytes`).rejects.toMatchObject(
          refused,
        );
    },
  );

  test.each([
    ['text', Buffer.from('this is no image, but longer than any signature')],
    ['a GIF', Buffer.from('R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7', 'base64')],
    ['an SVG', Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="4" height="4"></svg>')],
  ])('%s is refused', async (_what, bytes) => {
    await expect(decodeImage(bytes, 'some/file', 3)).rejects.toMatchObject(refused);
  });

  test('a PNG with a flipped byte of pixel data is refused', async () => {
    const bytes = Buffer.from(file('noise.png'));
    bytes[300]! ^= 0x55;
    await expect(decodeImage(bytes, 'some/file', 3)).rejects.toMatchObject(refused);
  });
});
