package elite.net_name

import java.io.DataInputStream
import org.junit.Assert.assertArrayEquals
import org.junit.Assert.assertEquals
import org.junit.Test

/** Runs on the developer's machine: `gradle :network:test`. */
class PreprocessingTest {
    /** Images of preprocessing.bin and the crops that the evaluation in Python sees of them. */
    @Test
    fun cropsAreThoseOfTheEvaluation() {
        val stream = javaClass.getResourceAsStream("/preprocessing.bin")!!
        DataInputStream(stream.buffered()).use { file ->
            val cases = file.readInt()
            for (case in 0 until cases) {
                val (width, height, rotation) = Triple(file.readInt(), file.readInt(), file.readInt())
                val (outHeight, outWidth) = file.readInt() to file.readInt()
                val (channels, crop) = file.readInt() to file.readDouble()
                val pixels = IntArray(width * height) { file.readInt() }
                val expected = ByteArray(outHeight * outWidth * channels)
                file.readFully(expected)
                val seen = Preprocessing(outHeight, outWidth, channels, crop)
                    .seen(pixels, width, height, rotation = rotation)
                assertArrayEquals("image $case", expected, seen)
            }
            assertEquals("nothing is left", -1, file.read())
        }
    }
}
