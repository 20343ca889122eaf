// Joins the shards of one group plan into the artifact that a whole run would have made: what every shard made is put
// into a draft of the whole, and the synthesize stage finishes that draft as it finishes any other. So there is one way
// to write a set of images, and equal forwards give an equal artifact id.

import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { type Artifact, openArtifact, openDraft, type StageHeader } from './artifact.ts';
import { hashJson } from './canonical-json.ts';
import { parseConfig } from './config.ts';
import { SHARD_FILE } from './datasets/synthetic-set.ts';
import { DECIDING, differingKeys } from './differences.ts';
import { expected, LpldError } from './errors.ts';
import { keptOrMade } from './output-folder.ts';
import { checkApart } from './roles.ts';
import { resolveRuntime, type StageOptions, settled } from './run-options.ts';
import { finish, type Making, standing } from './stage-runner.ts';
import type { PlanRecord } from './stages/synthesis-plan.ts';
import { synthesize } from './stages/synthesize.ts';

const shardRecord = z.object({
  shard: z.string(),
  firstGroups: z.array(z.int().min(0)).min(1),
  groupsPerForward: z.int().min(1),
  sizes: z.array(z.int().min(1)).min(1),
  halved: z.array(z.object({ fromGroup: z.int().min(0), groupsPerForward: z.int().min(1) })),
});

interface Shard {
  readonly artifact: Artifact;
  readonly header: StageHeader;
  readonly record: z.infer<typeof shardRecord>;
  readonly name: string; // for messages
}

const COPIED_AT_ONCE = 256; // files under one journal entry

/** Options of a stage, with the folder of the teacher in place of its inputs. */
export type MergeOptions = Omit<StageOptions, 'inputs'> & { readonly teacher: string };

/**
 * Joins shards into one artifact of images; the shards stay as they are.
 *
 * @param dirs - artifacts made with `synthesize --shard I/N`, in any order
 * @param options.teacher - the teacher they were made from
 * @throws {LpldError} E_CONFIG for an output folder that is one of the shards or was made otherwise; E_MISMATCH for another teacher, something that is no shard, shards of different configs or plans,
 *   groups that two shards hold or none; E_DATA for damaged files
 */
export async function mergeShards(dirs: readonly string[], given: MergeOptions): Promise<Artifact> {
  const options = settled(given);
  if (dirs.length === 0) throw new LpldError('E_CONFIG', expected('at least one shard', 'shards', 'none'));
  checkApart(options.out, {
    teacher: options.teacher,
    ...Object.fromEntries(dirs.map((dir) => [`the shard ${dir}`, dir])),
  });
  const shards: Shard[] = [];
  for (const dir of dirs) shards.push(await openShard(dir));
  const header = commonHeader(shards);
  const plan = joinPlans(shards);
  const teacher = await openArtifact(options.teacher);
  if (teacher.id !== header.inputs.teacher)
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `the teacher ${header.inputs.teacher?.slice(0, 12)} of the shards`,
        '--teacher',
        teacher.id.slice(0, 12),
      ),
      { path: options.teacher },
    );
  const runtime = resolveRuntime(options);
  const { out: dir } = options;
  const config = configOf(header);
  const node = { stage: synthesize, folder: 'merge', config, inputs: {} };
  const prepared = { inputs: { teacher }, dataset: null, header };
  const replacing = { replace: options.replace ?? false };
  const making: Making = { node, dir, prepared, runtime, progress: options.progress.stage(node.folder), replacing };
  return keptOrMade(
    dir,
    making.progress,
    () => standing(dir, header),
    () => join(shards, plan, making),
  );
}

/** Puts the files of all shards into the draft of the whole, and finishes it. */
async function join(shards: readonly Shard[], plan: PlanRecord, making: Making): Promise<Artifact> {
  const draft = await openDraft(making.dir, making.prepared.header, making.replacing);
  const begun = (await draft.loadState('plan'))?.json; // the key does not hold the plan: sizes follow memory
  if (begun === undefined || hashJson(begun) !== hashJson(plan))
    for (const { path } of draft.files) await draft.remove(path);
  await draft.saveState('plan', {}, plan); // first: what is in the draft belongs to this plan, whoever takes it up
  for (const { artifact } of shards) {
    const files = artifact.manifest.files.filter(({ path }) => /^(images|losses)\//.test(path) && !draft.has(path));
    for (let i = 0; i < files.length; i += COPIED_AT_ONCE) {
      const some = files
        .slice(i, i + COPIED_AT_ONCE)
        .map(async ({ path }) => [path, await readFile(artifact.path(path))] as const);
      await draft.writeFiles(await Promise.all(some));
    }
  }
  return finish(making);
}

async function openShard(dir: string): Promise<Shard> {
  const artifact = await openArtifact(dir, { verify: true });
  const { stage, stageVersion, config, inputs, deviceClass, precision } = artifact.manifest;
  if (stage !== 'synthesize' || stageVersion !== synthesize.version || !artifact.has(SHARD_FILE))
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `a shard of synthesize (version ${synthesize.version})`,
        'shard',
        artifact.has(SHARD_FILE) || stage !== 'synthesize' ? `${stage} (version ${stageVersion})` : 'a whole set',
        'shards are made with: lpld-native synthesize --shard I/N',
      ),
      { path: dir },
    );
  const parsed = shardRecord.safeParse(await artifact.readJson(SHARD_FILE));
  if (!parsed.success)
    throw new LpldError('E_DATA', expected('the record of a shard', SHARD_FILE, parsed.error.issues[0]?.message), {
      path: artifact.path(SHARD_FILE),
    });
  const whole = config as { synthesize: object };
  const header = { stage, stageVersion, inputs, deviceClass, precision };
  return {
    artifact,
    header: { ...header, config: { ...whole, synthesize: { ...whole.synthesize, shard: null } } },
    record: parsed.data,
    name: `${dir} (shard ${parsed.data.shard})`,
  };
}

/** The header of the whole run, from shards that must agree in it. */
function commonHeader(shards: readonly Shard[]): StageHeader {
  const [first, ...others] = shards as [Shard, ...Shard[]];
  for (const other of others) {
    const [a, b] = [first.header, other.header];
    if (hashJson(a) === hashJson(b)) continue;
    const keys = [
      ...differingKeys(a.config, b.config, DECIDING),
      ...differingKeys(a.inputs, b.inputs, undefined, 'made from'),
      ...(['deviceClass', 'precision'] as const).filter((key) => a[key] !== b[key]),
    ];
    throw different(keys.join(', '), first, other, 'make the shards again with one config, teacher and device');
  }
  return first.header;
}

function different(what: string, a: Shard, b: Shard, advice: string): LpldError {
  const message = expected(`shards of one plan, but ${what} differs`, 'shards', `${a.name} and ${b.name}`, advice);
  return new LpldError('E_MISMATCH', message, { shards: [a.artifact.dir, b.artifact.dir], differs: what });
}

/** The plan the shards make up: every group of it in exactly one of them. */
function joinPlans(shards: readonly Shard[]): PlanRecord {
  const [first, ...others] = shards as [Shard, ...Shard[]];
  const { groupsPerForward } = first.record;
  const groups = first.record.sizes.reduce((sum, size) => sum + size, 0);
  for (const other of others) {
    if (other.record.groupsPerForward !== groupsPerForward)
      throw different(
        `groups per forward (${groupsPerForward} and ${other.record.groupsPerForward})`,
        first,
        other,
        'make them again with one --groups-per-forward: without it each is sized to its own machine',
      );
    if (other.record.sizes.reduce((sum, size) => sum + size, 0) !== groups)
      throw different('the number of groups', first, other, 'make them again with one config');
  }
  const held = new Map<number, { shard: Shard; size: number }>(); // first group of a forward -> who made it
  const owner = new Array<Shard | undefined>(groups);
  for (const shard of shards) {
    const made = new Set(shard.record.firstGroups);
    let at = 0;
    for (const size of shard.record.sizes) {
      if (made.has(at)) {
        held.set(at, { shard, size });
        for (let group = at; group < at + size; group++) {
          const before = owner[group];
          if (before !== undefined) throw overlap(group, before, shard);
          owner[group] = shard;
        }
      }
      at += size;
    }
  }
  const missing = Array.from(owner.keys()).filter((group) => owner[group] === undefined);
  if (missing.length > 0)
    throw new LpldError(
      'E_MISMATCH',
      expected(
        `all ${groups} groups`,
        'shards',
        `none that holds ${spans(missing)}`,
        `given: ${shards.map(({ record }) => record.shard).join(', ')}`,
      ),
      { missing },
    );
  const sizes = [...held].sort(([a], [b]) => a - b).map(([, { size }]) => size);
  const halved = shards.flatMap(({ record }) => record.halved).sort((a, b) => a.fromGroup - b.fromGroup);
  return { groupsPerForward, sizes, halved };
}

function overlap(group: number, a: Shard, b: Shard): LpldError {
  const message = expected('each group in one shard', 'shards', `group ${group} in ${a.name} and in ${b.name}`);
  return new LpldError('E_MISMATCH', message, { group, shards: [a.artifact.dir, b.artifact.dir] });
}

/** `groups 3 to 5, 9` */
function spans(values: readonly number[]): string {
  const runs: [number, number][] = [];
  for (const value of values) {
    const last = runs.at(-1);
    if (last !== undefined && last[1] === value - 1) last[1] = value;
    else runs.push([value, value]);
  }
  const shown = runs.slice(0, 5).map(([low, high]) => (low === high ? `${low}` : `${low} to ${high}`));
  return `groups ${shown.join(', ')}${runs.length > 5 ? ', ...' : ''}`;
}

/** The stage reads its own section and the seed; both are in the header. */
function configOf({ config }: StageHeader): ReturnType<typeof parseConfig> {
  const { synthesize, seed } = config as { synthesize: unknown; seed: unknown };
  return parseConfig({ synthesize, seed });
}
