package elite.net_name

import android.graphics.Bitmap

/** The bitmap of the bytes red, green, blue of a crop. */
internal fun bitmapOf(crop: ByteArray): Bitmap {
    fun at(i: Int) = crop[i].toInt() and 255
    val pixels = IntArray(Network.HEIGHT * Network.WIDTH) {
        255 shl 24 or (at(3 * it) shl 16) or (at(3 * it + 1) shl 8) or at(3 * it + 2)
    }
    return Bitmap.createBitmap(pixels, Network.WIDTH, Network.HEIGHT, Bitmap.Config.ARGB_8888)
}
