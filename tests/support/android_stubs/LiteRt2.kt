// https://github.com/google-ai-edge/LiteRT/blob/main/litert/kotlin/src/main/kotlin/com/google/ai/edge/litert/Model.kt
// https://github.com/google-ai-edge/LiteRT/blob/main/litert/kotlin/src/main/kotlin/com/google/ai/edge/litert/TensorBuffer.kt
// https://github.com/google-ai-edge/LiteRT/blob/main/litert/kotlin/src/main/kotlin/com/google/ai/edge/litert/Common.kt
package com.google.ai.edge.litert

import android.content.res.AssetManager
import elite.fake.FakeNetwork

enum class Accelerator { NONE, CPU, GPU, NPU }

class TensorBuffer internal constructor() : AutoCloseable {
    private var closed = false

    fun writeInt8(data: ByteArray) { // fun writeInt8(data: ByteArray)
        check(!closed)
        FakeNetwork.bytes = data.clone()
    }

    fun writeFloat(data: FloatArray) { // fun writeFloat(data: FloatArray)
        check(!closed)
        FakeNetwork.floats = data.clone()
    }

    fun readInt8(): ByteArray { // fun readInt8(): ByteArray
        check(!closed)
        val output = FakeNetwork.output()
        return ByteArray(output.size) { output[it].toInt().toByte() }
    }

    fun readFloat(): FloatArray { // fun readFloat(): FloatArray
        check(!closed)
        return FakeNetwork.output().clone()
    }

    override fun close() { // override final fun close(), of JniHandle
        closed = true
    }
}

class CompiledModel private constructor() : AutoCloseable {
    private var closed = false

    data class CpuOptions(
        val numThreads: Int? = null,
        val xnnPackFlags: Int? = null,
        val xnnPackWeightCachePath: String? = null,
    )

    class Options(val accelerators: Set<Accelerator>) {
        constructor(vararg accelerators: Accelerator) : this(setOf(*accelerators))

        var cpuOptions: CpuOptions? = null

        companion object {
            val CPU = Options(Accelerator.CPU)
        }
    }

    // fun createInputBuffers(signatureIndex: Int = 0): List<TensorBuffer>
    fun createInputBuffers(signatureIndex: Int = 0) =
        listOf(TensorBuffer()).also { check(signatureIndex == 0) }

    // fun createOutputBuffers(signatureIndex: Int = 0): List<TensorBuffer>
    fun createOutputBuffers(signatureIndex: Int = 0) = createInputBuffers(signatureIndex)

    // fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0)
    fun run(inputs: List<TensorBuffer>, outputs: List<TensorBuffer>, signatureIndex: Int = 0) {
        check(!closed && inputs.size == 1 && outputs.size == 1 && signatureIndex == 0)
    }

    override fun close() {
        check(!closed)
        closed = true
    }

    companion object {
        // fun create(assetManager: AssetManager, assetName: String,
        //     options: Options = Options.CPU, optionalEnv: Environment? = null): CompiledModel
        fun create(
            assetManager: AssetManager,
            assetName: String,
            options: Options = Options.CPU,
        ): CompiledModel {
            check(options.accelerators.isNotEmpty())
            assetManager.open(assetName).close()
            return CompiledModel()
        }
    }
}
