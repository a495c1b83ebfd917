// https://developer.android.com/reference/android/content/Context
package android.content

import android.content.res.AssetManager

abstract class Context {
    abstract val assets: AssetManager // public abstract AssetManager getAssets()
}
