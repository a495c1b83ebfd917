// A minimal app: the camera's picture, and the network's answer over it.
plugins {
    id("com.android.application")
}

android {
    namespace = "elite.net_name.app"
    compileSdk = 37

    defaultConfig {
        applicationId = "elite.net_name.app"
        minSdk = 24
        targetSdk = 36
        versionCode = 1
        versionName = "1.0"
        missingDimensionStrategy("runtime", "litert2") // or "litert1"
    }

    compileOptions {
        sourceCompatibility = JavaVersion.VERSION_17
        targetCompatibility = JavaVersion.VERSION_17
    }
}

dependencies {
    implementation(project(":network"))
    implementation("androidx.activity:activity:1.13.0")
    implementation("androidx.camera:camera-camera2:1.6.2")
    implementation("androidx.camera:camera-lifecycle:1.6.2")
    implementation("androidx.camera:camera-view:1.6.2")
}
