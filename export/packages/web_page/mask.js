// Masks: a class for each pixel, and how they are drawn.

const TINT = 0.55;  // share of a class's colour in a pixel of it
const GOLDEN_ANGLE = 137.508;  // degrees between the hues of neighbouring classes

/**
 * The class of each pixel, the first of those with equal logits.
 * @param {ArrayLike<number>} output logits, or whatever orders them alike; the class changes fastest.
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

/** Class numbers and their shares of the pixels, the greatest first; none without a pixel. */
export function shares(mask, classes) {
  const counts = new Array(classes).fill(0);
  for (const index of mask) counts[index]++;
  return counts
    .map((count, index) => ({index, probability: count / mask.length}))
    .filter(({probability}) => probability)
    .sort((a, b) => b.probability - a.probability);
}

/** What is no object keeps the picture's own colours. */
export function isBackground(label) {
  return label === "background";
}

/** A class's colour: three numbers up to 255. */
export function color(index) {
  const hue = (index * GOLDEN_ANGLE) / 30;
  // HSL with full saturation and half lightness.
  const channel = (n) => 0.5 - 0.5 * Math.max(-1, Math.min((n + hue) % 12 - 3, 9 - (n + hue) % 12, 1));
  return [0, 8, 4].map((n) => Math.round(255 * channel(n)));
}

/** The pixels (three bytes each) with each class's colour laid over those of it. */
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
