// One tfjs backend in a process of its own, so that its memory is its own and a call that takes too long can be stopped.
// Messages: {backend, kernel, input, threads} prepares and is answered {ready, threads}; {answer: boolean} computes once and
// is answered {seconds, peakBytes, answer?}: the clock is here, so that no copy between processes is in it. What the
// backend lacks is answered {unavailable}; every other failure is a fault of this bench and {fault}.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { KERNELS } from './tfjs-kernels.mjs';

const packages = createRequire(import.meta.url); // of bench/package.json, which need not be installed

/** Loads a backend. @returns {Promise<{tf: object, threads: number}>} threads it computes on */
async function load(backend, threads) {
  if (backend === 'tensorflow') {
    const tf = packages('@tensorflow/tfjs-node');
    await tf.setBackend(backend);
    return { tf, threads }; // told so by TF_NUM_INTRAOP_THREADS
  }
  const tf = packages('@tensorflow/tfjs');
  const wasm = backend === 'wasm' ? packages('@tensorflow/tfjs-backend-wasm') : null;
  await tf.setBackend(backend);
  return { tf, threads: wasm?.getThreadsCount() ?? 1 };
}

let run = null;

async function prepare({ backend, kernel, input, threads: wanted }) {
  let loaded;
  try {
    loaded = await load(backend, wanted);
  } catch (error) {
    if (error.code === 'MODULE_NOT_FOUND')
      return { unavailable: backend === 'tensorflow' ? 'not installed' : 'not installed: npm ci --prefix bench' };
    if (backend === 'tensorflow') return { unavailable: firstLine(error) }; // installed without its library, for example
    throw error;
  }
  run = KERNELS[kernel](loaded.tf, input);
  return { ready: true, threads: loaded.threads };
}

function compute({ answer: wanted }) {
  try {
    const began = process.hrtime.bigint();
    const answer = run();
    const seconds = Number(process.hrtime.bigint() - began) / 1e9;
    return { seconds, peakBytes: peakBytes(), ...(wanted ? { answer } : {}) };
  } catch (error) {
    if (/^Kernel '.*' not registered/.test(error.message)) return { unavailable: firstLine(error) };
    throw error;
  }
}

/** Not resourceUsage(): its maxRSS is never below what the parent had in memory when it started this process. */
const peakBytes = () => 1024 * Number(/VmHWM:\s*(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))[1]);

const firstLine = (error) => error.message.trim().split('\n')[0];

process.on('message', async (/** @type {any} */ message) => {
  try {
    process.send(message.kernel ? await prepare(message) : compute(message));
  } catch (error) {
    process.send({ fault: error.stack });
  }
});
process.on('disconnect', () => process.exit());
