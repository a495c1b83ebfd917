// Turns a picture into the network's input in the same way as the evaluation in Python, by Pillow: a
// centre crop, resized by cubic convolution (Keys 1981, a = -1/2) with a kernel that is widened when
// the image shrinks, against aliasing. Columns come first, then rows. Weights are whole multiples of
// 2^-22 and pixels are rounded after each step, so that they are identical and not merely similar.
// A network with one channel gets the brightness of each pixel (ITU-R BT.601, rounded) before that.

const ONE = 2 ** 22;

// Cubic convolution kernel at the distance x >= 0.
function cubic(x) {
  if (x >= 2) return 0;
  if (x >= 1) return ((-0.5 * x + 2.5) * x - 4) * x + 2;
  return (1.5 * x - 2.5) * x * x + 1;
}

// Returns for each of `side` output pixels along one axis the first source pixel that contributes
// to it, and the weights of this and the following source pixels. The crop reaches from `start` to
// `end` source pixels; the image is `size` pixels long.
function filterTaps(side, start, end, size) {
  start = Math.fround(start);
  const step = Math.fround(Math.fround(end) - start) / side;
  const spread = Math.max(step, 1);
  const taps = [];
  for (let index = 0; index < side; index++) {
    const center = start + (index + 0.5) * step;
    const begin = Math.max(Math.trunc(center - 2 * spread + 0.5), 0);
    const count = Math.min(Math.trunc(center + 2 * spread + 0.5), size) - begin;
    const weights = new Float64Array(count);
    let sum = 0;
    for (let i = 0; i < count; i++) {
      weights[i] = cubic(Math.abs((begin + i - center + 0.5) * (1 / spread)));
      sum += weights[i];
    }
    for (let i = 0; i < count; i++) {
      const weight = weights[i] / sum * ONE;
      weights[i] = Math.trunc(weight + (weight < 0 ? -0.5 : 0.5));
    }
    taps.push({begin, weights});
  }
  return taps;
}

// Rounds a sum of weighted pixels to a pixel.
function rounded(sum) {
  return Math.min(Math.max(Math.floor((sum + ONE / 2) / ONE), 0), 255);
}

/** Returns the brightness of each pixel, as Pillow's mode L computes it. */
function brightness(rgba) {
  return Uint8ClampedArray.from({length: rgba.length / 4}, (_, i) =>
    (19595 * rgba[4 * i] + 38470 * rgba[4 * i + 1] + 7471 * rgba[4 * i + 2] + 32768) >> 16);
}

/**
 * Crops a picture to a centred box of the network's aspect ratio and resizes it to its input size.
 * @param {Uint8ClampedArray} rgba width * height pixels of four bytes, row by row, alpha ignored.
 * @param {number} width of the picture in pixels.
 * @param {number} height of the picture in pixels.
 * @param {{width: number, height: number}} size of the result in pixels.
 * @param {number} cropFraction sides of the box as a fraction of those of the largest one.
 * @param {number} channels 3, or 1 for brightness alone.
 * @return {Uint8ClampedArray} pixels of the result, of three bytes (RGB) or one, row by row.
 */
export function preprocess(rgba, width, height, size, cropFraction, channels = 3) {
  const source = channels === 1 ? brightness(rgba) : rgba;
  const stride = channels === 1 ? 1 : 4;
  const down = Math.min(height, width * size.height / size.width) * cropFraction;
  const across = Math.min(width, height * size.width / size.height) * cropFraction;
  const [top, left] = [(height - down) / 2, (width - across) / 2];
  const rows = filterTaps(size.height, top, Math.min(top + down, height), height);
  const columns = filterTaps(size.width, left, Math.min(left + across, width), width);
  const first = columns[0].begin;
  const last = columns[size.width - 1].begin + columns[size.width - 1].weights.length;
  const row = new Float64Array(channels * (last - first));
  const pixels = new Uint8ClampedArray(channels * size.height * size.width);
  for (let y = 0; y < size.height; y++) {
    row.fill(0);
    rows[y].weights.forEach((weight, i) => {
      let from = stride * ((rows[y].begin + i) * width + first);
      for (let j = 0; j < row.length; j += channels, from += stride) {
        for (let c = 0; c < channels; c++) row[j + c] += weight * source[from + c];
      }
    });
    for (let j = 0; j < row.length; j++) row[j] = rounded(row[j]);
    for (let x = 0; x < size.width; x++) {
      const {begin, weights} = columns[x];
      for (let c = 0; c < channels; c++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) {
          sum += weights[i] * row[channels * (begin - first + i) + c];
        }
        pixels[channels * (y * size.width + x) + c] = rounded(sum);
      }
    }
  }
  return pixels;
}

/**
 * Converts pixels to the network's input: the pixel (uint8), pixel - 128 (int8), or for each channel
 * scale * (pixel / 128 - 1) + offset (float32), rounded to float32 after each step.
 * @param {Uint8ClampedArray} pixels of three bytes (RGB) or one.
 * @param {{type: string, scale: number[], offset: number[]}} input of model.json.
 */
export function toInput(pixels, {type, scale, offset}, channels = 3) {
  if (type === "uint8") return Uint8Array.from(pixels);
  if (type === "int8") return Int8Array.from(pixels, (pixel) => pixel - 128);
  const {fround} = Math;
  return Float32Array.from(pixels, (pixel, index) => {
    const channel = index % channels;
    return fround((pixel / 128 - 1) * fround(scale[channel])) + fround(offset[channel]);
  });
}

/** Returns the RGBA pixels of an image, video or bitmap; transparent parts become white. */
export function pixelsOf(source, width, height) {
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height;
  const context = canvas.getContext("2d", {willReadFrequently: true});
  context.fillStyle = "white";
  context.fillRect(0, 0, width, height);
  context.drawImage(source, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data;
}
