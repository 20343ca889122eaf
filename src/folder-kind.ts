// What a folder most likely is that should be an artifact and holds no manifest.json: the second line of its refusals.
// An artifact appears under its name by one rename, with its manifest, so one without it lost it afterwards: deleted, or
// copied in part. Names are looked at, no file is read, and nothing is decided here but words.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { DRAFT, MANIFEST, RUN } from './artifact.ts';

/** Ends the name of the folder an artifact is made in. */
export const PARTIAL = '.partial';

/** Whether a folder has what every artifact has, finished or not, but for the manifest. */
export function lostManifest(dir: string): boolean {
  if (!existsSync(dir) || existsSync(join(dir, MANIFEST))) return false;
  return existsSync(join(dir, RUN)) || existsSync(join(dir, DRAFT));
}

/**
 * What a folder is that holds no manifest.json, and what to do; null where its names tell nothing.
 *
 * @param again - what makes its artifact, in words: `run this again`
 */
export function adviceWithoutManifest(dir: string, again: string): string | null {
  const name = dir.replace(/(?<=.)\/+$/, '');
  if (name.endsWith(PARTIAL) && lostManifest(name))
    return `it is not finished: run the command that makes ${name.slice(0, -PARTIAL.length)} again`;
  if (lostManifest(name))
    return `it looks like an artifact without its ${MANIFEST}, deleted or copied in part: restore that file, or remove the folder and ${again}`;
  const names = statSync(name, { throwIfNoEntry: false })?.isDirectory() ? readdirSync(name) : [];
  if (names.includes('config.json') && names.some((one) => /^(squeeze(\.partial)?|report\.json)$/.test(one)))
    return 'it looks like a run folder: give one of the artifacts inside it, or a folder of another name';
  return null;
}
