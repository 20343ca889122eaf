// The group plan of one synthesize artifact while it is made: cut once, saved with the draft before the first forward,
// cut smaller when memory runs out, and recorded. A resume, a shard and a selection of classes take it as it stands.
// Invariant: a forward that is made keeps its groups; what is cut keeps its place, so that shards still fit together.

import type { ArtifactDraft } from '../artifact.ts';
import type { Config } from '../config.ts';
import { classesOf, cutSizes, type Forward, forwardPlan, placeForwards, selectGroups, shardOf } from '../groups.ts';
import type { SynthesisGroup } from '../methods/index.ts';
import { savedState } from './shared.ts';

/** From this group (its place among all groups) on, forwards were cut to so many groups: memory had run out. */
export interface Halving {
  readonly fromGroup: number;
  readonly groupsPerForward: number;
}

/** What is saved, and what a shard says of itself. */
export interface PlanRecord {
  readonly groupsPerForward: number; // before any halving; shards and classes are counted in its forwards
  readonly sizes: readonly number[]; // groups of every forward, of the whole plan
  readonly halved: readonly Halving[];
}

export class SynthesisPlan {
  readonly groups: readonly SynthesisGroup[];
  readonly #draft: ArtifactDraft;
  readonly #chosen: ReadonlySet<number>; // places of the groups to be made
  #record: PlanRecord;

  private constructor(
    draft: ArtifactDraft,
    groups: readonly SynthesisGroup[],
    record: PlanRecord,
    chosen: ReadonlySet<number>,
  ) {
    this.#draft = draft;
    this.groups = groups;
    this.#record = record;
    this.#chosen = chosen;
  }

  /**
   * Takes up the draft's plan, or makes and saves one.
   *
   * @param sized - groups per forward of a new plan
   * @throws {LpldError} E_CONFIG for classes or a shard that are no whole forwards of the plan
   */
  static async open(
    draft: ArtifactDraft,
    groups: readonly SynthesisGroup[],
    { classes, shard }: Config['synthesize'],
    sized: () => number,
  ): Promise<SynthesisPlan> {
    const saved = (await savedState<PlanRecord>(draft, 'plan'))?.json; // a resume may find other memory free
    const groupsPerForward = saved?.groupsPerForward ?? sized();
    const uncut = forwardPlan(groups, groupsPerForward);
    const sizes = uncut.map((members) => members.length);
    const selection = shard !== null ? shardOf(shard) : classes !== null ? { classes } : 'all';
    const base = placeForwards(groups, sizes);
    const chosen = selectGroups({ groupsPerForward, forwards: uncut.map(classesOf) }, selection)
      .map((f) => base[f]!)
      .flatMap(({ first, groups: members }) => members.map((_, i) => first + i));
    const record = saved ?? { groupsPerForward, sizes, halved: [] };
    const plan = new SynthesisPlan(draft, groups, record, new Set(chosen));
    if (saved === undefined) await draft.saveState('plan', {}, record);
    return plan;
  }

  get record(): PlanRecord {
    return this.#record;
  }

  /** The forwards to be made, in order. */
  get forwards(): Forward[] {
    return this.all.filter(({ first }) => this.#chosen.has(first));
  }

  get all(): Forward[] {
    return placeForwards(this.groups, this.#record.sizes);
  }

  /** Cuts `failed` and every later forward to be made to half the groups `failed` has, and saves that. */
  async halve(failed: Forward): Promise<Halving> {
    const halving = { fromGroup: failed.first, groupsPerForward: Math.ceil(failed.groups.length / 2) };
    const unmade = ({ first }: Forward): boolean => first >= failed.first && this.#chosen.has(first);
    const sizes = cutSizes(this.all, halving.groupsPerForward, unmade);
    this.#record = { ...this.#record, sizes, halved: [...this.#record.halved, halving] };
    await this.#draft.saveState('plan', {}, this.#record);
    await this.#draft.dropState('images'); // of a forward that is no more
    return halving;
  }
}
