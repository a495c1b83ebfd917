// Runs models on the images that `elite verify` serves, and sends the outputs back. "jobs.json"
// lists models with their images; the answer is one line of JSON and the bytes of all outputs.

import {Network} from "./network.js";

const KINDS = {int8: Int8Array, uint8: Uint8Array, float32: Float32Array};

async function fetchBytes(path) {
  return (await fetch(path)).arrayBuffer();
}

async function run({model, images, type, count}) {
  const network = await Network.load(new Uint8Array(await fetchBytes(model)));
  const values = new KINDS[type](await fetchBytes(images));
  const size = values.length / count;
  const image = (index) => values.subarray(index * size, (index + 1) * size);
  network.setInput(image(0));
  await network.infer();  // the first inference is slower and is not timed
  const outputs = [];
  const milliseconds = [];
  for (let index = 0; index < count; index++) {
    const start = performance.now();
    network.setInput(image(index));
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

const failure = (error) => ({outputs: [], answer: {error: String(error?.message ?? error)}});
const results = [];
try {
  const jobs = await (await fetch("jobs.json")).json();
  for (const job of jobs) results.push(await run(job).catch(failure));
} catch (error) {
  results.push(failure(error));
}
const head = JSON.stringify(results.map(({answer}) => answer)) + "\n";
const outputs = results.flatMap((result) => result.outputs);
await fetch("/answer", {method: "POST", body: new Blob([head, ...outputs])});
