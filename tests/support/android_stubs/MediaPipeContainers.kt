// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/components/containers/Category
// https://ai.google.dev/edge/api/mediapipe/java/com/google/mediapipe/tasks/components/containers/Classifications
package com.google.mediapipe.tasks.components.containers

interface Category {
    fun score(): Float // public abstract float score()

    fun categoryName(): String // public abstract String categoryName()
}

interface Classifications {
    fun categories(): List<Category> // public abstract List<Category> categories()
}

interface ClassificationResult {
    fun classifications(): List<Classifications> // public abstract List<Classifications> ...
}
