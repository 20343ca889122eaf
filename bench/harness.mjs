// The harness of all benches: answers are compared before anything is timed, rounds are interleaved and rotate, ratios are
// paired inside a round. A bare time is never the claim; ratioMedian = time of `ratioTo` / time of the contender.

import { execFileSync } from 'node:child_process';
import { cpus } from 'node:os';

/**
 * @typedef {object} Contender
 * @property {string} name
 * @property {() => Promise<unknown> | unknown} run - does the work once and returns its answer
 * @property {string | null} [unavailable] - why it cannot run here; its row says so
 * @property {() => number} [peakBytes] - largest resident memory of its own process; this process's where absent
 * @property {() => number} [seconds] - time of the latest run by the clock of its own process; this process's where absent
 * @property {number} [threads] - where it cannot use as many as the bench was told; known after its first run
 * @property {{imageIterations: number, flops: number}} [work] - what one run does; its row then has rates
 * @property {(row: object) => object} [extra] - further fields of its row, made from the others
 * @property {(row: object) => string} [text] - what the table says of them, in place of rates
 * @typedef {object} Case
 * @property {string} name
 * @property {Contender[]} contenders - the first that can run is the one ratios refer to and answers are compared with
 * @property {(answer: unknown, reference: unknown, name: string) => string | null} compare - what differs, or null
 * @property {string[]} [bases] - contenders that ratios refer to, each in rows of its own; the first that can run if absent
 * @property {() => Promise<{matmulFlops: number, copyBytes: number} | null>} [rates] - of the device, in the same run
 */

/** Thrown by a contender's first run: it cannot do this case here. Its row gives the message as the reason. */
export class Unavailable extends Error {}

const quantile = (sorted, q) => sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
const median = (values) =>
  quantile(
    [...values].sort((a, b) => a - b),
    0.5,
  );

function commit() {
  try {
    return execFileSync('git', ['rev-parse', '--short', 'HEAD'], { encoding: 'utf8' }).trim();
  } catch {
    return 'unknown';
  }
}

/**
 * Runs the cases of one bench and prints a Markdown table, or one JSON document as the last line with `json`.
 * Smoke mode runs every contender once and compares answers only, unless it is told how many rounds to time. A contender that
 * fails loses its row, and a case its rows, to the error; what comes after is run.
 *
 * @param {string} bench
 * @param {Case[]} cases
 * @param {{json: boolean, smoke: boolean, threads: number, device: string, rounds?: number}} options
 * @returns {Promise<boolean>} whether all answers agreed
 */
export async function runBench(bench, cases, options) {
  const machine = {
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    node: process.version,
    threads: options.threads,
    device: options.device,
  };
  const rows = [];
  const document = () => JSON.stringify({ bench, machine, commit: commit(), rows });
  // What is stopped for the time it takes still says what it has measured.
  const stopped = () => {
    console.log(document());
    process.exit(1);
  };
  if (options.json) process.once('SIGTERM', stopped);
  let agreed = true;
  const fail = (name, contender, error) => {
    agreed = false;
    rows.push({ case: name, contender, error });
    console.error(`${bench}: ${name}: ${contender} failed: ${error}`);
  };
  for (const { name, contenders: all, compare, bases, rates } of cases) {
    const [contenders, answers] = [[], []];
    for (const contender of all) {
      const answer = contender.unavailable ? new Unavailable(contender.unavailable) : await firstRun(contender);
      if (answer instanceof Unavailable) {
        rows.push({ case: name, contender: contender.name, unavailable: answer.message });
        continue;
      }
      if (answer instanceof Failed) {
        fail(name, contender.name, answer.message);
        continue;
      }
      contenders.push(contender);
      answers.push(answer);
    }
    const wrong = answers.map((answer, i) => (i === 0 ? null : compare(answer, answers[0], contenders[i].name)));
    for (const [i, difference] of wrong.entries()) {
      if (difference === null) continue;
      agreed = false;
      console.error(`${bench}: ${name}: ${contenders[i].name} is wrong and is not timed: ${difference}`);
    }
    const timed = contenders.filter((_, i) => wrong[i] === null);
    if ((options.smoke && options.rounds === undefined) || timed.length === 0) continue;
    try {
      const device = (await rates?.()) ?? null;
      const seconds = await measure(timed, options.rounds);
      rows.push(...rowsOf(name, timed, seconds, bases, device));
    } catch (error) {
      fail(name, 'all', error.message);
    }
  }
  process.removeListener('SIGTERM', stopped);
  if (options.json) console.log(document());
  else if (options.smoke && options.rounds === undefined) {
    for (const row of rows.filter(({ unavailable }) => unavailable !== undefined))
      console.log(`${bench}: ${row.case}: ${row.contender} unavailable: ${row.unavailable}`);
    console.log(`${bench}: ${cases.length} cases, answers ${agreed ? 'agree' : 'differ'}`);
  } else print(bench, machine, rows);
  return agreed;
}

/** Image iterations a second, achieved FLOP/s, and the share of a large bf16 matrix product's rate in the same run. */
function throughput({ imageIterations, flops }, seconds, device) {
  const rate = { imageIterationsPerSecond: imageIterations / seconds, flopsPerSecond: flops / seconds };
  return device === null ? rate : { ...rate, ...device, shareOfMatmul: rate.flopsPerSecond / device.matmulFlops };
}

/** What a contender's first run threw in place of an answer. */
class Failed extends Error {}

/** The answer of a contender's first run, or why there is none. */
async function firstRun(contender) {
  try {
    return await contender.run();
  } catch (error) {
    return error instanceof Unavailable ? error : new Failed(error.message, { cause: error });
  }
}

const texts = new WeakMap(); // row -> its contender's words, for the table only

/** A row for each contender and base, without those that repeat another pair the other way round. */
function rowsOf(name, timed, seconds, bases, device) {
  const found = bases?.filter((base) => timed.some((contender) => contender.name === base)) ?? [];
  if (found.length === 0) found.push(timed[0].name);
  return found.flatMap((base, k) =>
    timed
      .filter(({ name: contender }) => k === 0 || !found.slice(0, k + 1).includes(contender))
      .map(({ name: contender, peakBytes, threads, work, extra, text }) => {
        const ratios = seconds
          .get(contender)
          .map((s, round) => seconds.get(base)[round] / s)
          .sort((a, b) => a - b);
        const row = {
          case: name,
          contender,
          medianSeconds: median(seconds.get(contender)),
          ratioTo: base,
          ratioMedian: quantile(ratios, 0.5),
          ratioP10: quantile(ratios, 0.1),
          ratioP90: quantile(ratios, 0.9),
          rounds: ratios.length,
          peakBytes: peakBytes?.() ?? process.resourceUsage().maxRSS * 1024,
          ...(threads === undefined ? {} : { threads }),
          ...(work && throughput(work, median(seconds.get(contender)), device)),
        };
        const whole = { ...row, ...extra?.(row) };
        if (text !== undefined) texts.set(whole, text(whole));
        return whole;
      }),
  );
}

/** Rounds A B C, B C A, ...: as many as are wanted, or at least 20 and 2 s, or 5 where a step takes longer than half a second. */
async function measure(contenders, wanted) {
  const seconds = new Map(contenders.map(({ name }) => [name, []]));
  let spent = 0;
  for (let round = 0; ; round++) {
    let slowest = 0;
    for (let i = 0; i < contenders.length; i++) {
      const { name, run, seconds: own } = contenders[(i + round) % contenders.length];
      const began = process.hrtime.bigint();
      await run();
      const passed = Number(process.hrtime.bigint() - began) / 1e9;
      const took = own?.() ?? passed;
      seconds.get(name).push(took);
      slowest = Math.max(slowest, took, passed);
      spent += passed; // a contender with a clock of its own may time a share of what it does
    }
    const enough = wanted ?? (slowest > 0.5 ? 5 : 20);
    if (round + 1 >= enough && (spent >= 2 || wanted !== undefined)) return seconds;
  }
}

function print(bench, machine, rows) {
  console.log(
    `\n${bench} on ${machine.cpu}, ${machine.cores} cores, ${machine.threads} threads, ${machine.device}, commit ${commit()}\n`,
  );
  console.log('| case | contender | median | ratio | p10-p90 | rate |\n|---|---|---|---|---|---|');
  const threads = (row) => (row.threads ? ` (threads: ${row.threads})` : '');
  for (const row of rows) {
    if (row.error !== undefined) {
      console.log(`| ${row.case} | ${row.contender} | failed: ${row.error} | | | |`);
      continue;
    }
    console.log(
      row.unavailable
        ? `| ${row.case} | ${row.contender} | unavailable: ${row.unavailable} | | | |`
        : `| ${row.case} | ${row.contender}${threads(row)} | ${(row.medianSeconds * 1000).toFixed(2)} ms | ${row.ratioMedian.toFixed(2)}x ${row.ratioTo} | ${row.ratioP10.toFixed(2)}-${row.ratioP90.toFixed(2)} |${texts.has(row) ? ` ${texts.get(row)} |` : rateText(row)}`,
    );
  }
}

function rateText({ imageIterationsPerSecond: rate, flopsPerSecond, shareOfMatmul, copyBytes }) {
  if (rate === undefined) return ' |';
  const share = shareOfMatmul === undefined ? '' : `, ${(100 * shareOfMatmul).toFixed(0)} % of a bf16 matrix product`;
  const copy = copyBytes === undefined ? '' : `; a copy moves ${(copyBytes / 1e9).toFixed(0)} GB/s`;
  return ` ${rate.toFixed(0)} images x iterations/s, ${(flopsPerSecond / 1e12).toFixed(2)} TFLOP/s${share}${copy} |`;
}
