// The classifier with MediaPipe Tasks in place of LiteRT. Copy the files of this folder to
// network/src/main/kotlin and add to the dependencies in network/build.gradle.kts:
// implementation("com.google.mediapipe:tasks-vision:1.0.0")
package elite.net_name

import android.content.Context
import android.graphics.Bitmap
import androidx.camera.core.ImageProxy
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

/** Says what an image shows. Calls from several threads wait for each other. */
class MediaPipeClassifier(context: Context) : AutoCloseable {
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath(Network.FILE).build())
            .setMaxResults(1)
            .build())
    private val crops = Crops()

    /**
     * Returns the name of the most likely class and its probability. Where this is below THRESHOLD,
     * UNKNOWN takes the place of the name.
     *
     * @param bitmap the upright image; the network sees its centred crop.
     */
    @Synchronized
    fun classify(bitmap: Bitmap): Pair<String, Float> = best(crops.of(bitmap))

    /** The same of a frame of CameraX's ImageAnalysis in RGBA_8888, whatever its rotation. */
    @Synchronized
    fun classify(image: ImageProxy): Pair<String, Float> = best(crops.of(image))

    private fun best(crop: ByteArray): Pair<String, Float> {
        // MediaPipe stretches an image to the network's input; this one has its size.
        val result = classifier.classify(BitmapImageBuilder(bitmapOf(crop)).build())
        val best = result.classificationResult().classifications()[0].categories()[0]
        return (if (best.score() < THRESHOLD) UNKNOWN else best.categoryName()) to best.score()
    }

    /** Releases the network's memory; the classifier cannot be used afterwards. */
    @Synchronized
    override fun close() = classifier.close()

    companion object {
        /** The answer where no class is probable enough. */
        const val UNKNOWN = Network.UNKNOWN

        /** The probability below which an answer is unknown; 0 where none was chosen. */
        const val THRESHOLD = Network.THRESHOLD
    }
}
