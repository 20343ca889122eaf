// Writes labels in the layout of SRe2L and LPLD, so that Python's torch.load and the published validator read them.
// Every record becomes a file of its own; the list of images is written epoch by epoch and never held whole.
// Source: methods 4.2, 4.5, 9.3; layout in fkd.ts.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { guarded } from '../atomic-file.ts';
import { expected, LpldError } from '../errors.ts';
import { arrayOf } from '../tensor.ts';
import { FileSink } from './file-sink.ts';
import { batchFile, epochFolder, type FkdBatch, INDICES_FILE, toFkd } from './fkd.ts';
import { PyFloat } from './pickle-writer.ts';
import { torchFile } from './torch-writer.ts';
import type { ExportJob } from './types.ts';

/** The bytes of one batch_B.tar. */
export function fkdFile({ coords, flip, mixIndex, lambda, box, logits }: FkdBatch): Uint8Array[] {
  return torchFile((tensor) => [
    tensor(coords),
    tensor(flip),
    mixIndex === null ? null : tensor(mixIndex),
    lambda === null ? null : new PyFloat(lambda),
    box,
    tensor(logits),
  ]);
}

/**
 * Writes `job.labels` into `job.out`.
 * @throws {LpldError} E_MISMATCH: a short record before the end of an epoch, or rows of a batch that are mixed differently
 */
export async function exportFkd(job: ExportJob): Promise<void> {
  const labels = job.labels!;
  const facts = { size: job.set.description.size, inputSize: labels.inputSize };
  const indices = await FileSink.create(join(job.out, INDICES_FILE));
  try {
    let done = 0;
    for await (const { epoch, batch, recipes, logits } of labels.read()) {
      const rows = recipes.index.shape[0]!;
      const where = `record ${batch} of epoch ${epoch}`;
      const last = batch === labels.batchesPerEpoch - 1 || done === labels.records - 1;
      if (rows > labels.batch || rows === 0 || (rows < labels.batch && !last))
        throw new LpldError(
          'E_MISMATCH',
          expected(`${labels.batch} images`, where, rows, 'this layout has short batches at the end of an epoch only'),
        );
      if (batch === 0) {
        const folder = join(job.out, epochFolder(epoch));
        await guarded(folder, () => mkdir(folder));
        await indices.write(`${epoch === 0 ? '{' : '],\n'}"${epoch}": [`);
      }
      await indices.write(`${batch === 0 ? '' : ', '}${arrayOf(recipes.index, 'I32').join(', ')}`);
      const path = join(job.out, batchFile(epoch, batch));
      await guarded(path, () => writeFile(path, fkdFile(toFkd(recipes, logits, facts, where))));
      done += 1;
      job.onDone(done);
    }
    await indices.write(done === 0 ? '{}\n' : ']}\n');
  } finally {
    await indices.close();
  }
}
