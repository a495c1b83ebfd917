// The page: runs the network on a picture or the camera's image and shows the most likely classes;
// for a segmentation network it draws the classes over the picture and shows their shares of the
// pixels. It also measures the latency.

import {classify} from "./classify.js";
import {pixelsOf, preprocess, toInput} from "./image.js";
import {describeHost, measureLatency, report} from "./latency.js";
import {color, isBackground, paint, segment, shares} from "./mask.js";
import {Network, buildName} from "./network.js";

const SHOWN_CLASSES = 5;
const BENCHMARK = {runs: 100, warmup: 10};  // turns, and untimed inferences before them

const $ = (id) => document.getElementById(id);
let info, network;  // the content of model.json, and the loaded network
let lastInference = Promise.resolve();  // the next one waits for it: one inference at a time

function showStatus(text, failed = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", failed);
}

async function fetchFile(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response;
}

async function start() {
  if (location.protocol === "file:") {
    throw new Error("a web server must serve it (see README.txt)");
  }
  info = await (await fetchFile("model.json")).json();
  document.title = $("name").textContent = info.name;
  const size = `${info.height} × ${info.width} pixels, ${(info.bytes / 1000).toFixed(0)} kB`;
  $("about").textContent = `${info.labels.length} classes, ${size}, ${info.runtime}`;
  const file = await fetchFile(encodeURIComponent(info.file));
  network = await Network.load(new Uint8Array(await file.arrayBuffer()));
  const least = (100 * info.confidence.threshold).toFixed(1);
  $("unknown").textContent = `Unknown: no class is as probable as ${least} %.`;
  const cameraAllowed = Boolean(navigator.mediaDevices?.getUserMedia);
  $("camera").hidden = !cameraAllowed;
  $("no-camera").hidden = cameraAllowed;
  $("main").hidden = false;
  showStatus("");
}

/** Runs the network on an image, video or bitmap and shows the prediction. */
function predict(source, width, height) {
  const inference = lastInference.then(async () => {
    const start = performance.now();
    const rgba = pixelsOf(source, width, height);
    const {crop_fraction: crop, channels} = info;
    const pixels = preprocess(rgba, width, height, info, crop, channels);
    const ready = performance.now();
    network.setInput(toInput(pixels, info.input, channels));
    const output = await network.infer();
    const end = performance.now();
    if (info.masks) {
      const mask = segment(output, info.labels.length);
      drawPixels(paint(inColours(pixels), mask, info.labels));
      listClasses(shares(mask, info.labels.length));
    } else {
    drawPixels(inColours(pixels));
    const answer = classify(output, info);
    $("unknown").hidden = answer.index < info.labels.length;
    listClasses(answer.classes.slice(0, SHOWN_CLASSES));
    }
    const [image, run] = [ready - start, end - ready].map((time) => time.toFixed(1));
    $("durations").textContent = `Preparing the image: ${image} ms, network: ${run} ms`;
  });
  lastInference = inference.catch(() => {});  // a failure must not stop the next one
  return inference;
}

/** Returns pixels of three bytes: those of a network for grey images have one. */
function inColours(pixels) {
  if (info.channels === 3) return pixels;
  return Uint8ClampedArray.from({length: 3 * pixels.length}, (_, i) => pixels[Math.floor(i / 3)]);
}

function drawPixels(pixels) {
  const {width, height} = info;
  const image = new ImageData(width, height);
  for (let i = 0; i < width * height; i++) {
    image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  Object.assign($("input-view"), {width, height, hidden: false});
  $("input-view").getContext("2d").putImageData(image, 0, 0);
}

function listClasses(classes) {
  $("prediction").replaceChildren(...classes.map(({index, probability}) => {
    const percent = `${(100 * probability).toFixed(1)} %`;
    const [item, row, label, share, bar, filled] =
      ["li", "div", "span", "span", "div", "div"].map((tag) => document.createElement(tag));
    label.textContent = info.labels[index];
    if (info.masks && !isBackground(info.labels[index])) {
      filled.style.background = `rgb(${color(index)})`;
    }
    share.textContent = percent;
    row.className = "row";
    row.append(label, share);
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    filled.style.width = percent.replace(" ", "");
    bar.append(filled);
    item.append(row, bar);
    return item;
  }));
}

async function openPicture(file) {
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file, {colorSpaceConversion: "none"});
    showStatus("");
    await predict(bitmap, bitmap.width, bitmap.height);
    bitmap.close();
  } catch (error) {
    const reason = error.message;
    showStatus(`${file.name} is not a picture that this browser can read (${reason})`, true);
  }
}

async function toggleCamera() {
  const video = $("video");
  if (video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  } else {
    try {
      const constraints = {video: {facingMode: "environment"}};  // the rear camera of a phone
      video.srcObject = await navigator.mediaDevices.getUserMedia(constraints);
      await video.play();
      showStatus("");
    } catch (error) {
      showStatus(`The camera cannot be used: ${error.message}`, true);
    }
  }
  const on = Boolean(video.srcObject);
  video.hidden = !on;
  $("camera").textContent = on ? "Stop the camera" : "Use the camera";
  $("camera").setAttribute("aria-pressed", String(on));
  if (on) requestAnimationFrame(predictFrames);
}

/** Runs the network on the camera's current image, again and again, until the camera is off. */
async function predictFrames() {
  const video = $("video");
  if (!video.srcObject) return;
  try {
    if (video.videoWidth) await predict(video, video.videoWidth, video.videoHeight);
  } catch (error) {
    showStatus(`The camera's image cannot be used: ${error.message ?? error}`, true);
  }
  setTimeout(() => requestAnimationFrame(predictFrames), 100);
}

async function benchmark() {
  const [button, bar] = [$("measure"), $("progress")];
  button.disabled = true;
  Object.assign(bar, {hidden: false, max: BENCHMARK.runs, value: 0});
  try {
    if ($("video").srcObject) await toggleCamera();
    await lastInference;
    const showProgress = (turns) => { bar.value = turns; };
    const result = await measureLatency(() => network.infer(), BENCHMARK, showProgress);
    const device = await describeHost(`${info.runtime} (${await buildName()})`);
    showLatency(report(info, device, BENCHMARK, result));
  } catch (error) {
    showStatus(`The latency could not be measured: ${error.message ?? error}`, true);
  }
  bar.hidden = true;
  button.disabled = false;
}

function showLatency(result) {
  const {host, rows: [row]} = result;
  $("median").textContent = `${row.median_ms.toFixed(2)} ms`;
  $("p90").textContent = `${row.p90_ms.toFixed(2)} ms`;
  const memory = host.device_memory_gb && `${host.device_memory_gb} GB of memory or more`;
  const parts = [host.cpu, `${host.cores ?? "unknown number of"} cores`, memory, host.system];
  $("device").textContent = [...parts, host.browser].filter(Boolean).join("; ");
  const text = JSON.stringify(result, null, 2) + "\n";
  URL.revokeObjectURL($("json").href);
  $("json").href = URL.createObjectURL(new Blob([text], {type: "application/json"}));
  $("json").download = `${info.name}.latency.json`;
  $("latency").hidden = $("json").hidden = false;
}

$("file").addEventListener("change", (event) => openPicture(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") openPicture(event.dataTransfer.files[0]);
  });
}
$("camera").addEventListener("click", toggleCamera);
$("measure").addEventListener("click", benchmark);
start().catch((error) => showStatus(`This page cannot start: ${error.message ?? error}`, true));
