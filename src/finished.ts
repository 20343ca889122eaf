// What stands finished where an artifact shall be made, and whether it may be replaced. The invariant: without the user's
// word only an artifact whose own inputs were made anew in their place is, as no command would make it again; what another
// stage made, and what is no artifact, never is. What stands there unfinished is begun.ts.

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { MANIFEST, type Manifest, readJsonFile, type StageHeader, stageKey } from './artifact.ts';
import { fileError } from './atomic-file.ts';
import { otherwise, remadeRoles } from './differences.ts';
import { expected, LpldError } from './errors.ts';
import { adviceWithoutManifest } from './folder-kind.ts';

/** What is allowed with work of another key, finished or not, and how its refusal says so. */
export interface Replacing {
  /** The user's word that it may go. Default: false. */
  readonly replace?: boolean;
  /** The flag that gives that word. Default: --replace. */
  readonly flag?: string;
  /** Roles whose artifact stands where the one before stood, which is no more. */
  readonly remade?: readonly string[];
}

/** How an artifact that stands was made, as far as its manifest says so; unchecked. */
export type Finished = Readonly<Record<string, unknown>> & Partial<Pick<Manifest, 'stage' | 'key' | 'inputs'>>;

/**
 * The artifact of a stage that stands in a folder.
 *
 * @returns null where the folder is empty or none
 * @throws {LpldError} E_CONFIG if it holds something else: somebody's data
 */
export async function finishedIn(finalDir: string, stage: string): Promise<Finished | null> {
  const names = await readdir(finalDir).catch((e: { code?: string }): string[] => {
    if (e.code === 'ENOENT') return [];
    throw fileError(e, finalDir);
  });
  if (names.length === 0) return null;
  if (!names.includes(MANIFEST)) {
    const what = 'a new folder or an artifact to replace';
    const likely = adviceWithoutManifest(finalDir, 'run this command again');
    const advice = likely ?? 'it holds other files: choose another folder';
    const message = expected(what, 'the artifact folder', finalDir, advice);
    throw new LpldError('E_CONFIG', message, { path: finalDir });
  }
  const found = await readJsonFile<Finished>(join(finalDir, MANIFEST)).catch((): Finished => ({}));
  if (typeof found?.stage === 'string' && found.stage !== stage) {
    const message = expected(`a new folder or one of ${stage}`, 'the artifact folder', finalDir);
    throw new LpldError('E_CONFIG', `${message}\nit holds what ${found.stage} made: choose another folder`, {
      path: finalDir,
    });
  }
  return found ?? {};
}

/**
 * Whether a finished artifact may be replaced.
 *
 * @param dir - its folder
 * @returns why it may; null where it is of the same key, so that nothing is lost
 * @throws {LpldError} E_CONFIG where it may not: what differs, and how to keep or to replace it (details: path, keys)
 */
export function whyReplaced(dir: string, found: Finished, header: StageHeader, replacing: Replacing): string | null {
  if (found.key === stageKey(header)) return null;
  const gone = remadeRoles(Object(found.inputs ?? {}), header.inputs, replacing.remade ?? []);
  if (gone.length > 0) return `the ${gone.join(' and ')} it was made from was made anew`;
  if (replacing.replace === true) return 'as asked';
  const { keys, words, device } = otherwise(found, header);
  const { flag = '--replace' } = replacing;
  const same = device === null ? '' : `give --device ${device}, or `;
  const message = expected('a new folder, or what this command made before,', '--out', dir);
  const advice = `to keep it, ${same}choose another --out; ${flag} replaces it`;
  throw new LpldError('E_CONFIG', `${message}, made otherwise: ${words}\n${advice}`, { path: dir, keys });
}
