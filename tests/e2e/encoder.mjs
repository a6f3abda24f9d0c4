/** The encoders' goldens, run through a wasm build in the page. */
import { readFileSync } from 'node:fs';

import { tensors } from './goldens.mjs';

/** Checkpoints with both towers. */
export const CHECKPOINTS = ['clip', 'clip-gelu', 'siglip', 'siglip2'];

/** Largest error allowed in the outputs' own units, and least cosine. */
const TOLERANCE = 1e-4;
const COSINE = 0.99999;
/** Texts that the goldens' logits are of. */
const SCORED = 2;

const json = (path) => JSON.parse(readFileSync(new URL(`../goldens/encoders/${path}`, import.meta.url), 'utf8'));

/** All that a build computes of a checkpoint, beside what `transformers` computed: pairs by name. */
export async function compared(page, build, backend, checkpoint) {
  const golden = tensors(`encoders/${checkpoint}/golden.safetensors`);
  const { texts, ids } = json(`${checkpoint}/texts.json`);
  const { shape, values } = golden('pixel_values');
  const [count, , height, width] = shape;
  const size = 3 * height * width;
  const images = Array.from({ length: count }, (_, i) => [...values.subarray(i * size, (i + 1) * size)]);
  const wide = golden('wide.pixel_values');
  const input = { build, backend, checkpoint, images, width, wide: [...wide.values], wideWidth: wide.shape[3], texts, scored: SCORED };
  const found = await page.evaluate(run, input);
  const pairs = {};
  const put = (name, values) => (pairs[name] = [values, [...golden(name).values]]);
  found.hidden.forEach((values, layer) => put(`hidden.${layer}`, values));
  for (const name of ['image_embeds', 'logits', 'scores', 'wide.image_embeds', 'preprocessed.0', 'preprocessed.1']) put(name, found[name]);
  pairs.maps = [found.maps, maps(golden)];
  return { pairs, tokens: [found.tokens, ids], grid: found.grid };
}

/** What is too far from its golden, in words. */
export function faults(pairs) {
  return Object.entries(pairs).flatMap(([name, [found, expected]]) => {
    if (found.length !== expected.length) return [`${name}: ${found.length} values, expected ${expected.length}`];
    const error = found.reduce((most, value, i) => Math.max(most, Math.abs(value - expected[i])), 0);
    const near = cosine(found, expected);
    return error <= TOLERANCE && near >= COSINE ? [] : [`${name}: error ${error}, cosine ${near}`];
  });
}

export function cosine(a, b) {
  const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

/** Cosines of every patch with its image's vector. */
function maps(golden) {
  const [patches, images] = [golden('patch_embeds'), golden('image_embeds')];
  const [count, places, size] = patches.shape;
  const row = ({ values }, i) => [...values.subarray(i * size, (i + 1) * size)];
  return Array.from({ length: count * places }, (_, i) => cosine(row(patches, i), row(images, Math.floor(i / places))));
}

/** In the page: loads a checkpoint and runs everything that has a golden. */
async function run({ build, backend, checkpoint, images, width, wide, wideWidth, texts, scored }) {
  const fetched = async (name) => {
    const answer = await fetch(`/encoders/${name}`);
    return answer.ok ? new Uint8Array(await answer.arrayBuffer()) : null;
  };
  const wasm = await import(`/pkg/dist/${build}/reca.js`);
  await wasm.default();
  const files = {};
  for (const name of ['config', 'tokenizer', 'tokenizer_config', 'preprocessor_config']) {
    files[`${name}.json`] = await fetched(`${checkpoint}/${name}.json`);
  }
  const index = await fetched(`${checkpoint}/model.safetensors.index.json`);
  const names = index ? wasm.shards(index) : ['model.safetensors'];
  const weights = await Promise.all(names.map((name) => fetched(`${checkpoint}/${name}`)));
  const headers = weights.map((file, i) => file.subarray(8, 8 + wasm.headerLength(names[i], file.subarray(0, 8), file.length)));
  const device = await wasm.Encoders.create(backend);
  const loading = device.load(files, names, headers, Float64Array.from(weights, ({ length }) => length));
  for (let piece = loading.next(); piece; piece = loading.next()) {
    loading.accept(weights[piece.file].subarray(piece.from, piece.to));
  }
  const encoder = loading.finish();
  const found = { hidden: [], image_embeds: [], logits: [], scores: [], maps: [] };
  const { layers } = encoder.info();
  for (const values of images) {
    const pixels = new wasm.Pixels(new Float32Array(values), width);
    for (let layer = 0; layer <= layers; layer++) {
      (found.hidden[layer] ??= []).push(...(await encoder.hiddenState(pixels, layer)));
    }
    const picture = encoder.encode(pixels);
    found.image_embeds.push(...(await encoder.embed(picture)));
    const { logits, scores } = await encoder.zeroShot(picture, texts.slice(0, scored), '{}');
    found.logits.push(...logits);
    found.scores.push(...scores);
    const { rows, columns, values: cosines } = await encoder.cosineMap(picture, undefined, '{}');
    found.maps.push(...cosines);
    found.grid = [rows, columns];
  }
  const picture = encoder.encode(new wasm.Pixels(new Float32Array(wide), wideWidth));
  found['wide.image_embeds'] = [...(await encoder.embed(picture))];
  for (const i of [0, 1]) {
    found[`preprocessed.${i}`] = [...(await encoder.preprocess(await fetched(`picture-${i}.png`))).values];
  }
  found.tokens = texts.map((text) => [...encoder.tokens([text])[0]]);
  return found;
}
