// Which classes share a forward pass of synthesis. The plan is computed once from the full class list, written to the
// manifest and kept by resume, shards and class selections: rounding is amplified by the loop, so a class met in other
// company would come out different. Statistics, losses and draws stay per class.
// Source: docs/architecture.md, class groups.

import { expected, LpldError } from './errors.ts';
import type { SynthesisGroup } from './methods/index.ts';

/** forwards[f] lists the class ids of forward f, each once, in batch order. */
export interface GroupPlan {
  readonly groupsPerForward: number;
  readonly forwards: readonly (readonly number[])[];
}

/** Groups optimised together, named by the place of their first group among all groups: halving renames no other. */
export interface Forward {
  readonly first: number;
  readonly groups: readonly SynthesisGroup[]; // all with equally many images
}

/**
 * Cuts groups into forwards: consecutive groups of equally many images, at most `groupsPerForward` in each.
 *
 * @param groupsPerForward - at least 1
 * @throws {LpldError} E_CONFIG for no groups or a size below one
 */
export function forwardPlan(groups: readonly SynthesisGroup[], groupsPerForward: number): SynthesisGroup[][] {
  if (!(Number.isInteger(groupsPerForward) && groupsPerForward >= 1))
    throw new LpldError('E_CONFIG', expected('an integer of at least 1', 'groupsPerForward', groupsPerForward));
  if (groups.length === 0) throw new LpldError('E_CONFIG', expected('at least one group', 'groups', 0));
  const forwards: SynthesisGroup[][] = [];
  for (const group of groups) {
    const last = forwards.at(-1);
    if (last !== undefined && last.length < groupsPerForward && last[0]!.images.length === group.images.length)
      last.push(group);
    else forwards.push([group]);
  }
  return forwards;
}

/** The classes of one forward, each once, in batch order. */
export function classesOf(groups: readonly SynthesisGroup[]): number[] {
  return [...new Set(groups.flatMap((group) => group.images.map((image) => image.classId)))];
}

/**
 * Forwards of given sizes.
 *
 * @param sizes - groups of each forward, in order; together all groups
 * @throws {LpldError} E_DATA where the sizes are not those of these groups (a plan that was recorded for others)
 */
export function placeForwards(groups: readonly SynthesisGroup[], sizes: readonly number[]): Forward[] {
  let first = 0;
  const forwards = sizes.map((size): Forward => {
    const forward = { first, groups: groups.slice(first, first + size) };
    first += size;
    return forward;
  });
  const whole = forwards.every(({ groups }, f) => groups.length === sizes[f] && groups.length > 0);
  if (!whole || first !== groups.length)
    throw new LpldError('E_DATA', expected(`sizes of ${groups.length} groups`, 'the recorded plan', first));
  return forwards;
}

/** Sizes of forwards cut into parts of at most `most` groups where `cut` says so; the others keep theirs. */
export function cutSizes(forwards: readonly Forward[], most: number, cut: (forward: Forward) => boolean): number[] {
  return forwards.flatMap((forward) => {
    const size = forward.groups.length;
    if (!cut(forward)) return [size];
    return Array.from({ length: Math.ceil(size / most) }, (_, part) => Math.min(most, size - part * most));
  });
}

/** A shard as people write it: part i of n, from 1. */
export const SHARD = /^\d{1,6}\/\d{1,6}$/;

/** `2/8` as a selection. @throws {LpldError} E_CONFIG unless 1 <= i <= n */
export function shardOf(text: string): { shard: number; count: number } {
  const [part = 0, count = 0] = text.split('/').map(Number);
  if (!SHARD.test(text) || part < 1 || part > count)
    throw new LpldError('E_CONFIG', expected('I/N with 1 <= I <= N, such as 2/8,', 'shard', text), { key: 'shard' });
  return { shard: part - 1, count };
}

/** All of the plan, the forwards of some classes, or one of `count` near-equal runs of forwards. */
export type GroupSelection =
  | 'all'
  | { readonly classes: ArrayLike<number> }
  | { readonly shard: number; readonly count: number };

/**
 * The forwards a run computes. Whole forwards only.
 *
 * @returns indices into plan.forwards, ascending
 * @throws {LpldError} E_CONFIG for classes that cut a forward or are not in the plan, for a shard outside 0 .. count-1,
 *   for more shards than forwards
 */
export function selectGroups(plan: GroupPlan, selection: GroupSelection): number[] {
  const all = Array.from(plan.forwards.keys());
  if (selection === 'all') return all;
  if ('shard' in selection) {
    const { shard, count } = selection;
    if (!(Number.isInteger(count) && count >= 1 && count <= all.length))
      throw new LpldError(
        'E_CONFIG',
        expected(`1 to ${all.length} shards`, 'shard', `${shard}/${count}`, shardAdvice(plan)),
      );
    if (!(Number.isInteger(shard) && shard >= 0 && shard < count))
      throw new LpldError('E_CONFIG', expected(`an index in 0..${count - 1}`, 'shard', shard));
    return all.slice(Math.floor((shard * all.length) / count), Math.floor(((shard + 1) * all.length) / count));
  }
  const wanted = new Set(Array.from(selection.classes));
  const chosen = all.filter((f) => plan.forwards[f]!.some((id) => wanted.has(id)));
  const members = new Set(chosen.flatMap((f) => plan.forwards[f]!));
  const unknown = [...wanted].filter((id) => !members.has(id));
  if (wanted.size === 0 || unknown.length > 0)
    throw new LpldError('E_CONFIG', expected('classes of the group plan', 'classes', unknown.join(',')));
  if (members.size !== wanted.size) {
    const whole = chosen.map((f) => plan.forwards[f]!.join(',')).join(' | ');
    throw new LpldError(
      'E_CONFIG',
      expected('whole groups', 'classes', [...wanted].join(','), `choose all of ${whole}, or none of a group`),
    );
  }
  return chosen;
}

function shardAdvice(plan: GroupPlan): string {
  return `a shard takes whole forwards of up to ${plan.groupsPerForward} groups: use fewer shards or smaller forwards`;
}

/**
 * The largest number of classes whose images fit one forward.
 *
 * @param options.ipc - images per class in the forward
 * @param options.bytesPerImage - activations, gradients and optimizer state of one image
 * @param options.memory - budget, bytes
 * @param options.cacheImages - images beyond which a CPU gets slower per image; null where memory alone decides
 * @returns at least 1
 * @throws {LpldError} E_DEVICE if not even one class fits the memory
 */
export function classesPerForward(options: {
  ipc: number;
  bytesPerImage: number;
  memory: number;
  cacheImages: number | null;
}): number {
  const { ipc, bytesPerImage, memory, cacheImages } = options;
  const fit = Math.floor(memory / (bytesPerImage * ipc));
  if (!(fit >= 1))
    throw new LpldError(
      'E_DEVICE',
      expected(
        `${bytesPerImage * ipc} bytes for one class of ${ipc} images`,
        'memory',
        memory,
        'lower ipc or the image size',
      ),
      { reason: 'memory', bytes: bytesPerImage * ipc, memory },
    );
  return cacheImages === null ? fit : Math.max(1, Math.min(fit, Math.floor(cacheImages / ipc)));
}
