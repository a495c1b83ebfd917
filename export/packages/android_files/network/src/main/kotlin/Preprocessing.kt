package elite.net_name

import kotlin.math.abs
import kotlin.math.max
import kotlin.math.min

/**
 * Turns an image into what the network sees, byte for byte as the evaluation in Python does: the
 * centred crop with the network's aspect ratio, resized by cubic convolution (Keys 1981, a = -1/2) with a kernel that widens when
 * the image shrinks, against aliasing. Columns come first, then rows. Weights are whole multiples
 * of 2^-22, and pixels are rounded after each step. It uses no class of Android.
 *
 * Its buffers are used again: a result is valid until the next call, on one thread.
 *
 * @param outHeight rows of the result.
 * @param outWidth pixels of a row of the result.
 * @param channels 3 for red, green, blue; 1 for the brightness (ITU-R BT.601, rounded).
 * @param crop sides of the crop as a share of those of the largest one.
 */
class Preprocessing(
    private val outHeight: Int,
    private val outWidth: Int,
    private val channels: Int,
    private val crop: Double,
) {
    private val result = ByteArray(outHeight * outWidth * channels)
    private var line = IntArray(0) // one row of the result, before its pixels are resized
    private var rows = Taps(1, 0.0, 1.0, 1)
    private var columns = rows
    private var width = 0 // of the upright image that rows and columns are for
    private var height = 0

    /**
     * Returns outHeight * outWidth * channels bytes, row by row, each a value from 0 to 255.
     *
     * @param pixels of the image as it is stored, row by row.
     * @param storedWidth pixels of a row.
     * @param storedHeight number of rows.
     * @param stride elements of `pixels` from the start of a row to that of the next.
     * @param red bits to the right of red in a pixel; green and blue follow in the next 8 bits
     *     each. 16 for Bitmap.getPixels (ARGB), 24 for RGBA.
     * @param rotation degrees by which the image is to be turned clockwise: 0, 90, 180 or 270.
     */
    fun seen(
        pixels: IntArray,
        storedWidth: Int,
        storedHeight: Int,
        stride: Int = storedWidth,
        red: Int = 16,
        rotation: Int = 0,
    ): ByteArray {
        // The pixel (x, y) of the upright image is pixels[origin + x * right + y * down].
        val lastRow = (storedHeight - 1) * stride
        val lastColumn = storedWidth - 1
        val (origin, right, down) = when (rotation) {
            0 -> Triple(0, 1, stride)
            90 -> Triple(lastRow, -stride, 1)
            180 -> Triple(lastRow + lastColumn, -1, -stride)
            270 -> Triple(lastColumn, stride, -1)
            else -> throw IllegalArgumentException("rotation $rotation is none of 0, 90, 180, 270")
        }
        val turned = rotation % 180 != 0
        prepare(
            if (turned) storedHeight else storedWidth, if (turned) storedWidth else storedHeight)
        val first = columns.begin[0]
        for (y in 0 until outHeight) {
            line.fill(HALF)
            for (i in 0 until rows.count[y]) {
                val weight = rows.weights[rows.start[y] + i]
                var at = origin + first * right + (rows.begin[y] + i) * down
                var to = 0
                while (to < line.size) {
                    val pixel = pixels[at]
                    if (channels == 1) {
                        line[to++] += weight * brightness(pixel, red)
                    } else {
                        line[to++] += weight * (pixel ushr red and 255)
                        line[to++] += weight * (pixel ushr red - 8 and 255)
                        line[to++] += weight * (pixel ushr red - 16 and 255)
                    }
                    at += right
                }
            }
            for (i in line.indices) line[i] = clipped(line[i])
            for (x in 0 until outWidth) for (channel in 0 until channels) {
                var sum = HALF
                var from = (columns.begin[x] - first) * channels + channel
                for (i in 0 until columns.count[x]) {
                    sum += columns.weights[columns.start[x] + i] * line[from]
                    from += channels
                }
                result[(y * outWidth + x) * channels + channel] = clipped(sum).toByte()
            }
        }
        return result
    }

    /** Computes the weights for images of a size, unless the last image had it too. */
    private fun prepare(newWidth: Int, newHeight: Int) {
        if (newWidth == width && newHeight == height) return
        width = newWidth
        height = newHeight
        val down = min(height.toDouble(), width.toDouble() * outHeight / outWidth) * crop
        val across = min(width.toDouble(), height.toDouble() * outWidth / outHeight) * crop
        val top = (height - down) / 2
        val left = (width - across) / 2
        rows = Taps(outHeight, top, min(top + down, height.toDouble()), height)
        columns = Taps(outWidth, left, min(left + across, width.toDouble()), width)
        val last = columns.begin[outWidth - 1] + columns.count[outWidth - 1]
        line = IntArray((last - columns.begin[0]) * channels)
    }

    private fun brightness(pixel: Int, red: Int): Int =
        19595 * (pixel ushr red and 255) + 38470 * (pixel ushr red - 8 and 255) +
            7471 * (pixel ushr red - 16 and 255) + 32768 ushr 16

    /** A sum of weighted pixels and HALF as a pixel. */
    private fun clipped(sum: Int): Int = min(max(sum shr BITS, 0), 255)

    /**
     * Which pixels of an axis make each pixel of the result: from begin[x] on, count[x] of them,
     * with the weights from start[x] on. The crop reaches from `from` to `to`, of `size` pixels.
     */
    private class Taps(side: Int, from: Double, to: Double, size: Int) {
        val begin = IntArray(side)
        val count = IntArray(side)
        val start = IntArray(side)
        val weights: IntArray

        init {
            val first = from.toFloat()
            val step = (to.toFloat() - first).toDouble() / side
            val spread = max(step, 1.0)
            val all = ArrayList<Int>()
            for (x in 0 until side) {
                val center = first + (x + 0.5) * step
                begin[x] = max((center - 2 * spread + 0.5).toInt(), 0)
                count[x] = min((center + 2 * spread + 0.5).toInt(), size) - begin[x]
                start[x] = all.size
                val shares = DoubleArray(count[x]) {
                    cubic(abs((begin[x] + it - center + 0.5) * (1 / spread)))
                }
                val sum = shares.sum()
                for (share in shares) {
                    val weight = share / sum * (1 shl BITS)
                    all.add((weight + if (weight < 0) -0.5 else 0.5).toInt())
                }
            }
            weights = all.toIntArray()
        }

        /** The kernel of cubic convolution at a distance of 0 or more. */
        private fun cubic(x: Double): Double = when {
            x >= 2 -> 0.0
            x >= 1 -> ((-0.5 * x + 2.5) * x - 4) * x + 2
            else -> (1.5 * x - 2.5) * x * x + 1
        }
    }

    private companion object {
        const val BITS = 22
        const val HALF = 1 shl BITS - 1
    }
}

/** Blends pixels of Bitmap.getPixels (ARGB) with white in place, by their alpha. */
internal fun blendWithWhite(pixels: IntArray) {
    for (i in pixels.indices) {
        val pixel = pixels[i]
        val alpha = pixel ushr 24
        if (alpha == 255) continue
        var blended = 255
        for (shift in intArrayOf(16, 8, 0)) {
            val value = ((pixel ushr shift and 255) * alpha + 255 * (255 - alpha) + 127) / 255
            blended = blended shl 8 or value
        }
        pixels[i] = blended
    }
}
