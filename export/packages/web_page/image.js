// From a picture to the pixels of the network, as the network was evaluated: the centred square,
// resized by cubic convolution (Keys 1981, a = -1/2), widened against aliasing. All in float32, in
// the evaluation's order, so that the pixels are the same and not merely similar.

const f = Math.fround;

function cubic(x) {
  if (x >= 2) return 0;
  if (x >= 1) return f(f(f(f(f(f(-0.5 * x) + 2.5) * x) - 4) * x) + 2);
  return f(f(f(f(f(1.5 * x) - 2.5) * x) * x) + 1);
}

// For each of `side` pixels along an axis: the first source pixel it takes from, and the weights.
function taps(side, start, length, size) {
  const zoom = f(side / length);
  const step = f(1 / zoom);
  const origin = f(-step * f(-start * zoom));
  const spread = Math.max(step, 1);
  const all = [];
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
    all.push({begin, weights});
  }
  return all;
}

/**
 * The network's pixels of a picture.
 * @param {Uint8ClampedArray} rgba width * height pixels of four bytes; alpha is ignored.
 * @param {number} side of the result in pixels.
 * @param {number} cropFraction share of the shorter side that the network sees.
 * @return {Uint8ClampedArray} side * side pixels of three bytes, row by row.
 */
export function preprocess(rgba, width, height, side, cropFraction) {
  const length = f(Math.min(width, height) * f(cropFraction));
  const rows = taps(side, f(f(height - length) / 2), length, height);
  const columns = taps(side, f(f(width - length) / 2), length, width);
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
        pixels[3 * (y * side + x) + c] = sum;  // clamped and rounded, half to even, by the array
      }
    }
  }
  return pixels;
}

/** The input of a network of this type: pixel, pixel - 128 or pixel / 128 - 1. */
export function toInput(pixels, type) {
  if (type === "uint8") return Uint8Array.from(pixels);
  if (type === "int8") return Int8Array.from(pixels, (pixel) => pixel - 128);
  return Float32Array.from(pixels, (pixel) => pixel / 128 - 1);
}

/** RGBA pixels of an image, a video or a bitmap, transparency over white. */
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
