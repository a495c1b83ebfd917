// https://developer.android.com/reference/androidx/core/content/ContextCompat
@file:Suppress("UNUSED_PARAMETER")

package androidx.core.content

import android.content.Context
import java.util.concurrent.Executor

open class ContextCompat {
    companion object {
        // public static Executor getMainExecutor(Context context)
        fun getMainExecutor(context: Context): Executor = TODO()
    }
}
