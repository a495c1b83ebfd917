package elite.fake

/** What the runtimes of these stubs compute: they keep what they are given, and give `outputs`. */
object FakeNetwork {
    /** The bytes or the floats of the last input; the other one is null. */
    var bytes: ByteArray? = null
    var floats: FloatArray? = null

    /** One for each run, and the last one again: numbers, or the values of unsigned bytes. */
    val outputs = ArrayDeque<FloatArray>()

    fun output(): FloatArray = if (outputs.size > 1) outputs.removeFirst() else outputs.first()
}
