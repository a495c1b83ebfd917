package elite.net_name.app

import android.Manifest
import android.os.Bundle
import android.view.Gravity
import android.widget.FrameLayout
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import elite.net_name.LiteRtModel
import elite.net_name.Processor
import java.util.concurrent.Executors

/** Shows the camera's picture and what the network says of its centre crop. */
class MainActivity : ComponentActivity() {
    // Frames are analysed one after the other, on this thread alone.
    private val executor = Executors.newSingleThreadExecutor()
    private lateinit var model: LiteRtModel
    private lateinit var preview: PreviewView
    private lateinit var answer: TextView

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        model = LiteRtModel(this, Processor.CPU, threads = 2)
        preview = PreviewView(this)
        answer = TextView(this)
        answer.textSize = 28f
        answer.gravity = Gravity.CENTER
        val layout = FrameLayout(this)
        layout.addView(preview)
        layout.addView(answer)
        setContentView(layout)
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) start() else answer.text = "Without the camera there is nothing to show."
        }.launch(Manifest.permission.CAMERA)
    }

    private fun start() {
        val future = ProcessCameraProvider.getInstance(this)
        future.addListener({ bind(future.get()) }, ContextCompat.getMainExecutor(this))
    }

    private fun bind(camera: ProcessCameraProvider) {
        val picture = Preview.Builder().build()
        picture.setSurfaceProvider(preview.surfaceProvider)
        // A frame that comes while another is analysed replaces the one that waits.
        val analysis = ImageAnalysis.Builder()
            .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
            .setBackpressureStrategy(ImageAnalysis.STRATEGY_KEEP_ONLY_LATEST)
            .build()
        analysis.setAnalyzer(executor, ::analyse)
        camera.bindToLifecycle(this, CameraSelector.DEFAULT_BACK_CAMERA, picture, analysis)
    }

    private fun analyse(image: ImageProxy) {
        val text = image.use { model.describe(it) }
        runOnUiThread { answer.text = text }
    }

    override fun onDestroy() {
        super.onDestroy()
        executor.execute(model::close) // behind the frame that is still analysed
        executor.shutdown()
    }
}
