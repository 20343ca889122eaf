// Reading labels from CommonJS: node examples/use-from-cjs.cjs [LABEL STORE]

const { arrayOf, LabelStore, openArtifact } = require('lpld-native');

async function main(folder = 'runs/quickstart/prune') {
  const store = await LabelStore.open(await openArtifact(folder));
  const { recordIds, offset, tensors } = await store.readRecords(Int32Array.of(0)); // by position in the pool
  const { dtype, shape } = tensors.logits;
  console.log(`${store.numRecords} records, ${store.bytes().file} bytes, codec ${store.index.codec}`);
  console.log(`record ${recordIds[0]}: rows ${arrayOf(offset, 'I32').join(' to ')}, logits ${dtype} [${shape}]`);
  await store.close();
}

main(process.argv[2]);
