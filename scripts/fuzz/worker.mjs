// Runs a range of cases of one target in a process of its own and tells its parent (../fuzz.mjs) what came of them. A case
// passes if it is accepted, or refused by an LpldError the target allows, within its time and memory and without a file
// where none belongs. The number of the case at work is kept in a file, so that the parent can name the one that crashed.

import { openSync, readdirSync, statSync, writeSync } from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { dice } from './mutate.mjs';

/**
 * Modules of the built package under the root that is fuzzed.
 * @typedef {{
 *   addon: typeof import('../../dist/addon.js'),
 *   artifact: typeof import('../../dist/artifact.js'),
 *   'canonical-json': typeof import('../../dist/canonical-json.js'),
 *   'datasets/images': typeof import('../../dist/datasets/images.js'),
 *   'datasets/index': typeof import('../../dist/datasets/index.js'),
 *   'datasets/synthetic-set': typeof import('../../dist/datasets/synthetic-set.js'),
 *   'datasets/unpack': typeof import('../../dist/datasets/unpack.js'),
 *   errors: typeof import('../../dist/errors.js'),
 *   import: typeof import('../../dist/import.js'),
 *   'interchange/fkd-export': typeof import('../../dist/interchange/fkd-export.js'),
 *   'interchange/fkd-import': typeof import('../../dist/interchange/fkd-import.js'),
 *   'interchange/weights': typeof import('../../dist/interchange/weights.js'),
 *   'label-format': typeof import('../../dist/label-format.js'),
 *   labels: typeof import('../../dist/labels.js'),
 *   plan: typeof import('../../dist/plan.js'),
 *   progress: typeof import('../../dist/progress.js'),
 *   recipe: typeof import('../../dist/recipe.js'),
 *   safetensors: typeof import('../../dist/safetensors.js'),
 *   'stages/pool': typeof import('../../dist/stages/pool.js'),
 *   'stages/training': typeof import('../../dist/stages/training.js'),
 *   tensor: typeof import('../../dist/tensor.js'),
 * }} Modules
 * @typedef {<Name extends keyof Modules>(file: Name) => Promise<Modules[Name]>} Load
 * @typedef {{load: Load, root: string, dir: string}} Place - the build, and the folder a target may write in
 */

const job = JSON.parse(process.argv[2]);
const { target: name, seed, from, to, dir, mark, saveTo } = job;
/** Processor time of one case, all threads together: it does not depend on how busy the machine is. */
const CPU_SECONDS = job.sanitized ? 20 : 4;
const WAIT_MS = 20_000; // a promise that is not settled by then never will be
const MEMORY_BYTES = 256 << 20; // by which one case may raise the peak

/** @type {Load} */
const load = (file) => import(new URL(`dist/${file}.js`, job.root).href);
const { open } = await import(`./targets/${name}.mjs`);
await mkdir(join(dir, 'work'), { recursive: true });
const target = await open({ load, root: job.root, dir: join(dir, 'work') });

let stray = null; // what was thrown where nobody awaited it
for (const event of ['uncaughtException', 'unhandledRejection'])
  process.on(event, (thrown) => {
    stray ??= thrown;
  });

function waited(work) {
  let timer;
  const never = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not settled after ${WAIT_MS} ms`)), WAIT_MS);
  });
  return Promise.race([work, never]).finally(() => clearTimeout(timer));
}

/** Names below a folder with their sizes, but for what stands below `except`. */
function listing(folder, except, prefix = '') {
  const out = [];
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = `${prefix}${entry.name}`;
    if (except.includes(path)) continue;
    if (entry.isDirectory()) out.push(path, ...listing(join(folder, entry.name), except, `${path}/`));
    else out.push(`${path} ${statSync(join(folder, entry.name), { throwIfNoEntry: false })?.size}`);
  }
  return out;
}

async function save(files, index) {
  const folder = join(saveTo, `${name}-${seed}-${index}`);
  for (const [path, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(folder, path)), { recursive: true });
    await writeFile(join(folder, path), bytes);
  }
  return folder;
}

/** A case; one that cannot be made is a mistake of this program. */
async function prepared(index) {
  try {
    return await target.make(dice(`${seed}:${name}:${index}`));
  } catch (error) {
    process.stderr.write(`${error.stack}\n`);
    process.exit(70);
  }
}

const codes = {};
const slowest = { seconds: 0, index: from };
let accepted = 0;

/** What is wrong with the way a case ended; null for nothing. */
function judge(thrown, { seconds, grown, written }) {
  if (stray !== null) return `thrown where nobody waits: ${stray?.stack ?? stray}`;
  if (written !== null) return `a file outside the output folder: ${written}`;
  if (seconds > CPU_SECONDS) return `${seconds.toFixed(1)} s of processor time`;
  if (grown > MEMORY_BYTES) return `${(grown / 2 ** 20).toFixed(0)} MiB more memory`;
  if (thrown === null) return null;
  if (!/^E_[A-Z]+$/.test(thrown?.code ?? '')) return `not an LpldError: ${thrown?.stack ?? thrown}`;
  if (!target.allows(thrown)) return `${thrown.code} is not allowed here: ${thrown.stack ?? thrown.message}`;
  return null;
}

const fd = openSync(mark, 'w');
for (let index = from; index < to; index++) {
  writeSync(fd, `${String(index).padStart(12)}\n`, 0);
  const one = await prepared(index);
  if (job.only) {
    await save(one.files, index); // for a case that has ended a process before
    process.exit(0);
  }
  const before = target.writes ? listing(dir, target.writes) : null;
  const memory = process.resourceUsage().maxRSS;
  const cpu = process.cpuUsage();
  let thrown = null;
  try {
    await waited(one.run());
    accepted += 1;
  } catch (error) {
    thrown = error ?? new Error('nothing was thrown');
    codes[thrown.code ?? thrown.name] = (codes[thrown.code ?? thrown.name] ?? 0) + 1;
  }
  const used = process.cpuUsage(cpu);
  const seconds = (used.user + used.system) / 1e6;
  if (seconds > slowest.seconds) Object.assign(slowest, { seconds, index });
  const grown = 1024 * (process.resourceUsage().maxRSS - memory);
  const known = before && new Set(before);
  const written = before && (listing(dir, target.writes).find((line) => !known.has(line)) ?? null);
  const wrong = judge(thrown, { seconds, grown, written });
  if (wrong !== null) {
    process.send({ failure: { index, wrong, saved: await save(one.files, index) } });
    stray = null;
  }
  await one.after?.();
}
const outside = readdirSync(dir).filter((entry) => entry !== 'work');
if (outside.length > 0) process.send({ failure: { index: to - 1, wrong: `files outside: ${outside}`, saved: null } });
const peak = 1024 * process.resourceUsage().maxRSS;
process.send({ done: { cases: to - from, accepted, codes, slowest, peak } }, () => process.exit(0));
