// The synthesize stage itself, run on a teacher written by the test, one native iteration at a time, so that every draw,
// loss and iterate can be compared. The cut changes nothing: segments are equal bit for bit (test/trajectories.test.ts).

import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Artifact, openDraft } from '../../src/artifact.ts';
import type { Config } from '../../src/config.ts';
import { decodeImage } from '../../src/datasets/images.ts';
import type { NativeBinding, SynthesizeResult, SynthesizeSpec } from '../../src/native.ts';
import { stageNamed } from '../../src/pipeline.ts';
import { resolveRuntime } from '../../src/run.ts';
import type { Architecture, DatasetFacts } from '../../src/stages/shared.ts';
import type { TensorMap, TensorView } from '../../src/tensor.ts';
import { completed, native, quiet } from './native.ts';
import { viewRows } from './tensors.ts';
import { optionsOf, watching } from './tiny.ts';

export interface TestTeacher {
  readonly architecture: Architecture;
  readonly facts: DatasetFacts;
  readonly weights: TensorMap; // without num_batches_tracked
  readonly stats: TensorMap | null; // class statistics, `<layer>.mean` and `<layer>.var` [K, C]
}

/** One forward as the stage asked for it, and what came of each of its iterations. */
export interface SeenForward {
  readonly specs: SynthesizeSpec[]; // of one iteration each
  readonly results: SynthesizeResult[];
}

/** The rows [at, at + 1) of everything a spec lists by iteration. */
function iteration(spec: SynthesizeSpec, at: number, state: SynthesizeSpec['state']): SynthesizeSpec {
  const row = (view: TensorView): TensorView => viewRows(view, at, at + 1);
  const { crop, flip, roll, lr } = spec;
  return { ...spec, state, step: spec.step + at, crop: row(crop), flip: row(flip), roll: row(roll), lr: row(lr) };
}

/** The binding, but synthesize() runs iteration by iteration and writes each down. */
function watched(binding: NativeBinding, seen: SeenForward[]): NativeBinding {
  const synthesize: NativeBinding['synthesize'] = (model, whole) => {
    const run = async (): Promise<SynthesizeResult> => {
      if (whole.step === 0) seen.push({ specs: [], results: [] });
      const { specs, results } = seen.at(-1)!;
      const first = results.length;
      for (let at = 0, state = whole.state; at < whole.lr.shape[0]!; at++) {
        specs.push(iteration(whole, at, state));
        results.push(await binding.synthesize(model, specs.at(-1)!, quiet).promise);
        state = results.at(-1)!.state;
      }
      const joined = (key: 'lossCe' | 'lossBn' | 'lossLayers'): TensorView => {
        const views = results.slice(first).map((result) => result[key]);
        const data = new Uint8Array(Buffer.concat(views.map((view) => view.data)));
        return { ...views[0]!, shape: [views.length, ...views[0]!.shape.slice(1)], data };
      };
      const losses = { lossCe: joined('lossCe'), lossBn: joined('lossBn'), lossLayers: joined('lossLayers') };
      return { state: results.at(-1)!.state, ...losses, graphRefused: null };
    };
    return { promise: run(), cancel: quiet };
  };
  return { ...binding, synthesize };
}

async function teacherIn(dir: string, { architecture, facts, weights, stats }: TestTeacher): Promise<Artifact> {
  const header = { stage: 'squeeze', stageVersion: 1, config: {}, inputs: {}, precision: 'fp32' } as const;
  const draft = await openDraft(dir, { ...header, deviceClass: 'cpu' });
  const model = native().createModel({ ...architecture, device: 'cpu', seed: 0n });
  await draft.writeTensors('teacher.safetensors', completed(model, weights));
  model.dispose();
  await draft.writeJson('model.json', architecture);
  await draft.writeJson('dataset.json', facts);
  if (stats !== null) await draft.writeTensors('stats.safetensors', stats);
  return draft.publish({});
}

/** The forwards of a stage, and the images it wrote: uint8 [P, P, C] by path. */
export interface SeenSynthesis {
  readonly forwards: readonly SeenForward[];
  readonly images: ReadonlyMap<string, Uint8Array>;
}

/** Runs the stage in a folder that is gone afterwards; one thread, deterministic. */
export async function runSynthesis(config: Config, teacher: TestTeacher): Promise<SeenSynthesis> {
  const root = await mkdtemp(join(tmpdir(), 'lpld-synthesis-'));
  const forwards: SeenForward[] = [];
  const images = new Map<string, Uint8Array>();
  try {
    const header = { stage: 'synthesize', stageVersion: 1, config: {}, inputs: {}, deviceClass: 'cpu' } as const;
    const draft = await openDraft(join(root, 'images'), { ...header, precision: config.synthesize.precision });
    await stageNamed('synthesize').run({
      config,
      runtime: resolveRuntime(optionsOf(root)),
      native: watched(native(), forwards),
      inputs: { teacher: await teacherIn(join(root, 'teacher'), teacher) },
      dataset: null,
      draft,
      progress: watching().sink.stage('synthesize'),
    });
    for (const { path } of draft.files.filter((file) => file.path.startsWith('images/')))
      images.set(path, (await decodeImage(await readFile(draft.path(path)), path, teacher.facts.channels)).pixels);
  } finally {
    await rm(root, { recursive: true, force: true });
  }
  return { forwards, images };
}
