// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/framework/image/BitmapImageBuilder
// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/framework/image/ByteBufferExtractor
@file:Suppress("UNUSED_PARAMETER")

package com.google.mediapipe.framework.image

import android.graphics.Bitmap
import java.nio.ByteBuffer

class MPImage(val bitmap: Bitmap)

class BitmapImageBuilder(private val bitmap: Bitmap) {
    fun build() = MPImage(bitmap) // public MPImage build()
}

class ByteBufferExtractor {
    companion object {
        fun extract(image: MPImage): ByteBuffer = TODO() // public static ByteBuffer extract(MPImage)
    }
}
