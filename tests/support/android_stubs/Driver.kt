// Runs the library of an Android package on this machine. The token net_name stands for the
// package's identifier, as in the package's own files. The first argument is the folder of assets.
//
// Reads commands from standard input, numbers being big-endian, and answers each with a line:
//   t                                    runs PreprocessingTest
//   b width height pixels                a Bitmap; the crop as hexadecimal digits
//   f width height rotation pad pixels   a frame of CameraX with `pad` more pixels in its rows
//                                        than its width; the input of the network, then its answer
//   p width height rotation outHeight outWidth channels crop pixels   Preprocessing; the crop
//   o count values                       what the network gives in one run more; the last one
//                                        again from then on
//   g                                    runs GoldenTest; its assets are in the second argument
package elite.net_name

import android.content.Context
import android.content.res.AssetManager
import android.graphics.Bitmap
import androidx.camera.core.ImageInfo
import androidx.camera.core.ImageProxy
import androidx.test.platform.app.Instrumentation
import androidx.test.platform.app.InstrumentationRegistry
import elite.fake.FakeNetwork
import java.io.DataInputStream
import java.io.File
import java.nio.ByteBuffer

private class Files(folder: File) : Context() {
    override val assets = AssetManager(folder)
}

private class Frame(
    override val width: Int,
    override val height: Int,
    rotation: Int,
    pad: Int,
    pixels: IntArray,
) : ImageProxy {
    override val imageInfo = object : ImageInfo {
        override val rotationDegrees = rotation
    }

    private val plane = object : ImageProxy.PlaneProxy {
        override val pixelStride = 4
        override val rowStride = 4 * (width + pad)

        // As Android gives it: the last row ends with its last pixel.
        override val buffer: ByteBuffer =
            ByteBuffer.allocateDirect((height - 1) * rowStride + 4 * width).also { bytes ->
                for (y in 0 until height) for (x in 0 until width) {
                    val argb = pixels[y * width + x]
                    bytes.putInt(y * rowStride + 4 * x, argb shl 8 or 255)
                }
            }
    }
    override val planes: Array<ImageProxy.PlaneProxy> = arrayOf(plane)

    override fun close() = Unit
}

private fun hexadecimal(bytes: ByteArray) =
    bytes.joinToString("") { (it.toInt() and 255).toString(16).padStart(2, '0') }

private fun input() =
    FakeNetwork.floats?.joinToString(" ") ?: hexadecimal(checkNotNull(FakeNetwork.bytes))

fun main(arguments: Array<String>) {
    val commands = DataInputStream(System.`in`.buffered())
    val crops = Crops()
    LiteRtModel(Files(File(arguments[0])), Processor.CPU, threads = 3).use { model ->
        fun pixels(size: Int) = IntArray(size) { commands.readInt() }
        while (true) {
            when (val command = commands.read()) {
                -1 -> break
                't'.code -> {
                    PreprocessingTest().cropsAreThoseOfTheEvaluation()
                    println("passed")
                }
                'o'.code -> {
                    FakeNetwork.outputs += FloatArray(commands.readInt()) { commands.readFloat() }
                    println(FakeNetwork.outputs.size)
                }
                'g'.code -> {
                    val (app, tests) = arguments.map { Files(File(it)) }
                    InstrumentationRegistry.registered = Instrumentation(tests, app)
                    GoldenTest().outputsAreThoseOfTheExport()
                    println("passed")
                }
                'b'.code -> {
                    val (width, height) = commands.readInt() to commands.readInt()
                    println(hexadecimal(crops.of(Bitmap(pixels(width * height), width, height))))
                }
                'f'.code -> {
                    val (width, height) = commands.readInt() to commands.readInt()
                    val (rotation, pad) = commands.readInt() to commands.readInt()
                    val frame = Frame(width, height, rotation, pad, pixels(width * height))
                    val answer = model.describe(frame).replace("\n", "; ")
                    println(input() + "\t" + answer)
                }
                'p'.code -> {
                    val (width, height) = commands.readInt() to commands.readInt()
                    val (rotation, outHeight) = commands.readInt() to commands.readInt()
                    val preprocessing = Preprocessing(
                        outHeight, commands.readInt(), commands.readInt(), commands.readDouble())
                    println(hexadecimal(preprocessing.seen(
                        pixels(width * height), width, height, rotation = rotation)))
                }
                else -> error("no command: $command")
            }
        }
    }
}
