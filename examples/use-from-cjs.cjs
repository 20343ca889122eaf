// The package from CommonJS: runs a preset, then reads a record of its labels. Keys of the config may follow the folder:
//
//   node examples/use-from-cjs.cjs runs/quickstart train.epochs=100

const { join } = require('node:path');
const { LabelStore, loadConfig, noProgress, openArtifact, runPipeline } = require('lpld-native');

async function main([out = 'runs/quickstart', ...keys]) {
  const overrides = Object.fromEntries(
    keys.map((text) => [text.slice(0, text.indexOf('=')), JSON.parse(text.slice(text.indexOf('=') + 1))]),
  );
  const report = await runPipeline(loadConfig('quickstart', overrides), {
    out,
    runtime: { device: 'cpu', threads: null, memory: null, deterministic: false },
    progress: noProgress,
    signal: new AbortController().signal,
    verifyData: false,
  });
  console.log(`student ${(100 * report.student.top1).toFixed(1)} % with ${report.labels.bytes} bytes of labels`);

  const store = await LabelStore.open(await openArtifact(join(out, 'prune')));
  const { recordIds, offset, tensors } = await store.readRecords(Int32Array.of(0)); // by position in the pool
  console.log(
    `record ${recordIds[0]} of ${store.numRecords}: logits ${tensors.logits.dtype} [${tensors.logits.shape}]`,
  );
  console.log(`its rows: ${arrayText(offset)}`);
  await store.close();
}

/** A TensorView is {dtype, shape, data}: the little-endian bytes, as in a safetensors file. */
function arrayText({ data }) {
  return Array.from(new Int32Array(data.buffer, data.byteOffset, data.byteLength / 4)).join(' to ');
}

main(process.argv.slice(2));
