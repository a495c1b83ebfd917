// https://developer.android.com/reference/androidx/test/platform/app/InstrumentationRegistry
// https://developer.android.com/reference/android/app/Instrumentation
package androidx.test.platform.app

import android.content.Context

/** Stands for android.app.Instrumentation. */
class Instrumentation(
    val context: Context, // public Context getContext(): that of the tests
    val targetContext: Context, // public Context getTargetContext(): that of the app
)

class InstrumentationRegistry {
    companion object {
        lateinit var registered: Instrumentation

        fun getInstrumentation() = registered // public static Instrumentation getInstrumentation()
    }
}
