package elite.net_name

import android.content.Context
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/** Runs the network with the CompiledModel of LiteRT 2. */
internal class Runner(context: Context, processor: Processor, threads: Int) : AutoCloseable {
    private val model = CompiledModel.create(
        context.assets,
        Network.FILE,
        when (processor) {
            // What the GPU cannot compute is left to the processor.
            Processor.GPU -> CompiledModel.Options(Accelerator.GPU, Accelerator.CPU)
            Processor.CPU -> CompiledModel.Options(Accelerator.CPU).apply {
                cpuOptions = CompiledModel.CpuOptions(numThreads = threads)
            }
        })
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()
    private val floats = FloatArray(if (Network.TAKES_BYTES) 0 else Network.INPUT_ELEMENTS)
    private val results = FloatArray(if (Network.GIVES_BYTES) Network.OUTPUT_ELEMENTS else 0)

    /** Returns the network's output for Network.INPUT_ELEMENTS pixels, valid until the next call. */
    fun run(pixels: ByteArray): FloatArray {
        if (Network.TAKES_BYTES) {
            inputs[0].writeInt8(pixels)
        } else {
            Tensors.toFloats(pixels, floats)
            inputs[0].writeFloat(floats)
        }
        model.run(inputs, outputs)
        if (!Network.GIVES_BYTES) return outputs[0].readFloat()
        Tensors.fromBytes(outputs[0].readInt8(), results)
        return results
    }

    override fun close() {
        inputs.forEach { it.close() }
        outputs.forEach { it.close() }
        model.close()
    }
}
