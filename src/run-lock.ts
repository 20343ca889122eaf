// One process per run folder and per folder in the making: an exclusive lock file {pid, host, startedAt, process}. A lock
// whose process is gone (same host, and not a later process under the same pid) is stale and is broken with a message. A lock of another host cannot
// be judged from here and is respected. Taking the lock is one link(), so no process ever reads half a lock file.

import { randomUUID } from 'node:crypto';
import { linkSync, mkdirSync, readFileSync, renameSync, unlinkSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { fileError, temporaryName } from './atomic-file.ts';
import { expected, LpldError } from './errors.ts';

export const LOCK_FILE = 'run.lock';

interface LockContent {
  readonly pid: number;
  readonly host: string;
  readonly startedAt: string; // ISO 8601
  readonly process: string; // boot id and start time of the process, '' where the system does not tell
  readonly token: string; // tells this lock from every other one
}

export interface RunLock {
  readonly path: string;
  /** What to tell the user when a stale lock was broken, else null. */
  readonly message: string | null;
  /** Gives the folder back; a lock that is no longer ours is left alone. May be called twice, and from exit handlers. */
  release(): void;
}

/** What tells a process from a later one with the same pid: boot id and start tick. null if there is no such process. */
function identity(pid: number): string | null {
  try {
    process.kill(pid, 0);
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'ESRCH') return null;
  }
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' '); // the name before ')' may hold spaces
    if (fields[0] === 'Z' || fields[0] === 'X') return null; // dead, not yet waited for
    return `${readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()}:${fields[19]}`;
  } catch {
    return '';
  }
}

function parseLock(text: string): LockContent | null {
  try {
    const lock = JSON.parse(text) as LockContent;
    const whole = Number.isSafeInteger(lock.pid) && lock.pid > 0 && typeof lock.host === 'string';
    return whole && typeof lock.process === 'string' && typeof lock.startedAt === 'string' ? lock : null;
  } catch {
    return null;
  }
}

/** Why a lock no longer counts, or null while it does. */
function staleness(lock: LockContent | null): string | null {
  if (lock === null) return 'it is damaged';
  if (lock.host !== hostname()) return null;
  const now = identity(lock.pid);
  if (now === null) return `process ${lock.pid} is gone`;
  if (lock.process !== '' && now !== '' && lock.process !== now) return `pid ${lock.pid} is another process now`;
  return null;
}

function readLock(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'ENOENT') return null;
    throw fileError(thrown, path);
  }
}

/** Puts the lock file there, or returns false if there is one. */
function take(path: string, text: string): boolean {
  const temporary = temporaryName(path);
  try {
    writeFileSync(temporary, text, { flag: 'wx' });
    try {
      linkSync(temporary, path);
    } catch (thrown) {
      // File systems without hard links: an exclusive create, whole in one write.
      if (!['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS'].includes((thrown as { code: string }).code)) throw thrown;
      writeFileSync(path, text, { flag: 'wx' });
    }
    return true;
  } catch (thrown) {
    if ((thrown as { code?: string }).code === 'EEXIST') return false;
    throw fileError(thrown, path);
  } finally {
    try {
      unlinkSync(temporary);
    } catch {}
  }
}

/** Removes the lock file if it still holds `text`; a lock that somebody else took meanwhile is put back. */
function remove(path: string, text: string): void {
  if (readLock(path) !== text) return;
  const aside = temporaryName(path);
  try {
    renameSync(path, aside); // from here on nobody else can remove it too
    if (readFileSync(aside, 'utf8') !== text) linkSync(aside, path);
    unlinkSync(aside);
  } catch (thrown) {
    if (!['ENOENT', 'EEXIST'].includes((thrown as { code?: string }).code ?? '')) throw fileError(thrown, path);
  }
}

/**
 * Locks a run folder for this process, making the folder if there is none.
 *
 * @throws {LpldError} E_CONFIG if another live process holds it (details: pid, host, startedAt); E_DEVICE if the folder
 *   cannot be written
 */
export function lockRun(dir: string): RunLock {
  try {
    mkdirSync(dir, { recursive: true });
  } catch (thrown) {
    throw fileError(thrown, dir);
  }
  return lock(join(dir, LOCK_FILE), { dir, what: 'run folder', name: 'the run' });
}

/**
 * Locks a folder that is going to be made, by a file beside it.
 *
 * @param out - absolute, without a final slash; its parent exists
 * @throws {LpldError} as lockRun
 */
export function lockOutput(out: string): RunLock {
  return lock(`${out}.partial.lock`, { dir: out, what: 'folder', name: '--out' });
}

/** @param of.what - what `of.dir` is, for messages; @param of.name - what asks for it */
function lock(path: string, { dir, what, name }: { dir: string; what: string; name: string }): RunLock {
  const startedAt = new Date().toISOString();
  const [pid, host, token] = [process.pid, hostname(), randomUUID()];
  const own: LockContent = { pid, host, startedAt, process: identity(pid) ?? '', token };
  const text = `${JSON.stringify(own)}\n`;
  let message: string | null = null;
  while (!take(path, text)) {
    const held = readLock(path);
    if (held === null) continue;
    const lock = parseLock(held);
    const stale = staleness(lock);
    if (stale === null && lock !== null) {
      const where = lock.host === own.host ? '' : ` on ${lock.host}`;
      const advice = `${what} is in use by pid ${lock.pid}${where} since ${lock.startedAt}: wait for it, or choose another folder${
        where === '' ? '' : `; if that machine is gone, delete ${path}`
      }`;
      const details = { path, pid: lock.pid, host: lock.host, startedAt: lock.startedAt };
      throw new LpldError('E_CONFIG', expected(`a free ${what}`, name, dir, advice), details);
    }
    message = `broke a stale lock on ${dir}: ${stale}`;
    remove(path, held);
  }
  return { path, message, release: () => remove(path, text) };
}
