package elite.net_name

import android.content.Context
import android.graphics.Bitmap
import androidx.camera.core.ImageProxy

/** What the app uses, whatever the network does. */
typealias LiteRtModel = LiteRtClassifier

/**
 * Says what an image shows. Close it when it is no longer needed. Calls from several threads wait
 * for each other.
 *
 * @param context of the app, for its assets.
 * @param processor where the network runs; the GPU needs the runtime litert2.
 * @param threads of the processor.
 */
class LiteRtClassifier(
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
     * Returns the index of the most likely class (an index into labels) and its probability. Where
     * this is below THRESHOLD, UNKNOWN takes the place of the index.
     *
     * @param bitmap the upright image; the network sees its centred crop.
     */
    @Synchronized
    fun classify(bitmap: Bitmap): Pair<Int, Float> = best(runner.run(crops.of(bitmap)))

    /** The same of a frame of CameraX's ImageAnalysis in RGBA_8888, whatever its rotation. */
    @Synchronized
    fun classify(image: ImageProxy): Pair<Int, Float> = best(runner.run(crops.of(image)))

    /** Returns the answer for a frame in words: the class and its probability. */
    fun describe(image: ImageProxy): String {
        val (index, probability) = classify(image)
        return "${label(index)} ${(100 * probability).toInt()} %"
    }

    /** Returns the name of an index that classify gave. */
    fun label(index: Int): String = if (index == UNKNOWN) UNKNOWN_LABEL else labels[index]

    private fun best(probabilities: FloatArray): Pair<Int, Float> {
        var best = 0
        for (i in 1 until Network.CLASSES) if (probabilities[i] > probabilities[best]) best = i
        val probability = probabilities[best]
        return (if (probability < THRESHOLD) UNKNOWN else best) to probability
    }

    /** Releases the network's memory; the classifier cannot be used afterwards. */
    @Synchronized
    override fun close() = runner.close()

    companion object {
        /** The answer where no class is probable enough. */
        const val UNKNOWN = Network.CLASSES

        /** What it is called. */
        const val UNKNOWN_LABEL = Network.UNKNOWN

        /** The probability below which an answer is unknown; 0 where none was chosen. */
        const val THRESHOLD = Network.THRESHOLD
    }
}
