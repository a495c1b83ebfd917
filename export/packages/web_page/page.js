// The page: a picture or the camera's in, the likeliest classes and the latency out; of networks that
// give each pixel a class, the classes drawn over the picture and their shares of it.

import {pixelsOf, preprocess, toInput} from "./image.js";
import {host, measure, report} from "./latency.js";
import {color, isBackground, paint, segment, shares} from "./mask.js";
import {Network, build} from "./network.js";

const SHOWN = 5;
const TURNS = {runs: 100, warmup: 10};

const $ = (id) => document.getElementById(id);
let info, network;
let busy = Promise.resolve();  // one inference at a time

function say(text, failed = false) {
  $("status").textContent = text;
  $("status").classList.toggle("error", failed);
}

async function fetched(path) {
  const response = await fetch(path);
  if (!response.ok) throw new Error(`${path}: ${response.status} ${response.statusText}`);
  return response;
}

async function start() {
  if (location.protocol === "file:") {
    throw new Error("open this page from a web server, see README.txt");
  }
  info = await (await fetched("model.json")).json();
  document.title = $("name").textContent = info.name;
  const size = `${info.side} × ${info.side} pixels, ${(info.bytes / 1000).toFixed(0)} kB`;
  $("about").textContent = `${info.labels.length} classes, ${size}, ${info.runtime}`;
  const file = await fetched(encodeURIComponent(info.file));
  network = await Network.load(new Uint8Array(await file.arrayBuffer()));
  const secure = Boolean(navigator.mediaDevices?.getUserMedia);
  $("camera").hidden = !secure;
  $("no-camera").hidden = secure;
  $("main").hidden = false;
  say("");
}

/** Class numbers and probabilities, the greatest first. */
function ranked(output) {
  const {scale, zero_point, probabilities} = info.output;
  const values = Array.from(output, (value) => (scale ? (value - zero_point) * scale : value));
  const greatest = Math.max(...values);
  const powers = probabilities ? values : values.map((logit) => Math.exp(logit - greatest));
  const sum = probabilities ? 1 : powers.reduce((a, b) => a + b);
  const all = powers.map((power, index) => ({index, probability: power / sum}));
  return all.sort((a, b) => b.probability - a.probability);
}

function classify(source, width, height) {
  const turn = busy.then(async () => {
    const began = performance.now();
    const rgba = pixelsOf(source, width, height);
    const pixels = preprocess(rgba, width, height, info.side, info.crop_fraction);
    const ready = performance.now();
    network.set(toInput(pixels, info.input.type));
    const output = await network.infer();
    const done = performance.now();
    if (info.masks) {
      const mask = segment(output, info.labels.length);
      show(paint(pixels, mask, info.labels));
      list(shares(mask, info.labels.length));
    } else {
      show(pixels);
      list(ranked(output).slice(0, SHOWN));
    }
    const [image, inference] = [ready - began, done - ready].map((time) => time.toFixed(1));
    $("took").textContent = `Image ${image} ms, network ${inference} ms`;
  });
  busy = turn.catch(() => {});  // a picture that failed is no matter of the next one's
  return turn;
}

function show(pixels) {
  const {side} = info;
  const image = new ImageData(side, side);
  for (let i = 0; i < side * side; i++) {
    image.data.set(pixels.subarray(3 * i, 3 * i + 3), 4 * i);
    image.data[4 * i + 3] = 255;
  }
  Object.assign($("seen"), {width: side, height: side, hidden: false});
  $("seen").getContext("2d").putImageData(image, 0, 0);
}

function list(classes) {
  $("answer").replaceChildren(...classes.map(({index, probability}) => {
    const percent = `${(100 * probability).toFixed(1)} %`;
    const [item, row, label, share, bar, full] =
      ["li", "div", "span", "span", "div", "div"].map((tag) => document.createElement(tag));
    label.textContent = info.labels[index];
    if (info.masks && !isBackground(info.labels[index])) full.style.background = `rgb(${color(index)})`;
    share.textContent = percent;
    row.className = "row";
    row.append(label, share);
    bar.className = "bar";
    bar.setAttribute("aria-hidden", "true");
    full.style.width = percent.replace(" ", "");
    bar.append(full);
    item.append(row, bar);
    return item;
  }));
}

async function choose(file) {
  if (!file) return;
  try {
    const bitmap = await createImageBitmap(file, {colorSpaceConversion: "none"});
    say("");
    await classify(bitmap, bitmap.width, bitmap.height);
    bitmap.close();
  } catch (error) {
    say(`${file.name} is not a picture that this browser can read (${error.message})`, true);
  }
}

async function toggleCamera() {
  const video = $("video");
  if (video.srcObject) {
    video.srcObject.getTracks().forEach((track) => track.stop());
    video.srcObject = null;
  } else {
    try {
      const wanted = {video: {facingMode: "environment"}};
      video.srcObject = await navigator.mediaDevices.getUserMedia(wanted);
      await video.play();
      say("");
    } catch (error) {
      say(`The camera cannot be used: ${error.message}`, true);
    }
  }
  const on = Boolean(video.srcObject);
  video.hidden = !on;
  $("camera").textContent = on ? "Stop the camera" : "Use the camera";
  $("camera").setAttribute("aria-pressed", String(on));
  if (on) requestAnimationFrame(watch);
}

async function watch() {
  const video = $("video");
  if (!video.srcObject) return;
  try {
    if (video.videoWidth) await classify(video, video.videoWidth, video.videoHeight);
  } catch (error) {
    say(`The camera's image cannot be used: ${error.message ?? error}`, true);
  }
  setTimeout(() => requestAnimationFrame(watch), 100);
}

async function benchmark() {
  const [button, bar] = [$("measure"), $("progress")];
  button.disabled = true;
  Object.assign(bar, {hidden: false, max: TURNS.runs, value: 0});
  try {
    if ($("video").srcObject) await toggleCamera();
    await busy;
    const result = await measure(() => network.infer(), TURNS, (done) => { bar.value = done; });
    const device = await host(`${info.runtime} (${await build()})`);
    present(report(info, device, TURNS, result));
  } catch (error) {
    say(`The measurement failed: ${error.message ?? error}`, true);
  }
  bar.hidden = true;
  button.disabled = false;
}

function present(result) {
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

$("file").addEventListener("change", (event) => choose(event.target.files[0]));
for (const kind of ["dragover", "dragleave", "drop"]) {
  $("drop").addEventListener(kind, (event) => {
    event.preventDefault();
    $("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") choose(event.dataTransfer.files[0]);
  });
}
$("camera").addEventListener("click", toggleCamera);
$("measure").addEventListener("click", benchmark);
start().catch((error) => say(`This page cannot start: ${error.message ?? error}`, true));
