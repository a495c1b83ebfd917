// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/core/BaseOptions.Builder
@file:Suppress("UNUSED_PARAMETER")

package com.google.mediapipe.tasks.core

class BaseOptions {
    class Builder {
        // public abstract BaseOptions.Builder setModelAssetPath(String value)
        fun setModelAssetPath(value: String): Builder = this

        fun build() = BaseOptions() // public final BaseOptions build()
    }

    companion object {
        fun builder() = Builder() // public static BaseOptions.Builder builder()
    }
}
