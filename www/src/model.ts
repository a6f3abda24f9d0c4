/** Fetches a model directory, the manifest first. Sizes and hashes are checked where it is built. */
import { RecaError, failure } from './error';
import type { ModelFiles, Progress } from './protocol';

const MANIFEST = 'manifest.json';
const FILES = ['config.json', 'tokenizer.json', 'preprocessor_config.json', 'model.safetensors'];

interface Manifest {
  files: Record<string, { size: number }>;
}

export async function download(
  base: string,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<ModelFiles> {
  const directory = base.endsWith('/') ? base : `${base}/`;
  const manifest = await fetchBytes(new URL(MANIFEST, directory), signal, () => {});
  const { files: entries } = parse(manifest);
  const total = FILES.reduce((sum, name) => sum + (entries[name]?.size ?? 0), 0);
  const files: ModelFiles = { [MANIFEST]: manifest };
  let loaded = 0;
  for (const name of FILES) {
    files[name] = await fetchBytes(new URL(name, directory), signal, (bytes) => {
      loaded += bytes;
      onProgress({ loaded, total });
    });
  }
  return files;
}

function parse(bytes: Uint8Array): Manifest {
  try {
    const manifest = JSON.parse(new TextDecoder().decode(bytes)) as Partial<Manifest>;
    if (manifest.files) return { files: manifest.files };
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
