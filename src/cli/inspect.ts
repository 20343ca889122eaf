// `inspect`: what an artifact or a run folder holds. Reads manifests, and of label stores ids and sizes, so that every
// byte is told by its purpose; with --verify every byte is hashed again.

import { existsSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Command } from 'commander';
import { fileError } from '../atomic-file.ts';
import { expected, LpldError } from '../errors.ts';
import { adviceWithoutManifest, lostManifest, PARTIAL } from '../folder-kind.ts';
import type { LabelInspection } from '../label-inspection.ts';
import { formatBytes } from '../report/format.ts';
import { textTable } from '../report/table.ts';
import { examplesText } from './examples.ts';
import { labelText } from './inspect-labels.ts';
import { type AddCommand, printResult, type Session } from './io.ts';
import type { Globals } from './options.ts';
import type { MadeArtifact } from './services.ts';
import { artifactDocument, artifactText } from './stage.ts';

interface InspectFlags extends Globals {
  readonly verify?: boolean;
  readonly teacher?: string;
}

export const addInspect: AddCommand = (program, session) => {
  program
    .command('inspect')
    .summary('say what an artifact or run folder holds; --verify hashes it again')
    .description('Says what an artifact or a run folder holds.')
    .argument('<dir>', 'folder of an artifact, or a run folder')
    .option('--verify', 'hash every file and compare with the manifest (default: off, names and sizes only)')
    .option(
      '--teacher <dir>',
      'squeeze artifact to compare the size of labels with (default: the one found in the run folder)',
    )
    .addHelpText(
      'after',
      examplesText([
        ['all artifacts of a run', 'inspect runs/quickstart'],
        ['a label store by the byte, every file hashed again', 'inspect d/pool --teacher d/squeeze --verify'],
      ]),
    )
    .action((dir: string, _: object, command: Command) =>
      inspect(dir, command.optsWithGlobals<InspectFlags>(), session),
    );
};

async function inspect(dir: string, flags: InspectFlags, session: Session): Promise<void> {
  const verify = flags.verify ?? false;
  if (!existsSync(dir))
    throw new LpldError('E_DATA', expected('an artifact or a run folder', 'dir', dir, 'there is no such folder'), {
      path: dir,
    });
  const folders = await artifactFolders(dir).catch((thrown: unknown) => {
    throw fileError(thrown, dir);
  });
  if (folders.length === 0) {
    const advice = adviceWithoutManifest(dir, AGAIN) ?? 'a stage that is still being made has no manifest.json yet';
    throw new LpldError('E_DATA', expected('an artifact or a run folder', 'dir', dir, advice), { path: dir });
  }
  const artifacts: MadeArtifact[] = [];
  for (const folder of folders) artifacts.push(await session.services.openArtifact(folder, { verify }));
  const checked = verify
    ? 'all files have the hashes of the manifest'
    : 'names and sizes are right; --verify hashes every file';
  const [only] = artifacts;
  const labels: (LabelInspection | null)[] = [];
  for (const artifact of artifacts) labels.push(await session.services.inspectLabels(artifact, flags.teacher ?? null));
  const documents = artifacts.map((artifact, i) => ({ ...artifactDocument(artifact), ...labels[i] }));
  if (only && folders[0] === dir) {
    const parts = [artifactText(only), ...(labels[0] ? [labelText(labels[0])] : []), checked];
    printResult(session, flags, { ...documents[0], verified: verify }, parts.join('\n\n'));
    return;
  }
  const rows = artifacts.map((artifact) => {
    const bytes = artifact.manifest.files.reduce((sum, file) => sum + file.bytes, 0);
    const folder = artifact.dir.slice(dir.length).replace(/^\/+/, '');
    return [
      folder,
      artifact.manifest.stage,
      String(artifact.manifest.files.length),
      formatBytes(bytes),
      artifact.id.slice(0, 12),
    ];
  });
  const text = textTable(['folder', 'stage', '>files', '>size', 'artifact id'], rows);
  const document = { dir, verified: verify, artifacts: documents };
  printResult(session, flags, document, `${text}\n\n${checked}`);
}

const AGAIN = 'run the command that made it again';

/**
 * The folder itself if it is an artifact, else the artifacts of a run folder, at most two levels down.
 * @throws {LpldError} E_DATA for one inside that lost its manifest: it would be passed over in silence
 */
async function artifactFolders(dir: string, levels = 2): Promise<string[]> {
  const entries = await readdir(dir, { withFileTypes: true });
  if (entries.some((entry) => entry.isFile() && entry.name === 'manifest.json')) return [dir];
  const below = entries
    .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.') && !entry.name.endsWith(PARTIAL))
    .map((entry) => join(dir, entry.name));
  for (const path of below)
    if (lostManifest(path)) {
      const advice = adviceWithoutManifest(path, AGAIN)!;
      throw new LpldError('E_DATA', expected('an artifact', 'the run folder', path, advice), { path });
    }
  if (levels === 0) return [];
  return (await Promise.all(below.sort().map((folder) => artifactFolders(folder, levels - 1)))).flat();
}
