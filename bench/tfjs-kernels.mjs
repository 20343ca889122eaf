// The four kernels in tfjs's own ops, as its user would write them: whole batches where tfjs has a batched op, BatchNorm
// folded into the convolution where nothing looks at its input, no dtype tfjs lacks. Each takes tfjs and its inputs, uploads
// what ours keeps native too, and returns a function that computes once, reads the answer back and frees everything else.
// Layout is tfjs's, NHWC. Unfair to us: images are already floats, so ours alone converts from and rounds to bytes.

const HALF_MIN_EXPONENT = -14;
const HALF_MAX_EXPONENT = 15;

/** @returns the four kernels by name: (tf, input) => () => named typed arrays */
export const KERNELS = { match, logits, augment, encode, decode };

/** Computes, reads and frees. Arrays never leave tf.tidy: it looks for tensors in every element of what it is given. */
function read(tf, compute) {
  return () => {
    const tensors = tf.tidy(compute);
    const answer = Object.fromEntries(Object.entries(tensors).map(([name, value]) => [name, value.dataSync()]));
    tf.dispose(tensors);
    return answer;
  };
}

const floats = (tf, { shape, data }) => tf.tensor(data, shape, 'float32');

function upload(tf, { layers, classifier }) {
  return {
    layers: layers.map((layer) =>
      Object.fromEntries(Object.entries(layer).map(([name, value]) => [name, value.data ? floats(tf, value) : value])),
    ),
    classifier: { weight: floats(tf, classifier.weight), bias: floats(tf, classifier.bias) },
  };
}

/** Cross-entropy plus BN matching, and its gradient to the pixels x [B, H, W, C]. */
function match(tf, input) {
  const { layers, classifier } = upload(tf, input);
  const x = floats(tf, input.x);
  const oneHot = tf.oneHot(tf.tensor1d(input.labels, 'int32'), input.classifier.bias.data.length);
  const loss = (images) => {
    let total = tf.scalar(0);
    let h = images;
    for (const { weight, bias, scale, shift, mean, variance, multiplier } of layers) {
      h = tf.add(tf.conv2d(h, weight, 1, 'same'), bias);
      const seen = tf.moments(h, [0, 1, 2]); // biased variance
      const distance = tf.add(tf.norm(tf.sub(seen.mean, mean)), tf.norm(tf.sub(seen.variance, variance)));
      total = tf.add(total, tf.mul(distance, multiplier));
      h = tf.avgPool(tf.relu(tf.add(tf.mul(h, scale), shift)), 2, 2, 'valid');
    }
    const logits = tf.add(tf.matMul(tf.reshape(h, [images.shape[0], -1]), classifier.weight), classifier.bias);
    const crossEntropy = tf.mean(tf.sub(tf.logSumExp(logits, 1), tf.sum(tf.mul(logits, oneHot), 1)));
    return tf.add(crossEntropy, tf.mul(total, input.rBn));
  };
  const valueAndGrad = tf.valueAndGrad(loss);
  return read(tf, () => {
    const { value, grad } = valueAndGrad(x);
    return { loss: value, dx: grad };
  });
}

/** Logits of x [B, H, W, C]; layers have their BatchNorm folded in. */
function logits(tf, input) {
  const { layers, classifier } = upload(tf, input);
  const x = floats(tf, input.x);
  return read(tf, () => {
    let h = x;
    for (const { weight, bias } of layers) {
      const options = { strides: 1, pad: 'same', bias, activation: 'relu' };
      h = tf.avgPool(tf.fused.conv2d({ x: h, filter: weight, ...options }), 2, 2, 'valid');
    }
    const flat = tf.reshape(h, [x.shape[0], -1]);
    return { logits: tf.add(tf.matMul(flat, classifier.weight), classifier.bias) };
  });
}

/**
 * Crop, bilinear resize, flip, CutMix: floats in [0, 255]. cropAndResize samples from corner to corner of its box, so each
 * box runs between the centres of the outermost pixels that Pillow samples; a flip is a box from right to left. Where such
 * a centre lies outside the crop Pillow repeats the crop's edge and cropAndResize reads on. Partners are rendered again and
 * the mask is made whole outside: gathers, slices and broadcast masks of four dimensions were measured to be slower.
 */
function augment(tf, { images, crop, flip, partner, box, size }) {
  const all = floats(tf, images);
  const [count, height, width, channels] = images.shape;
  const render = (order) => {
    const boxes = Float32Array.from({ length: 4 * count }, (_, at) => {
      const [i, side] = [order[at >> 2], at & 3]; // top, left, bottom, right
      const vertical = side % 2 === 0;
      const [from, length] = [crop[4 * i + (vertical ? 0 : 1)], crop[4 * i + (vertical ? 2 : 3)]];
      const far = !vertical && flip[i] ? side === 1 : side >= 2;
      return (from + ((far ? size - 0.5 : 0.5) * length) / size - 0.5) / ((vertical ? height : width) - 1);
    });
    return tf.image.cropAndResize(all, tf.tensor2d(boxes, [count, 4]), tf.tensor1d(order, 'int32'), [size, size]);
  };
  const own = Int32Array.from({ length: count }, (_, i) => i);
  const shape = [count, size, size, channels];
  return read(tf, () => {
    const mask = tf.tensor(boxMask(shape, box), shape, 'bool');
    return { pixels: tf.where(mask, render(partner), render(own)) };
  });
}

/**
 * U8 [M, P, P, C]: 1 inside the box of every image.
 *
 * @param {number[]} shape
 * @param {number[]} box
 */
function boxMask([count, rows, columns, channels], [top, left, height, width]) {
  const one = new Uint8Array(rows * columns * channels);
  for (let y = top; y < top + height; y++) {
    const first = (y * columns + left) * channels;
    one.fill(1, first, first + width * channels);
  }
  const mask = new Uint8Array(count * one.length);
  for (let i = 0; i < count; i++) mask.set(one, i * one.length);
  return mask;
}

/**
 * Bits of IEEE halves, rounded to nearest even. tfjs has no float16: the exponent is found by a logarithm and set right by
 * comparison with exact powers of two, the significand by rounding. Logits within +-65504 only.
 */
function encode(tf, { logits: rows }) {
  const exponents = HALF_MAX_EXPONENT - HALF_MIN_EXPONENT + 1;
  const powers = (exponent) => tf.tensor1d(Float32Array.from({ length: exponents }, (_, i) => 2 ** exponent(i)));
  const lower = powers((i) => HALF_MIN_EXPONENT + i);
  const upper = powers((i) => HALF_MIN_EXPONENT + i + 1);
  const scale = powers((i) => 10 - HALF_MIN_EXPONENT - i); // makes significands whole numbers
  const run = read(tf, () => {
    const x = floats(tf, rows);
    const size = tf.abs(x);
    const inRange = (exponent) => tf.clipByValue(exponent, 0, exponents - 1); // 0 for the smallest normal half
    const as = (dtype, value) => tf.cast(value, dtype);
    const logarithm = tf.div(tf.log(tf.maximum(size, 2 ** HALF_MIN_EXPONENT)), Math.LN2);
    const guess = inRange(tf.sub(tf.floor(logarithm), HALF_MIN_EXPONENT));
    const at = as('int32', guess);
    const up = as('float32', tf.greaterEqual(size, tf.gather(upper, at)));
    const down = as('float32', tf.less(size, tf.gather(lower, at)));
    const exponent = inRange(tf.sub(tf.add(guess, up), down));
    const significand = tf.round(tf.mul(size, tf.gather(scale, as('int32', exponent))));
    const sign = tf.mul(as('float32', tf.less(x, 0)), 0x8000);
    const bits = as('int32', tf.add(tf.add(tf.mul(exponent, 1024), significand), sign)); // whole floats below 2^24
    return { bits };
  });
  return () => ({ bits: new Uint16Array(run().bits) });
}

/** Floats from bits of IEEE halves: one gather from the table of all halves, the only decoder on a backend of tfjs. */
function decode(tf, { bits, shape, table }) {
  const halves = tf.tensor1d(table, 'float32');
  return read(tf, () => ({ logits: tf.gather(halves, tf.tensor(new Int32Array(bits), shape, 'int32')) }));
}
