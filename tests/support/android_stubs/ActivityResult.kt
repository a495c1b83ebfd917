// https://developer.android.com/reference/androidx/activity/result/ActivityResultLauncher
// https://developer.android.com/reference/androidx/activity/result/ActivityResultCallback
@file:Suppress("UNUSED_PARAMETER")

package androidx.activity.result

fun interface ActivityResultCallback<O> {
    fun onActivityResult(result: O) // void onActivityResult(O result)
}

abstract class ActivityResultLauncher<I> {
    fun launch(input: I): Unit = TODO() // public void launch(I input)
}
