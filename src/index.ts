// The public API: re-exports only. Nothing here loads native code; runPipeline, runStage and loadNative do on first use.

export { loadNative } from './addon.ts';
export { type Artifact, type FileEntry, type Manifest, openArtifact } from './artifact.ts';
export { type CodedLogits, decodeLogits, encodeLogits, type LogitRows } from './coding.ts';
export { type Config, configJsonSchema, loadConfig, parseConfig, presetNames } from './config.ts';
export { type FetchOptions, fetchDataset } from './datasets/fetch.ts';
export { FORMATS, openDataset } from './datasets/index.ts';
export { openSyntheticSet, type SyntheticDataset } from './datasets/synthetic-set.ts';
export type { Dataset, DatasetFormat, DatasetOptions, ImageChunk, Split } from './datasets/types.ts';
export { type DoctorReport, diagnose, renderDoctor } from './doctor.ts';
export { type ErrorCode, EXIT_CODES, LpldError } from './errors.ts';
export { type Exported, type ExportOptions, exportData } from './export.ts';
export { type ImportOptions, importData } from './import.ts';
export { type InstallOptions, installLibtorch } from './install.ts';
export { readWeights } from './interchange/index.ts';
export { inspectLabels, type LabelInspection } from './label-inspection.ts';
export { LabelReader, type LabelRows } from './label-reader.ts';
export { type LabelBytes, type LabelRecords, LabelStore } from './labels.ts';
export { type LibtorchLocation, locateLibtorch } from './libtorch.ts';
export { type MergeOptions, mergeShards } from './merge.ts';
export type * from './native.ts';
export { createProgress, noProgress, type ProgressMode, type ProgressSink, type StageProgress } from './progress.ts';
export { compareSets } from './report/compare.ts';
export { type RunReport, remakeReport, type Score } from './report/index.ts';
export {
  type CallOptions,
  planPipeline,
  type RunOptions,
  type RuntimeOptions,
  runPipeline,
  runStage,
  type StageOptions,
} from './run.ts';
export { readSafetensors, writeSafetensors } from './safetensors.ts';
export { STAGES, type Stage, type StageContext, type StageName } from './stages/index.ts';
export { arrayOf, type DType, type TensorMap, type TensorView, tensor } from './tensor.ts';
