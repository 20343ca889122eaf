// What stands unfinished where an artifact shall be made, and whether it may be thrown away for one of another key. What
// took time never is unasked: it goes on under the key it was begun with, so the user has to choose. Nothing is lost by
// discarding a draft that holds no whole file and no saved tensors, or one made from an artifact that was itself remade in
// its place: no command can go on with that.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { DRAFT, readJsonFile, type StageHeader } from './artifact.ts';
import { changesTold, differingKeys } from './differences.ts';
import { LpldError } from './errors.ts';
import { readJournal } from './journal.ts';
import { readHeader } from './safetensors.ts';

export const KEY_FILE = 'key.json';
export const JOURNAL_FILE = 'journal.jsonl';

/** What a draft of another key meets. */
export interface Discarding {
  /** How to discard what was begun, for the user; by default the folder is to be removed. */
  readonly advice?: string;
  /** Roles whose artifact stands where the one before stood, which is no more. */
  readonly remade?: readonly string[];
}

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

/** What decides an artifact, under the names people know it by. */
function factsOf(header: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const { stage, stageVersion, deviceClass, config, inputs, precision } = header;
  const ids = Object.entries(Object(inputs ?? {}) as object).map(([role, id]) => [role, String(id).slice(0, 12)]);
  const facts = { ...(config as object), 'version of the stage': stageVersion, 'device class': deviceClass };
  return { stage, ...facts, precision, ...Object.fromEntries(ids.map(([role, id]) => [`id of ${role}`, id])) };
}

/** In what a draft was begun otherwise, as keys and in words. */
function otherwise(before: Begun['header'], now: StageHeader): { keys: string[]; words: string } {
  const unknown = { keys: [], words: 'with what is not recorded' }; // by an early version, or the record is damaged
  if (before.config === undefined) return unknown;
  const [a, b] = [factsOf(before), factsOf({ ...now })];
  const all = differingKeys(a, b);
  const keys = all.filter((key) => key !== 'precision' || !all.some((one) => one.endsWith('.precision')));
  return keys.length === 0 ? unknown : { keys, words: changesTold(a, b, keys) };
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
  discarding: Discarding = {},
): Promise<string> {
  if (!(await isWorth(dir))) return 'it held nothing yet';
  const replaced = (role: string): boolean =>
    Object.hasOwn(begun.inputs, role) && begun.inputs[role] !== header.inputs[role];
  const gone = (discarding.remade ?? []).filter(replaced);
  if (gone.length > 0) return `the ${gone.join(' and ')} it was made from was made anew`;
  const { keys, words } = otherwise(begun.header, header);
  const { advice = 'to discard it, remove that folder; or choose another --out' } = discarding;
  throw new LpldError(
    'E_CONFIG',
    `the unfinished ${dir} was begun otherwise: ${words}\nto go on with it, run the command it was begun with; ${advice}`,
    { path: dir, keys },
  );
}
