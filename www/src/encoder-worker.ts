/** An encoder's worker: it loads one checkpoint, and ends with it, which frees all its memory. */
import type * as Wasm from '@reca/web/encoders';
import { type Artefact, open } from './artefact';
import { type Checkpoint, type WeightFile, checkpoint } from './checkpoint';
import type { EncoderCalls } from './encoder-protocol';
import { RecaError } from './error';
import { type Handlers, post, serve } from './serve';

const BUILDS = import.meta.glob<typeof Wasm>('../../pkg/dist/{encoders,webgpu-encoders}/reca.js');
const artefact: Artefact<typeof Wasm, Wasm.Encoders> = {
  cpu: BUILDS['../../pkg/dist/encoders/reca.js'],
  webgpu: BUILDS['../../pkg/dist/webgpu-encoders/reca.js'],
  create: (wasm, backend) => wasm.Encoders.create(backend),
};

const CONFIG = 'config.json';
const OPTIONAL = ['tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json'];
const WEIGHTS = 'model.safetensors';
const INDEX = 'model.safetensors.index.json';
/** Bytes before a weight file's header. */
const PREFIX = 8;

let encoder: Wasm.Encoder | null = null;
/** The picture that was asked about last: questions about one picture come one after the other. */
let seen: { image: Uint8Array; picture: Wasm.EncodedPicture } | null = null;

const handlers: Handlers<EncoderCalls> = {
  async open({ source, backend }, { id, signal }) {
    const files = checkpoint(source, signal);
    const small = await smallFiles(files);
    const { wasm, runtime, info: device } = await open(artefact, backend, (error) => post({ type: 'fatal', error }));
    const weights = await weightFiles(files, wasm);
    const headers: Uint8Array[] = [];
    for (const [name, file] of weights) {
      const length = wasm.headerLength(name, await file.read(0, PREFIX), file.size);
      headers.push(await file.read(PREFIX, PREFIX + length));
      // A server may not like many downloads at once.
      if (weights.length > 1) file.close();
    }
    const sizes = Float64Array.from(weights, ([, { size }]) => size);
    const names = weights.map(([name]) => name);
    const loading = runtime.load(small, names, headers, sizes);
    for (let piece = loading.next(); piece; piece = loading.next()) {
      const { file, from, to } = piece;
      signal.throwIfAborted();
      const bytes = await (weights[file] as [string, WeightFile])[1].read(from, to);
      loading.accept(bytes);
      post({ type: 'progress', id, progress: loading.progress() });
    }
    encoder = loading.finish();
    return { info: encoder.info(), device };
  },
  fit: ({ image }) => loaded().fit(image),
  embed: async ({ image }) => loaded().embed(await look(image)),
  zeroShot: async ({ image, labels, template }) => loaded().zeroShot(await look(image), labels, template),
  cosineMap: async ({ image, label, template }) => loaded().cosineMap(await look(image), label ?? undefined, template),
};

serve(handlers, ({ code }) => code === 'internal' || code === 'device_lost');

async function smallFiles(files: Checkpoint): Promise<Record<string, Uint8Array>> {
  const config = await files.file(CONFIG);
  if (!config) {
    throw new RecaError(
      'bad_input',
      `there is no ${CONFIG}; choose all files of a checkpoint's folder, or give the folder's address, ` +
        'on Hugging Face https://huggingface.co/OWNER/NAME/resolve/main/',
    );
  }
  const found: Record<string, Uint8Array> = { [CONFIG]: config };
  for (const name of OPTIONAL) {
    const bytes = await files.file(name);
    if (bytes) found[name] = bytes;
  }
  return found;
}

/** The checkpoint's one weight file, or those that its index names. */
async function weightFiles(files: Checkpoint, wasm: typeof Wasm): Promise<[string, WeightFile][]> {
  const whole = await files.weights(WEIGHTS);
  if (whole) return [[WEIGHTS, whole]];
  const index = await files.file(INDEX);
  if (!index) {
    const remedy = 'a checkpoint in another format must be saved as safetensors first';
    throw new RecaError('bad_input', `there is neither ${WEIGHTS} nor ${INDEX}; ${remedy}`);
  }
  const found: [string, WeightFile][] = [];
  for (const name of wasm.shards(index)) {
    const file = await files.weights(name);
    if (!file) throw new RecaError('bad_input', `${name}, which ${INDEX} names, is not among the files`);
    found.push([name, file]);
  }
  return found;
}

/** The picture through the vision tower. */
async function look(image: Uint8Array): Promise<Wasm.EncodedPicture> {
  const same = seen?.image.length === image.length && seen.image.every((byte, i) => byte === image[i]);
  if (seen && same) return seen.picture;
  const pixels = await loaded().preprocess(image);
  seen?.picture.free();
  seen = null;
  const picture = loaded().encode(pixels);
  pixels.free();
  seen = { image, picture };
  return picture;
}

function loaded(): Wasm.Encoder {
  if (!encoder) throw new RecaError('bad_input', 'no encoder is loaded');
  return encoder;
}
