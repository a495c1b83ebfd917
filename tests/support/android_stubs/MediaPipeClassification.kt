// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/vision/imageclassifier/ImageClassifier
@file:Suppress("UNUSED_PARAMETER")

package com.google.mediapipe.tasks.vision.imageclassifier

import android.content.Context
import com.google.mediapipe.framework.image.MPImage
import com.google.mediapipe.tasks.components.containers.ClassificationResult
import com.google.mediapipe.tasks.core.BaseOptions

interface ImageClassifierResult {
    // public abstract ClassificationResult classificationResult()
    fun classificationResult(): ClassificationResult
}

class ImageClassifier : AutoCloseable {
    // public ImageClassifierResult classify(MPImage image)
    fun classify(image: MPImage): ImageClassifierResult = TODO()

    override fun close() = Unit // public void close()

    class ImageClassifierOptions {
        class Builder {
            fun setBaseOptions(baseOptions: BaseOptions): Builder = this

            fun setMaxResults(maxResults: Int): Builder = this

            fun build() = ImageClassifierOptions()
        }

        companion object {
            fun builder() = Builder()
        }
    }

    companion object {
        // public static ImageClassifier createFromOptions(
        //     Context context, ImageClassifier.ImageClassifierOptions options)
        fun createFromOptions(context: Context, options: ImageClassifierOptions) =
            ImageClassifier()
    }
}
