// https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/InterpreterApi
// https://ai.google.dev/edge/api/tflite/java/org/tensorflow/lite/Interpreter.Options
// https://github.com/google-ai-edge/LiteRT/blob/main/tflite/java/src/main/java/org/tensorflow/lite/Interpreter.java
package org.tensorflow.lite

import elite.fake.FakeNetwork
import java.nio.ByteBuffer

// public Interpreter(ByteBuffer byteBuffer, Options options)
class Interpreter(byteBuffer: ByteBuffer, options: Options) : AutoCloseable {
    private var closed = false

    init {
        check(byteBuffer.remaining() > 0 && options.threads > 0)
    }

    class Options {
        var threads = 0
            private set

        // public Options setNumThreads(int numThreads)
        fun setNumThreads(numThreads: Int) = apply { threads = numThreads }
    }

    fun run(input: Any, output: Any) { // public void run(Object input, Object output)
        check(!closed && input is ByteBuffer && output is ByteBuffer)
        check(input.isDirect && output.isDirect && input.position() == 0)
        val given = ByteArray(input.remaining())
        input.duplicate().get(given)
        FakeNetwork.bytes = given
        val elements = FakeNetwork.output()
        if (output.remaining() == elements.size) {
            for (element in elements) output.put(element.toInt().toByte())
        } else {
            for (element in elements) output.putFloat(element)
        }
        check(output.remaining() == 0)
    }

    override fun close() { // public void close()
        closed = true
    }
}
