// Runs models on the images that `elite verify` serves, and sends back what comes out.

import {Network} from "./network.js";

const KINDS = {int8: Int8Array, uint8: Uint8Array, float32: Float32Array};

async function content(path) {
  return (await fetch(path)).arrayBuffer();
}

async function run({model, images, type, count}) {
  const network = await Network.load(new Uint8Array(await content(model)));
  const values = new KINDS[type](await content(images));
  const size = values.length / count;
  const image = (index) => values.subarray(index * size, (index + 1) * size);
  network.set(image(0));
  await network.infer();
  const outputs = [];
  const milliseconds = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    network.set(image(index));
    const output = await network.infer();
    milliseconds.push(performance.now() - start);
    outputs.push(output);
  }
  const memory = network.memory;
  network.delete();
  const bytes = outputs.reduce((sum, output) => sum + output.byteLength, 0);
  const name = Object.keys(KINDS).find((kind) => outputs[0] instanceof KINDS[kind]);
  return {outputs, answer: {type: name, bytes, milliseconds, memory}};
}

const said = (error) => ({outputs: [], answer: {error: String(error?.message ?? error)}});
const done = [];
try {
  for (const job of await (await fetch("jobs.json")).json()) done.push(await run(job).catch(said));
} catch (error) {
  done.push(said(error));
}
// A line of JSON, then all outputs as they are.
const head = JSON.stringify(done.map(({answer}) => answer)) + "\n";
await fetch("/answer", {method: "POST", body: new Blob([head, ...done.flatMap((job) => job.outputs)])});
