// The dependency rules of the tree, read from the sources: who may include or import whom, and what native code may not
// call. A rule has its exceptions written beside it, so that a new one is a decision and not an accident.

import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, posix } from 'node:path';
import { describe, expect, test } from 'vitest';
import { STAGES } from '../src/stages/index.ts';

const root = join(import.meta.dirname, '..');

function filesIn(folder: string, pattern: RegExp): string[] {
  return readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile() && pattern.test(entry.name))
    .map((entry) => posix.join(entry.parentPath.slice(root.length + 1), entry.name))
    .filter((path) => !path.includes('node_modules/'))
    .sort();
}
const read = (path: string): string => readFileSync(join(root, path), 'utf8');

const CPP = /\.(cpp|h|cu|cuh)$/;
const NATIVE = [...filesIn('native', CPP), ...filesIn('binding', CPP)];
const SOURCES = filesIn('src', /\.ts$/);

/** What a C++ file includes: `<...>` and `"..."` without the brackets. */
const includes = (path: string): string[] =>
  [...read(path).matchAll(/^\s*#\s*include\s*[<"]([^>"]+)[>"]/gm)].map((found) => found[1]!);
/** Code without comments and string literals. */
const codeOnly = (text: string): string =>
  text.replace(/\/\*[\s\S]*?\*\/|\/\/[^\n]*|"(?:[^"\\\n]|\\.)*"/g, (part) => (part.startsWith('"') ? '""' : ' '));
const isTorch = (header: string): boolean => /^(torch|ATen|c10)\//.test(header);
const offenders = (paths: readonly string[], wrong: (path: string) => string[]): string[] =>
  paths.flatMap((path) => wrong(path).map((what) => `${path}: ${what}`));

interface Import {
  readonly from: string;
  readonly names: string;
  readonly typeOnly: boolean;
}
/** Static and dynamic imports and re-exports of a TypeScript file. */
function imports(path: string): Import[] {
  const code = read(path).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  const found = [...code.matchAll(/^(?:import|export)\s+([^'";]*?)\s*from\s*'([^']+)'/gm)].map((m) => ({
    names: m[1]!.replace(/\s+/g, ' '),
    from: m[2]!,
    typeOnly: m[1]!.startsWith('type '),
  }));
  const others = [...code.matchAll(/(?:^import\s*|\bimport\(|\brequire\()\s*'([^']+)'/gm)];
  return [...found, ...others.map((m) => ({ names: '', from: m[1]!, typeOnly: false }))];
}
const target = (path: string, from: string): string =>
  from.startsWith('.') ? posix.normalize(posix.join(dirname(path), from)) : from;

test('the rules below look at real files', () => {
  expect(NATIVE.length).toBeGreaterThan(50);
  expect(NATIVE).toEqual(
    expect.arrayContaining(['binding/addon.cpp', 'native/jobs/train.cpp', 'native/kernels/render.cu']),
  );
  expect(includes('binding/addon.cpp')).toEqual(expect.arrayContaining(['napi.h', 'async_job.h']));
  expect(imports('src/run.ts').length).toBeGreaterThan(5);
  expect(codeOnly('a("exit"); // exit\nb /* exit */')).not.toContain('exit');
});

describe('C++', () => {
  test('napi.h is included in binding/ only', () => {
    const native = NATIVE.filter((path) => path.startsWith('native/'));
    expect(offenders(native, (path) => includes(path).filter((header) => /napi/.test(header)))).toEqual([]);
  });

  test('LibTorch headers are included in native/ and in these files of binding/', () => {
    const binding = NATIVE.filter((path) => path.startsWith('binding/') && includes(path).some(isTorch));
    expect(binding).toEqual([
      'binding/convert.cpp',
      'binding/convert.h',
      'binding/layer_ops.cpp',
      'binding/ops.cpp',
      'binding/store_handle.cpp',
    ]);
    // torch/torch.h costs half a minute per file
    expect(
      offenders(NATIVE, (path) => includes(path).filter((h) => /^(torch\/torch|torch\/all|ATen\/ATen)\.h$/.test(h))),
    ).toEqual([]);
  });

  test('no .cu file sees a LibTorch header, not even through another one', () => {
    const seen = (path: string, visited = new Set<string>()): string[] =>
      includes(path).flatMap((header) => {
        if (isTorch(header)) return [`${header} through ${path}`];
        const next = `native/${header}`;
        if (visited.has(next) || !NATIVE.includes(next)) return [];
        visited.add(next);
        return seen(next, visited);
      });
    const cuda = NATIVE.filter((path) => /\.cuh?$/.test(path));
    expect(cuda.length).toBeGreaterThan(0);
    expect(offenders(cuda, (path) => seen(path))).toEqual([]);
  });

  /** Room -> the rooms it may include from. Whoever calls a kernel knows its table; kernels share arithmetic with ops. */
  const ROOMS: Record<string, readonly string[]> = {
    core: ['core', 'kernels'],
    kernels: ['kernels', 'ops', 'core'],
    ops: ['ops', 'core', 'kernels'],
    codecs: ['codecs', 'core'],
    models: ['models', 'ops', 'core'],
    data: ['data', 'ops', 'core'],
    jobs: ['jobs', 'data', 'models', 'codecs', 'ops', 'core', 'kernels'],
  };

  test('the rooms of native/ include each other as the table says, and never binding/', () => {
    const native = NATIVE.filter((path) => path.startsWith('native/'));
    expect([...new Set(native.map((path) => path.split('/')[1]!))].sort()).toEqual(Object.keys(ROOMS).sort());
    const local = (path: string): string[] =>
      [...read(path).matchAll(/^\s*#\s*include\s*"([^"]+)"/gm)].map((found) => found[1]!);
    const wrong = (path: string): string[] =>
      local(path).filter(
        (header) =>
          !ROOMS[path.split('/')[1]!]!.includes(header.split('/')[0]!) || !NATIVE.includes(`native/${header}`),
      );
    expect(offenders(native, wrong)).toEqual([]);
    // the kernels share these headers of arithmetic with the CPU bodies, nothing else
    const shared = new Set(native.filter((path) => path.startsWith('native/kernels/')).flatMap(local));
    expect([...shared].filter((header) => !header.startsWith('kernels/')).sort()).toEqual([
      'core/host_device.h',
      'ops/axis_taps.h',
      'ops/box.h',
      'ops/norm_act_math.h',
      'ops/pixel_adam_math.h',
      'ops/resample.h',
    ]);
  });

  test('native code reads no environment, prints nothing, opens no file and never ends the process', () => {
    const banned =
      /\b(getenv|secure_getenv|setenv|f?printf|puts|fputs|cout|cerr|clog|abort|exit|_exit|quick_exit|terminate|fopen|open|ofstream|ifstream|fstream|system|popen)\b(?=\s*[(<;])|\bstd::(cout|cerr|clog)\b/g;
    expect(offenders(NATIVE, (path) => codeOnly(read(path)).match(banned) ?? [])).toEqual([]);
    const opening = NATIVE.filter((path) => /\bdlopen\b/.test(codeOnly(read(path))));
    expect(opening).toEqual(['native/core/kernels.cpp']);
    expect('std::cout << x; getenv("A"); exit(1);'.match(banned)).toHaveLength(3);
  });

  test('no exception is swallowed by a catch-all, and no generator of the whole process is seeded', () => {
    const banned = /catch\s*\(\s*\.\.\.\s*\)|\bmanual_seed\b|\bassert\s*\(/g;
    expect(offenders(NATIVE, (path) => codeOnly(read(path)).match(banned) ?? [])).toEqual([]);
  });
});

describe('TypeScript', () => {
  test('only src/addon.ts loads native code', () => {
    const code = (path: string): string => read(path).replace(/^\s*(\/\/|\/?\*).*$/gm, '');
    const loading = SOURCES.filter((path) => /\bdlopen\(|\bcreateRequire\(|\.node['"`]/.test(code(path)));
    expect(loading).toEqual(['src/addon.ts']);
    expect(
      offenders(SOURCES, (path) =>
        imports(path)
          .map(({ from }) => from)
          .filter((from) => from.endsWith('.node')),
      ),
    ).toEqual([]);
  });

  test('only src/datasets/images.ts imports sharp', () => {
    const found = SOURCES.filter((path) => imports(path).some(({ from }) => from === 'sharp'));
    expect(found).toEqual(['src/datasets/images.ts']);
  });

  test('stages never import stages', () => {
    const stages = STAGES.map((stage) => `src/stages/${stage.name}.ts`);
    expect(SOURCES).toEqual(expect.arrayContaining(stages));
    const others = SOURCES.filter((path) => path.startsWith('src/stages/') && path !== 'src/stages/index.ts');
    const found = others.flatMap((path) =>
      imports(path)
        .filter(({ from }) => stages.includes(target(path, from)))
        .map(({ names, from }) => `${path}: ${names} of ${posix.basename(from)}`),
    );
    expect(found).toEqual([]);
  });

  test('datasets, methods and interchange know nothing of stages, runs or the command line', () => {
    const below = SOURCES.filter((path) => /^src\/(datasets|methods|interchange)\//.test(path));
    const wrong = (path: string): string[] =>
      imports(path)
        .map(({ from }) => target(path, from))
        .filter((to) => /^src\/(stages|cli|report)\/|^src\/(run|pipeline|config|cli|addon)\.ts$/.test(to));
    expect(offenders(below, wrong)).toEqual([]);
  });

  test('only the program imports src/cli, and every import is of a file that exists or of a dependency', () => {
    const manifest = JSON.parse(read('package.json')) as { dependencies: Record<string, string> };
    const outside = SOURCES.filter((path) => !path.startsWith('src/cli'));
    const wrong = (path: string): string[] =>
      imports(path)
        .map(({ from }) => target(path, from))
        .filter((to) => to.startsWith('src/cli'));
    expect(offenders(outside, wrong)).toEqual([]);
    const unknown = (path: string): string[] =>
      imports(path)
        .map(({ from }) => target(path, from))
        .filter(
          (to) =>
            !SOURCES.includes(to) &&
            !to.startsWith('node:') &&
            !((to.startsWith('@') ? to : to.split('/')[0]!) in manifest.dependencies),
        );
    expect(offenders(SOURCES, unknown)).toEqual([]);
  });

  test('the library has no top-level await (so that require() of it works) and prints nothing', () => {
    const awaiting = (path: string): string[] =>
      read(path)
        .match(/^(?!.*\basync\b)\S.*\bawait\b.*$/gm)
        ?.filter((line) => !/^(\/\/|\*|\/\*)/.test(line)) ?? [];
    expect(offenders(SOURCES, awaiting)).toEqual([]);
    // doctor-probes.ts holds the text of a script that runs in a process of its own
    const library = SOURCES.filter((path) => !path.startsWith('src/cli') && path !== 'src/doctor-probes.ts');
    expect(
      offenders(library, (path) => codeOnly(read(path)).match(/\bconsole\.\w+|\bprocess\.(stdout|exit)\b/g) ?? []),
    ).toEqual([]);
  });
});

test('no source file is longer than 400 lines', () => {
  const all = ['src', 'native', 'binding', 'test', 'bench', 'scripts'].flatMap((folder) =>
    filesIn(folder, /\.(ts|mjs|js|cpp|h|cu|cuh|py)$/),
  );
  expect(all.length).toBeGreaterThan(150);
  const long = all.map((path) => [path, read(path).split('\n').length - 1] as const).filter(([, lines]) => lines > 400);
  expect(long).toEqual([]);
});
