// The segmenter with MediaPipe Tasks in place of LiteRT. Copy the files of this folder to
// network/src/main/kotlin and add to the dependencies in network/build.gradle.kts:
// implementation("com.google.mediapipe:tasks-vision:1.0.0")
package elite.net_name

import android.content.Context
import android.graphics.Bitmap
import androidx.camera.core.ImageProxy
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.framework.image.ByteBufferExtractor
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter
import java.nio.ByteBuffer

/** Says what each pixel of an image shows. Calls from several threads wait for each other. */
class MediaPipeSegmenter(context: Context) : AutoCloseable {
    private val segmenter = ImageSegmenter.createFromOptions(
        context,
        ImageSegmenter.ImageSegmenterOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath(Network.FILE).build())
            .setOutputCategoryMask(true)
            .setOutputConfidenceMasks(false)
            .build())
    private val crops = Crops()

    /** Names of the classes. */
    val labels: List<String> = segmenter.labels

    /**
     * Returns one byte for each pixel of the crop that the network sees, row by row: an index
     * into labels.
     *
     * @param bitmap the upright image; the network sees its centred crop.
     */
    @Synchronized
    fun segment(bitmap: Bitmap): ByteBuffer = mask(crops.of(bitmap))

    /** The same of a frame of CameraX's ImageAnalysis in RGBA_8888, whatever its rotation. */
    @Synchronized
    fun segment(image: ImageProxy): ByteBuffer = mask(crops.of(image))

    private fun mask(crop: ByteArray): ByteBuffer {
        // MediaPipe stretches an image to the network's input; this one has its size.
        val result = segmenter.segment(BitmapImageBuilder(bitmapOf(crop)).build())
        return ByteBufferExtractor.extract(result.categoryMask().get())
    }

    /** Releases the network's memory; the segmenter cannot be used afterwards. */
    @Synchronized
    override fun close() = segmenter.close()
}
