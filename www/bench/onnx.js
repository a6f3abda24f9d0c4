/** The same parts in onnxruntime-web, one thread, from files that tests/reference/export_onnx.py wrote. */
import * as ort from './node_modules/onnxruntime-web/dist/ort.wasm.min.mjs';

export async function open(config) {
  ort.env.wasm.numThreads = 1;
  ort.env.logLevel = 'error';
  const session = (name) => ort.InferenceSession.create(`/built/${name}.onnx`, { executionProviders: ['wasm'] });
  const [encoder, expert] = [await session('embed'), await session('generation')];
  const tensor = (values, ...shape) => new ort.Tensor('float32', values, shape);
  const { hidden_size: hidden, num_attention_heads: heads, num_hidden_layers: layers } = config.generation;
  return {
    async embed(pixels) {
      const side = config.image_size;
      const input = { pixels: tensor(pixels, pixels.length / (3 * side * side), 3, side, side) };
      return (await encoder.run(input)).embeddings.data;
    },
    /** `context` as `Training.context` gives it. */
    generation({ size, times }, noisy, context) {
      const tokens = context[0].length / (size * hidden);
      const stacked = (odd) => {
        const parts = context.slice(0, 2 * layers).filter((_, i) => i % 2 === odd);
        const all = new Float32Array(layers * parts[0].length);
        parts.forEach((part, i) => all.set(part, i * part.length));
        return tensor(all, layers, size, heads, tokens, hidden / heads);
      };
      const input = {
        noisy: tensor(noisy, size, 16, noisy.length / (16 * size)),
        times: tensor(times, size),
        keys: stacked(0),
        values: stacked(1),
        pooled: tensor(context[2 * layers], size, hidden),
      };
      return async () => (await expert.run(input)).clean.data;
    },
  };
}
