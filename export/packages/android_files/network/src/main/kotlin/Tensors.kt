package elite.net_name

/** Numbers between pixels and the network's input, and between its output and logits. */
internal object Tensors {
    private val values = FloatArray(256 * Network.CHANNELS) {
        val channel = it % Network.CHANNELS
        (it / Network.CHANNELS / 128f - 1f) * Network.SCALE[channel] + Network.OFFSET[channel]
    }

    /** Writes what a network that takes floats takes for pixels, row by row, to an array. */
    fun toFloats(pixels: ByteArray, into: FloatArray) {
        for (i in pixels.indices) {
            val pixel = pixels[i].toInt() and 255
            into[i] = values[pixel * Network.CHANNELS + i % Network.CHANNELS]
        }
    }

    /** Writes what the bytes of a quantized output stand for to an array. */
    fun fromBytes(bytes: ByteArray, into: FloatArray) {
        for (i in bytes.indices) {
            val steps = (bytes[i].toInt() and 255) - Network.OUTPUT_ZERO_POINT
            into[i] = steps * Network.OUTPUT_STEP
        }
    }
}
