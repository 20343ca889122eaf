// What a stage reads, by role: which stages' artifacts may play one, what to give where one is missing, and that no stage
// reads the folder it writes to. Every refusal names the flag and the command that makes what is wanted.

import { existsSync, realpathSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { type Artifact, MANIFEST, openArtifact } from './artifact.ts';
import { expected, LpldError } from './errors.ts';
import { adviceWithoutManifest } from './folder-kind.ts';
import type { StageName } from './stages/types.ts';

/** Stages whose artifacts may play a role. */
const ROLES: Readonly<Record<string, readonly (StageName | 'import-images' | 'import-labels')[]>> = {
  teacher: ['squeeze'],
  images: ['synthesize', 'import-images'],
  labels: ['relabel', 'prune', 'import-labels'],
  students: ['train'],
};

/** The commands that make what may play a role. */
export const makersOf = (role: string): string =>
  [...new Set(ROLES[role]!.map((stage) => stage.replace(/^import-.*/, 'import')))].join(' or ');

/** The refusal of a role that was not given. */
export function missingRole(role: string): LpldError {
  const advice = `give a folder that ${makersOf(role)} made`;
  return new LpldError('E_CONFIG', expected(`the folder of ${role}`, `--${role}`, undefined, advice), { role });
}

/**
 * Opens an artifact that may play a role.
 *
 * @param name - of the folder in messages: its flag or key
 * @throws {LpldError} E_DATA for a folder that is no artifact; E_MISMATCH naming the stage that made it
 */
export async function openAs(role: string, dir: string, name: string): Promise<Artifact> {
  if (!existsSync(join(dir, MANIFEST)))
    throw new LpldError('E_DATA', expected(`an artifact of ${makersOf(role)}`, name, dir, adviceFor(role, dir)), {
      path: join(dir, MANIFEST),
    });
  const artifact = await openArtifact(dir);
  const { stage } = artifact.manifest;
  if (!ROLES[role]!.includes(stage as StageName))
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `an artifact of ${makersOf(role)}`,
        name,
        `one of ${stage}`,
        `give a folder that ${makersOf(role)} made`,
      ),
      { path: dir },
    );
  return artifact;
}

function adviceFor(role: string, dir: string): string {
  const inside = ROLES[role]!.map((stage) => join(dir, stage)).filter((path) => existsSync(join(path, MANIFEST)));
  if (inside.length > 0) return `did you mean ${inside.join(' or ')}?`;
  if (existsSync(`${dir.replace(/\/+$/, '')}.partial`))
    return 'it is not finished: run the command that makes it again';
  if (!existsSync(dir)) return 'there is no such folder';
  return adviceWithoutManifest(dir, 'run the command that made it again') ?? `the folder holds no ${MANIFEST}`;
}

/**
 * Refuses an output folder that is also read: what is made there would take the place of what it is made from.
 *
 * @param read - folders by what messages call them
 * @throws {LpldError} E_CONFIG
 */
export function checkApart(out: string, read: Readonly<Record<string, string>>): void {
  const real = (path: string): string => (existsSync(path) ? realpathSync(path) : resolve(path));
  for (const [name, dir] of Object.entries(read))
    if (real(dir) === real(out))
      throw new LpldError(
        'E_CONFIG',
        expected(`another folder than that of ${name}`, '--out', out, 'what is made there would replace what is read'),
        { path: out },
      );
}
