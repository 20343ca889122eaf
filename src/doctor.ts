// What this machine has, what it lacks, whether CUDA can be used and why not, and the one command that mends it.
// Works without LibTorch, without the addon and without any package: only Node's own modules and our own files are
// imported. Nothing is repaired or downloaded.

import { type AddonFile, listAddons } from './addon.ts';
import { type CudaDriver, cudaDriver, cudaObstacle } from './cuda.ts';
import {
  type AddonTrial,
  type CpuFacts,
  cpuFacts,
  findTool,
  type MemoryFacts,
  memoryFacts,
  type Tool,
  tryAddon,
} from './doctor-probes.ts';
import { LpldError } from './errors.ts';
import { type LibtorchLocation, packageRoot, type SearchedPlace, searchLibtorch, setupCommand } from './libtorch.ts';
import { glibcVersion, platformObstacle } from './platform.ts';

export interface DoctorReport {
  /** Everything needed to compute on the CPU is there. */
  readonly ok: boolean;
  readonly node: { readonly version: string; readonly supported: boolean };
  readonly platform: {
    readonly os: string;
    readonly arch: string;
    readonly glibc: string | null;
    readonly problem: string | null;
  };
  readonly tools: Readonly<Record<'compiler' | 'cmake' | 'make' | 'python' | 'pip', Tool | null>>;
  readonly libtorch: {
    readonly found: LibtorchLocation | null;
    readonly searched: readonly SearchedPlace[];
    readonly problem: string | null;
  };
  readonly addon: {
    readonly found: AddonFile | null;
    /** Every addon of the package, also those for other LibTorch minors. */
    readonly seen: readonly AddonFile[];
    readonly problem: string | null;
    /** Outcome of loading it in a child process, null where that was not tried. */
    readonly trial: AddonTrial | null;
  };
  readonly cpu: CpuFacts;
  readonly cuda: {
    readonly driver: CudaDriver;
    readonly nvcc: Tool | null;
    readonly usable: boolean;
    /** Why CUDA cannot be used, or what it can be used with. */
    readonly reason: string;
  };
  readonly memory: MemoryFacts;
  /** What is wrong, the most basic first. */
  readonly problems: readonly string[];
  /** The one command (or step) to take next, null where nothing is wrong. */
  readonly mend: string | null;
}

/** Node 20.19 is the first with require() of ES modules. */
export function nodeSupported(version: string): boolean {
  const [major = 0, minor = 0] = version.replace(/^v/, '').split('.').map(Number);
  return major > 20 || (major === 20 && minor >= 19);
}

type Tools = DoctorReport['tools'];

/** Debian packages of the tools that are missing. */
export function missingPackages(tools: Tools, needs: { readonly build: boolean; readonly fetch: boolean }): string[] {
  const packages: string[] = [];
  if (needs.build && tools.compiler === null) packages.push('g++');
  if (needs.build && tools.cmake === null) packages.push('cmake');
  if (needs.build && tools.make === null) packages.push('make');
  if (needs.fetch && tools.python === null) packages.push('python3');
  if (needs.fetch && tools.pip === null) packages.push('python3-pip');
  return packages;
}

function findTools(env: NodeJS.ProcessEnv): Tools {
  return {
    compiler: findTool(['c++', 'g++', 'clang++'], ['--version'], env),
    cmake: findTool(['cmake'], ['--version'], env),
    make: findTool(['ninja', 'make'], ['--version'], env),
    python: findTool(['python3'], ['--version'], env),
    pip: findTool(['python3'], ['-m', 'pip', '--version'], env),
  };
}

function search(env: NodeJS.ProcessEnv): DoctorReport['libtorch'] {
  try {
    const { found, searched } = searchLibtorch({ env });
    return { found, searched, problem: found === null ? 'no LibTorch found' : null };
  } catch (e) {
    if (!(e instanceof LpldError)) throw e;
    const path = String(e.details.path);
    const searched: SearchedPlace[] = [{ source: 'env', path, outcome: String(e.details.problem) }];
    return { found: null, searched, problem: e.message.split('\n')[0]! };
  }
}

/**
 * Examines the machine. Takes a second or two: it asks the tools for their versions and loads the addon in a child.
 *
 * @param env - environment to examine; the process's own except in tests
 * @param root - the package; its own except in tests
 */
export async function diagnose(
  env: NodeJS.ProcessEnv = process.env,
  root: string = packageRoot,
): Promise<DoctorReport> {
  const platform = {
    os: process.platform,
    arch: process.arch,
    glibc: process.platform === 'linux' ? glibcVersion() : null,
    problem: platformObstacle(),
  };
  const node = { version: process.versions.node, supported: nodeSupported(process.versions.node) };
  const tools = findTools(env);
  const libtorch = search(env);
  const seen = listAddons(root);
  const minor = libtorch.found?.minor ?? null;
  const found = minor === null ? null : (seen.find((addon) => addon.minor === minor) ?? null);
  const driver = cudaDriver('/', env.LD_LIBRARY_PATH ?? '');
  const obstacle = cudaObstacle(driver, libtorch.found?.cuda ?? null);
  const trial = found === null || root !== packageRoot ? null : tryAddon(obstacle === null ? 'cuda' : 'cpu', env);
  const addonProblem =
    found === null && minor !== null
      ? seen.length === 0
        ? 'the native addon has not been built'
        : `the native addon was built for LibTorch ${seen.map((a) => a.minor ?? '?').join(', ')}, not ${minor}`
      : trial !== null && !trial.loads
        ? `the native addon does not load: ${trial.problem}`
        : null;
  const cuda = judgeCuda(driver, obstacle, trial, findTool(['nvcc'], ['--version'], env));

  const problems = [
    ...(platform.problem === null ? [] : [platform.problem]),
    ...(node.supported ? [] : [`expected Node.js 20.19 or newer but this is ${node.version}`]),
    ...[libtorch.problem, addonProblem].filter((p) => p !== null),
  ];
  const packages = missingPackages(tools, {
    build: found === null && !seen.some((addon) => addon.kind === 'prebuilt'),
    fetch: libtorch.found === null,
  });
  if (problems.length > 0 && packages.length > 0) problems.push(`missing tools: ${packages.join(', ')}`);
  const mend = nextStep({ platform, node, libtorch, problems, packages, root });
  return {
    ok: problems.length === 0,
    node,
    platform,
    tools,
    libtorch,
    addon: { found, seen, problem: addonProblem, trial },
    cpu: cpuFacts(),
    cuda,
    memory: memoryFacts(),
    problems,
    mend,
  };
}

function judgeCuda(
  driver: CudaDriver,
  obstacle: string | null,
  trial: AddonTrial | null,
  nvcc: Tool | null,
): DoctorReport['cuda'] {
  const install =
    obstacle === 'the chosen LibTorch is a CPU build' ? '; npx lpld-native install --cuda fetches one' : '';
  if (obstacle !== null) return { driver, nvcc, usable: false, reason: obstacle + install };
  if (trial === null) return { driver, nvcc, usable: false, reason: 'not tried: the native addon is not there yet' };
  if (trial.cuda === null) return { driver, nvcc, usable: false, reason: trial.problem ?? 'not tried' };
  return { driver, nvcc, usable: trial.cuda.available, reason: trial.cuda.reason || 'ready' };
}

function nextStep(facts: {
  platform: DoctorReport['platform'];
  node: DoctorReport['node'];
  libtorch: DoctorReport['libtorch'];
  problems: readonly string[];
  packages: readonly string[];
  root: string;
}): string | null {
  if (facts.problems.length === 0) return null;
  if (facts.platform.problem !== null)
    return 'use Linux on x86-64 with glibc 2.28 or newer (Debian 10, Ubuntu 20.04, RHEL 8)';
  if (!facts.node.supported) return 'install Node.js 20.19 or newer';
  if (facts.libtorch.searched[0]?.source === 'env' && facts.libtorch.found === null) return 'unset LIBTORCH';
  if (facts.packages.length > 0) return `sudo apt-get install ${facts.packages.join(' ')}`;
  return setupCommand(facts.root);
}

const gib = (bytes: number): string => `${(bytes / 2 ** 30).toFixed(1)} GiB`;
const tool = (t: Tool | null): string => (t === null ? 'missing' : `${t.version} (${t.path})`);

/** The report as text: one line per fact, then the problems and the next step. */
export function renderDoctor(report: DoctorReport): string {
  const { platform, tools, libtorch, addon, cpu, cuda, memory } = report;
  const row = (name: string, value: string): string => `${name.padEnd(10)} ${value}`;
  const features = [cpu.avx512 && 'avx512', cpu.avx512Bf16 && 'avx512_bf16', cpu.amxBf16 && 'amx_bf16'].filter(Boolean);
  const lines = [
    row('node', `${report.node.version}${report.node.supported ? '' : ' (too old)'}`),
    row('platform', `${platform.os} ${platform.arch}, glibc ${platform.glibc ?? 'none'}`),
    row('compiler', tool(tools.compiler)),
    row('cmake', tool(tools.cmake)),
    row('make', tool(tools.make)),
    row('python', tool(tools.python)),
    row('pip', tool(tools.pip)),
    row(
      'libtorch',
      libtorch.found === null
        ? (libtorch.problem ?? 'not found')
        : `${libtorch.found.version} in ${libtorch.found.root} (${libtorch.found.source}${libtorch.found.headers ? '' : ', no headers'})`,
    ),
    ...libtorch.searched
      .filter((p) => p.outcome !== 'used')
      .map((p) => row('', `${p.source}: ${p.path}: ${p.outcome}`)),
    row(
      'addon',
      addon.found === null ? 'none that fits' : `${addon.found.kind} for ${addon.found.minor}: ${addon.found.path}`,
    ),
    ...addon.seen.filter((a) => a !== addon.found).map((a) => row('', `${a.kind} for ${a.minor ?? '?'}: ${a.path}`)),
    ...(addon.trial === null ? [] : [row('', addon.trial.loads ? 'loads' : `does not load: ${addon.trial.problem}`)]),
    row('cpu', `${cpu.model}, ${cpu.threads} threads, ${features.join(' ') || 'no avx512'}`),
    row('memory', `${gib(memory.total)}${memory.available === null ? '' : `, ${gib(memory.available)} free`}`),
    row('cuda', `${cuda.usable ? 'usable' : 'not usable'}: ${cuda.reason}`),
    row(
      '',
      `driver ${cuda.driver.version ?? (cuda.driver.present ? 'without a version' : 'none')}, libcuda ${cuda.driver.libcuda ?? 'none'}, nvcc ${cuda.nvcc?.version ?? 'none'}`,
    ),
    '',
    ...(report.ok ? ['everything needed is here'] : report.problems.map((p) => `problem: ${p}`)),
    ...(report.mend === null ? [] : [`next: ${report.mend}`]),
  ];
  return `${lines.map((line) => line.trimEnd()).join('\n')}\n`;
}
