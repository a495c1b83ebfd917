"""The texts of an Android package; `android` fills them in (``string.Template``)."""

LITERT = """\
// Classifies a Bitmap with $name and LiteRT. Not compiled by the program that wrote it.
// Gradle: implementation("com.google.ai.edge.litert:litert:1.4.0")
import android.content.Context
import android.graphics.Bitmap
import java.io.FileInputStream
import java.nio.ByteBuffer
import java.nio.ByteOrder
import java.nio.channels.FileChannel
import kotlin.math.exp
import org.tensorflow.lite.Interpreter

class LiteRtClassifier(context: Context) {
    val labels = context.assets.open("labels.txt").bufferedReader().readLines()
    private val interpreter = Interpreter(
        context.assets.openFd("$name.tflite").use { file ->
            FileInputStream(file.fileDescriptor).channel.map(
                FileChannel.MapMode.READ_ONLY, file.startOffset, file.declaredLength)
        })
    private val input = interpreter.getInputTensor(0)
    private val output = interpreter.getOutputTensor(0)

    /** Index of the class, an index into labels, and its probability. */
    fun classify(bitmap: Bitmap): Pair<Int, Float> {
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

MEDIAPIPE = """\
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

README = """\
# $name on Android

`$name.tflite`: $classes classes, input $side x $side pixels, $bytes bytes; its metadata has the
normalisation, the range of the input and the labels.

1. Copy `$name.tflite` and `labels.txt` to `app/src/main/assets/`.
2. Copy one of the Kotlin files to your sources and add the dependency it names. Neither was
   compiled by the program that wrote it.
3. Crop the image as you want it seen first: both stretch what they get to the input's square.
4. The output is logits. `LiteRtClassifier` makes a probability of the greatest; MediaPipe's score
   is the logit itself.
"""
