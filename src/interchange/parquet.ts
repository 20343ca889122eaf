// A synthetic set as Parquet in Hugging Face's layout: image {bytes, path} and label, with the feature types and class
// names in the file's metadata, so that `load_dataset` gives pictures and named classes. Row groups are small: one is held
// at a time. The library that writes the format is hyparquet-writer; only this file imports it.
// Source: huggingface datasets, features Image and ClassLabel (`datasets/arrow_writer.py`, the metadata key).

import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ByteWriter, ParquetWriter, type SchemaElement } from 'hyparquet-writer';
import { guarded } from '../atomic-file.ts';
import { FileSink } from './file-sink.ts';
import { namesOf, shardsOf } from './image-names.ts';
import type { ExportImage, ExportJob } from './types.ts';

const SCHEMA: SchemaElement[] = [
  { name: 'schema', num_children: 2 },
  { name: 'image', repetition_type: 'OPTIONAL', num_children: 2 },
  { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' },
  { name: 'path', type: 'BYTE_ARRAY', converted_type: 'UTF8', repetition_type: 'OPTIONAL' },
  { name: 'label', type: 'INT64', repetition_type: 'OPTIONAL' },
];
/** Hugging Face's own for images. */
const ROW_GROUP = 100;
/** Levels, sizes and the path of a row. */
const OVERHEAD = 64;

/** What `datasets` reads the types of the columns from. */
function features(classNames: readonly string[]): string {
  const types = { image: { _type: 'Image' }, label: { names: classNames, _type: 'ClassLabel' } };
  return JSON.stringify({ info: { features: types } });
}

/** A writer whose bytes go to the file after every row group. */
class SinkWriter extends ByteWriter {
  readonly #sink: FileSink;
  constructor(sink: FileSink) {
    super();
    this.#sink = sink;
  }

  async flush(): Promise<void> {
    const bytes = this.getBytes();
    this.index = 0;
    await this.#sink.write(bytes.slice());
  }
}

async function writeShard(sink: FileSink, shard: readonly ExportImage[], job: ExportJob, done: number): Promise<void> {
  const names = namesOf(job.set);
  const writer = new SinkWriter(sink);
  const kvMetadata = [{ key: 'huggingface', value: features(job.set.description.classNames) }];
  const parquet = new ParquetWriter({ writer, schema: SCHEMA, codec: 'UNCOMPRESSED', statistics: false, kvMetadata });
  for (let first = 0; first < shard.length; first += ROW_GROUP) {
    const rows = shard.slice(first, first + ROW_GROUP);
    const pictures: { bytes: Uint8Array; path: string }[] = [];
    for (const image of rows) {
      const { folder, file } = names(image);
      const bytes = await guarded(image.path, () => readFile(image.path));
      pictures.push({ bytes, path: `${folder}_${file}` });
      job.onDone(done + first + pictures.length);
    }
    const labels = rows.map(({ classId }) => BigInt(classId));
    await parquet.write({
      columnData: [
        { name: 'image', data: pictures },
        { name: 'label', data: labels },
      ],
      rowGroupSize: ROW_GROUP,
    });
  }
  await parquet.finish();
  await writer.flush();
}

/** Writes data/train-00000-of-N.parquet, ... into `job.out`. */
export async function exportParquet(job: ExportJob): Promise<void> {
  const shards = shardsOf(job.images, job.shardBytes, OVERHEAD);
  const number = (n: number): string => String(n).padStart(5, '0');
  const dir = join(job.out, 'data');
  await guarded(dir, () => mkdir(dir));
  let done = 0;
  for (const [i, shard] of shards.entries()) {
    const sink = await FileSink.create(join(dir, `train-${number(i)}-of-${number(shards.length)}.parquet`));
    try {
      await writeShard(sink, shard, job, done);
    } finally {
      await sink.close();
    }
    done += shard.length;
  }
}
