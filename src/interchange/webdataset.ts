// A synthetic set as a WebDataset: tar shards whose members of one stem are one sample, KEY.jpg and KEY.cls (the class id
// in decimal). Samples keep the set's order; equal sets give equal bytes (no times, no owners).
// Source: the ustar format of POSIX.1-1988 (tar.h); github.com/webdataset/webdataset, README (naming).

import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { guarded } from '../atomic-file.ts';
import { FileSink } from './file-sink.ts';
import { namesOf, shardsOf } from './image-names.ts';
import type { ExportJob } from './types.ts';

const BLOCK = 512;
/** Two headers, the class member and the padding of both. */
const OVERHEAD = 4 * BLOCK;

/**
 * The members of a ustar archive that one file becomes: a header, the bytes, zeros up to a block.
 * @param name - at most 100 bytes of ASCII
 */
export function tarMember(name: string, data: Uint8Array): Uint8Array {
  const header = Buffer.alloc(BLOCK);
  header.write(name, 0, 100, 'latin1');
  header.write('0000644\0', 100, 'latin1');
  header.write('0000000\0', 108, 'latin1'); // owner
  header.write('0000000\0', 116, 'latin1'); // group
  header.write(`${data.byteLength.toString(8).padStart(11, '0')}\0`, 124, 'latin1');
  header.write('00000000000\0', 136, 'latin1'); // time
  header.write(' '.repeat(8), 148, 'latin1'); // the checksum counts as spaces
  header.write('0', 156, 'latin1'); // a plain file
  header.write('ustar\x0000', 257, 'latin1');
  const sum = header.reduce((total, byte) => total + byte, 0);
  header.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148, 'latin1');
  const padding = new Uint8Array((BLOCK - (data.byteLength % BLOCK)) % BLOCK);
  return Buffer.concat([header, data, padding]);
}

/** Writes shard-000000.tar, shard-000001.tar, ... into `job.out`. */
export async function exportWebDataset({ set, images, out, shardBytes, onDone }: ExportJob): Promise<void> {
  const names = namesOf(set);
  let done = 0;
  for (const [number, shard] of shardsOf(images, shardBytes, OVERHEAD).entries()) {
    const sink = await FileSink.create(join(out, `shard-${String(number).padStart(6, '0')}.tar`));
    try {
      for (const image of shard) {
        const { folder, file, stem } = names(image);
        const bytes = await guarded(image.path, () => readFile(image.path));
        await sink.write(tarMember(`${folder}_${file}`, bytes));
        await sink.write(tarMember(`${folder}_${stem}.cls`, Buffer.from(String(image.classId))));
        onDone(++done);
      }
      await sink.write(new Uint8Array(2 * BLOCK));
    } finally {
      await sink.close();
    }
  }
}
