// https://developer.android.com/reference/android/Manifest.permission
package android

class Manifest {
    object permission {
        const val CAMERA = "android.permission.CAMERA"
    }
}
