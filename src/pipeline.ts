// Which stages a config asks for and how their artifacts hang together: a list of nodes in the order of a run.
// Controls are the same stages on real images in folders of their own.

import type { Config } from './config.ts';
import { STAGES } from './stages/index.ts';
import type { Stage, StageName } from './stages/types.ts';

export interface Node {
  readonly stage: Stage;
  readonly folder: string; // relative to the run folder
  readonly config: Config;
  readonly inputs: Readonly<Record<string, string>>; // role -> folder of the artifact
}

export function stageNamed(name: StageName): Stage {
  return STAGES.find((stage) => stage.name === name)!;
}

/** Folder of the labels a config's students draw from: the pruned or re-encoded pool where there is one. */
export function labelsFolder({ prune }: Config): 'prune' | 'relabel' {
  return prune.pruneRatio > 0 || prune.codec !== null ? 'prune' : 'relabel';
}

/** The stages of a run in order: the distilled set first, then the controls asked for. */
export function pipelineNodes(config: Config): Node[] {
  const node = (name: StageName, folder: string, inputs: Node['inputs'], of: Config = config): Node => ({
    stage: stageNamed(name),
    folder,
    inputs,
    config: of,
  });
  /** relabel to evaluate on the images of one folder. */
  const chain = (prefix: string, images: string, of: Config): Node[] => [
    node('relabel', `${prefix}relabel`, { teacher: 'squeeze', images }, of),
    ...(labelsFolder(of) === 'prune'
      ? [node('prune', `${prefix}prune`, { labels: `${prefix}relabel`, images }, of)]
      : []),
    node('train', `${prefix}train`, { images, labels: prefix + labelsFolder(of) }, of),
    node('evaluate', `${prefix}evaluate`, { students: `${prefix}train` }, of),
  ];
  const nodes = [
    node('squeeze', 'squeeze', {}),
    node('synthesize', 'synthesize', { teacher: 'squeeze' }),
    ...chain('', 'synthesize', config),
  ];
  if (config.controls.length === 0) return nodes;
  const real: Config = { ...config, synthesize: { ...config.synthesize, method: 'random' } };
  nodes.push(node('synthesize', 'random/synthesize', {}, real));
  if (config.controls.includes('random-soft')) nodes.push(...chain('random/', 'random/synthesize', real));
  if (config.controls.includes('random')) {
    const hard: Config = { ...real, train: { ...real.train, targets: 'hard' } };
    nodes.push(node('train', 'random-hard/train', { images: 'random/synthesize' }, hard));
    nodes.push(node('evaluate', 'random-hard/evaluate', { students: 'random-hard/train' }, hard));
  }
  return nodes;
}
