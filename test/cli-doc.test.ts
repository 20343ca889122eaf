// The outputs shown in docs/cli.md. Commands that need no artifact run here and must print what the page shows, but for times
// and folders (some meet artifacts that hold nothing); what a whole run printed is compared with the preset, the stages' versions and itself. `...` in the page stands
// for any number of lines.

import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { openDraft } from '../src/artifact.ts';
import { COMMANDS } from '../src/cli/commands.ts';
import { loadServices } from '../src/cli/load.ts';
import { main } from '../src/cli/main.ts';
import { loadConfig } from '../src/config.ts';
import { pipelineNodes } from '../src/pipeline.ts';
import { labelPlan } from '../src/plan.ts';
import { formatRatio } from '../src/report/format.ts';
import { resolveRuntime } from '../src/run.ts';
import { datasetOnce, prepare } from '../src/stage-runner.ts';
import { STAGES } from '../src/stages/index.ts';

const page = readFileSync(join(import.meta.dirname, '..', 'docs/cli.md'), 'utf8');

/** Every command shown with what it printed. */
const shown = [...page.matchAll(/^```\n(\$ [\s\S]*?)^```$/gm)].flatMap(([, block]) =>
  block!
    .split(/^\$ lpld-native /m)
    .slice(1)
    .map((part) => {
      const [command = '', ...lines] = part.trimEnd().split('\n');
      return { command, lines };
    }),
);
const find = (start: string) => shown.find(({ command }) => command.startsWith(start))!;
/** The overrides of the page's run. */
const shortened = Object.fromEntries(
  [...find('run quickstart --out').command.matchAll(/--set ([\w.]+)=(\d+)/g)].map(([, key, n]) => [key!, Number(n)]),
);

/** Both outputs of a command, run in this process. */
async function outputOf(command: string): Promise<string[]> {
  let out = '';
  const stream = (of: NodeJS.WriteStream) =>
    Object.assign(Object.create(of) as NodeJS.WriteStream, { write: (text: string) => (out += text) });
  const io = { stdout: stream(process.stdout), stderr: stream(process.stderr), env: {} };
  await main(command.split(' '), COMMANDS, loadServices, io);
  return out.trimEnd().split('\n');
}

/** A line without what differs between machines: times, their column's width, absolute folders. */
const fixed = (line: string) =>
  line
    .replaceAll(/(\d+ h )?(\d+ min )?\b\d+(\.\d+)? s$/g, 'TIME')
    .replaceAll(/\(path: \/[^)]*\/([^/)]+)\)/g, '(path: $1)')
    .replaceAll(/ {2,}|-{3,}/g, ' ');

/** Whether lines are those of the page, `...` of which may be any. */
function agrees(page: readonly string[], lines: readonly string[]): boolean {
  if (page.length === 0) return lines.length === 0;
  const [first, ...rest] = page;
  if (first === '...') return lines.some((_, i) => agrees(rest, lines.slice(i))) || agrees(rest, []);
  return lines.length > 0 && fixed(first!) === fixed(lines[0]!) && agrees(rest, lines.slice(1));
}

/** An empty artifact where the quickstart's teacher would be, as a run on that device would have made it. */
async function squeezed(dir: string, device: 'auto' | 'cuda'): Promise<void> {
  const runtime = resolveRuntime({ runtime: { device } });
  const node = pipelineNodes(loadConfig('quickstart'))[0]!;
  const { header } = await prepare(node, {}, runtime, datasetOnce(runtime));
  await (await openDraft(dir, header)).publish({});
}

const before = process.cwd();
const folder = mkdtempSync(join(tmpdir(), 'lpld-cli-doc-'));
beforeAll(async () => {
  mkdirSync(join(folder, 'runs/quick/squeeze'), { recursive: true }); // begun: its config binds
  writeFileSync(join(folder, 'runs/quick/config.json'), JSON.stringify(loadConfig('quickstart', shortened)));
  process.chdir(folder);
  await squeezed('runs/quick/squeeze', 'auto');
  await squeezed('runs/card/squeeze', 'cuda');
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true, force: true });
});

describe('what a command prints that needs no artifact', () => {
  const commands = [
    'run quickstart --dry-run',
    'run quickstart --out runs/quick',
    'run quickstart --out runs/card --device cpu',
    'squeeze --config quickstart --out runs/quick/squeeze --epochs 2',
    'run quickstat',
    'run quickstart --set squeeze.prune_ratio=0.9',
    'prune --config quickstart --labels d/labels --out d/pool --prune-ratio 1.2',
    'prune --config quickstart --labels d/labels --out d/pool --metric diff',
    'run quickstart --set dataset.path=data/fashion-mnist',
    'presets list',
    'data inspect --format digits',
  ];

  test.each(commands)('%s', async (command) => {
    const { lines } = shown.findLast((one) => one.command === command)!;
    const printed = await outputOf(command);
    expect(agrees(lines, printed), `the page shows\n${lines.join('\n')}\nbut it prints\n${printed.join('\n')}`).toBe(
      true,
    );
  });

  test('a changed number, a missing line and an added one are seen', () => {
    const lines = ['a  1 s', 'b 79 of 800', 'c'];
    expect(agrees(['a 20 s', '...', 'c'], lines)).toBe(true);
    expect(agrees(['a 20 s', 'b 59 of 600', 'c'], lines)).toBe(false);
    expect(agrees(['a 20 s', 'b 79 of 800'], lines)).toBe(false);
    expect(agrees(['a 20 s', '...', 'b 79 of 800', 'c', 'd'], lines)).toBe(false);
  });

  test('the table of common options names every option that stands before a command', async () => {
    const table = page.slice(page.indexOf('| option | meaning |'), page.indexOf('\nBelow, '));
    const options = (await outputOf('--help')).flatMap((line) => /^ {2}(?:-\w, )?(--[\w-]+)/.exec(line)?.[1] ?? []);
    expect(options.length).toBeGreaterThan(8);
    for (const option of options.filter((name) => !['--help', '--version'].includes(name)))
      expect(table).toContain(`\`${option}`);
  });
});

describe('what a run printed', () => {
  const { prune, relabel, synthesize } = loadConfig('quickstart', shortened);
  const images = 10 * synthesize.ipc;
  const plan = labelPlan({ ...relabel, images, pruneRatio: prune.pruneRatio, keep: 'prefix', seed: 0n });
  const bytes = (name: string) =>
    Number(new RegExp(`^${name} +(\\d+) +[\\d.]+ %`, 'm').exec(find('inspect').lines.join('\n'))![1]);

  test('artifacts have the versions of the stages', () => {
    const versions = [...page.matchAll(/^artifact +(\w+) \(version (\d+),/gm)].filter(([, name]) =>
      STAGES.some((stage) => stage.name === name),
    );
    expect(versions.length).toBeGreaterThan(2);
    for (const [, name, version] of versions)
      expect(Number(version), name).toBe(STAGES.find((stage) => stage.name === name)!.version);
  });

  test('the table of stages has the folders of the preset', () => {
    const { lines } = find('run quickstart --out');
    const from = lines.findIndex((line) => line.startsWith('stage ')) + 2;
    const folders = lines.slice(from, lines.indexOf('', from)).map((line) => line.split(' ')[0]);
    expect(folders).toEqual(pipelineNodes(loadConfig('quickstart')).map((node) => node.folder));
  });

  test('records and images are those that the preset keeps, wherever they are told', () => {
    const kept = plan.recordIds.length;
    expect(page).toContain(`\nprune: keep ${kept} of ${plan.fullRecords}, ${kept} records\n`);
    const records = [...page.matchAll(/\b(\d+) records\b|^records +(\d+)$/gm)].map(([, a, b]) => Number(a ?? b));
    expect(records.length).toBeGreaterThan(4);
    expect(new Set(records)).toEqual(new Set([kept]));
    const rows = [...page.matchAll(/^rows +(\d+)$/gm)].map(([, n]) => Number(n));
    expect(new Set(rows)).toEqual(new Set([kept * relabel.batch]));
  });

  test('bytes of the store add up, and payload and compression are those of dense f16', () => {
    const parts = ['payload', 'recipes', 'index', 'basis', 'container'].map(bytes);
    expect(parts.reduce((sum, part) => sum + part, 0)).toBe(bytes('file'));
    expect(bytes('payload')).toBe(plan.recordIds.length * relabel.batch * 10 * 2);
    const times = formatRatio((plan.fullRecords * relabel.batch * 10 * 2) / bytes('file'));
    expect(page).toMatch(new RegExp(`^compression +${times} `, 'm'));
    expect(page).toMatch(new RegExp(`^dense f16 store of the full plan .* ${times} as much$`, 'm'));
  });
});
