/** Tensors that the PyTorch reference and `transformers` stored. */
import { readFileSync } from 'node:fs';

/** What reads the f32 tensors of a file in tests/goldens: shape and values of each. */
export function tensors(path) {
  const bytes = readFileSync(new URL(`../goldens/${path}`, import.meta.url));
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = JSON.parse(bytes.toString('utf8', 8, start));
  return (name) => {
    const { dtype, shape, data_offsets: [from, to] } = header[name];
    if (dtype !== 'F32') throw new Error(`${name} is ${dtype}`);
    return { shape, values: new Float32Array(Uint8Array.prototype.slice.call(bytes, start + from, start + to).buffer) };
  };
}

export const golden = tensors('nano.safetensors');

/** RGBA bytes of the goldens' image `index`, which came from 8-bit levels. */
export function goldenImage(index) {
  const { shape: [, , height, width], values } = golden('images');
  const plane = width * height;
  const level = (c, i) => Math.round((values[(index * 3 + c) * plane + i] + 1) * 127.5);
  const rgba = Array.from({ length: plane }, (_, i) => [level(0, i), level(1, i), level(2, i), 255]).flat();
  return { width, height, rgba };
}

/** Largest absolute value. */
export const largest = (values) => values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);

/** Largest absolute difference of two equally long lists. */
export function distance(a, b) {
  if (a.length !== b.length) throw new Error(`${a.length} and ${b.length} values`);
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i])), 0);
}
