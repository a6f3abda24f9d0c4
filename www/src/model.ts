/** Fetches a model directory, the manifest first. Sizes and hashes are checked where it is built. */
import { RecaError, failure } from './error';
import type { ModelFiles, Progress } from './protocol';

export const MANIFEST = 'manifest.json';
const WEIGHTS = 'model.safetensors';
const FILES = ['config.json', 'tokenizer.json', 'preprocessor_config.json', WEIGHTS];

/** What only alignment needs, where a directory has it apart. */
const LATER = ['latent_encoder.safetensors'];

/** A generation expert that was aligned beforehand, where a directory has one. */
const ALIGNED = ['aligned.safetensors'];

/** What the data engine needs; only training, samples and evaluation ask for it. */
const WORLD = ['world.json', 'sprites.png'];

/** The folder of what judges drawings, and its files. */
const SCORER = 'scorer/';
const SCORER_FILES = [MANIFEST, 'config.json', WEIGHTS];

interface Manifest {
  files: Entries;
  later?: Entries;
}

/** `gzip` is the size of `NAME.gzip`, where the host has the file compressed too. */
type Entries = Record<string, { size: number; sha256: string; gzip?: number }>;

type OnProgress = (progress: Progress) => void;

/** What describing and drawing need. */
export async function download(base: string, signal: AbortSignal, onProgress: OnProgress): Promise<ModelFiles> {
  const manifest = await fetchBytes(new URL(MANIFEST, folder(base)), signal, () => {});
  return listed(base, manifest, FILES, parse(manifest).files, signal, onProgress);
}

/** What the manifest of a loaded model lists as `later`. The server's may be another one's by now. */
export function downloadLater(base: string, manifest: Uint8Array, signal: AbortSignal): Promise<ModelFiles> {
  return listed(base, manifest, LATER, parse(manifest).later ?? {}, signal, () => {});
}

/** Weights that were aligned beforehand, of a loaded model. */
export async function downloadAligned(
  base: string,
  manifest: Uint8Array,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<ModelFiles> {
  const { later = {} } = parse(manifest);
  if (ALIGNED.every((name) => name in later)) return listed(base, manifest, ALIGNED, later, signal, onProgress);
  throw new RecaError('bad_input', `${base} has no aligned weights; align the model here, or import some`);
}

/** What tells a loaded model's base from any other: the beginning of its weights' sha256. */
export function baseOf(manifest: Uint8Array): string {
  const { [WEIGHTS]: weights } = parse(manifest).files;
  if (weights) return weights.sha256.slice(0, 16);
  throw new RecaError('weights_format', `${MANIFEST} does not list ${WEIGHTS}`);
}

async function listed(
  base: string,
  manifest: Uint8Array,
  names: string[],
  entries: Entries,
  signal: AbortSignal,
  onProgress: OnProgress,
): Promise<ModelFiles> {
  const bytesOf = (name: string) => entries[name]?.gzip ?? entries[name]?.size ?? 0;
  const total = names.reduce((sum, name) => sum + bytesOf(name), 0);
  const files: ModelFiles = { [MANIFEST]: manifest };
  let loaded = 0;
  for (const name of names) {
    const compressed = entries[name]?.gzip !== undefined;
    const url = new URL(compressed ? `${name}.gzip` : name, folder(base));
    const bytes = await fetchBytes(url, signal, (count) => {
      loaded += count;
      onProgress({ loaded, total });
    });
    files[name] = compressed ? await decompress(bytes, url) : bytes;
  }
  return files;
}

/** Fetches the files of a model directory that scenes are made from. */
export function downloadWorld(base: string, signal: AbortSignal): Promise<ModelFiles> {
  return downloadAll(WORLD, folder(base), signal);
}

/** Fetches the scorer of a model directory. */
export function downloadScorer(base: string, signal: AbortSignal): Promise<ModelFiles> {
  return downloadAll(SCORER_FILES, `${folder(base)}${SCORER}`, signal);
}

async function downloadAll(names: string[], directory: string, signal: AbortSignal): Promise<ModelFiles> {
  const files = names.map(async (name) => [name, await fetchBytes(new URL(name, directory), signal, () => {})]);
  return Object.fromEntries(await Promise.all(files)) as ModelFiles;
}

function folder(base: string): string {
  return base.endsWith('/') ? base : `${base}/`;
}

async function decompress(bytes: Uint8Array, url: URL): Promise<Uint8Array> {
  try {
    const stream = new Blob([bytes as BlobPart]).stream().pipeThrough(new DecompressionStream('gzip'));
    return new Uint8Array(await new Response(stream).arrayBuffer());
  } catch {
    throw new RecaError('weights_hash', `${url.pathname} is cut off or damaged; fetch it again`);
  }
}

function parse(bytes: Uint8Array): Manifest {
  try {
    const manifest = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Manifest>;
    if (manifest.files) return { ...manifest, files: manifest.files };
  } catch {
    // Said below, as for JSON of another shape.
  }
  throw new RecaError('weights_format', `${MANIFEST} is not a manifest; is this a model directory?`);
}

async function fetchBytes(
  url: URL,
  signal: AbortSignal,
  onBytes: (count: number) => void,
): Promise<Uint8Array> {
  try {
    const response = await fetch(url, { signal });
    if (!response.ok) throw new Error(`the server answers ${response.status} ${response.statusText}`);
    if (!response.body) return new Uint8Array(await response.arrayBuffer());
    const counted = response.body.pipeThrough(
      new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          onBytes(chunk.byteLength);
          controller.enqueue(chunk);
        },
      }),
    );
    return new Uint8Array(await new Response(counted).arrayBuffer());
  } catch (thrown) {
    const { code, message } = failure(thrown);
    if (code === 'aborted') throw thrown;
    throw new RecaError('network', `${url.pathname} could not be fetched: ${message}`);
  }
}
