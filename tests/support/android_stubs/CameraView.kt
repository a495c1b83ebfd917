// https://developer.android.com/reference/androidx/camera/view/PreviewView
package androidx.camera.view

import android.content.Context
import android.widget.FrameLayout
import androidx.camera.core.Preview

class PreviewView(context: Context) : FrameLayout(context) {
    val surfaceProvider: Preview.SurfaceProvider get() = TODO() // getSurfaceProvider()
}
