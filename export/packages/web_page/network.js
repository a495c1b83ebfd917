// Runs a .tflite network with LiteRT.js: its input is one image, its output a vector of logits, or
// one vector for each pixel.

import {loadLiteRt, supportsFeature} from "@litertjs/core";

// The Tensor class of LiteRT.js does not support int8, but its WebAssembly module does. This is why
// this file uses the module's tensor buffers. The keys are the element types of LiteRT.
const ARRAYS = {1: Float32Array, 3: Uint8Array, 9: Int8Array};
// The network runs on the CPU: there int8 is exact, and the latencies of phones are comparable.
const ACCELERATOR = "wasm";

let runtime;

/** Loads the single-threaded build of LiteRT.js, once; it works with any web server. */
function loadRuntime() {
  runtime ??= loadLiteRt("./litert/wasm/");
  return runtime;
}

/** Returns the name of the LiteRT.js build that this browser runs. */
export async function buildName() {
  return (await supportsFeature("relaxedSimd")) ? "relaxed SIMD" : "compatible";
}

export class Network {
  /**
   * Loads a network.
   * @param {Uint8Array} content of a .tflite file.
   * @return {Promise<Network>}
   */
  static async load(content) {
    const network = new Network();
    await network.#load(await loadRuntime(), content);
    return network;
  }

  async #load(runtime, content) {
    const wasm = (this.wasm = runtime.liteRtWasm);
    const environment = runtime.getDefaultEnvironment();
    const handle = environment.liteRtEnvironment;
    const pointer = wasm._malloc(content.length);
    wasm.HEAPU8.set(content, pointer);
    // Objects in the WebAssembly module's memory are not garbage collected; `delete` frees these.
    this.wasmObjects = [{delete: () => wasm._free(pointer)}];
    const keep = (object) => (this.wasmObjects.push(object), object);
    const model = keep(wasm.loadModel(handle, pointer, content.length));
    const options = {cpuOptions: {numThreads: 1}, gpuOptions: {}, webNNOptions: {}};
    this.model = keep(
      await wasm.compileModel(handle, model, {environment, accelerator: ACCELERATOR, ...options})
    );
    const type = keep(model.getInputTensorType(0, 0));
    this.input = keep(
      wasm.LiteRtTensorBuffer.createManaged(
        handle, wasm.LiteRtTensorBufferType.HOST_MEMORY, type, type.bytes()
      )
    );
  }

  /** Sets the network's input, a typed array of the model's input type and size. */
  setInput(values) {
    if (values.byteLength !== this.input.packedSize()) {
      throw new Error(
        `the network's input needs ${this.input.packedSize()} bytes, not ${values.byteLength}`
      );
    }
    const pointer = this.input.lock(this.wasm.LiteRtTensorBufferLockMode.WRITE);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.wasm.HEAPU8.set(bytes, pointer);
    this.input.unlock();
  }

  /** Runs one inference; returns the output as a typed array of the model's output type. */
  async infer() {
    const [output] = await this.model.run(0, [this.input]);
    const type = output.tensorType();
    const constructor = ARRAYS[type.elementType().value];
    const pointer = output.lock(this.wasm.LiteRtTensorBufferLockMode.READ);
    const bytes = this.wasm.HEAPU8.slice(pointer, pointer + output.packedSize());
    output.unlock();
    type.delete();
    output.delete();
    return new constructor(bytes.buffer);
  }

  /** Bytes of memory of the whole WebAssembly module, without its code. */
  get memory() {
    return this.wasm.HEAPU8.length;
  }

  /** Frees the network's memory. */
  delete() {
    for (const object of this.wasmObjects.reverse()) object.delete();
    this.wasmObjects = [];
  }
}
