// Where LibTorch is. Order: LIBTORCH, our cache, an installed Python torch, the system folders. LIBTORCH set but
// wrong is an error and never falls through. Nothing is loaded, imported or downloaded here; the only process ever
// started is python3, when LIBTORCH and the cache had nothing, and its answer is remembered in the cache.
// Source: DESIGN section 9.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, isAbsolute, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import { cudaDriver } from './cuda.ts';
import { expected, LpldError } from './errors.ts';

/** The version that `install` fetches. */
export const PINNED_VERSION = '2.13.0';
/** LibTorch minors this package builds and runs with. */
export const SUPPORTED_MINORS: readonly string[] = ['2.11', '2.12', '2.13', '2.14'];

const SYSTEM_ROOTS = ['/opt/libtorch', '/usr/local/libtorch'];
const FIND_SPEC =
  "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')";

export type LibtorchSource = 'env' | 'cache' | 'python' | 'system';

export interface LibtorchLocation {
  readonly source: LibtorchSource;
  /** Folder that holds lib/ and include/. */
  readonly root: string;
  readonly libDir: string;
  /** Full version with its local part, e.g. 2.13.0+cpu. */
  readonly version: string;
  /** Major.minor, e.g. 2.13: what an addon is built for. */
  readonly minor: string;
  /** CUDA version of a build whose CUDA libraries are present, null where only the CPU can be used. */
  readonly cuda: string | null;
  /** include/ is there: an addon can be built against it. */
  readonly headers: boolean;
}

export interface SearchedPlace {
  readonly source: LibtorchSource;
  readonly path: string;
  /** 'used', or why it was not. */
  readonly outcome: string;
}

export interface LibtorchSearch {
  readonly found: LibtorchLocation | null;
  readonly searched: readonly SearchedPlace[];
}

export interface SearchOptions {
  readonly env?: NodeJS.ProcessEnv;
  readonly systemRoots?: readonly string[];
}

/** Root of the installed package (or of the clone): the folder of package.json. */
export const packageRoot: string = fileURLToPath(new URL('..', import.meta.url));

/** The one command that sets up what is missing: a clone bootstraps itself, an installed package has `install`. */
export function setupCommand(root: string = packageRoot): string {
  return existsSync(join(root, 'scripts', 'bootstrap.mjs')) ? 'npm run bootstrap' : 'npx lpld-native install';
}

/** Our folder under the user's cache: ${XDG_CACHE_HOME:-~/.cache}/lpld-native. A relative XDG_CACHE_HOME is ignored. */
export function cacheRoot(env: NodeJS.ProcessEnv = process.env): string {
  const xdg = env.XDG_CACHE_HOME;
  return join(xdg !== undefined && isAbsolute(xdg) ? xdg : join(env.HOME || homedir(), '.cache'), 'lpld-native');
}

/** Major.minor of a version string, null where it is none. Examples: 2.13.0+cpu, 2.14.0.dev20260101, 2.14.0a0+git. */
export function minorOf(version: string): string | null {
  const m = /^(\d+)\.(\d+)(?!\d)/.exec(version);
  return m === null ? null : `${m[1]}.${m[2]}`;
}

/** Version and CUDA version out of a wheel's torch/version.py; null where there is no version in the text. */
export function parseVersionPy(text: string): { version: string; cuda: string | null } | null {
  const version = /^__version__\b[^=\n]*=\s*['"]([^'"\n]+)['"]/m.exec(text)?.[1];
  if (version === undefined) return null;
  return { version, cuda: /^cuda\b[^=\n]*=\s*['"]([^'"\n]+)['"]/m.exec(text)?.[1] ?? null };
}

function readVersion(root: string): { version: string; cuda: string | null } | null {
  const wheel = join(root, 'version.py');
  if (existsSync(wheel)) return parseVersionPy(readFileSync(wheel, 'utf8'));
  const archive = join(root, 'build-version');
  if (!existsSync(archive)) return null;
  const version = readFileSync(archive, 'utf8').trim();
  const cuda = /\+cu(\d+)(\d)$/.exec(version);
  return { version, cuda: cuda === null ? null : `${cuda[1]}.${cuda[2]}` };
}

/**
 * Looks at one folder.
 *
 * @returns the location, or a short text saying why this folder is no LibTorch that can be used
 */
export function examineRoot(root: string, source: LibtorchSource): LibtorchLocation | string {
  const libDir = join(root, 'lib');
  if (!existsSync(root)) return 'no such folder';
  for (const library of ['libc10.so', 'libtorch_cpu.so'])
    if (!existsSync(join(libDir, library))) return `no lib/${library}`;
  const read = readVersion(root);
  if (read === null) return 'neither version.py nor build-version names a version';
  const minor = minorOf(read.version);
  if (minor === null || !SUPPORTED_MINORS.includes(minor))
    return `version ${read.version} is outside ${SUPPORTED_MINORS[0]} .. ${SUPPORTED_MINORS.at(-1)}`;
  return {
    source,
    root,
    libDir,
    version: read.version,
    minor,
    cuda: existsSync(join(libDir, 'libtorch_cuda.so')) ? read.cuda : null,
    headers: existsSync(join(root, 'include', 'ATen', 'ATen.h')),
  };
}

/** Installs in the cache, best first: CUDA builds where a driver is present, the pinned version, then the newest. */
export function cachedRoots(env: NodeJS.ProcessEnv = process.env, driver: boolean = cudaDriver().present): string[] {
  const base = join(cacheRoot(env), 'libtorch');
  let names: string[];
  try {
    names = readdirSync(base);
  } catch {
    return [];
  }
  const rank = (name: string): number[] => {
    const [version = '', variant = ''] = name.split('-');
    const cuda = variant.startsWith('cu');
    return [cuda === driver ? 0 : 1, version === PINNED_VERSION ? 0 : 1, ...version.split('.').map((n) => -Number(n))];
  };
  return names
    .filter((name) => /^\d+\.\d+\.\d+-(cpu|cu\d+)$/.test(name))
    .sort((a, b) => {
      const [x, y] = [rank(a), rank(b)];
      const at = x.findIndex((value, i) => value !== y[i]);
      return at === -1 ? a.localeCompare(b) : x[at]! - y[at]!;
    })
    .map((name) => join(base, name, 'torch'));
}

/** First file called `name` in the folders of PATH; null where there is none. */
export function which(name: string, env: NodeJS.ProcessEnv = process.env): string | null {
  const folders = (env.PATH ?? '').split(delimiter).filter(Boolean);
  return folders.map((folder) => join(folder, name)).find((file) => existsSync(file)) ?? null;
}

/** Folder of an installed Python torch, found without importing it. A yes is remembered per python3 path. */
function pythonRoot(env: NodeJS.ProcessEnv): string | null {
  const python = which('python3', env);
  if (python === null) return null;
  const memory = join(cacheRoot(env), 'python-torch.json');
  try {
    const known = JSON.parse(readFileSync(memory, 'utf8')) as { python?: unknown; root?: unknown };
    if (known.python === python && typeof known.root === 'string' && existsSync(join(known.root, 'version.py')))
      return known.root;
  } catch {}
  // cwd '/': python -c searches the working folder first, and a folder called torch there would be taken for it.
  const asked = spawnSync(python, ['-c', FIND_SPEC], { cwd: '/', env, encoding: 'utf8', timeout: 20_000 });
  const root = asked.status === 0 ? asked.stdout.trim() : '';
  if (root === '') return null;
  try {
    mkdirSync(cacheRoot(env), { recursive: true });
    writeFileSync(memory, `${JSON.stringify({ python, root })}\n`);
  } catch {}
  return root;
}

/**
 * Looks for LibTorch in the documented order and says what was looked at.
 *
 * @throws {LpldError} E_DEVICE with details.reason 'libtorch-env' if LIBTORCH is set to something unusable
 */
export function searchLibtorch(options: SearchOptions = {}): LibtorchSearch {
  const env = options.env ?? process.env;
  const wanted = env.LIBTORCH;
  if (wanted) {
    const root = resolve(wanted);
    const found = examineRoot(root, 'env');
    if (typeof found !== 'string') return { found, searched: [{ source: 'env', path: root, outcome: 'used' }] };
    throw new LpldError(
      'E_DEVICE',
      expected(
        'a LibTorch root (lib/ and include/)',
        'LIBTORCH',
        wanted,
        `${found}; correct it or run: unset LIBTORCH`,
      ),
      { reason: 'libtorch-env', path: root, problem: found },
    );
  }
  const searched: SearchedPlace[] = [];
  const attempt = (root: string, source: LibtorchSource): LibtorchLocation | null => {
    const found = examineRoot(root, source);
    searched.push({ source, path: root, outcome: typeof found === 'string' ? found : 'used' });
    return typeof found === 'string' ? null : found;
  };
  const cached = cachedRoots(env);
  if (cached.length === 0) searched.push({ source: 'cache', path: join(cacheRoot(env), 'libtorch'), outcome: 'empty' });
  for (const root of cached) {
    const found = attempt(root, 'cache');
    if (found !== null) return { found, searched };
  }
  const python = pythonRoot(env);
  if (python === null) searched.push({ source: 'python', path: 'python3', outcome: 'no torch package' });
  else {
    const found = attempt(python, 'python');
    if (found !== null) return { found, searched };
  }
  for (const root of options.systemRoots ?? SYSTEM_ROOTS) {
    const found = attempt(root, 'system');
    if (found !== null) return { found, searched };
  }
  return { found: null, searched };
}

/** The LibTorch that will be used, or null where there is none. Throws as {@link searchLibtorch} does. */
export function locateLibtorch(options: SearchOptions = {}): LibtorchLocation | null {
  return searchLibtorch(options).found;
}

/**
 * The LibTorch that will be used.
 *
 * @throws {LpldError} E_DEVICE with details.reason 'no-libtorch' and what was searched; 'libtorch-env' as above
 */
export function requireLibtorch(options: SearchOptions = {}): LibtorchLocation {
  const { found, searched } = searchLibtorch(options);
  if (found !== null) return found;
  const places = searched.map((p) => `  ${p.source}: ${p.path} (${p.outcome})`).join('\n');
  throw new LpldError('E_DEVICE', `no LibTorch found; run: ${setupCommand()}\nlooked at\n${places}`, {
    reason: 'no-libtorch',
    searched,
    command: setupCommand(),
  });
}
