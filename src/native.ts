// The whole native contract as types, and the loader of the addon. Every field is required: TypeScript decides
// everything, C++ has no default. The only file that imports the .node binary.
//
// Letters: B batch, M rows (images met in a segment), S steps (batches) of a segment, N images of a store, K classes,
// C channels, P input size in pixels, L BatchNorm layers, G class groups, n images per group, T iterations.

import type { NativeOps, TimeOpResult, TimeOpSpec } from './native-ops.ts';
import type { TensorMap, TensorView } from './tensor.ts';

export type { NativeOps, TimeOpResult, TimeOpSpec } from './native-ops.ts';

export type Precision = 'fp32' | 'tf32' | 'bf16';

/** Where and how a job computes. `threads` >= 1; device 'cpu' or 'cuda:N'. */
export interface Execution {
  readonly precision: Precision;
  readonly threads: number;
  /** Bit-equal results for equal inputs on this machine (slower algorithms where LibTorch has both). */
  readonly deterministic: boolean;
}

/**
 * Recorded randomness of S batches as rows: batch s owns rows offset[s] .. offset[s+1]. A short batch is a short record.
 * Pixels: crop of the stored image, Pillow-exact bilinear resize to [P, P], flip, cutout, then mix inside the batch.
 */
export interface Recipes {
  readonly offset: TensorView; // I32 [S+1]
  readonly index: TensorView; // I32 [M] image of the store
  readonly crop: TensorView; // I32 [M, 4] top, left, height, width; px of the stored image
  readonly flip: TensorView; // U8 [M]
  readonly cutout: TensorView; // I32 [M, 4] top, left, height, width filled with cutoutColor; px of the [P, P] image (zeros: none)
  readonly cutoutColor: TensorView; // U8 [M, 3]; grey images take the first
  readonly mixKind: TensorView; // U8 [M] 0 none, 1 CutMix, 2 mixup
  readonly mixIndex: TensorView; // I32 [M] position of the partner inside the batch (own position when mixKind is 0)
  readonly mixBox: TensorView; // I32 [M, 4] top, left, height, width; px of the [P, P] image (zeros unless CutMix)
  readonly lambda: TensorView; // F32 [M] share of the own image: 1 - box area / P^2 for CutMix, the weight for mixup
}

/** How stored uint8 pixels become network input. */
export interface InputSpec {
  readonly size: number; // P
  readonly normalize: TensorView; // F32 [C, 256]: value of each grey level, per channel
}

export interface ModelSpec {
  readonly arch: string; // a name of archs()
  readonly numClasses: number; // K
  readonly inChannels: number; // C
  readonly inputSize: number; // P, px; architectures with a fixed head need it
  readonly options: {
    readonly stem: 'imagenet' | 'small'; // resnet: 7x7/2 + maxpool, or 3x3/1
    readonly widths: readonly number[]; // convnet: channels of each block; its length is the depth
    readonly pooling: 'avg' | 'max'; // convnet
  };
  readonly device: string;
  /** Weight initialisation stream: Philox purpose 20, object = tensor index. */
  readonly seed: bigint;
}

export interface NormLayer {
  readonly name: string; // state dict prefix, e.g. layer1.0.bn1
  readonly channels: number;
}

/** A network with weights and, while it is trained, optimizer state. Open, busy (a job runs on it) or disposed. */
export interface NativeModel {
  readonly state: 'open' | 'busy' | 'disposed';
  readonly parameterCount: number;
  readonly normLayers: readonly NormLayer[];
  /** Copies of all parameters and buffers under torchvision's names. */
  stateDict(): TensorMap;
  /** Replaces all weights. E_MISMATCH names the first five missing, extra or mis-shaped keys. */
  loadStateDict(tensors: TensorMap): void;
  /** Moments of the optimizer, keyed `<name>.m`, `<name>.v`, plus `step`; empty before the first training step. */
  optimizerState(): TensorMap;
  loadOptimizerState(tensors: TensorMap): void;
  /** Frees the weights; harmless when done twice; refused while busy. */
  dispose(): void;
  [Symbol.dispose](): void;
}

export interface ImageStoreSpec {
  readonly channels: 1 | 3;
  readonly device: string;
}

/** What happens to each image once, on append: nothing, or a Pillow-exact resize (then a centre crop). */
export interface AppendSpec {
  readonly height: number;
  readonly width: number;
  readonly resize: 'none' | 'exact' | 'shorter'; // exact: to [size, size]; shorter: shorter side to size, aspect kept
  readonly size: number; // px, ignored for none
  readonly centerCrop: number; // px of a square centre crop afterwards, 0 for none
}

/** Images held as uint8 with one class id each. */
export interface NativeImageStore {
  readonly state: 'open' | 'busy' | 'disposed';
  readonly count: number;
  readonly bytes: number;
  /** Appends images.length / (height*width*C) images, packed [n, height, width, C]. labels I32 [n]. */
  append(images: Uint8Array, labels: Int32Array, spec: AppendSpec): void;
  /** I32 [N, 2] height, width of every stored image. */
  sizes(): TensorView;
  labels(): TensorView; // I32 [N]
  /** Stored pixels of one image, U8 [height, width, C]. */
  image(index: number): TensorView;
  /** Frees the images; harmless when done twice; refused while busy. */
  dispose(): void;
  [Symbol.dispose](): void;
}

/** Which codec writes or reads the labels of S records, and what it knows of them besides their Recipes. */
export interface CodeSpec {
  readonly codec: string; // e.g. 'dense:f16'
  readonly basis: TensorMap; // what the codec's fit wrote once
  readonly recordIds: TensorView; // I32 [S]
  readonly seed: bigint; // of the store's streams (dither)
}

/** The same beside an ImageStore, whose images the Recipes name by their place in it. */
export interface StoreCodeSpec extends CodeSpec {
  /** I32 [M] the set's image of each row, as the codec knows it; null where the store holds the whole set. */
  readonly images: TensorView | null;
}

/** The labels of S records as a codec writes them: rows one after the other, and a run of bytes per record. */
export interface EncodedLabels {
  readonly tensors: TensorMap; // [M, ...]
  readonly blobs: { readonly data: TensorView; readonly offset: TensorView } | null; // U8 [bytes], I64 [S+1]
}

export type TrainTarget =
  | { readonly kind: 'hard'; readonly smoothing: number }
  | ({
      readonly kind: 'soft';
      readonly temperature: number;
      readonly teacherTemperature: number; // of the decoded logits; the student's own is `temperature`
      readonly lossScale: number; // 1, or T^2 where a system multiplies by it
    } & StoreCodeSpec &
      EncodedLabels);

export interface TrainSpec extends Execution {
  readonly recipes: Recipes;
  readonly input: InputSpec;
  readonly target: TrainTarget;
  readonly optimizer: {
    readonly kind: 'sgd' | 'adamw';
    readonly lr: TensorView; // F64 [S]
    readonly momentum: number; // sgd
    readonly beta1: number; // adamw
    readonly beta2: number;
    readonly eps: number;
    readonly weightDecay: number;
    readonly decay: 'matrices' | 'all'; // matrices: only *.weight tensors of two or more dimensions (LPLD's grouping)
  };
  readonly hashPixels: boolean;
}

export interface TrainResult {
  readonly loss: TensorView; // F64 [S] mean loss of each step
  readonly agreement: TensorView; // F64 [S] share of rows whose argmax equals the target's
  readonly pixelHash: string; // hex of a running hash over uint8 pixels and mix fields, '' unless asked
}

export interface CollectStatsSpec extends Execution {
  readonly recipes: Recipes;
  readonly input: InputSpec;
  readonly mode: 'ema' | 'exact';
  readonly momentum: number; // ema
  /** From initialClassStats() or the previous segment. */
  readonly state: TensorMap;
}

export interface CollectStatsResult {
  readonly state: TensorMap;
}

export interface SynthesizeSpec extends Execution {
  readonly groups: number; // G
  readonly imagesPerGroup: number; // n
  readonly labels: TensorView; // I32 [G*n]
  readonly state: { readonly x: TensorView; readonly m: TensorView; readonly v: TensorView }; // F32 [G*n, C, P, P]
  readonly step: number; // t0: iterations already done (Adam's bias correction)
  readonly crop: TensorView; // I32 [S, G, 4] px of the [P, P] image; the whole image where nothing is cropped
  readonly flip: TensorView; // U8 [S, G]
  readonly roll: TensorView; // I32 [S, G, 2] rows, columns; px
  readonly lr: TensorView; // F64 [S]
  readonly beta1: number;
  readonly beta2: number;
  readonly eps: number;
  readonly rBn: number;
  readonly firstBnMultiplier: number;
  readonly tvL2: number;
  readonly l2Scale: number;
  readonly targetMean: TensorView; // F32 [G, sum of C_l] in the order of normLayers
  readonly targetVar: TensorView; // F32 [G, sum of C_l]
  readonly clampLow: TensorView; // F32 [C]
  readonly clampHigh: TensorView; // F32 [C]
  readonly graph: boolean; // replay one captured iteration where the device can (CUDA with liblpld_graph.so)
}

export interface SynthesizeResult {
  readonly state: { readonly x: TensorView; readonly m: TensorView; readonly v: TensorView };
  readonly lossCe: TensorView; // F64 [S, G]
  readonly lossBn: TensorView; // F64 [S, G] R before rBn
  readonly lossLayers: TensorView; // F64 [S, L] mean over groups of r_l, before firstBnMultiplier
  readonly graphRefused: string | null; // why CUDA made no graph where one was wanted: iterations were launched one by one
}

/** How several teachers become one answer; of no effect for one. norm-mean: G-VBSM's, at equal Frobenius norms. */
export type Ensemble = 'mean' | 'norm-mean';

/** What BatchNorm of a teacher normalises with: its running statistics, or those of the batch; none are moved. */
export type TeacherMode = 'eval' | 'train';

export interface AnswerSpec extends Execution {
  readonly recipes: Recipes;
  readonly input: InputSpec;
  readonly ensemble: Ensemble;
  readonly teacherMode: TeacherMode;
  readonly features: boolean; // one teacher only
}

export interface AnswerResult {
  readonly logits: TensorView; // F32 [M, K]
  readonly features: TensorView | null; // F32 [M, D]: input of the last linear layer
}

export interface LabelSpec extends Execution, StoreCodeSpec {
  readonly recipes: Recipes;
  readonly input: InputSpec;
  readonly ensemble: Ensemble;
  readonly teacherMode: TeacherMode;
  readonly hashPixels: boolean;
}

/** What a codec's fit wants to see: answers to the first records, to every whole image, the features beside the logits. */
export interface CodecNeeds {
  readonly sample: boolean;
  readonly whole: boolean;
  readonly features: boolean;
}

/** Work of a codec on the CPU without images; only offset, index, mixIndex and lambda of the Recipes are read. */
export interface CodingSpec extends CodeSpec {
  readonly threads: number;
  readonly numClasses: number; // K
  readonly recipes: Recipes;
}

export interface FitCodecSpec extends CodingSpec {
  readonly sample: AnswerResult | null; // of the Recipes' rows
  readonly whole: AnswerResult | null; // of every image of the set, whole and unmixed, in order
}

export interface EncodeSpec extends CodingSpec, AnswerResult {}

export interface DecodeSpec extends CodingSpec, EncodedLabels {}

export interface LabelResult extends EncodedLabels {
  readonly agreement: number; // share of rows whose argmax is the image's class
  readonly pixelHash: string;
}

export interface EvaluateSpec extends Execution {
  readonly recipes: Recipes;
  readonly input: InputSpec;
}

export interface EvaluateResult {
  readonly count: number;
  readonly top1: number; // share in [0, 1]
  readonly top5: number;
  readonly loss: number; // mean cross-entropy
  readonly hits: TensorView; // I32 [S, 2] images of each step whose class is the first, among the first five
  readonly stepLoss: TensorView; // F64 [S] summed cross-entropy of each step
}

export interface SimilaritySpec extends Execution {
  readonly recipes: Recipes; // every image once
  readonly input: InputSpec;
}

export interface SimilarityResult {
  readonly similarity: TensorView; // F64 [K] mean cosine over pairs of images of a class; NaN for fewer than two
}

export interface JobProgress {
  readonly done: number; // steps or iterations of this segment
  readonly total: number;
  readonly loss: number; // of the latest step; NaN where there is none
}

export interface NativeJob<R> {
  readonly promise: Promise<R>;
  /** Asks the job to stop before its next step; the promise then rejects with E_CANCELLED. */
  cancel(): void;
}

export type OnProgress = (progress: JobProgress) => void;

export interface NativeInfo {
  readonly addon: string; // package version the addon was built from
  readonly compiled: string; // LibTorch version of the headers
  readonly runtime: string; // major.minor of the LibTorch in the process
  readonly kernels: boolean; // liblpld_kernels.so is loaded
  readonly graph: boolean; // liblpld_graph.so is loaded
  readonly cpu: { readonly avx512: boolean; readonly avx512Bf16: boolean; readonly amxBf16: boolean };
}

export interface NativeBinding {
  info(): NativeInfo;
  /** Why CUDA can or cannot be used: {available, devices: [{name, memory}], reason}. Asks the CUDA runtime. */
  cuda(): {
    readonly available: boolean;
    readonly devices: readonly { name: string; memory: number }[];
    readonly reason: string;
  };
  /** Bytes of a CUDA device; 0 for the CPU and where liblpld_kernels.so, which asks, is not loaded. */
  deviceMemory(device: string): { readonly free: number; readonly total: number };
  /**
   * CPU tensors from 128 KiB on. Bytes: in use, and kept by the running job for its next ones, ten seconds after it none.
   * Counts since the process began: blocks made for a tensor, and kept ones handed out again.
   */
  hostMemory(): { readonly used: number; readonly kept: number; readonly fresh: number; readonly reused: number };
  /** Opens liblpld_kernels.so; without it CUDA tensors use ATen bodies. */
  loadKernels(path: string): void;
  /** Opens liblpld_graph.so; without it the iterations of synthesis are launched one by one. */
  loadGraph(path: string): void;
  archs(): string[];
  codecs(): string[];
  createModel(spec: ModelSpec): NativeModel;
  createImageStore(spec: ImageStoreSpec): NativeImageStore;
  train(model: NativeModel, store: NativeImageStore, spec: TrainSpec, onProgress: OnProgress): NativeJob<TrainResult>;
  collectStats(
    model: NativeModel,
    store: NativeImageStore,
    spec: CollectStatsSpec,
    onProgress: OnProgress,
  ): NativeJob<CollectStatsResult>;
  synthesize(model: NativeModel, spec: SynthesizeSpec, onProgress: OnProgress): NativeJob<SynthesizeResult>;
  /** The teachers' raw answers to replayed batches. */
  answer(
    teachers: readonly NativeModel[],
    store: NativeImageStore,
    spec: AnswerSpec,
    onProgress: OnProgress,
  ): NativeJob<AnswerResult>;
  /** The teachers' answers, encoded. */
  label(
    teachers: readonly NativeModel[],
    store: NativeImageStore,
    spec: LabelSpec,
    onProgress: OnProgress,
  ): NativeJob<LabelResult>;
  /** @throws {LpldError} E_CONFIG for a name that is no codec's */
  codecNeeds(codec: string): CodecNeeds;
  /** Fits a codec once per store, on one thread whatever `threads` says: equal answers give an equal basis. `teachers`: the
   *  one whose last layer the codec may keep, or none. */
  fitCodec(
    teachers: readonly NativeModel[],
    spec: FitCodecSpec,
    onProgress: OnProgress,
  ): NativeJob<{ readonly basis: TensorMap }>;
  encode(spec: EncodeSpec, onProgress: OnProgress): NativeJob<EncodedLabels>;
  decode(spec: DecodeSpec, onProgress: OnProgress): NativeJob<{ readonly logits: TensorView }>; // F32 [M, K]
  evaluate(
    model: NativeModel,
    store: NativeImageStore,
    spec: EvaluateSpec,
    onProgress: OnProgress,
  ): NativeJob<EvaluateResult>;
  /** How alike the model finds the images of each class: cosines of the inputs of its last linear layer. */
  similarity(
    model: NativeModel,
    store: NativeImageStore,
    spec: SimilaritySpec,
    onProgress: OnProgress,
  ): NativeJob<SimilarityResult>;
  timeOp(spec: TimeOpSpec, onProgress: OnProgress): NativeJob<TimeOpResult>;
  /** Cancels every job of this environment and waits until none runs. */
  shutdown(): void;
  readonly ops: NativeOps;
  /** The same ops; cropFlipRoll, bnMatch, normAct and pixelAdam compute on `device` ('cpu' or 'cuda:N'). */
  opsOn(device: string): NativeOps;
}
