// A .tflite network in LiteRT.js: one image in; logits out, one vector or one for each pixel.

import {loadLiteRt, supportsFeature} from "@litertjs/core";

// LiteRT.js's own Tensor class knows no int8, its WebAssembly module does: hence the buffers here.
const ARRAYS = {1: Float32Array, 3: Uint8Array, 9: Int8Array};
// On the CPU: there int8 is exact, and what one phone measures can be compared with another.
const ACCELERATOR = "wasm";

let runtime;

/** Loads LiteRT.js, once: one thread, the build that needs no special headers of the server. */
export function loadRuntime() {
  runtime ??= loadLiteRt("./litert/wasm/");
  return runtime;
}

/** Which of LiteRT.js's builds this browser runs. */
export async function build() {
  return (await supportsFeature("relaxedSimd")) ? "relaxed SIMD" : "compatible";
}

export class Network {
  /** @param {Uint8Array} content of a .tflite file. */
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
    this.owned = [{delete: () => wasm._free(pointer)}];
    const own = (object) => (this.owned.push(object), object);
    const model = own(wasm.loadModel(handle, pointer, content.length));
    const options = {cpuOptions: {numThreads: 1}, gpuOptions: {}, webNNOptions: {}};
    this.model = own(
      await wasm.compileModel(handle, model, {environment, accelerator: ACCELERATOR, ...options})
    );
    const type = own(model.getInputTensorType(0, 0));
    this.input = own(
      wasm.LiteRtTensorBuffer.createManaged(
        handle, wasm.LiteRtTensorBufferType.HOST_MEMORY, type, type.bytes()
      )
    );
  }

  /** Sets the input; its array has the model's type and size. */
  set(values) {
    if (values.byteLength !== this.input.packedSize()) {
      throw new Error(`input of ${values.byteLength} bytes, not ${this.input.packedSize()}`);
    }
    const pointer = this.input.lock(this.wasm.LiteRtTensorBufferLockMode.WRITE);
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    this.wasm.HEAPU8.set(bytes, pointer);
    this.input.unlock();
  }

  /** One inference: the output as an array of the model's type. */
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

  /** Bytes of the whole WebAssembly module's memory, its code aside. */
  get memory() {
    return this.wasm.HEAPU8.length;
  }

  delete() {
    for (const object of this.owned.reverse()) object.delete();
    this.owned = [];
  }
}
