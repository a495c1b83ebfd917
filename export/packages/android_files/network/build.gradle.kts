// The network as a library. Copy this folder into your project, include it in settings.gradle.kts,
// and depend on it: implementation(project(":network")).
plugins {
    id("com.android.library")
}

android {
    namespace = "elite.net_name"
    compileSdk = 37

    defaultConfig {
        minSdk = 24
        testInstrumentationRunner = "androidx.test.runner.AndroidJUnitRunner"
    }

    // The runtime: an app names one with missingDimensionStrategy, see app/build.gradle.kts.
    flavorDimensions += "runtime"
    productFlavors {
        create("litert2") {
            dimension = "runtime"
            isDefault = true
        }
        create("litert1") {
            dimension = "runtime"
        }
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    api("androidx.camera:camera-core:1.6.2")
    // CompiledModel; the GPU needs the second line.
    "litert2Implementation"("com.google.ai.edge.litert:litert:2.3.0")
    "litert2Implementation"("com.google.ai.edge.litert:litert-gpu:2.3.0")
    // Interpreter
    "litert1Implementation"("com.google.ai.edge.litert:litert:1.4.2")
    testImplementation("junit:junit:4.13.2")
    androidTestImplementation("androidx.test:runner:1.7.0")
    androidTestImplementation("androidx.test.ext:junit:1.3.0")
}
