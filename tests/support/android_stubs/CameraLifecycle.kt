// https://developer.android.com/reference/androidx/camera/lifecycle/ProcessCameraProvider
@file:Suppress("UNUSED_PARAMETER")

package androidx.camera.lifecycle

import android.content.Context
import androidx.camera.core.Camera
import androidx.camera.core.CameraSelector
import androidx.camera.core.UseCase
import androidx.lifecycle.LifecycleOwner
import com.google.common.util.concurrent.ListenableFuture

class ProcessCameraProvider {
    // public Camera bindToLifecycle(
    //     LifecycleOwner lifecycleOwner, CameraSelector cameraSelector, UseCase... useCases)
    fun bindToLifecycle(
        lifecycleOwner: LifecycleOwner,
        cameraSelector: CameraSelector,
        vararg useCases: UseCase?,
    ): Camera = TODO()

    companion object {
        // public static ListenableFuture<ProcessCameraProvider> getInstance(Context context)
        fun getInstance(context: Context): ListenableFuture<ProcessCameraProvider> = TODO()
    }
}
