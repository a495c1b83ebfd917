"""The texts of Android packages; `android` fills them in (``string.Template``)."""

# What both LiteRT classes begin with, how they load the network, and how they run it.
_LITERT_IMPORTS = """\
// Gradle: implementation("com.google.ai.edge.litert:litert:1.4.2")
import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
"""
_LITERT_SET_UP = """\
    val labels = context.assets.open("labels.txt").bufferedReader().readLines()
    private val interpreter = Interpreter(
        context.assets.openFd("$name.tflite").use { file ->
            FileInputStream(file.fileDescriptor).channel.map(
                FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
        })
    private val input = interpreter.getInputTensor(0)
    private val output = interpreter.getOutputTensor(0)
"""
_LITERT_RUN = """\
        val square = Bitmap.createScaledBitmap(bitmap, $side, $side, true)
        val pixels = IntArray($side * $side)
        square.getPixels(pixels, 0, $side, 0, 0, $side, $side)
        val image = ByteBuffer.allocateDirect(input.numBytes()).order(ByteOrder.nativeOrder())
        val integer = input.numBytes() == 3 * pixels.size
        for (pixel in pixels) for (shift in intArrayOf(16, 8, 0)) {
            val value = pixel shr shift and 255
            if (integer) image.put(value.toByte()) else image.putFloat(value / 128f - 1f)
        }
        val result = ByteBuffer.allocateDirect(output.numBytes()).order(ByteOrder.nativeOrder())
        interpreter.run(image.rewind(), result)
        result.rewind()
"""

_LITERT_CLASSIFIER = (
    """\
// Classifies a Bitmap with $name and LiteRT. Not compiled by the program that wrote it.
"""
    + _LITERT_IMPORTS
    + """\
import kotlin.math.exp
import org.tensorflow.lite.Interpreter

class LiteRtClassifier(context: Context) {
"""
    + _LITERT_SET_UP
    + """\

    /** Index of the class, an index into labels, and its probability. */
    fun classify(bitmap: Bitmap): Pair<Int, Float> {
"""
    + _LITERT_RUN
    + """\
        val steps = output.quantizationParams()
        val logits = FloatArray(labels.size) {
            if (integer) ((result.get().toInt() and 255) - steps.zeroPoint) * steps.scale
            else result.float
        }
        val best = logits.indices.maxByOrNull { logits[it] }!!
        return best to 1f / logits.map { exp(it - logits[best]) }.sum()
    }
}
"""
)

_MEDIAPIPE_CLASSIFIER = """\
// Classifies a Bitmap with $name and MediaPipe Tasks. Not compiled by the program that wrote it.
// Gradle: implementation("com.google.mediapipe:tasks-vision:latest.release")
import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imageclassifier.ImageClassifier

class MediaPipeClassifier(context: Context) {
    private val classifier = ImageClassifier.createFromOptions(
        context,
        ImageClassifier.ImageClassifierOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("$name.tflite").build())
            .setMaxResults(1)
            .build())

    /** Name of the class and its logit. MediaPipe stretches the image to the input, uncropped. */
    fun classify(bitmap: Bitmap): Pair<String, Float> {
        val result = classifier.classify(BitmapImageBuilder(bitmap).build())
        val best = result.classificationResult().classifications()[0].categories()[0]
        return best.categoryName() to best.score()
    }
}
"""

_CLASSIFIER_README = """\
# $name on Android

`$name.tflite`: $classes classes, input $side x $side pixels, $bytes bytes; its metadata has the
normalisation, the range of the input and the labels.

1. Copy `$name.tflite` and `labels.txt` to `app/src/main/assets/`.
2. Copy one of the Kotlin files to your sources and add the dependency it names. Neither was
   compiled by the program that wrote it.
3. Crop the image first: both stretch what they get to the input's square. The network was tested on
   the square around the centre that has $crop of the shorter side. Shrink large images in steps of
   two or with an area filter before that: Android's bilinear scaling skips pixels, which the tests
   did not.
4. The output is logits. `LiteRtClassifier` makes a probability of the greatest; MediaPipe's score
   is the logit itself.
"""

_LITERT_SEGMENTER = (
    """\
// Gives each pixel of a Bitmap a class with $name and LiteRT. Not compiled by the program that
// wrote it.
"""
    + _LITERT_IMPORTS
    + """\
import org.tensorflow.lite.Interpreter

class LiteRtSegmenter(context: Context) {
"""
    + _LITERT_SET_UP
    + """\

    /** $side x $side indices into labels, row by row, of the bitmap scaled to that size. */
    fun segment(bitmap: Bitmap): IntArray {
"""
    + _LITERT_RUN
    + """\
        return IntArray($side * $side) {
            // The greatest logit; steps of uint8 are in the same order.
            val logits = FloatArray(labels.size) {
                if (integer) (result.get().toInt() and 255).toFloat() else result.float
            }
            logits.indices.maxByOrNull { logits[it] }!!
        }
    }
}
"""
)

_MEDIAPIPE_SEGMENTER = """\
// Gives each pixel of a Bitmap a class with $name and MediaPipe Tasks. Not compiled by the program
// that wrote it.
// Gradle: implementation("com.google.mediapipe:tasks-vision:latest.release")
import android.content.Context
import android.graphics.Bitmap
import com.google.mediapipe.framework.image.BitmapImageBuilder
import com.google.mediapipe.framework.image.ByteBufferExtractor
import com.google.mediapipe.tasks.core.BaseOptions
import com.google.mediapipe.tasks.vision.imagesegmenter.ImageSegmenter
import java.nio.ByteBuffer

class MediaPipeSegmenter(context: Context) {
    private val segmenter = ImageSegmenter.createFromOptions(
        context,
        ImageSegmenter.ImageSegmenterOptions.builder()
            .setBaseOptions(BaseOptions.builder().setModelAssetPath("$name.tflite").build())
            .setOutputCategoryMask(true)
            .setOutputConfidenceMasks(false)
            .build())
    val labels: List<String> = segmenter.labels

    /**
     * A byte for each pixel of the bitmap, row by row: an index into labels. MediaPipe stretches
     * the bitmap to the input, uncropped, and the mask back.
     */
    fun segment(bitmap: Bitmap): ByteBuffer {
        val result = segmenter.segment(BitmapImageBuilder(bitmap).build())
        return ByteBufferExtractor.extract(result.categoryMask().get())
    }
}
"""

_SEGMENTER_README = """\
# $name on Android

`$name.tflite`: gives each pixel one of $classes classes, input $side x $side pixels, $bytes bytes;
its metadata has the normalisation, the range of the input and the labels.

1. Copy `$name.tflite` and `labels.txt` to `app/src/main/assets/`.
2. Copy one of the Kotlin files to your sources and add the dependency it names. Neither was
   compiled by the program that wrote it.
3. Crop the image first: both stretch what they get to the input's square. The network was tested on
   the square around the centre that has $crop of the shorter side. Shrink large images in steps of
   two or with an area filter before that: Android's bilinear scaling skips pixels, which the tests
   did not.
4. `LiteRtSegmenter` gives a mask of the input's size, MediaPipe one of the bitmap's.
"""

CLASSIFIER = {
    "LiteRtClassifier.kt": _LITERT_CLASSIFIER,
    "MediaPipeClassifier.kt": _MEDIAPIPE_CLASSIFIER,
    "README.md": _CLASSIFIER_README,
}
SEGMENTER = {
    "LiteRtSegmenter.kt": _LITERT_SEGMENTER,
    "MediaPipeSegmenter.kt": _MEDIAPIPE_SEGMENTER,
    "README.md": _SEGMENTER_README,
}
