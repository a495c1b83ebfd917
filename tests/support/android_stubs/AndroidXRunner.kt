// https://developer.android.com/reference/androidx/test/ext/junit/runners/AndroidJUnit4
package androidx.test.ext.junit.runners

import org.junit.runner.Runner

class AndroidJUnit4 : Runner()
