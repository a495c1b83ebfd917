package elite.fake

/** What the runtimes of these stubs compute: they keep what they are given, and give `output`. */
object FakeNetwork {
    /** The bytes or the floats of the last input; the other one is null. */
    var bytes: ByteArray? = null
    var floats: FloatArray? = null

    /** The elements of the output: numbers, or the values of unsigned bytes. */
    var output = FloatArray(0)
}
