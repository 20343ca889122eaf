// Miniature LibTorch folders, torch wheels written byte by byte (so that broken ones can be written too), and a python3
// that plays pip. No network, no Python.

import { createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { crc32 } from 'node:zlib';
import { afterAll } from 'vitest';

/** A folder of its own that vanishes after the test file. */
export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'lpld-test-'));
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

export function write(path: string, text: string | Buffer, mode = 0o644): string {
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, text);
  chmodSync(path, mode);
  return path;
}

export function versionPy(version: string, cuda: string | null): string {
  const value = cuda === null ? 'None' : `'${cuda}'`;
  return `from typing import Optional\n__version__ = '${version}'\ndebug = False\ncuda: Optional[str] = ${value}\nhip: Optional[str] = None\n`;
}

/** A folder that looks like LibTorch from outside. */
export function fakeLibtorch(root: string, version = '2.13.0+cpu', cuda: string | null = null): string {
  write(join(root, 'lib', 'libc10.so'), 'c10');
  write(join(root, 'lib', 'libtorch_cpu.so'), 'cpu');
  if (cuda !== null) write(join(root, 'lib', 'libtorch_cuda.so'), 'cuda');
  write(join(root, 'include', 'ATen', 'ATen.h'), '');
  write(join(root, 'version.py'), versionPy(version, cuda));
  return root;
}

export interface ZipEntry {
  readonly name: string;
  readonly data: Buffer;
  /** Unix mode with the file type, e.g. 0o120777 for a link. */
  readonly mode?: number;
}

/** A zip of stored (uncompressed) entries; names are written as they are, also hostile ones. */
export function zipBytes(entries: readonly ZipEntry[]): Buffer {
  const locals: Buffer[] = [];
  const central: Buffer[] = [];
  let offset = 0;
  for (const { name, data, mode = 0o100644 } of entries) {
    const label = Buffer.from(name);
    const shared = Buffer.alloc(26);
    shared.writeUInt16LE(20, 0); // version needed
    shared.writeUInt32LE(crc32(data), 10);
    shared.writeUInt32LE(data.length, 14);
    shared.writeUInt32LE(data.length, 18);
    shared.writeUInt16LE(label.length, 22);
    const local = Buffer.concat([Buffer.from('PK\x03\x04'), shared, label, data]);
    const rest = Buffer.alloc(14);
    rest.writeUInt32LE((mode << 16) >>> 0, 6);
    rest.writeUInt32LE(offset, 10);
    central.push(Buffer.concat([Buffer.from('PK\x01\x02'), Buffer.from([20, 3]), shared, rest, label]));
    locals.push(local);
    offset += local.length;
  }
  const directory = Buffer.concat(central);
  const end = Buffer.alloc(22);
  end.write('PK\x05\x06', 0, 'latin1');
  end.writeUInt16LE(entries.length, 8);
  end.writeUInt16LE(entries.length, 10);
  end.writeUInt32LE(directory.length, 12);
  end.writeUInt32LE(offset, 16);
  return Buffer.concat([...locals, directory, end]);
}

export interface WheelSpec {
  readonly name?: string;
  readonly version?: string;
  readonly cuda?: string | null;
  readonly tag?: string;
  readonly requires?: readonly string[];
  /** Files besides those every fake torch wheel has; null removes one. */
  readonly files?: Readonly<Record<string, string | null>>;
  /** Last word on the entries, after RECORD was made. */
  readonly edit?: ((entries: ZipEntry[]) => ZipEntry[]) | undefined;
  /** Last word on the lines of RECORD. */
  readonly record?: (lines: string[]) => string[];
}

export function wheelEntries(spec: WheelSpec = {}): ZipEntry[] {
  const { name = 'torch', version = '2.13.0+cpu', cuda = null, tag = 'cp311-cp311-manylinux_2_28_x86_64' } = spec;
  const info = `${name}-${version}.dist-info`;
  const requires = (spec.requires ?? ['filelock']).map((line) => `Requires-Dist: ${line}\n`).join('');
  const torch: Record<string, string> = {
    'torch/version.py': versionPy(version, cuda),
    'torch/__init__.py': 'raise SystemExit("never run")\n',
    'torch/lib/libc10.so': 'c10 bytes',
    'torch/lib/libtorch_cpu.so': 'cpu bytes '.repeat(500),
    'torch/include/ATen/ATen.h': '#pragma once\n',
    ...(cuda === null ? {} : { 'torch/lib/libtorch_cuda.so': 'cuda bytes', 'torch/lib/libc10_cuda.so': 'c10 cuda' }),
  };
  const all: Record<string, string | null> = {
    ...(name === 'torch' ? torch : {}),
    ...spec.files,
    [`${info}/METADATA`]: `Metadata-Version: 2.4\nName: ${name}\nVersion: ${version}\n${requires}\nProse: not a header\n`,
    [`${info}/WHEEL`]: `Wheel-Version: 1.0\nTag: ${tag}\n`,
  };
  const entries = Object.entries(all)
    .filter(([, text]) => text !== null)
    .map(([path, text]) => ({
      name: path,
      data: Buffer.from(text!),
      mode: path.endsWith('.so') ? 0o100755 : 0o100644,
    }));
  const lines = entries.map((entry) => {
    const sum = createHash('sha256').update(entry.data).digest('base64url');
    const path = entry.name.includes(',') ? `"${entry.name}"` : entry.name;
    return `${path},sha256=${sum},${entry.data.length}`;
  });
  lines.push(`${info}/RECORD,,`);
  const record = `${(spec.record?.(lines) ?? lines).join('\n')}\n`;
  const whole = [...entries, { name: `${info}/RECORD`, data: Buffer.from(record) }];
  return spec.edit?.(whole) ?? whole;
}

/** Writes a wheel under its proper file name and returns its path. */
export function fakeWheel(dir: string, spec: WheelSpec = {}): string {
  const { name = 'torch', version = '2.13.0+cpu', tag = 'cp311-cp311-manylinux_2_28_x86_64' } = spec;
  return write(join(dir, `${name.replaceAll('-', '_')}-${version}-${tag}.whl`), zipBytes(wheelEntries(spec)));
}

export interface FakePython {
  /** Environment with this python3 first on PATH, an empty home and no LibTorch settings. */
  readonly env: NodeJS.ProcessEnv;
  /** Argument lines of every run so far. */
  calls(): string[];
}

/**
 * A python3 written in shell. `script` sees "$*" in $ALL and the folder after -d in $DIR; by default it does nothing.
 */
export function fakePython(home: string, script: string): FakePython {
  const log = join(home, 'python-calls');
  const head = `#!/bin/sh\necho "$*" >> '${log}'\nALL="$*"\nDIR="\${ALL##* -d }"\nDIR="\${DIR%% *}"\n`;
  write(join(home, 'bin', 'python3'), `${head}${script}\n`, 0o755);
  const env = { PATH: `${join(home, 'bin')}:/usr/bin:/bin`, HOME: home, XDG_CACHE_HOME: join(home, 'cache') };
  const calls = (): string[] => {
    try {
      return readFileSync(log, 'utf8').trim().split('\n');
    } catch {
      return [];
    }
  };
  return { env, calls };
}
