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
    outputs.push(Array.from(output));
  }
  const memory = network.memory;
  network.delete();
  return {outputs, milliseconds, memory};
}

const answers = [];
try {
  for (const job of await (await fetch("jobs.json")).json()) {
    answers.push(await run(job).catch((error) => ({error: String(error?.message ?? error)})));
  }
} catch (error) {
  answers.push({error: String(error?.message ?? error)});
}
await fetch("/answer", {method: "POST", body: JSON.stringify(answers)});
