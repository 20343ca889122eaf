// Folders that are written to: made with their parents, and held by one process while an artifact or an export is made.
// The lock lies beside the folder in the making, <out>.partial.lock, because that folder itself is removed and renamed.
// The invariant: nothing below <out>.partial is made, swept or renamed by a process that does not hold its lock.

import { existsSync } from 'node:fs';
import { access, constants, mkdir, stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { guarded } from './atomic-file.ts';
import { expected, LpldError } from './errors.ts';
import type { StageProgress } from './progress.ts';
import { lockOutput } from './run-lock.ts';

/**
 * Makes a folder to write into, with its parents, one by one: Node's recursive mkdir tells of a read-only file system as
 * of a missing folder.
 * @throws {LpldError} E_DEVICE if it cannot be made or written; E_CONFIG if a file is in the way
 */
export async function makeFolder(dir: string): Promise<void> {
  checkNamed(dir);
  await guarded(dir, async () => {
    if (!existsSync(dir)) {
      await makeFolder(dirname(resolve(dir)));
      await mkdir(dir).catch((e: { code?: string }) => {
        if (e.code !== 'EEXIST') throw e; // made by somebody else meanwhile
      });
    }
    await checkFolder(dir);
    await access(dir, constants.W_OK);
  });
}

/** An empty path would be the folder the program was started in. */
function checkNamed(out: string): void {
  if (out === '') throw new LpldError('E_CONFIG', expected('the name of a folder', '--out', out));
}

async function checkFolder(dir: string): Promise<void> {
  if ((await stat(dir)).isDirectory()) return;
  throw new LpldError('E_CONFIG', expected('a folder', '--out', dir, 'a file of that name is in the way'), {
    path: dir,
  });
}

/**
 * Does some work while this process holds `out`, which is not made but whose parents are.
 *
 * @param progress - is told of a stale lock that was broken
 * @throws {LpldError} E_CONFIG if another process or another call holds it (details: pid, host, startedAt); E_DEVICE if
 *   the folder it lies in cannot be written; whatever the work throws
 */
export async function whileLocked<T>(
  out: string,
  progress: Pick<StageProgress, 'log'>,
  work: () => Promise<T>,
): Promise<T> {
  checkNamed(out);
  const whole = resolve(out);
  await makeFolder(dirname(whole));
  if (existsSync(whole)) await checkFolder(whole);
  const lock = lockOutput(whole);
  try {
    if (lock.message !== null) progress.log(lock.message);
    return await work();
  } finally {
    lock.release();
  }
}

/** What is kept, or what is made while this process holds `out`. Asks twice: another process may just have made it. */
export async function keptOrMade<T>(
  out: string,
  progress: Pick<StageProgress, 'log'>,
  kept: () => Promise<T | null>,
  made: () => Promise<T>,
): Promise<T> {
  return (await kept()) ?? whileLocked(out, progress, async () => (await kept()) ?? made());
}
