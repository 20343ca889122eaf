// The PyTorch contenders of a bench: one long-lived Python child (bench/eager.py or another script of this folder), asked a
// line at a time. Where Python has no torch, contenders say `unavailable` instead of being left out.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { native } from './inputs.mjs';

/** Starts $PYTHON (default python3) on a device. @returns {Promise<{ask: (request: object) => Promise<object>, close: () => void} | string>} the reason where it cannot */
export async function startEager(threads, device, script = 'eager.py') {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const child = spawn(process.env.PYTHON ?? 'python3', [path, String(threads), device], {
    stdio: ['pipe', 'pipe', 'pipe'],
    env: { ...process.env, OMP_NUM_THREADS: String(threads) },
  });
  let trouble = '';
  child.stderr.on('data', (text) => {
    trouble = `${trouble}${text}`.slice(-2000);
  });
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const ended = new Promise((done) => {
    child.on('error', (error) => done(error.message));
    child.on('close', () => done(trouble.trim().split('\n').at(-1) || 'the Python child ended'));
  });
  const next = async () => {
    const { value, done } = await lines.next();
    if (done) throw new Error(await ended);
    return JSON.parse(value);
  };
  try {
    await next();
  } catch (error) {
    return error.message;
  }
  return {
    ask(request) {
      child.stdin.write(`${JSON.stringify(request)}\n`);
      return next();
    },
    close: () => child.kill(),
  };
}

/**
 * Our side, the PyTorch child and a folder that both read; each side that is missing is why, and all end with the process.
 *
 * @returns {Promise<{binding: import('../dist/native.js').NativeBinding | null, missing: string | null, eager: any, folder: string}>}
 */
export async function openSides(threads, device, script) {
  let binding = null;
  let missing = null;
  try {
    binding = native(device);
  } catch (error) {
    if (error.code !== 'E_DEVICE') throw error;
    missing = error.message.split('\n')[0];
  }
  const eager = binding === null ? missing : await startEager(threads, device, script);
  const folder = mkdtempSync(join(tmpdir(), 'lpld-bench-'));
  process.once('exit', () => {
    if (typeof eager !== 'string') eager.close();
    rmSync(folder, { recursive: true, force: true });
  });
  return { binding, missing, eager, folder };
}
