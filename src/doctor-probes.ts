// Small questions to the machine, for the doctor: tools, processor, memory, and whether the addon loads. Each answers
// null instead of throwing. The addon is tried in a child process, so that a crash is a finding and not the end.

import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { availableParallelism, totalmem } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { packageRoot, which } from './libtorch.ts';
import type { NativeInfo } from './native.ts';

export interface Tool {
  readonly path: string;
  readonly version: string;
}

/** The first of `names` that is on PATH and answers with a version; null if none does. */
export function findTool(names: readonly string[], args: readonly string[], env = process.env): Tool | null {
  for (const name of names) {
    const path = which(name, env);
    if (path === null) continue;
    const asked = spawnSync(path, args, { encoding: 'utf8', timeout: 20_000, env, cwd: '/' });
    if (asked.status !== 0) continue;
    const version = /\d+(?:\.\d+)+/.exec(asked.stdout)?.[0];
    return { path, version: version ?? 'unknown' };
  }
  return null;
}

export interface CpuFacts {
  readonly model: string;
  /** Threads this process may use. */
  readonly threads: number;
  readonly avx512: boolean;
  readonly avx512Bf16: boolean;
  readonly amxBf16: boolean;
}

/** Reads what matters here out of the text of /proc/cpuinfo. */
export function parseCpuinfo(text: string, threads: number): CpuFacts {
  const flags = new Set(/^flags\s*:\s*(.*)$/m.exec(text)?.[1]?.split(/\s+/));
  return {
    model: /^model name\s*:\s*(.*)$/m.exec(text)?.[1]?.trim() ?? 'unknown',
    threads,
    avx512: flags.has('avx512f') && flags.has('avx512bw') && flags.has('avx512vl'),
    avx512Bf16: flags.has('avx512_bf16'),
    amxBf16: flags.has('amx_bf16'),
  };
}

export function cpuFacts(): CpuFacts {
  return parseCpuinfo(readText('/proc/cpuinfo'), availableParallelism());
}

export interface MemoryFacts {
  /** Bytes this process may use: the machine's, or less where a container limits it. */
  readonly total: number;
  /** Bytes free now; null where the system does not tell. */
  readonly available: number | null;
}

export function memoryFacts(): MemoryFacts {
  const limit = process.constrainedMemory();
  const available = /^MemAvailable:\s+(\d+) kB$/m.exec(readText('/proc/meminfo'))?.[1];
  const total = limit > 0 && limit < totalmem() ? limit : totalmem();
  return { total, available: available === undefined ? null : Math.min(total, Number(available) * 1024) };
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return '';
  }
}

export interface AddonTrial {
  readonly loads: boolean;
  /** Why it does not load, null where it does. */
  readonly problem: string | null;
  readonly info: NativeInfo | null;
  /** The CUDA runtime's own answer; null where CUDA was not asked for. */
  readonly cuda: { readonly available: boolean; readonly reason: string; readonly devices: readonly unknown[] } | null;
}

/** Loads the addon in a child process with the compiled package; null where the package has not been compiled. */
export function tryAddon(device: 'cpu' | 'cuda', env: NodeJS.ProcessEnv = process.env): AddonTrial | null {
  const entry = join(packageRoot, 'dist', 'addon.js');
  if (!existsSync(entry)) return null;
  const script = `import(${JSON.stringify(pathToFileURL(entry).href)}).then(({ loadNative }) => {
    const native = loadNative('${device}');
    const cuda = ${device === 'cuda' ? 'native.cuda()' : 'null'};
    process.stdout.write('\\n' + JSON.stringify({ loads: true, problem: null, info: native.info(), cuda }));
  }).catch((e) => {
    process.stdout.write('\\n' + JSON.stringify({ loads: false, problem: String(e.message), info: null, cuda: null }));
  });`;
  const child = spawnSync(process.execPath, ['-e', script], { encoding: 'utf8', timeout: 60_000, env });
  try {
    return JSON.parse(child.stdout.trim().split('\n').at(-1) ?? '') as AddonTrial;
  } catch {
    const how = child.signal ?? `exit code ${child.status}`;
    const said = child.stderr.trim().split('\n').at(-1) ?? '';
    return {
      loads: false,
      problem: `the process that loaded it ended with ${how} ${said}`.trim(),
      info: null,
      cuda: null,
    };
  }
}
