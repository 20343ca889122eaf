// The synthesize stage on six tiny classes, with the native side as it is or with one call replaced: shards, selections,
// plans that are cut while they run.

import { mkdtempSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type Artifact, type ArtifactDraft, openArtifact, openDraft, type StageHeader } from '../../src/artifact.ts';
import type { Config } from '../../src/config.ts';
import type { NativeBinding } from '../../src/native.ts';
import { type RuntimeOptions, resolveRuntime, runStage, type StageOptions } from '../../src/run.ts';
import { synthesize } from '../../src/stages/synthesize.ts';
import type { Summary } from '../../src/stages/types.ts';
import { native } from './native.ts';
import { makeChain, optionsOf, RUNTIME, tiny, tinySource, watching } from './tiny.ts';

export const SIX = tinySource({
  dataset: { classes: [0, 1, 2, 3, 4, 5] },
  synthesize: { iterations: 12, groupsPerForward: 2 },
});

/** SIX with other options of synthesize. */
export const six = (options: object = {}): Config =>
  tiny({ ...SIX, synthesize: { ...(SIX.synthesize as object), ...options } });

/** A folder with a teacher of six classes. */
export class Bench {
  readonly root = mkdtempSync(join(tmpdir(), 'lpld-synthesis-'));
  readonly teacher = join(this.root, 'squeeze');

  open(): Promise<void> {
    return makeChain(this.root, six(), ['squeeze']);
  }
  close(): Promise<void> {
    return rm(this.root, { recursive: true, force: true });
  }
  out(name: string): string {
    return join(this.root, name);
  }
  make(
    name: string,
    options: object = {},
    runtime: Partial<RuntimeOptions> = {},
    change: Partial<StageOptions> = {},
  ): Promise<Artifact> {
    return runStage('synthesize', six(options), {
      ...optionsOf(this.out(name), { runtime: { ...RUNTIME, ...runtime } }),
      inputs: { teacher: this.teacher },
      ...change,
    });
  }
  /** The stage itself on a native side with some calls replaced: the draft, the lines it logged, its summary. */
  async run(
    name: string,
    options: object,
    replaced: Partial<NativeBinding>,
  ): Promise<{ draft: ArtifactDraft; lines: string[]; ran: Promise<Summary> }> {
    const teacher = await openArtifact(this.teacher);
    const config = six(options);
    const header: StageHeader = {
      stage: 'synthesize',
      stageVersion: synthesize.version,
      config: synthesize.identity(config),
      inputs: { teacher: teacher.id },
      deviceClass: 'cpu',
      precision: 'fp32',
    };
    const draft = await openDraft(this.out(name), header);
    const { sink } = watching();
    const lines: string[] = [];
    const progress = sink.stage('synthesize');
    const ran = synthesize.run({
      config,
      runtime: resolveRuntime(optionsOf(this.out(name))),
      native: { ...binding(), ...replaced },
      inputs: { teacher },
      dataset: null,
      draft,
      progress: { ...progress, log: (line) => void lines.push(line) },
    });
    return { draft, lines, ran };
  }
}

/** The addon's calls as a plain object, so that some can be replaced. */
const binding = (): NativeBinding => ({ ...native() });

/** Hashes of the image files of an artifact, by name. */
export const imagesOf = ({ manifest }: { manifest: Artifact['manifest'] }): Record<string, string> =>
  Object.fromEntries(manifest.files.filter(({ path }) => path.startsWith('images/')).map((f) => [f.path, f.sha256]));
