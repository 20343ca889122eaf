// Which data this is: Dataset.id, cheap, and with `verify` a hash of every byte beside it.
// The invariant: equal ids mean equal names and sizes of all files, and equal bytes of the small ones (below 1 MiB, in
// name order up to 64 MiB in all). Subsets and skipped files have ids of their own. Verifying never changes an id.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { hashFile } from '../atomic-file.ts';
import { byBytes, checkCancelled, orderedMap } from './files.ts';

/** Files of at least this many bytes count by name and size only, unless all are verified. */
export const SMALL_FILE_BYTES = 1 << 20;
/** Small files are hashed in name order until the next one would pass this total. */
export const HASHED_BYTES_LIMIT = 64 << 20;

export interface SizedFile {
  readonly name: string; // relative to the dataset's folder, '/' between parts
  readonly size: number; // bytes
}

export interface IdentityOptions {
  readonly verify: boolean; // hash every file, for `content`
  /** Further facts that make another dataset of the same files, in a fixed order. */
  readonly facts: readonly string[];
  readonly signal?: AbortSignal;
}

/** What a Dataset says of itself: `id` always, `content` only when every byte was read. */
export interface Identity {
  readonly id: string;
  readonly content?: string;
}

/**
 * The identity of a dataset of files.
 *
 * @param folder - what the names are relative to; not part of either hash
 * @returns SHA-256 in hex: `id` over facts and (name, size) and the content of small files, `content` over (name, size,
 *   SHA-256) of every file
 * @throws {LpldError} E_DATA with the path if a file cannot be read
 */
export async function datasetIdentity(
  folder: string,
  files: readonly SizedFile[],
  options: IdentityOptions,
): Promise<Identity> {
  const sorted = [...files].sort((a, b) => byBytes(a.name, b.name));
  let budget = HASHED_BYTES_LIMIT;
  const plan = sorted.map((file) => {
    const small = file.size < SMALL_FILE_BYTES && file.size <= budget;
    if (small) budget -= file.size;
    else if (file.size < SMALL_FILE_BYTES) budget = 0;
    return { ...file, small };
  });
  const id = createHash('sha256');
  const content = createHash('sha256');
  for (const fact of options.facts) id.update(`${JSON.stringify(fact)}\n`);
  const hashes = orderedMap(plan, 8, (file) =>
    file.small || options.verify ? hashFile(join(folder, file.name)) : Promise.resolve(''),
  );
  let i = 0;
  for await (const hash of hashes) {
    checkCancelled(options.signal);
    const { name, size, small } = plan[i++]!;
    id.update(`${JSON.stringify(name)} ${size} ${small ? hash : ''}\n`);
    content.update(`${JSON.stringify(name)} ${size} ${hash}\n`);
  }
  return { id: id.digest('hex'), ...(options.verify ? { content: content.digest('hex') } : {}) };
}
