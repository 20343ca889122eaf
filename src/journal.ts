// The journal of an artifact in the making: one JSON line per file that is whole ({path, bytes, sha256}) or taken back
// ({path, removed}), appended and synced after the file's rename. Later lines win. Whatever the journal does not vouch
// for is rubbish of a stopped process, and sweep() deletes it.

import { appendFile, open, readdir, readFile, rm, rmdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { DRAFT, type FileEntry, isArtifactPath, RUN } from './artifact.ts';
import { fileError, guarded, TEMPORARY, writeFileAtomic } from './atomic-file.ts';
import { canonicalJson } from './canonical-json.ts';

export type JournalLine = FileEntry | { readonly path: string; readonly removed: true };

/** Lines begin with the newline, so that the torn end of a killed append cannot swallow the next line. */
const textOf = (lines: readonly JournalLine[]): string => lines.map((line) => `\n${canonicalJson(line)}`).join('');

/** Replaces a journal by a compact one. */
export async function writeJournal(path: string, lines: readonly JournalLine[]): Promise<void> {
  await writeFileAtomic(path, [new TextEncoder().encode(textOf(lines))]);
}

/** Adds lines and makes them durable. @throws {LpldError} E_DEVICE naming the journal */
export async function appendJournal(path: string, lines: readonly JournalLine[]): Promise<void> {
  await guarded(path, async () => {
    const handle = await open(path, 'a');
    try {
      await appendFile(handle, textOf(lines));
      await handle.datasync();
    } finally {
      await handle.close();
    }
  });
}

/** The files a journal vouches for; torn and foreign lines are passed over. */
export async function readJournal(path: string): Promise<Map<string, FileEntry>> {
  const files = new Map<string, FileEntry>();
  const text = await readFile(path, 'utf8').catch((e: { code?: string }) => {
    if (e.code === 'ENOENT') return '';
    throw fileError(e, path);
  });
  for (const line of text.split('\n')) {
    let entry: Partial<FileEntry> & { removed?: boolean };
    try {
      entry = JSON.parse(line) as typeof entry;
    } catch {
      continue; // blank, or torn by a kill
    }
    if (!isArtifactPath(entry?.path)) continue;
    if (entry.removed === true) files.delete(entry.path);
    else if (typeof entry.bytes === 'number' && typeof entry.sha256 === 'string')
      files.set(entry.path, { path: entry.path, bytes: entry.bytes, sha256: entry.sha256 });
  }
  return files;
}

/** Deletes every file below `dir` that the journal does not vouch for, and drops entries whose file is not as told. */
export async function sweep(dir: string, files: Map<string, FileEntry>): Promise<void> {
  const seen = new Set<string>();
  const walk = async (rel: string): Promise<void> => {
    for (const item of await readdir(join(dir, rel), { withFileTypes: true })) {
      const path = rel === '' ? item.name : `${rel}/${item.name}`;
      const full = join(dir, path);
      if (path === DRAFT) {
        for (const name of await readdir(full)) if (TEMPORARY.test(name)) await rm(join(full, name), { force: true });
      } else if (item.isDirectory()) {
        await walk(path);
        await rmdir(full).catch(() => {}); // empty ones only
      } else if (item.isFile() && files.get(path)?.bytes === (await stat(full)).size) {
        seen.add(path);
      } else if (path !== RUN) {
        await rm(full, { force: true });
      }
    }
  };
  await guarded(dir, () => walk(''));
  for (const path of files.keys()) if (!seen.has(path)) files.delete(path);
}
