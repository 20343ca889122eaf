// Fills the cache with LibTorch: finds or fetches a torch wheel, checks every file against its RECORD while unpacking
// beside the final place, flushes, renames. Invariant: <cache>/libtorch/<version>-<variant> is whole or absent.
// The folder keeps the layout of site-packages (torch beside nvidia), because the libraries find each other by it.
// Finished downloads survive an interruption in .downloads and are used by the next try. Source: DESIGN section 9.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, renameSync, rmSync, statfsSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { cudaDriver } from './cuda.ts';
import { expected, LpldError } from './errors.ts';
import { noSpace, toInstallError } from './install-errors.ts';
import {
  cachedRoots,
  cacheRoot,
  examineRoot,
  type LibtorchLocation,
  minorOf,
  PINNED_VERSION,
  parseVersionPy,
  SUPPORTED_MINORS,
} from './libtorch.ts';
import { downloadNvidia, downloadTorch, findTorchWheel, nvidiaRequirements } from './pip.ts';
import { platformObstacle } from './platform.ts';
import { lockRun, type RunLock } from './run-lock.ts';
import { badWheel, openWheel, selectNvidia, selectTorch, type Wheel } from './wheel.ts';

export interface InstallOptions {
  /** Which build; by default CUDA where an NVIDIA driver is present, else CPU. */
  readonly variant?: 'cpu' | 'cuda' | undefined;
  /** A torch wheel on disk, of any supported version, instead of a download. */
  readonly from?: string | undefined;
  /** Installs again where the same version and variant is installed already. */
  readonly force?: boolean | undefined;
  /** Receives progress lines. */
  readonly log?: ((line: string) => void) | undefined;
  readonly signal?: AbortSignal | undefined;
  /** How long to wait for another process that is installing, ms. Default 30 minutes. */
  readonly lockWaitMs?: number | undefined;
  readonly env?: NodeJS.ProcessEnv | undefined;
}

interface Job {
  readonly base: string; // <cache>/libtorch
  readonly downloads: string;
  readonly variant: 'cpu' | 'cuda';
  readonly options: InstallOptions;
  readonly env: NodeJS.ProcessEnv;
  readonly log: (line: string) => void;
}

/**
 * Installs LibTorch into the per-user cache, or returns what is installed there already.
 *
 * @returns the installed location, source 'cache'
 * @throws {LpldError} E_DEVICE with details.reason 'platform', 'no-python', 'no-pip', 'download', 'bad-wheel',
 *   'wrong-version', 'wrong-variant', 'locked', 'ENOSPC', 'EACCES' or 'EROFS'; E_DATA if `from` is missing;
 *   E_CANCELLED on abort.
 *   Nothing half-installed stays behind in any of these cases.
 */
export async function installLibtorch(options: InstallOptions = {}): Promise<LibtorchLocation> {
  const obstacle = platformObstacle();
  if (obstacle !== null) throw new LpldError('E_DEVICE', obstacle, { reason: 'platform' });
  const env = options.env ?? process.env;
  const base = join(cacheRoot(env), 'libtorch');
  const variant = options.variant ?? (cudaDriver().present ? 'cuda' : 'cpu');
  const log = options.log ?? (() => {});
  const job: Job = { base, downloads: join(base, '.downloads'), variant, options, env, log };
  const already = (): LibtorchLocation | null => (options.force || options.from !== undefined ? null : installed(job));

  const present = already();
  if (present !== null) return present;
  try {
    makeCache(base);
    const lock = await lockCache(job);
    try {
      removeLeftovers(base);
      return already() ?? (await install(job));
    } finally {
      lock.release();
    }
  } catch (e) {
    throw toInstallError(e, (problem) => new LpldError('E_INTERNAL', problem, {}, e));
  }
}

function makeCache(base: string): void {
  try {
    mkdirSync(base, { recursive: true });
  } catch (e) {
    // Node answers ENOENT where a folder cannot be made on a read-only disk.
    const { code, message } = e as NodeJS.ErrnoException;
    const advice = 'set XDG_CACHE_HOME to a folder you may write to';
    const reason = code === 'ENOENT' ? 'EROFS' : code;
    throw new LpldError('E_DEVICE', `cannot make the cache folder: ${message}\n${advice}`, { reason, path: base }, e);
  }
}

function installed(job: Job): LibtorchLocation | null {
  for (const root of cachedRoots(job.env, job.variant === 'cuda')) {
    const found = examineRoot(root, 'cache');
    const fits = basename(dirname(root)).endsWith('-cpu') === (job.variant === 'cpu');
    if (fits && typeof found !== 'string' && found.version.startsWith(PINNED_VERSION)) return found;
  }
  return null;
}

async function lockCache(job: Job): Promise<RunLock> {
  const until = Date.now() + (job.options.lockWaitMs ?? 30 * 60_000);
  for (let told = false; ; told = true) {
    try {
      const lock = lockRun(job.base);
      if (lock.message !== null) job.log(lock.message);
      return lock;
    } catch (e) {
      if (!(e instanceof LpldError) || e.code !== 'E_CONFIG') throw e;
      const holder = `process ${e.details.pid} on ${e.details.host}`;
      if (Date.now() >= until)
        throw new LpldError(
          'E_DEVICE',
          `another installation is running: ${holder} holds ${e.details.path}\nwait for it; if it is gone, delete that file`,
          { ...e.details, reason: 'locked' },
        );
      if (!told) job.log(`waiting for ${holder}, which is installing`);
      await sleep(250, undefined, job.options.signal === undefined ? {} : { signal: job.options.signal });
    }
  }
}

function removeLeftovers(base: string): void {
  for (const name of readdirSync(base))
    if (name.startsWith('.new-') || name.startsWith('.old-')) rmSync(join(base, name), { recursive: true });
}

async function install(job: Job): Promise<LibtorchLocation> {
  const torch = await obtainTorch(job);
  const wheels = [torch];
  try {
    const facts = await checkTorch(torch, job);
    const cuda = job.variant === 'cuda';
    if (cuda && facts.cuda === null)
      throw new LpldError('E_DEVICE', expected('a CUDA build of torch', '--cuda', basename(torch.file)), {
        reason: 'wrong-variant',
        path: torch.file,
      });
    if (facts.cuda !== null)
      for (const file of await obtainNvidia(torch, cuda, job)) wheels.push(await openWheel(file));
    const tag = cuda ? `cu${facts.cuda!.replaceAll('.', '')}` : 'cpu';
    const version = facts.version.replace(/\+.*$/, '');
    return await unpackAll(wheels, cuda, join(job.base, `${version}-${tag}`), job);
  } catch (e) {
    // A damaged download must not be taken for a finished one by the next try.
    if (e instanceof LpldError && e.details.reason === 'bad-wheel' && String(e.details.path).startsWith(job.downloads))
      rmSync(String(e.details.path), { force: true });
    throw e;
  } finally {
    for (const wheel of wheels) wheel.close();
  }
}

async function obtainTorch(job: Job): Promise<Wheel> {
  if (job.options.from !== undefined) return openWheel(resolve(job.options.from));
  const finished = findTorchWheel(job.downloads, job.variant);
  if (finished !== null)
    try {
      return await openWheel(finished);
    } catch {
      rmSync(finished, { force: true });
    }
  return openWheel(await downloadTorch(job.variant, pipOptions(job)));
}

function obtainNvidia(torch: Wheel, cuda: boolean, job: Job): Promise<string[]> {
  const beside = job.options.from === undefined ? null : dirname(resolve(job.options.from));
  const dir = join(job.downloads, `for-torch-${torch.version}`);
  return downloadNvidia(nvidiaRequirements(torch.requires, !cuda), beside, { ...pipOptions(job), dir });
}

function pipOptions(job: Job) {
  return { dir: job.downloads, env: job.env, log: job.log, signal: job.options.signal };
}

async function checkTorch(torch: Wheel, job: Job): Promise<{ version: string; cuda: string | null }> {
  if (torch.name.toLowerCase() !== 'torch' || !torch.sizes.has('torch/lib/libtorch_cpu.so'))
    throw badWheel(torch.file, `it is ${torch.name} ${torch.version} without torch/lib/libtorch_cpu.so`);
  if (!torch.tags.some((tag) => /linux.*_x86_64$/.test(tag)))
    throw badWheel(torch.file, `it is for ${torch.tags.join(', ') || 'no platform'} where Linux x86_64 is needed`);
  const facts = parseVersionPy(await torch.read('torch/version.py'));
  if (facts === null) throw badWheel(torch.file, 'torch/version.py names no version');
  const fits =
    job.options.from === undefined
      ? facts.version.replace(/\+.*$/, '') === PINNED_VERSION
      : SUPPORTED_MINORS.includes(minorOf(facts.version) ?? '');
  const wanted =
    job.options.from === undefined ? PINNED_VERSION : `${SUPPORTED_MINORS[0]} .. ${SUPPORTED_MINORS.at(-1)}`;
  if (!fits || !/^\d+\.\d+\.\d+(\+|$)/.test(facts.version))
    throw new LpldError('E_DEVICE', expected(`torch ${wanted}`, basename(torch.file), facts.version), {
      reason: 'wrong-version',
      version: facts.version,
    });
  return facts;
}

async function unpackAll(wheels: readonly Wheel[], cuda: boolean, final: string, job: Job): Promise<LibtorchLocation> {
  const selections = wheels.map((wheel, i) =>
    i === 0 ? selectTorch(wheel.distInfo, cuda) : selectNvidia(wheel.distInfo),
  );
  const needed = wheels.reduce(
    (sum, wheel, i) => [...wheel.sizes].reduce((s, [name, size]) => (selections[i]!(name) ? s + size : s), sum),
    0,
  );
  const disk = statfsSync(job.base);
  const free = Number(disk.bavail) * Number(disk.bsize);
  if (needed * 1.02 > free) throw noSpace(job.base, needed, free);

  const unique = `${process.pid}-${Date.now().toString(36)}`;
  const fresh = join(job.base, `.new-${unique}`);
  try {
    for (const [i, wheel] of wheels.entries()) {
      job.log(`unpacking ${basename(wheel.file)}`);
      await wheel.unpack(selections[i]!, fresh, job.options.signal);
    }
    const found = examineRoot(join(fresh, 'torch'), 'cache');
    if (typeof found === 'string') throw badWheel(wheels[0]!.file, `it unpacks to no LibTorch: ${found}`);
    // One flush of the file system instead of twelve thousand fsync calls; the rename must not overtake the data.
    spawnSync('sync', ['-f', fresh], { stdio: 'ignore' });
    const old = join(job.base, `.old-${unique}`);
    if (existsSync(final)) renameSync(final, old);
    renameSync(fresh, final);
    rmSync(old, { recursive: true, force: true });
    rmSync(job.downloads, { recursive: true, force: true });
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  const location = examineRoot(join(final, 'torch'), 'cache');
  if (typeof location === 'string') throw new LpldError('E_INTERNAL', `${final} vanished: ${location}`);
  job.log(`installed LibTorch ${location.version} in ${final}`);
  return location;
}
