// Finds the .node file that fits the LibTorch of this machine and loads both, on first use. LibTorch is mapped into the
// process first (libc10, libtorch_cpu, for CUDA also its CUDA half), so that the addon needs no RPATH and no
// LD_LIBRARY_PATH. Invariant: an addon is loaded only with the LibTorch minor it was built for. The only file that
// calls process.dlopen. Source: DESIGN section 9.

import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { constants } from 'node:os';
import { dirname, join, sep } from 'node:path';
import { cudaDriver, cudaObstacle } from './cuda.ts';
import { expected, LpldError, toLpldError } from './errors.ts';
import { type LibtorchLocation, packageRoot, requireLibtorch, setupCommand } from './libtorch.ts';
import type { NativeBinding } from './native.ts';

export interface AddonFile {
  /** build: compiled here; prebuilt: came with the package. */
  readonly kind: 'build' | 'prebuilt';
  readonly path: string;
  /** LibTorch minor it was built for; null for a build that left no record, which is never loaded. */
  readonly minor: string | null;
  /** liblpld_kernels.so beside it, null where CUDA kernels were not built. */
  readonly kernels: string | null;
  /** liblpld_graph.so beside it, null where it was built against a LibTorch without CUDA. */
  readonly graph: string | null;
}

const require = createRequire(import.meta.url);

/** glibc's RTLD_NODELETE; Node does not export it. Without it Node unmaps a library that is no addon. */
const RTLD_NODELETE = 0x1000;

function describe(kind: AddonFile['kind'], path: string, minor: string | null): AddonFile {
  const beside = (name: string): string | null => {
    const file = join(dirname(path), name);
    return existsSync(file) ? file : null;
  };
  return { kind, path, minor, kernels: beside('liblpld_kernels.so'), graph: beside('liblpld_graph.so') };
}

function recordedMinor(file: string): string | null {
  try {
    const { minor } = JSON.parse(readFileSync(file, 'utf8')) as { minor?: unknown };
    return typeof minor === 'string' ? minor : null;
  } catch {
    return null;
  }
}

/** Every addon of the package, the build first: it is what a developer has just made. */
export function listAddons(root: string = packageRoot): AddonFile[] {
  const found: AddonFile[] = [];
  const build = join(root, 'build', 'Release');
  const built = join(build, 'lpld.node');
  if (existsSync(built)) found.push(describe('build', built, recordedMinor(join(build, 'lpld-build.json'))));
  let folders: string[] = [];
  try {
    folders = readdirSync(join(root, 'prebuilt')).filter((name) => /^torch-\d+\.\d+$/.test(name));
  } catch {}
  for (const folder of folders.sort()) {
    const path = resolvePrebuild(join(root, 'prebuilt', folder));
    if (path !== null) found.push(describe('prebuilt', path, folder.slice('torch-'.length)));
  }
  return found;
}

/** node-gyp-build knows which file of prebuilds/ fits this platform and C library. */
function resolvePrebuild(folder: string): string | null {
  try {
    const { resolve } = require('node-gyp-build') as { resolve(dir: string): string };
    const path = resolve(folder);
    return path.startsWith(folder + sep) ? path : null;
  } catch {
    return null;
  }
}

/**
 * The addon for a LibTorch minor.
 *
 * @throws {LpldError} E_DEVICE with details.reason 'libtorch-mismatch' if there are addons but for other minors,
 *   'no-addon' if there is none
 */
export function findAddon(minor: string, root: string = packageRoot): AddonFile {
  const all = listAddons(root);
  const fit = all.find((addon) => addon.minor === minor);
  if (fit !== undefined) return fit;
  const command = setupCommand(root);
  if (all.length === 0)
    throw new LpldError('E_DEVICE', `no native addon for LibTorch ${minor} has been built\nrun: ${command}`, {
      reason: 'no-addon',
      libtorch: minor,
      command,
    });
  const minors = all.flatMap((addon) => addon.minor ?? []);
  if (minors.length === 0)
    throw new LpldError(
      'E_DEVICE',
      `the native addon is unfinished: its build was interrupted or still runs\nrun: ${command}`,
      {
        reason: 'no-addon',
        libtorch: minor,
        command,
      },
    );
  throw new LpldError(
    'E_DEVICE',
    expected(`LibTorch ${minors.join(' or ')}, which it was built for,`, 'the native addon', minor, `run: ${command}`),
    { reason: 'libtorch-mismatch', libtorch: minor, addons: minors, command },
  );
}

/** Maps a shared library so that whatever is loaded later finds it by its name. */
function mapLibrary(file: string): void {
  try {
    process.dlopen({ exports: {} }, file, constants.dlopen.RTLD_NOW | constants.dlopen.RTLD_GLOBAL | RTLD_NODELETE);
  } catch (e) {
    // Node maps the library, finds no entry point and says so: that is the outcome wanted.
    const message = String((e as { message?: unknown })?.message ?? e);
    if (message.includes('did not self-register')) return;
    throw new LpldError('E_DEVICE', `cannot load ${file}: ${message}\nrun: ${setupCommand()}`, {
      reason: 'libtorch-load',
      path: file,
    });
  }
}

interface Loaded {
  readonly native: NativeBinding;
  readonly libtorch: LibtorchLocation;
  readonly addon: AddonFile;
  cuda: boolean;
}

let loaded: Loaded | undefined;

/** What has been loaded into this process, null before the first use. */
export function loadedNative(): { readonly libtorch: LibtorchLocation; readonly addon: AddonFile } | null {
  return loaded === undefined ? null : { libtorch: loaded.libtorch, addon: loaded.addon };
}

/** Refuses CUDA with the reason, before anything of it is mapped. */
function requireCuda(libtorch: LibtorchLocation): void {
  const reason = cudaObstacle(cudaDriver(), libtorch.cuda);
  if (reason === null) return;
  const advice =
    libtorch.cuda === null && cudaDriver().present ? 'run: npx lpld-native install --cuda' : 'use --device cpu';
  throw new LpldError('E_DEVICE', `${expected('a usable CUDA device', 'device', 'cuda')}: ${reason}\n${advice}`, {
    reason: 'no-cuda',
    problem: reason,
  });
}

/**
 * Rounds that an OpenMP worker spins before it sleeps, some tens of microseconds: longer than the gaps between the parallel
 * regions of a step. GNU's own 3 ms are no faster on an idle machine, and beside two busy processes a step of a small ConvNet
 * took 421 ms with them, 18 with these (5 without company; two cores).
 */
const SPINS = '3000';

/** LibTorch and the OpenMP it brings, which reads its settings while it is mapped; those of the user stand. */
function mapLibtorch(libtorch: LibtorchLocation): void {
  const { env } = process;
  const unset = env.GOMP_SPINCOUNT === undefined && env.OMP_WAIT_POLICY === undefined;
  if (unset) env.GOMP_SPINCOUNT = SPINS;
  try {
    for (const name of ['libc10.so', 'libtorch_cpu.so']) mapLibrary(join(libtorch.libDir, name));
  } finally {
    if (unset) delete env.GOMP_SPINCOUNT; // not for the children of this process
  }
}

/** The driver's library, from where we saw it if the loader does not look there: all others ask for it by its name. */
function mapDriver(): void {
  const path = cudaDriver().libcuda;
  try {
    mapLibrary('libcuda.so.1');
  } catch (e) {
    if (path === null) throw e;
    mapLibrary(path);
  }
}

/** LibTorch registers its CUDA kernels when these are mapped; it must happen before the first CUDA query. */
function mapCuda(libtorch: LibtorchLocation): void {
  mapDriver();
  for (const name of ['libc10_cuda.so', 'libtorch_cuda.so']) {
    const file = join(libtorch.libDir, name);
    if (existsSync(file)) mapLibrary(file);
  }
}

/**
 * Refuses CUDA where LibTorch looked for it before it was mapped: it looks once, at its first gradient, and what it found
 * then stays, so that every later use of a device would fail.
 *
 * @throws {LpldError} E_DEVICE with details.reason 'cuda-late'
 */
export function requireHooks(native: Pick<NativeBinding, 'cuda'>): void {
  const { available, reason } = native.cuda();
  if (available || !reason.includes('were not loaded')) return;
  const what = expected('CUDA asked for before the first gradient of a process', 'device', 'cuda after it');
  throw new LpldError('E_DEVICE', `${what}\ncall loadNative('cuda') first, or use a process of its own`, {
    reason: 'cuda-late',
  });
}

/**
 * The addon, loaded on the first call and kept. With 'cpu' nothing of CUDA is touched; a first call with 'cpu' may be
 * followed by one with 'cuda' as long as no gradient was computed in between and nothing has asked the addon about CUDA.
 *
 * @throws {LpldError} E_DEVICE with details.reason 'no-libtorch', 'libtorch-env', 'libtorch-load', 'no-addon',
 *   'libtorch-mismatch', 'addon-load', 'no-cuda' or 'cuda-late'
 */
export function loadNative(device: 'cpu' | 'cuda' = 'cpu'): NativeBinding {
  const libtorch = loaded?.libtorch ?? requireLibtorch();
  if (device === 'cuda' && !loaded?.cuda) requireCuda(libtorch);
  if (loaded === undefined) {
    const addon = findAddon(libtorch.minor);
    mapLibtorch(libtorch);
    if (device === 'cuda') mapCuda(libtorch);
    loaded = { native: requireAddon(addon), libtorch, addon, cuda: false };
  } else if (device === 'cuda' && !loaded.cuda) {
    mapCuda(libtorch);
    requireHooks(loaded.native);
  }
  if (device === 'cuda' && !loaded.cuda) {
    if (loaded.addon.kernels !== null) loaded.native.loadKernels(loaded.addon.kernels);
    if (loaded.addon.graph !== null) loaded.native.loadGraph(loaded.addon.graph);
    loaded.cuda = true;
  }
  return loaded.native;
}

function requireAddon(addon: AddonFile): NativeBinding {
  try {
    return require(addon.path) as NativeBinding;
  } catch (e) {
    const known = toLpldError(e);
    if (known.code !== 'E_INTERNAL') throw known;
    throw new LpldError(
      'E_DEVICE',
      `cannot load ${addon.path}: ${known.message}\nrun: ${setupCommand()}`,
      { reason: 'addon-load', path: addon.path },
      e,
    );
  }
}

/**
 * Makes sure that an addon for this LibTorch is there, building it where none fits.
 *
 * @param log - receives the lines of the build
 * @returns the addon, built or found
 * @throws {LpldError} E_DEVICE with details.reason 'build' (the builder's own message has been logged)
 */
export async function ensureAddon(
  libtorch: LibtorchLocation,
  log: (line: string) => void,
  root: string = packageRoot,
): Promise<AddonFile> {
  try {
    return findAddon(libtorch.minor, root);
  } catch {}
  const script = join(root, 'scripts', 'build-native.mjs');
  const status = await new Promise<number | null>((done, fail) => {
    const env = { ...process.env, LIBTORCH: libtorch.root };
    const child = spawn(process.execPath, [script], { cwd: root, env, stdio: ['ignore', 'pipe', 'pipe'] });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding('utf8').on('data', (text: string) => {
        for (const line of text.split('\n')) if (line.trim() !== '') log(line);
      });
    child.on('error', fail);
    child.on('close', done);
  });
  if (status !== 0)
    throw new LpldError('E_DEVICE', `building the native addon failed (exit code ${status})`, {
      reason: 'build',
      status,
    });
  return findAddon(libtorch.minor, root);
}
