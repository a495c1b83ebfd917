package elite.net_name

import androidx.test.ext.junit.runners.AndroidJUnit4
import androidx.test.platform.app.InstrumentationRegistry
import java.io.DataInputStream
import org.junit.Assert.assertArrayEquals
import org.junit.Test
import org.junit.runner.RunWith

/** Runs on a device: `gradle :network:connectedAndroidTest`. */
@RunWith(AndroidJUnit4::class)
class GoldenTest {
    /** Images of golden.bin and the outputs that LiteRT gives for them on a computer. */
    @Test
    fun outputsAreThoseOfTheExport() {
        val instrumentation = InstrumentationRegistry.getInstrumentation()
        val stream = instrumentation.context.assets.open("golden.bin")
        DataInputStream(stream.buffered()).use { file ->
            Runner(instrumentation.targetContext, Processor.CPU, threads = 2).use { runner ->
                val images = file.readInt()
                val tolerance = file.readFloat()
                for (image in 0 until images) {
                    val pixels = ByteArray(Network.INPUT_ELEMENTS)
                    file.readFully(pixels)
                    val expected = FloatArray(Network.OUTPUT_ELEMENTS) { file.readFloat() }
                    assertArrayEquals("image $image", expected, runner.run(pixels), tolerance)
                }
            }
        }
    }
}
