// https://developer.android.com/reference/androidx/activity/ComponentActivity
// https://developer.android.com/reference/android/app/Activity
@file:Suppress("UNUSED_PARAMETER")

package androidx.activity

import android.content.Context
import android.content.res.AssetManager
import android.os.Bundle
import android.view.View
import androidx.activity.result.ActivityResultLauncher
import androidx.activity.result.contract.ActivityResultContract
import androidx.lifecycle.LifecycleOwner

open class ComponentActivity : Context(), LifecycleOwner {
    override val assets: AssetManager get() = TODO()

    // protected void onCreate(Bundle savedInstanceState)
    protected open fun onCreate(savedInstanceState: Bundle?): Unit = TODO()

    protected open fun onDestroy(): Unit = TODO() // protected void onDestroy()

    fun setContentView(view: View): Unit = TODO() // public void setContentView(View view)

    fun runOnUiThread(action: Runnable): Unit = TODO() // public final void runOnUiThread(Runnable)

    // public final <I, O> ActivityResultLauncher<I> registerForActivityResult(
    //     ActivityResultContract<I, O> contract, ActivityResultCallback<O> callback)
    fun <I, O> registerForActivityResult(
        contract: ActivityResultContract<I, O>,
        callback: androidx.activity.result.ActivityResultCallback<O>,
    ): ActivityResultLauncher<I> = TODO()
}
