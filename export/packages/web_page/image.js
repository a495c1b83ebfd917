// Turns a picture into the network's input in the same way as the evaluation in Python: a centre
// crop, resized by cubic convolution (Keys 1981, a = -1/2) with a kernel that is widened when the
// image shrinks, against aliasing. Everything is computed in float32 and in the same order as in
// Python, so that the pixels are identical and not merely similar.

const f = Math.fround;  // rounds to float32

// Cubic convolution kernel at the distance x >= 0.
function cubic(x) {
  if (x >= 2) return 0;
  if (x >= 1) return f(f(f(f(f(f(-0.5 * x) + 2.5) * x) - 4) * x) + 2);
  return f(f(f(f(f(1.5 * x) - 2.5) * x) * x) + 1);
}

// Returns for each of `side` output pixels along one axis the first source pixel that contributes
// to it, and the weights of this and the following source pixels. The crop begins at `start` and is
// `length` source pixels long; the image is `size` pixels long.
function filterTaps(side, start, length, size) {
  const zoom = f(side / length);
  const step = f(1 / zoom);
  const origin = f(-step * f(-start * zoom));
  const spread = Math.max(step, 1);
  const taps = [];
  for (let index = 0; index < side; index++) {
    const center = f(f((index + 0.5) * step) + origin);
    const reach = f(2 * spread);
    const begin = Math.max(Math.ceil(f(f(center - reach) - 0.5)), 0);
    const end = Math.min(Math.floor(f(f(center + reach) - 0.5)) + 1, size);
    const weights = new Float32Array(Math.max(end - begin, 0));
    let sum = 0;
    for (let i = 0; i < weights.length; i++) {
      weights[i] = cubic(Math.abs(f(f(f(begin + i + 0.5) - center) / spread)));
      sum = f(sum + weights[i]);
    }
    const norm = f(1 / sum);
    for (let i = 0; i < weights.length; i++) weights[i] *= norm;
    taps.push({begin, weights});
  }
  return taps;
}

/**
 * Crops a picture to the centre square and resizes it to the network's input size.
 * @param {Uint8ClampedArray} rgba width * height pixels of four bytes, row by row, alpha ignored.
 * @param {number} width of the picture in pixels.
 * @param {number} height of the picture in pixels.
 * @param {number} side of the result in pixels.
 * @param {number} cropFraction side of the centre square as a fraction of the shorter side.
 * @return {Uint8ClampedArray} side * side pixels of three bytes (RGB), row by row.
 */
export function preprocess(rgba, width, height, side, cropFraction) {
  const length = f(Math.min(width, height) * f(cropFraction));
  const rows = filterTaps(side, f(f(height - length) / 2), length, height);
  const columns = filterTaps(side, f(f(width - length) / 2), length, width);
  const first = columns[0].begin;
  const last = columns[side - 1].begin + columns[side - 1].weights.length;
  const row = new Float32Array(3 * (last - first));
  const pixels = new Uint8ClampedArray(3 * side * side);
  for (let y = 0; y < side; y++) {
    row.fill(0);
    rows[y].weights.forEach((weight, i) => {
      let source = 4 * ((rows[y].begin + i) * width + first);
      for (let j = 0; j < row.length; j += 3, source += 4) {
        row[j] += f(weight * rgba[source]);
        row[j + 1] += f(weight * rgba[source + 1]);
        row[j + 2] += f(weight * rgba[source + 2]);
      }
    });
    for (let x = 0; x < side; x++) {
      const {begin, weights} = columns[x];
      for (let c = 0; c < 3; c++) {
        let sum = 0;
        for (let i = 0; i < weights.length; i++) {
          sum = f(sum + f(weights[i] * row[3 * (begin - first + i) + c]));
        }
        pixels[3 * (y * side + x) + c] = sum;  // the array clamps and rounds half to even
      }
    }
  }
  return pixels;
}

/** Converts pixels to an input of this type: pixel, pixel - 128 or pixel / 128 - 1. */
export function toInput(pixels, type) {
  if (type === "uint8") return Uint8Array.from(pixels);
  if (type === "int8") return Int8Array.from(pixels, (pixel) => pixel - 128);
  return Float32Array.from(pixels, (pixel) => pixel / 128 - 1);
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
