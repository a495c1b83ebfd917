// https://developer.android.com/reference/android/content/res/AssetManager
// https://developer.android.com/reference/android/content/res/AssetFileDescriptor
package android.content.res

import java.io.Closeable
import java.io.File
import java.io.FileDescriptor
import java.io.FileInputStream
import java.io.InputStream

/** Assets in a folder of this machine. */
class AssetManager(private val folder: File) {
    // public InputStream open(String fileName)
    fun open(fileName: String): InputStream = File(folder, fileName).inputStream()

    // public AssetFileDescriptor openFd(String fileName)
    fun openFd(fileName: String) = AssetFileDescriptor(File(folder, fileName))
}

class AssetFileDescriptor(file: File) : Closeable {
    private val stream = FileInputStream(file)
    val fileDescriptor: FileDescriptor = stream.fd // public FileDescriptor getFileDescriptor()
    val startOffset = 0L // public long getStartOffset()
    val declaredLength = file.length() // public long getDeclaredLength()

    override fun close() = stream.close()
}
