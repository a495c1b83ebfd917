// https://developer.android.com/reference/android/graphics/Bitmap
package android.graphics

class Bitmap(private val pixels: IntArray, val width: Int, val height: Int) {
    enum class Config { ARGB_8888 }

    fun hasAlpha() = pixels.any { it ushr 24 != 255 } // public final boolean hasAlpha()

    // public void getPixels(int[] pixels, int offset, int stride, int x, int y, int w, int h)
    fun getPixels(into: IntArray, offset: Int, stride: Int, x: Int, y: Int, w: Int, h: Int) {
        for (row in 0 until h) for (column in 0 until w) {
            into[offset + row * stride + column] = pixels[(y + row) * width + x + column]
        }
    }

    companion object {
        // public static Bitmap createBitmap(int[] colors, int width, int height, Config config)
        fun createBitmap(colors: IntArray, width: Int, height: Int, config: Config): Bitmap {
            check(config == Config.ARGB_8888)
            return Bitmap(colors, width, height)
        }
    }
}
