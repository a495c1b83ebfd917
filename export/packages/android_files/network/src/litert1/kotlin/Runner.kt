package elite.net_name

import android.content.Context
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import org.tensorflow.lite.Interpreter

/** Runs the network with the Interpreter of LiteRT 1, on the processor. */
internal class Runner(context: Context, processor: Processor, threads: Int) : AutoCloseable {
    init {
        require(processor == Processor.CPU) { "the runtime litert1 has no GPU: use litert2" }
    }

    private val interpreter = Interpreter(
        context.assets.openFd(Network.FILE).use { file ->
            FileInputStream(file.fileDescriptor).channel.map(
                FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
        },
        Interpreter.Options().setNumThreads(threads))
    private val input = direct(Network.INPUT_ELEMENTS, Network.TAKES_BYTES)
    private val output = direct(Network.OUTPUT_ELEMENTS, Network.GIVES_BYTES)
    private val floats = FloatArray(if (Network.TAKES_BYTES) 0 else Network.INPUT_ELEMENTS)
    private val bytes = ByteArray(if (Network.GIVES_BYTES) Network.OUTPUT_ELEMENTS else 0)
    private val results = FloatArray(Network.OUTPUT_ELEMENTS)

    /** Returns the network's output for Network.INPUT_ELEMENTS pixels, valid until the next call. */
    fun run(pixels: ByteArray): FloatArray {
        input.rewind()
        if (Network.TAKES_BYTES) {
            input.put(pixels)
        } else {
            Tensors.toFloats(pixels, floats)
            input.asFloatBuffer().put(floats)
        }
        input.rewind()
        output.rewind()
        interpreter.run(input, output)
        output.rewind()
        if (Network.GIVES_BYTES) {
            output.get(bytes)
            Tensors.fromBytes(bytes, results)
        } else {
            output.asFloatBuffer().get(results)
        }
        return results
    }

    override fun close() = interpreter.close()

    private fun direct(elements: Int, bytes: Boolean): ByteBuffer =
        ByteBuffer.allocateDirect(if (bytes) elements else 4 * elements)
            .order(ByteOrder.nativeOrder())
}
