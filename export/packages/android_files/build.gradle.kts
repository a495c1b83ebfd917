// Android Gradle plugin 9.3 brings Kotlin with it, needs JDK 17 and Gradle 9.5.0 or newer:
// https://developer.android.com/build/releases/agp-9-3-0-release-notes
plugins {
    id("com.android.application") version "9.3.1" apply false
    id("com.android.library") version "9.3.1" apply false
}
