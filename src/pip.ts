// Fetches wheels with the user's own pip, so that its indexes, proxies, certificates and offline folders hold for us
// too. Only `pip download` is used: nothing is installed into any Python.
// Order for the CPU build: the +cpu build from the user's indexes, the same from PyTorch's own index, then whatever
// build of the pinned version the user's indexes have. Source: DESIGN section 9.

import { spawn } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { LpldError } from './errors.ts';
import { noSpace } from './install-errors.ts';
import { PINNED_VERSION, which } from './libtorch.ts';

/** PyTorch's own wheel index of one variant; LPLD_TORCH_INDEX replaces the whole address (a mirror, say). */
export const TORCH_INDEX = 'https://download.pytorch.org/whl';
/** CUDA variant of the pinned version. */
export const CUDA_VARIANT = 'cu130';
/** CPython versions the pinned version has wheels for; the wheel's Python part is never used. */
const PYTHON_VERSIONS = ['3.12', '3.11', '3.13', '3.10', '3.14'];
const PLATFORM = 'manylinux_2_28_x86_64';

export interface PipOptions {
  /** Folder the wheels are put in. */
  readonly dir: string;
  readonly env: NodeJS.ProcessEnv;
  readonly log: (line: string) => void;
  readonly signal?: AbortSignal | undefined;
}

type Outcome = { ok: true } | { ok: false; kind: 'not-found' | 'network' | 'failed'; message: string };

function classify(stderr: string, dir: string): Outcome {
  const lines = stderr.split('\n').filter((line) => line.trim() !== '');
  const message = (lines.findLast((line) => line.startsWith('ERROR')) ?? lines.at(-1) ?? 'pip failed').slice(0, 500);
  if (/No module named pip\b/.test(stderr))
    throw new LpldError('E_DEVICE', 'python3 has no pip\nrun: sudo apt-get install python3-pip', { reason: 'no-pip' });
  if (/No space left on device|Disk quota exceeded/.test(stderr)) throw noSpace(dir, null, null);
  if (
    /ConnectionError|Connection refused|ConnectTimeout|Read timed out|Temporary failure in name|ProxyError|SSLError|Max retries/.test(
      stderr,
    )
  )
    return { ok: false, kind: 'network', message };
  const missing = /No matching distribution found|Could not find a version/.test(stderr);
  return { ok: false, kind: missing ? 'not-found' : 'failed', message };
}

/** Runs `python3 -m pip download ARGS -d DIR`. pip's own progress goes to a terminal on stderr, never to stdout. */
function pipDownload(args: readonly string[], options: PipOptions): Promise<Outcome> {
  const python = which('python3', options.env);
  if (python === null)
    throw new LpldError(
      'E_DEVICE',
      'no python3 on PATH, whose pip fetches LibTorch\nrun: sudo apt-get install python3 python3-pip',
      {
        reason: 'no-python',
      },
    );
  mkdirSync(options.dir, { recursive: true });
  const env = { PIP_RESUME_RETRIES: '5', ...options.env, PIP_DISABLE_PIP_VERSION_CHECK: '1', PIP_NO_INPUT: '1' };
  const command = ['-m', 'pip', 'download', ...args, '--only-binary', ':all:', '-d', options.dir];
  return new Promise((done, fail) => {
    const child = spawn(python, command, {
      cwd: options.dir,
      env,
      stdio: ['ignore', process.stderr.isTTY ? process.stderr : 'ignore', 'pipe'],
      signal: options.signal,
    });
    let stderr = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      stderr = (stderr + text).slice(-20_000);
    });
    child.on('error', fail);
    child.on('close', (code) => {
      try {
        done(code === 0 ? { ok: true } : classify(stderr, options.dir));
      } catch (e) {
        fail(e);
      }
    });
  });
}

/** Asks with this Python's tags first, then with those of every CPython that has wheels. */
async function pipAnyPython(args: readonly string[], options: PipOptions): Promise<Outcome> {
  const first = await pipDownload(args, options);
  if (first.ok || first.kind !== 'not-found') return first;
  for (const version of PYTHON_VERSIONS) {
    const tags = ['--python-version', version, '--implementation', 'cp', '--platform', PLATFORM];
    const next = await pipDownload([...args, ...tags, '--abi', `cp${version.replace('.', '')}`], options);
    if (next.ok) return next;
  }
  return first;
}

/** A finished torch wheel of the pinned version in `dir` that can serve the variant, best first; null if none. */
export function findTorchWheel(dir: string, variant: 'cpu' | 'cuda'): string | null {
  let names: string[] = [];
  try {
    names = readdirSync(dir).filter((n) => n.startsWith(`torch-${PINNED_VERSION}`) && n.endsWith('_x86_64.whl'));
  } catch {}
  const cpu = names.find((n) => n.startsWith(`torch-${PINNED_VERSION}+cpu-`));
  const other = names.find((n) => !n.startsWith(`torch-${PINNED_VERSION}+cpu-`));
  const name = variant === 'cpu' ? (cpu ?? other) : other;
  return name === undefined ? null : join(dir, name);
}

/**
 * Downloads a torch wheel of the pinned version; a finished one in the folder is taken as it is.
 *
 * @returns path of the wheel
 * @throws {LpldError} E_DEVICE with details.reason 'no-python', 'no-pip', 'ENOSPC' or 'download'
 */
export async function downloadTorch(variant: 'cpu' | 'cuda', options: PipOptions): Promise<string> {
  const tag = variant === 'cpu' ? 'cpu' : CUDA_VARIANT;
  const index = options.env.LPLD_TORCH_INDEX || `${TORCH_INDEX}/${tag}`;
  const attempts: { from: string; args: string[] }[] = [
    { from: "pip's own indexes", args: [`torch==${PINNED_VERSION}+${tag}`] },
    {
      from: index,
      args: [`torch==${PINNED_VERSION}+${tag}`, '--index-url', index, '--retries', '1', '--timeout', '20'],
    },
    { from: "pip's own indexes, any build", args: [`torch==${PINNED_VERSION}`] },
  ];
  const failures: string[] = [];
  for (const { from, args } of attempts) {
    options.log(`looking for torch ${PINNED_VERSION} (${tag}) at ${from}`);
    const outcome = await pipAnyPython([...args, '--no-deps'], options);
    const wheel = outcome.ok ? findTorchWheel(options.dir, variant) : null;
    if (wheel !== null) return wheel;
    failures.push(`${from}: ${outcome.ok ? `no ${tag} build` : outcome.message}`);
  }
  throw new LpldError(
    'E_DEVICE',
    `could not download torch ${PINNED_VERSION} (${tag})\n${failures.map((f) => `  ${f}`).join('\n')}\n` +
      'set pip up for your network, or fetch the wheel elsewhere and run: npx lpld-native install --from FILE',
    { reason: 'download', failures },
  );
}

/**
 * Requirements of a CUDA build that carry its libraries, as pip takes them: every `nvidia-*` and `cuda-toolkit` line of
 * METADATA, or for the CPU only what libtorch_cpu itself is linked to (the CUDA runtime and CUPTI).
 */
export function nvidiaRequirements(requires: readonly string[], cpuOnly: boolean): string[] {
  return requires.flatMap((line) => {
    if (/\bextra\s*==/.test(line)) return [];
    const m = /^(nvidia-[a-z0-9-]+|cuda-toolkit)\s*(?:\[([^\]]*)\])?(.*)$/i.exec(line);
    if (m === null) return [];
    const [, name = '', extras, rest = ''] = m;
    if (!cpuOnly) return [line];
    if (name === 'cuda-toolkit') {
      const kept = (extras ?? '')
        .split(',')
        .map((e) => e.trim())
        .filter((e) => e === 'cudart' || e === 'cupti');
      return kept.length === 0 ? [] : [`${name}[${kept.join(',')}]${rest}`];
    }
    return /^nvidia-cuda-(runtime|cupti)(-cu\d+)?$/.test(name) ? [line] : [];
  });
}

/**
 * Downloads the NVIDIA wheels a CUDA build of torch needs.
 *
 * @param beside - folder of a wheel given by hand: wheels lying there are used before any index
 * @returns paths of the wheels in options.dir
 * @throws {LpldError} E_DEVICE as {@link downloadTorch}
 */
export async function downloadNvidia(
  requirements: readonly string[],
  beside: string | null,
  options: PipOptions,
): Promise<string[]> {
  if (requirements.length === 0) return [];
  options.log(`fetching ${requirements.map((r) => r.split(';')[0]!.trim()).join(', ')}`);
  const links = beside === null ? [] : ['--find-links', beside];
  const outcome = await pipDownload([...requirements, ...links], options);
  if (!outcome.ok)
    throw new LpldError('E_DEVICE', `could not download the CUDA libraries of torch\n  ${outcome.message}`, {
      reason: 'download',
      failures: [outcome.message],
    });
  return readdirSync(options.dir)
    .filter((name) => name.startsWith('nvidia_') && name.endsWith('.whl'))
    .map((name) => join(options.dir, name));
}
