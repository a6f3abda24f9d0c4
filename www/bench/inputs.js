/** The same numbers for every engine, and the model's weights. */

export const BATCH = 8;
export const TEXT = 12;
export const STEPS = 20;

/** Uniform in [0, 1), the same for the same seed (mulberry32). */
function uniform(seed) {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function uniforms(count, seed) {
  const next = uniform(seed);
  return Float32Array.from({ length: count }, () => 2 * next() - 1);
}

export function normals(count, seed) {
  const next = uniform(seed);
  return Float32Array.from({ length: count }, () => Math.sqrt(-2 * Math.log(1 - next())) * Math.cos(2 * Math.PI * next()));
}

/** A batch that the generation expert learns from. */
export function batch(config, size) {
  const side = config.image_size;
  const latents = size * 16 * config.autoencoder.latent_channels;
  return {
    size,
    pixels: uniforms(size * 3 * side * side, 1),
    text: Uint32Array.from({ length: size * TEXT }, (_, i) => 3 + ((i * 7) % 90)),
    clean: normals(latents, 2),
    noise: normals(latents, 3),
    times: Float32Array.from({ length: size }, (_, i) => (i + 0.5) / (size + 1)),
  };
}

/** `t·clean + (1 − t)·noise`, what the generation expert is shown. */
export function mixed({ size, clean, noise, times }) {
  return clean.map((value, i) => {
    const t = times[Math.floor((i * size) / clean.length)];
    return t * value + (1 - t) * noise[i];
  });
}

/** The files of a model directory. */
export async function modelFiles(folder) {
  const names = ['manifest.json', 'config.json', 'tokenizer.json', 'preprocessor_config.json', 'model.safetensors'];
  const read = async (name) => [name, new Uint8Array(await (await fetch(folder + name)).arrayBuffer())];
  return Object.fromEntries(await Promise.all(names.map(read)));
}

/** Tensors of a half precision safetensors file below a prefix, as f32: name to shape and values. */
export function tensors(file, prefix) {
  const view = new DataView(file.buffer, file.byteOffset);
  const start = 8 + Number(view.getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(file.subarray(8, start)));
  const found = new Map();
  for (const [name, { dtype, shape, data_offsets: [from, to] = [] }] of Object.entries(header)) {
    if (!name.startsWith(prefix)) continue;
    if (dtype !== 'F16') throw new Error(`${name} is ${dtype}, expected F16`);
    const values = Float32Array.from({ length: (to - from) / 2 }, (_, i) => half(view.getUint16(start + from + 2 * i, true)));
    found.set(name.slice(prefix.length), { shape, values });
  }
  return found;
}

/** The value of an IEEE half. */
function half(bits) {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Largest difference of two lists by the largest value of the second. */
export function apart(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} and ${b.length} values`);
  let [difference, largest] = [0, 0];
  b.forEach((value, i) => {
    difference = Math.max(difference, Math.abs(a[i] - value));
    largest = Math.max(largest, Math.abs(value));
  });
  return difference / largest;
}
