// The header of a label store that tests write by hand: an artifact of relabel, made of nothing.

export const labelStage = {
  stage: 'relabel',
  stageVersion: 1,
  config: {},
  inputs: {},
  deviceClass: 'cpu',
  precision: 'fp32',
} as const;
