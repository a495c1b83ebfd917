package elite.net_name

import android.content.Context
import android.graphics.Bitmap
import androidx.camera.core.ImageProxy

/** What the app uses, whatever the network does. */
typealias LiteRtModel = LiteRtSegmenter

/**
 * Says what each pixel of an image shows. Close it when it is no longer needed. Calls from several
 * threads wait for each other.
 *
 * @param context of the app, for its assets.
 * @param processor where the network runs; the GPU needs the runtime litert2.
 * @param threads of the processor.
 */
class LiteRtSegmenter(
    context: Context,
    processor: Processor = Processor.CPU,
    threads: Int = 2,
) : AutoCloseable {
    /** Names of the classes. */
    val labels: List<String> =
        context.assets.open(Network.LABELS).bufferedReader().use { it.readLines() }
    private val crops = Crops()
    private val runner = Runner(context, processor, threads)

    /**
     * Returns the class of each pixel of the crop that the network sees, row by row, as an index
     * into labels: Network.HEIGHT * Network.WIDTH of them.
     *
     * @param bitmap the upright image; the network sees its centred crop.
     */
    @Synchronized
    fun segment(bitmap: Bitmap): IntArray = mask(runner.run(crops.of(bitmap)))

    /** The same of a frame of CameraX's ImageAnalysis in RGBA_8888, whatever its rotation. */
    @Synchronized
    fun segment(image: ImageProxy): IntArray = mask(runner.run(crops.of(image)))

    /** Returns the answer for a frame in words: the classes and their shares of the crop. */
    fun describe(image: ImageProxy): String {
        val mask = segment(image)
        val shares = mask.groupBy { it }.mapValues { 100 * it.value.size / mask.size }
        return shares.entries.sortedByDescending { it.value }
            .joinToString("\n") { "${labels[it.key]} ${it.value} %" }
    }

    private fun mask(logits: FloatArray) = IntArray(logits.size / Network.CLASSES) {
        val first = it * Network.CLASSES
        var best = 0
        for (i in 1 until Network.CLASSES) if (logits[first + i] > logits[first + best]) best = i
        best
    }

    /** Releases the network's memory; the segmenter cannot be used afterwards. */
    @Synchronized
    override fun close() = runner.close()
}
