// https://junit.org/junit4/javadoc/4.13/org/junit/Assert.html
// https://junit.org/junit4/javadoc/4.13/org/junit/Test.html
package org.junit

annotation class Test

object Assert {
    // public static void assertEquals(String message, long expected, long actual)
    fun assertEquals(message: String, expected: Int, actual: Int) {
        if (expected != actual) throw AssertionError(message)
    }

    // public static void assertArrayEquals(String message, byte[] expecteds, byte[] actuals)
    fun assertArrayEquals(message: String, expecteds: ByteArray, actuals: ByteArray) {
        if (!expecteds.contentEquals(actuals)) throw AssertionError(message)
    }

    // public static void assertArrayEquals(
    //     String message, float[] expecteds, float[] actuals, float delta)
    fun assertArrayEquals(
        message: String,
        expecteds: FloatArray,
        actuals: FloatArray,
        delta: Float,
    ) {
        check(expecteds.size == actuals.size)
        for (i in expecteds.indices) {
            if (Math.abs(expecteds[i] - actuals[i]) > delta) throw AssertionError(message)
        }
    }
}
