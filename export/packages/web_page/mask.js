// Masks (one class per pixel): computing them from logits, and drawing them over a picture.

const TINT = 0.55;  // opacity of a class's colour over the picture
const GOLDEN_ANGLE = 137.508;  // degrees between the hues of consecutive classes

/**
 * Returns the class with the greatest logit for each pixel; of equal logits the first one.
 * @param {ArrayLike<number>} output pixels * classes logits, the classes of a pixel side by side.
 *   Quantized logits will do, because they have the same order.
 * @param {number} classes number of classes.
 * @return {Uint16Array} index of the class of each pixel.
 */
export function segment(output, classes) {
  const mask = new Uint16Array(output.length / classes);
  for (let pixel = 0; pixel < mask.length; pixel++) {
    const start = pixel * classes;
    let best = 0;
    for (let i = 1; i < classes; i++) {
      if (output[start + i] > output[start + best]) best = i;
    }
    mask[pixel] = best;
  }
  return mask;
}

/** Returns the classes of a mask with their fractions of the pixels, most frequent first. */
export function shares(mask, classes) {
  const counts = new Array(classes).fill(0);
  for (const index of mask) counts[index]++;
  return counts
    .map((count, index) => ({index, probability: count / mask.length}))
    .filter(({probability}) => probability)
    .sort((a, b) => b.probability - a.probability);
}

/** Returns whether a class is the background, which is not tinted. */
export function isBackground(label) {
  return label === "background";
}

/** Returns the colour of a class: red, green and blue, 0..255. */
export function color(index) {
  const hue = (index * GOLDEN_ANGLE) / 30;
  // Conversion from HSL with saturation 1 and lightness 0.5 to RGB.
  const channel = (n) => {
    const k = (n + hue) % 12;
    return 0.5 - 0.5 * Math.max(-1, Math.min(k - 3, 9 - k, 1));
  };
  return [0, 8, 4].map((n) => Math.round(255 * channel(n)));
}

/** Returns the pixels (three bytes each), tinted with the colours of their classes. */
export function paint(pixels, mask, labels) {
  const painted = Uint8ClampedArray.from(pixels);
  const colors = labels.map((label, index) => (isBackground(label) ? null : color(index)));
  mask.forEach((index, pixel) => {
    colors[index]?.forEach((value, c) => {
      painted[3 * pixel + c] = (1 - TINT) * pixels[3 * pixel + c] + TINT * value;
    });
  });
  return painted;
}
