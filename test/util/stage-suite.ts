// The contract every stage must keep, as one call: its options table, refusals, determinism, cancel and resume.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { z } from 'zod';
import { type Artifact, openArtifact } from '../../src/artifact.ts';
import { type Config, parseConfig } from '../../src/config.ts';
import { stageNamed } from '../../src/pipeline.ts';
import { type RuntimeOptions, runStage } from '../../src/run.ts';
import type { StageName } from '../../src/stages/types.ts';
import { refusal } from './hostile.ts';
import { hashesOf, inputsIn, makeChain, optionsOf, type ProgressStep, RUNTIME, tiny, watching } from './tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

/** Where to stop a stage: past a share of the phase with this label. */
export interface CancelPoint {
  readonly label: RegExp;
  readonly share: number; // in [0, 1); 0 stops as the phase begins
}

export interface StageCase {
  readonly stage: StageName;
  /** Stages whose artifacts it reads, in order. */
  readonly after: readonly StageName[];
  readonly config?: Readonly<Record<string, unknown>>;
  /** Whether the seed of the config reaches the files (a stage that draws nothing gives the same ones). */
  readonly seeded: boolean;
  /** One after the other; each stop comes after the place the one before reached. */
  readonly cancelAt: readonly CancelPoint[];
}

/** What a test of one stage needs besides the contract. */
export interface StageBench {
  readonly config: Config;
  /** Runs the stage into a folder of its own. */
  run(name: string, change?: { config?: Config; runtime?: Partial<RuntimeOptions> }): Promise<Artifact>;
  /** Runs it until the point is reached, aborts, and returns what was seen. */
  stop(name: string, at: CancelPoint, runtime?: Partial<RuntimeOptions>): Promise<ProgressStep[]>;
}

export function testStage(given: StageCase, more: (bench: StageBench) => void = () => {}): void {
  const { stage: name, after, seeded, cancelAt } = given;
  const stage = stageNamed(name);
  const config = tiny(given.config);
  let root = '';
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'lpld-stage-'));
    await makeChain(root, config, after);
  });
  afterAll(() => rm(root, { recursive: true, force: true }));

  const inputs = () => inputsIn(root, name, after);
  const bench: StageBench = {
    config,
    run: (folder, change = {}) =>
      runStage(name, change.config ?? config, {
        ...optionsOf(join(root, `out-${folder}`), { runtime: { ...RUNTIME, ...change.runtime } }),
        inputs: inputs(),
      }),
    async stop(folder, at, runtime = {}) {
      const controller = new AbortController();
      const { sink, steps } = watching((step) => {
        const reached = step.what === 'start' ? at.share === 0 : step.done > 0 && step.done >= at.share * step.total;
        if (at.label.test(step.label) && step.what !== 'log' && reached && step.done < step.total) controller.abort();
      });
      const error = await refusal(() =>
        runStage(name, config, {
          ...optionsOf(join(root, `out-${folder}`), {
            progress: sink,
            signal: controller.signal,
            runtime: { ...RUNTIME, ...runtime },
          }),
          inputs: inputs(),
        }),
      );
      expect(error.code, error.message).toBe('E_CANCELLED');
      return steps;
    },
  };

  describe(`${name}: contract of a stage`, () => {
    test('every option has help and a default', () => {
      const { properties = {} } = z.toJSONSchema(stage.options, { io: 'input' }) as {
        properties?: Record<string, { description?: string; default?: unknown }>;
      };
      expect(Object.keys(properties).length).toBeGreaterThan(0);
      for (const [key, { description }] of Object.entries(properties)) expect(description ?? '', key).toMatch(/\w{3}/);
      expect(stage.options.safeParse({}).success).toBe(true);
    });

    test('an unknown option is refused with the nearest known one', async () => {
      for (const key of Object.keys(stage.options.shape)) {
        const error = await refusal(() => parseConfig({ [name]: { [`${key}x`]: 1 } }));
        expect(error.code).toBe('E_CONFIG');
        expect(error.message).toContain(`${name}.${key}x`);
        expect(error.message).toContain('did you mean');
      }
      const first = Object.keys(stage.options.shape)[0]!;
      expect((await refusal(() => parseConfig({ [name]: { [`${first}x`]: 1 } }))).message).toContain(
        `did you mean ${name}.${first}?`,
      );
    });

    test('the estimate is a number of bytes and seconds', () => {
      const { bytes, seconds } = stage.estimate(config, { train: 100, test: 50, classes: 10 });
      for (const value of [bytes, seconds]) expect(Number.isFinite(value) && value > 0).toBe(true);
    });

    test('a missing input is refused: an artifact by its role, a dataset by its path', async () => {
      const { roles, dataset } = stage.needs(config);
      expect(roles.length > 0 || dataset).toBe(true);
      for (const role of roles) {
        const some = Object.fromEntries(Object.entries(inputs()).filter(([key]) => key !== role));
        const error = await refusal(() => runStage(name, config, { ...optionsOf(join(root, 'none')), inputs: some }));
        expect(error.code).toBe('E_CONFIG');
        expect(error.message).toContain(`--${role}`);
        expect(error.message.split('\n')[1]).toMatch(/^give a folder that \w+/); // what to give
      }
      if (!dataset) return;
      const path = join(root, 'nowhere');
      const elsewhere = tiny({ ...given.config, dataset: { format: 'folder', path, inputSize: 8 } });
      const error = await refusal(() =>
        runStage(name, elsewhere, { ...optionsOf(join(root, 'none')), inputs: inputs() }),
      );
      expect(error.code).toBe('E_DATA');
      expect(error.details.path).toContain(path);
    });

    test('the same config gives the same artifact twice', async () => {
      const [one, two] = [await bench.run('one'), await bench.run('two')];
      expect(two.id).toBe(one.id);
      await openArtifact(one.dir, { verify: true });
    });

    test(seeded ? 'another seed gives other files' : 'the seed changes nothing: the stage draws nothing', async () => {
      const here = await bench.run('one');
      const other = await bench.run('seed', { config: tiny({ ...given.config, seed: 1 }) });
      if (seeded) expect(Object.values(hashesOf(other))).not.toEqual(Object.values(hashesOf(here)));
      else expect(other.id).toBe(here.id);
    });

    test('stopped by an AbortSignal it leaves what is done, and going on gives the same artifact', async () => {
      const whole = await bench.run('one');
      let reached: CancelPoint | null = null;
      for (const at of cancelAt) {
        const steps = await bench.stop('stopped', at);
        await expect(openArtifact(join(root, 'out-stopped'))).rejects.toMatchObject({ code: 'E_DATA' });
        if (reached !== null) expect(steps.map((step) => step.line)).toContain('resuming');
        reached = at;
      }
      const { sink, steps } = watching();
      const resumed = await runStage(name, config, {
        ...optionsOf(join(root, 'out-stopped'), { progress: sink }),
        inputs: inputs(),
      });
      expect(steps.map((step) => step.line)).toContain('resuming');
      const first = steps.find((step) => step.what === 'update' && reached!.label.test(step.label));
      if (reached!.share > 0) expect(first!.done).toBeGreaterThan(0);
      expect(resumed.id).toBe(whole.id);
    });
  });
  more(bench);
}
