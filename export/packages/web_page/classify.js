// From a classifier's output to its answer: a class, or UNKNOWN where none is probable enough.

/** The answer where no class is probable enough; its index is the number of classes. */
export const UNKNOWN = "unknown";

const LEAST = 2 ** -126;  // the least positive float32 of full precision

/**
 * Returns the calibrated probabilities of the classes.
 * @param {ArrayLike<number>} output of the network.
 * @param {{output: object, confidence: {temperature: number}}} info the content of model.json.
 * @return {number[]}
 */
export function probabilitiesOf(output, {output: {scale, zero_point, probabilities}, confidence}) {
  const {temperature} = confidence;
  let values = Array.from(output, (value) => (scale ? (value - zero_point) * scale : value));
  if (probabilities) {
    if (temperature === 1) return values;
    values = values.map((probability) => Math.log(Math.max(probability, LEAST)));
  }
  const greatest = Math.max(...values);
  const powers = values.map((value) => Math.exp((value - greatest) / temperature));
  const sum = powers.reduce((a, b) => a + b);
  return powers.map((power) => power / sum);
}

/**
 * Classifies an image by the network's output for it.
 * @param {ArrayLike<number>} output of the network.
 * @param {object} info the content of model.json.
 * @return {{index: number, label: string, probability: number, classes: object[]}} the answer: index
 *     and name of the class, or the number of classes and UNKNOWN; the probability of the most
 *     likely class; and all classes, {index, label, probability}, the most likely first.
 */
export function classify(output, info) {
  const classes = probabilitiesOf(output, info)
    .map((probability, index) => ({index, label: info.labels[index], probability}))
    .sort((a, b) => b.probability - a.probability);
  const [best] = classes;
  const unknown = {index: classes.length, label: UNKNOWN, probability: best.probability};
  return {...(best.probability < info.confidence.threshold ? unknown : best), classes};
}
