// What a stage does to a draft, as a process of its own that a test kills: files of three kinds, saved state between
// segments, then publishing. Run through Vite's module runner; argv: final folder, milliseconds to wait between steps.

import { setTimeout as wait } from 'node:timers/promises';
import { openDraft, type StageHeader } from '../../src/artifact.ts';
import { tensor } from '../../src/tensor.ts';

export const header: StageHeader = {
  stage: 'squeeze',
  stageVersion: 1,
  config: { seed: 3 },
  inputs: { dataset: 'x' },
  deviceClass: 'cpu',
  precision: 'fp32',
};
export const SEGMENTS = 6;

/** Runs or resumes the stage. `step` is called between all durable steps. */
export async function runStage(finalDir: string, step: () => Promise<void>): Promise<string> {
  const draft = await openDraft(finalDir, header);
  const state = await draft.loadState('segment');
  let sum = state === null ? 0n : new DataView(state.tensors.sum!.data.slice().buffer).getBigInt64(0, true);
  const from = state === null ? 0 : (state.json as { next: number }).next;
  for (let i = from; i < SEGMENTS; i++) {
    const file = `parts/${i}.safetensors`;
    if (!draft.has(file)) {
      const data = Float32Array.from({ length: 5000 }, (_, j) => i + j);
      await draft.writeTensors(file, { data: tensor('F32', [5000], data) }, { segment: String(i) });
    }
    await step();
    sum += BigInt(i);
    await draft.saveState('segment', { sum: tensor('I64', [], BigInt64Array.of(sum)) }, { next: i + 1 });
    await draft.note({ seconds: 1 });
    await step();
  }
  await draft.writeFiles([0, 1, 2].map((i) => [`images/${i}.bin`, new Uint8Array(100).fill(i)] as const));
  await step();
  await draft.writeJson('sum.json', { sum: Number(sum) });
  await step();
  return (await draft.publish({ sum: Number(sum) })).id;
}

const [, , finalDir, pause] = process.argv;
if (finalDir !== undefined && pause !== undefined && process.env.LPLD_DRAFT_CHILD === '1') {
  process.stdout.write('ready\n');
  const id = await runStage(finalDir, () => wait(Number(pause)));
  process.stdout.write(`${id}\n`);
}
