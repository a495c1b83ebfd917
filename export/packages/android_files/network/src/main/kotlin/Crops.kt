package elite.net_name

import android.graphics.Bitmap
import androidx.camera.core.ImageProxy
import java.nio.ByteOrder

/** Where the network runs. */
enum class Processor { CPU, GPU }

/**
 * Takes the network's crop out of images, see Preprocessing: HEIGHT * WIDTH * CHANNELS bytes. The
 * result is valid until the next call.
 */
internal class Crops {
    private val preprocessing =
        Preprocessing(Network.HEIGHT, Network.WIDTH, Network.CHANNELS, Network.CROP_FRACTION)
    private var pixels = IntArray(0)

    /** Of an upright bitmap, which must not be in the memory of the GPU (Config.HARDWARE). */
    fun of(bitmap: Bitmap): ByteArray {
        val (width, height) = bitmap.width to bitmap.height
        reserve(width * height)
        bitmap.getPixels(pixels, 0, width, 0, 0, width, height)
        if (bitmap.hasAlpha()) blendWithWhite(pixels)
        return preprocessing.seen(pixels, width, height)
    }

    /**
     * Of a frame of CameraX, turned upright. ImageAnalysis must give RGBA_8888
     * (setOutputImageFormat); the frame stays open.
     */
    fun of(image: ImageProxy): ByteArray {
        val plane = image.planes.singleOrNull()
        require(plane != null && plane.pixelStride == 4) {
            "ImageAnalysis must give OUTPUT_IMAGE_FORMAT_RGBA_8888"
        }
        val bytes = plane.buffer.duplicate().order(ByteOrder.BIG_ENDIAN)
        bytes.rewind()
        val frame = bytes.asIntBuffer()
        // The last row may end with its last pixel.
        reserve(frame.remaining())
        frame.get(pixels)
        return preprocessing.seen(
            pixels, image.width, image.height, stride = plane.rowStride / 4, red = 24,
            rotation = image.imageInfo.rotationDegrees)
    }

    private fun reserve(size: Int) {
        if (pixels.size != size) pixels = IntArray(size)
    }
}
