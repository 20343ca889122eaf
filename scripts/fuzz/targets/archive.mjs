// Downloads that are unpacked: zips and, now and then, tars whose names, links and sizes lead elsewhere. Whatever they say,
// nothing may appear outside the folder they are unpacked to.

import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { damage, once, pick } from '../mutate.mjs';
import { damageTorchZip, zip } from '../mutate-torch.mjs';

const NAMES = [
  '../evil',
  '/evil',
  'a/../../evil',
  './a/../..',
  'a\nb',
  'deep/evil',
  '..',
  '-rf',
  '--to-command=touch evil',
  '\\..\\evil',
];
const text = (s) => new TextEncoder().encode(s);

/** One entry of a ustar archive; `type` 0 a file, 1 a hard link, 2 a link, 5 a folder. */
function tarEntry({ name, data = new Uint8Array(0), type = '0', link = '', size = data.length }) {
  const head = Buffer.alloc(512);
  head.write(name, 0, 100);
  head.write('0000644\u00000000000\u00000000000\u0000', 100);
  head.write(`${size.toString(8).padStart(11, '0')}\u000000000000000\u0000        `, 124);
  head.write(type, 156);
  head.write(link, 157, 100);
  head.write('ustar\u000000', 257);
  head.write(
    `${head
      .reduce((sum, byte) => sum + byte, 0)
      .toString(8)
      .padStart(6, '0')}\u0000 `,
    148,
  );
  const body = Buffer.alloc(512 * Math.ceil(data.length / 512));
  body.set(data);
  return Buffer.concat([head, body]);
}

const tar = (entries) => new Uint8Array(gzipSync(Buffer.concat([...entries.map(tarEntry), Buffer.alloc(1024)])));

function hostileTar(roll) {
  /** @type {{name: string, type?: string, link?: string, data?: Uint8Array, size?: number}[]} */
  const entries = [
    { name: 'a/', type: '5' },
    { name: 'a/b', data: text('content') },
  ];
  const at = roll(3);
  const outside = pick(roll, ['..', '../..', '/', '../evil', 'a']);
  switch (roll(4)) {
    case 0:
      entries.splice(at, 0, { name: pick(roll, NAMES), data: text('evil') });
      break;
    case 1:
      entries.splice(
        at,
        0,
        { name: 'link', type: pick(roll, ['1', '2']), link: outside },
        { name: 'link/evil', data: text('evil') },
      );
      break;
    case 2:
      entries.splice(at, 0, {
        name: 'dev',
        type: pick(roll, ['3', '4', '6', '7', 'x', 'L', 'K', 'g', 'S']),
        data: text('30 path=../evil\n'),
      });
      break;
    default:
      entries[1].size = pick(roll, [0, 600, 2 ** 30, 2 ** 33 - 1]);
  }
  const bytes = tar(entries);
  return once(roll, 3) ? damage(bytes, roll) : bytes;
}

/** @param {import('../worker.mjs').Place} place */
export async function open({ load, dir }) {
  const { unpackGzip, unpackTar, unpackZip } = await load('datasets/unpack');
  const good = zip([
    { name: 'data.pkl', data: text('content of one') },
    { name: 'folder/', data: new Uint8Array(0) },
    { name: 'folder/two.txt', data: text('content of two') },
  ]);
  const packed = new Uint8Array(gzipSync(text('content of a file')));
  const out = join(dir, 'out');
  return {
    writes: ['work/out', 'work/archive'],
    allows: (error) => error.code === 'E_DATA' && typeof error.details.path === 'string',
    async make(roll) {
      const way = roll(100);
      const bytes = way === 0 ? hostileTar(roll) : way < 20 ? damage(packed, roll) : damageTorchZip(good, roll);
      return {
        files: { archive: bytes },
        async run() {
          const path = join(dir, 'archive');
          await writeFile(path, bytes);
          await mkdir(out, { recursive: true });
          if (way === 0) await unpackTar(path, out);
          else if (way < 20) await unpackGzip(path, join(out, 'file'));
          else await unpackZip(path, out);
        },
        after: () => rm(out, { recursive: true, force: true }),
      };
    },
  };
}
