// What stands unfinished where an artifact shall be made, and whether it may be thrown away for one of another key. What
// took time never is unasked: it goes on under the key it was begun with, so the user has to choose. Nothing is lost by
// discarding a draft that holds no whole file and no saved tensors, or one made from an artifact that was itself remade in
// its place: no command can go on with that. What stands finished there is finished.ts.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DRAFT, readJsonFile, type StageHeader } from './artifact.ts';
import { otherwise, remadeRoles } from './differences.ts';
import { LpldError } from './errors.ts';
import type { Replacing } from './finished.ts';
import { readJournal } from './journal.ts';
import { readHeader } from './safetensors.ts';

export const KEY_FILE = 'key.json';
export const JOURNAL_FILE = 'journal.jsonl';

/** A draft as it lies there. */
export interface Begun {
  readonly key: string | null; // null where its file is gone or damaged
  readonly header: Readonly<Record<string, unknown>>; // how it was begun, as far as it says so; unchecked
  readonly inputs: Readonly<Record<string, string>>; // ids by role, of that header
}

/** Whether a draft holds a whole file or saved tensors. */
async function isWorth(dir: string): Promise<boolean> {
  if ((await readJournal(join(dir, DRAFT, JOURNAL_FILE))).size > 0) return true;
  const names = await readdir(join(dir, DRAFT)).catch((): string[] => []);
  for (const name of names.filter((one) => one.endsWith('.safetensors'))) {
    const state = await readHeader(join(dir, DRAFT, name)).catch(() => null);
    if (state === null || state.tensors.size > 0) return true; // a plan alone has none
  }
  return false;
}

/** The draft in a folder, or null where there is none. */
export async function begunIn(dir: string): Promise<Begun | null> {
  const names = await readdir(join(dir, DRAFT)).catch(() => null);
  if (names === null) return null;
  const read = await readJsonFile<unknown>(join(dir, DRAFT, KEY_FILE)).catch(() => null);
  const header = Object(read ?? {}) as Record<string, unknown>;
  const ids = Object.entries(Object(header.inputs ?? {}) as object).filter(([, id]) => typeof id === 'string');
  return { key: typeof header.key === 'string' ? header.key : null, header, inputs: Object.fromEntries(ids) };
}

/**
 * Whether a draft of another key may be discarded.
 *
 * @param dir - folder of the draft
 * @returns why nothing is lost by that
 * @throws {LpldError} E_CONFIG where something is: what differs, and how to go on or to discard it (details: path, keys)
 */
export async function whyDiscarded(
  dir: string,
  begun: Begun,
  header: StageHeader,
  replacing: Replacing = {},
): Promise<string> {
  if (!(await isWorth(dir))) return 'it held nothing yet';
  const gone = remadeRoles(begun.inputs, header.inputs, replacing.remade ?? []);
  if (gone.length > 0) return `the ${gone.join(' and ')} it was made from was made anew`;
  if (replacing.replace === true) return 'as asked';
  const { keys, words, device } = otherwise(begun.header, header);
  const { flag = '--replace' } = replacing;
  const same = device === null ? 'run the command it was begun with' : `give --device ${device}`;
  throw new LpldError(
    'E_CONFIG',
    `the unfinished ${dir} was begun otherwise: ${words}\nto go on with it, ${same}; ${flag} discards it; or choose another --out`,
    { path: dir, keys },
  );
}
