// https://developer.android.com/reference/androidx/camera/core/ImageProxy
// https://developer.android.com/reference/androidx/camera/core/ImageProxy.PlaneProxy
// https://developer.android.com/reference/androidx/camera/core/ImageInfo
// https://developer.android.com/reference/androidx/camera/core/ImageAnalysis
// https://developer.android.com/reference/androidx/camera/core/ImageAnalysis.Builder
// https://developer.android.com/reference/androidx/camera/core/Preview
// https://developer.android.com/reference/androidx/camera/core/CameraSelector
@file:Suppress("UNUSED_PARAMETER")

package androidx.camera.core

import java.nio.ByteBuffer
import java.util.concurrent.Executor

interface ImageInfo {
    val rotationDegrees: Int // int getRotationDegrees()
}

interface ImageProxy : AutoCloseable {
    val width: Int // int getWidth()
    val height: Int // int getHeight()
    val planes: Array<PlaneProxy> // PlaneProxy[] getPlanes()
    val imageInfo: ImageInfo // ImageInfo getImageInfo()

    interface PlaneProxy {
        val rowStride: Int // int getRowStride(), bytes
        val pixelStride: Int // int getPixelStride(), bytes
        val buffer: ByteBuffer // ByteBuffer getBuffer()
    }
}

interface Camera

abstract class UseCase

class CameraSelector {
    companion object {
        val DEFAULT_BACK_CAMERA = CameraSelector()
    }
}

class Preview : UseCase() {
    interface SurfaceProvider

    // public void setSurfaceProvider(SurfaceProvider surfaceProvider)
    fun setSurfaceProvider(surfaceProvider: SurfaceProvider?): Unit = TODO()

    class Builder {
        fun build(): Preview = TODO() // public Preview build()
    }
}

class ImageAnalysis : UseCase() {
    fun interface Analyzer {
        fun analyze(image: ImageProxy) // void analyze(ImageProxy image)
    }

    // public void setAnalyzer(Executor executor, ImageAnalysis.Analyzer analyzer)
    fun setAnalyzer(executor: Executor, analyzer: Analyzer): Unit = TODO()

    class Builder {
        // public ImageAnalysis.Builder setOutputImageFormat(int outputImageFormat)
        fun setOutputImageFormat(outputImageFormat: Int): Builder = TODO()

        // public ImageAnalysis.Builder setBackpressureStrategy(int strategy)
        fun setBackpressureStrategy(strategy: Int): Builder = TODO()

        fun build(): ImageAnalysis = TODO() // public ImageAnalysis build()
    }

    companion object {
        const val OUTPUT_IMAGE_FORMAT_RGBA_8888 = 2
        const val STRATEGY_KEEP_ONLY_LATEST = 0
    }
}
