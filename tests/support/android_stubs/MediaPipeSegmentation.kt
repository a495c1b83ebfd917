// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/vision/imagesegmenter/ImageSegmenter
@file:Suppress("UNUSED_PARAMETER")

package com.google.mediapipe.tasks.vision.imagesegmenter

import android.content.Context
import com.google.mediapipe.framework.image.MPImage
import com.google.mediapipe.tasks.core.BaseOptions
import java.util.Optional

interface ImageSegmenterResult {
    fun categoryMask(): Optional<MPImage> // public abstract Optional<MPImage> categoryMask()
}

class ImageSegmenter : AutoCloseable {
    val labels: List<String> get() = TODO() // public List<String> getLabels()

    // public ImageSegmenterResult segment(MPImage image)
    fun segment(image: MPImage): ImageSegmenterResult = TODO()

    override fun close() = Unit // public void close()

    class ImageSegmenterOptions {
        class Builder {
            fun setBaseOptions(value: BaseOptions): Builder = this

            fun setOutputCategoryMask(value: Boolean): Builder = this

            fun setOutputConfidenceMasks(value: Boolean): Builder = this

            fun build() = ImageSegmenterOptions()
        }

        companion object {
            fun builder() = Builder()
        }
    }

    companion object {
        // public static ImageSegmenter createFromOptions(
        //     Context context, ImageSegmenter.ImageSegmenterOptions segmenterOptions)
        fun createFromOptions(context: Context, segmenterOptions: ImageSegmenterOptions) =
            ImageSegmenter()
    }
}
