// The parent's side of a tfjs contender: a child process for each case and backend, started by the case's first call, which
// also warms it up. What a backend cannot do, or does not finish within LIMIT_SECONDS, becomes a row that says so.

import { fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { Unavailable } from './harness.mjs';

const LIMIT_SECONDS = 20;
const WARM_UP = { calls: 20, seconds: 2 };
const BACKENDS = { 'tfjs-cpu': 'cpu', 'tfjs-wasm': 'wasm', 'tfjs-node': 'tensorflow' };

/** The running child of each backend: the next case's takes its place. */
const children = new Map();

function start(name, threads) {
  children.get(name)?.kill();
  const child = fork(fileURLToPath(new URL('./tfjs-child.mjs', import.meta.url)), {
    serialization: 'advanced',
    stdio: ['ignore', 'ignore', 'ignore', 'ipc'],
    env: { ...process.env, TF_NUM_INTRAOP_THREADS: String(threads), TF_NUM_INTEROP_THREADS: '1' },
  });
  children.set(name, child);
  hold(child, false);
  return child;
}

/** Only a child that is asked something keeps this process alive. */
function hold(child, held) {
  const method = held ? 'ref' : 'unref';
  child[method]();
  child.channel?.[method]();
}

/** One message and its answer. @throws {Unavailable} what the child cannot, or did not within LIMIT_SECONDS if `limited` */
function ask(child, message, limited = false) {
  return new Promise((done, fail) => {
    const end = (settle, value) => {
      clearTimeout(timer);
      child.off('message', hear);
      child.off('exit', gone);
      hold(child, false);
      settle(value);
    };
    const hear = (answer) => {
      if (answer.unavailable) end(fail, new Unavailable(answer.unavailable));
      else if (answer.fault) end(fail, new Error(answer.fault));
      else end(done, answer);
    };
    const gone = (code, signal) => end(fail, new Unavailable(`its process ended (${signal ?? code})`));
    const stop = () => {
      child.kill('SIGKILL');
      end(fail, new Unavailable(`a call took more than ${LIMIT_SECONDS} s and was stopped`));
    };
    const timer = limited ? setTimeout(stop, 1000 * LIMIT_SECONDS) : undefined;
    child.on('message', hear);
    child.on('exit', gone);
    hold(child, true);
    child.send(message);
  });
}

/**
 * The tfjs contenders of a case, slowest kind first.
 *
 * @param {string} kernel - a name of KERNELS of tfjs-kernels.mjs
 * @param {object} input - what the kernel takes
 * @param {{threads: number, smoke: boolean}} options - threads of tfjs-node; the other two have one
 */
export function tfjsContenders(kernel, input, { threads, smoke }) {
  return Object.entries(BACKENDS).map(([name, backend]) => {
    let child = null;
    let last = {};
    const contender = {
      name,
      async run() {
        const first = child === null;
        if (first) {
          child = start(name, threads);
          const ready = await ask(child, { backend, kernel, input, threads }, true);
          contender.threads = ready.threads;
        }
        last = await ask(child, { answer: first }, first);
        if (first && !smoke) await warmUp(child);
        return last.answer;
      },
      seconds: () => last.seconds,
      peakBytes: () => last.peakBytes,
    };
    return contender;
  });
}

async function warmUp(child) {
  let spent = 0;
  for (let call = 0; call < WARM_UP.calls && spent < WARM_UP.seconds; call++)
    spent += (await ask(child, { answer: false })).seconds;
}
