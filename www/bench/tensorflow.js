/** The generation expert and its training step in tfjs, wasm backend, one thread; as tests/reference/model.py has it. */
/* global tf */
import { mixed, tensors } from './inputs.js';

const [BETA1, BETA2, EPSILON] = [0.9, 0.95, 1e-8];
const [LEARNING_RATE, WEIGHT_DECAY, MAX_NORM, MIN_REMAINING] = [2e-4, 0.01, 1, 0.1];

const silu = (x) => tf.mul(x, tf.sigmoid(x));

/** The tanh approximation. */
function gelu(x) {
  const inner = tf.mul(x, tf.add(tf.mul(tf.square(x), 0.7978845608 * 0.044715), 0.7978845608));
  return tf.mul(tf.mul(x, 0.5), tf.add(tf.tanh(inner), 1));
}

const rmsNorm = (x, weight, epsilon) =>
  tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), epsilon))), weight);

export async function open(files, config) {
  tf.wasm.setWasmPaths('/bench/node_modules/@tensorflow/tfjs-backend-wasm/dist/');
  tf.wasm.setThreadsCount(1);
  if (!(await tf.setBackend('wasm'))) throw new Error('tfjs has no wasm backend here');
  await tf.ready();
  return (batch, context) => training(files, config, batch, context);
}

function training(files, { generation: sizes }, batch, context) {
  const { size, clean, times } = batch;
  const { hidden_size: hidden, num_attention_heads: heads, num_hidden_layers: layers, rms_norm_eps: epsilon } = sizes;
  const weights = new Map();
  for (const [name, { shape, values }] of tensors(files['model.safetensors'], 'generation.')) {
    const tensor = tf.tensor(values, shape);
    // Matrices as tfjs multiplies them, [inputs, outputs].
    weights.set(name, tf.variable(name.endsWith('.weight') && shape.length === 2 ? tf.transpose(tensor) : tensor));
  }
  const get = (name) => {
    const found = weights.get(name);
    if (!found) throw new Error(`${name} is not in the weights`);
    return found;
  };
  const linear = (x, name) => {
    const [inputs, outputs] = get(`${name}.weight`).shape;
    const flat = tf.fused.matMul({ a: tf.reshape(x, [-1, inputs]), b: get(`${name}.weight`), bias: get(`${name}.bias`) });
    return tf.reshape(flat, [...x.shape.slice(0, -1), outputs]);
  };
  const split = (x) => tf.transpose(tf.reshape(x, [size, -1, heads, hidden / heads]), [0, 2, 1, 3]);

  const latent = clean.length / (size * 16);
  const target = tf.tensor(clean, [size, 16, latent]);
  const noisy = tf.tensor(mixed(batch), [size, 16, latent]);
  const scale = tf.tensor(times.map((t) => 1 / Math.max(1 - t, MIN_REMAINING)), [size, 1, 1]);
  const features = tf.tensor(timeFeatures(times, sizes.time_frequencies), [size, 2 * sizes.time_frequencies]);
  const tokens = context[0].length / (size * hidden);
  const before = context.slice(0, 2 * layers).map((values) => tf.tensor(values, [size, heads, tokens, hidden / heads]));
  const pooled = tf.tensor(context[2 * layers], [size, hidden]);

  function block(x, layer, condition) {
    const name = `layers.${layer}`;
    const modulation = tf.split(tf.reshape(linear(condition, `${name}.adaln`), [size, 1, 6 * hidden]), 6, 2);
    const [scale1, shift1, gate1, scale2, shift2, gate2] = modulation;
    let h = tf.add(tf.mul(rmsNorm(x, get(`${name}.norm1.weight`), epsilon), tf.add(scale1, 1)), shift1);
    const [q, k, v] = tf.split(linear(h, `${name}.qkv`), 3, 2).map(split);
    const query = rmsNorm(q, get(`${name}.q_norm.weight`), epsilon);
    const key = tf.concat([before[2 * layer], rmsNorm(k, get(`${name}.k_norm.weight`), epsilon)], 2);
    const value = tf.concat([before[2 * layer + 1], v], 2);
    const scores = tf.softmax(tf.mul(tf.matMul(query, key, false, true), (hidden / heads) ** -0.5));
    const merged = tf.reshape(tf.transpose(tf.matMul(scores, value), [0, 2, 1, 3]), [size, 16, hidden]);
    const y = tf.add(x, tf.mul(linear(merged, `${name}.proj`), gate1));
    h = tf.add(tf.mul(rmsNorm(y, get(`${name}.norm2.weight`), epsilon), tf.add(scale2, 1)), shift2);
    return tf.add(y, tf.mul(linear(gelu(linear(h, `${name}.fc1`)), `${name}.fc2`), gate2));
  }

  function forward() {
    const time = linear(silu(linear(features, 'time_fc1')), 'time_fc2');
    const condition = silu(tf.add(time, linear(silu(linear(pooled, 'pool_fc1')), 'pool_fc2')));
    let x = tf.add(linear(noisy, 'latent_in'), get('position_embedding'));
    for (let layer = 0; layer < layers; layer++) x = block(x, layer, condition);
    return linear(rmsNorm(x, get('norm.weight'), epsilon), 'latent_out');
  }

  const loss = () => tf.mean(tf.square(tf.mul(tf.sub(forward(), target), scale)));
  const update = adamw([...weights.values()]);
  return {
    forward: () => tf.tidy(forward).data(),
    async step() {
      const { value, grads } = tf.variableGrads(loss);
      update(grads);
      tf.dispose(grads);
      const [number] = await value.data();
      value.dispose();
      return number;
    },
  };
}

/** AdamW over gradients that are shortened together to `MAX_NORM`. */
function adamw(variables) {
  const state = variables.map((variable) => ({
    variable,
    first: tf.variable(tf.zerosLike(variable)),
    second: tf.variable(tf.zerosLike(variable)),
  }));
  let updates = 0;
  return (gradients) =>
    tf.tidy(() => {
      updates += 1;
      const squares = Object.values(gradients).map((gradient) => tf.sum(tf.square(gradient)));
      const clip = tf.minimum(tf.div(MAX_NORM, tf.add(tf.sqrt(tf.addN(squares)), 1e-6)), 1);
      for (const { variable, first, second } of state) {
        const gradient = tf.mul(gradients[variable.name], clip);
        first.assign(tf.add(tf.mul(first, BETA1), tf.mul(gradient, 1 - BETA1)));
        second.assign(tf.add(tf.mul(second, BETA2), tf.mul(tf.square(gradient), 1 - BETA2)));
        const size = tf.add(tf.sqrt(tf.mul(second, 1 / (1 - BETA2 ** updates))), EPSILON);
        const step = tf.mul(tf.div(first, size), LEARNING_RATE / (1 - BETA1 ** updates));
        variable.assign(tf.sub(tf.mul(variable, 1 - LEARNING_RATE * WEIGHT_DECAY), step));
      }
    });
}

function timeFeatures(times, frequencies) {
  const angle = (t, i) => t * Math.exp((-Math.log(1e4) * i) / frequencies) * 1000;
  const row = (t, f) => Array.from({ length: frequencies }, (_, i) => f(angle(t, i)));
  return Float32Array.from([...times].flatMap((t) => [...row(t, Math.cos), ...row(t, Math.sin)]));
}
