// https://developer.android.com/reference/android/widget/FrameLayout
// https://developer.android.com/reference/android/widget/TextView
package android.widget

import android.content.Context
import android.view.View

open class FrameLayout(@Suppress("unused") val context: Context) : View() {
    fun addView(@Suppress("unused") child: View): Unit = TODO() // public void addView(View child)
}

class TextView(@Suppress("unused") val context: Context) : View() {
    var text: CharSequence = "" // setText(CharSequence)
    var textSize = 0f // setTextSize(float), in scaled pixels
    var gravity = 0 // setGravity(int)
}
