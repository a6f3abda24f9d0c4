/**
 * A unified multimodal model in a worker: it describes images, draws prompts, and redraws images
 * from their understanding embeddings. Every failure is a `RecaError`; every call takes a signal.
 */
import { Connection } from './connection';
import { RecaError } from './error';
import type {
  Backend,
  DrawOptions,
  Frame,
  ModelFiles,
  ModelInfo,
  Progress,
  RuntimeInfo,
  Scene,
  SceneRange,
  Weights,
} from './protocol';

export { type ErrorCode, RecaError } from './error';
export type {
  Backend,
  Frame,
  ModelFiles,
  ModelInfo,
  Progress,
  RuntimeInfo,
  Scene,
  SceneRange,
  Weights,
} from './protocol';

/** An image file (PNG, JPEG, WebP, GIF) or its bytes. */
export type ImageSource = Blob | ArrayBuffer | Uint8Array;

export interface Cancellable {
  signal?: AbortSignal;
}

export interface CreateOptions extends Cancellable {
  /** Default `auto`: WebGPU where a hardware adapter is found, else the CPU. */
  backend?: Backend;
}

export interface LoadOptions extends Cancellable {
  onProgress?: (progress: Progress) => void;
}

export interface DescribeOptions extends Cancellable {
  /** Default "describe the image". */
  question?: string;
}

export interface DrawingOptions extends Cancellable, Partial<DrawOptions> {
  /** A preview every so many steps, 0 for none. Default 1. */
  preview?: number;
}

export class Runtime {
  readonly #connection: Connection;
  readonly #info: RuntimeInfo;
  #drawings = 0;

  private constructor(connection: Connection, info: RuntimeInfo) {
    this.#connection = connection;
    this.#info = info;
  }

  /** Starts a worker and opens a device in it. Fails with `no_webgpu` only if WebGPU is forced. */
  static async create({ backend = 'auto', signal }: CreateOptions = {}): Promise<Runtime> {
    const connection = new Connection();
    try {
      return new Runtime(connection, await connection.call('create', { backend }, { signal }));
    } catch (thrown) {
      connection.close(new RecaError('aborted', 'the runtime was not created'));
      throw thrown;
    }
  }

  /** Which backend this is, and why. */
  info(): RuntimeInfo {
    return this.#info;
  }

  /** Loads a model directory from its URL or its files, and checks it against its manifest. */
  load(source: string | URL | ModelFiles, { signal, onProgress }: LoadOptions = {}): Promise<ModelInfo> {
    return this.#connection.call('load', { source: resolved(source) }, { signal, onProgress });
  }

  /** Opens the world that a model directory was trained in, of which `scenes` then makes pictures. */
  openWorld(source: string | URL | ModelFiles, { signal }: Cancellable = {}): Promise<void> {
    return this.#connection.call('openWorld', { source: resolved(source) }, { signal });
  }

  /** Makes pictures with their captions; the same range is always the same pictures. */
  scenes(range: Partial<SceneRange> = {}, { signal }: Cancellable = {}): Promise<Scene[]> {
    const whole: SceneRange = { pool: 'open', seed: 0, from: 0, count: 1, ...range };
    return this.#connection.call('scenes', { range: whole }, { signal });
  }

  /** Answers a question about an image. */
  async describe(
    image: ImageSource,
    { question = 'describe the image', signal }: DescribeOptions = {},
  ): Promise<string> {
    return this.#connection.call('describe', { image: await bytes(image), question }, { signal });
  }

  /** The understanding embeddings, `visualTokens × hiddenSize` values row by row. */
  async embed(image: ImageSource, { signal }: Cancellable = {}): Promise<Float32Array> {
    return this.#connection.call('embed', { image: await bytes(image) }, { signal });
  }

  /** The picture as the model sees it: the centre square in the model's size. */
  async fit(image: ImageSource, { signal }: Cancellable = {}): Promise<ImageData> {
    return this.#connection.call('fit', { image: await bytes(image) }, { signal });
  }

  /** Peak signal-to-noise ratio of two pictures, dB. */
  psnr(a: ImageData, b: ImageData, { signal }: Cancellable = {}): Promise<number> {
    return this.#connection.call('psnr', { a, b }, { signal });
  }

  /** Draws a prompt; the last frame has the pictures, `count` of them. Leaving the loop cancels. */
  generate(prompt: string, options: DrawingOptions = {}): AsyncGenerator<Frame, void, void> {
    return this.#draw(
      (drawing, draw) => this.#connection.call('generate', { drawing, prompt, options: draw }, options),
      options,
    );
  }

  /** Redraws an image, or embeddings that `embed` gave; the last frame is the image. */
  reconstruct(
    source: ImageSource | Float32Array,
    options: DrawingOptions = {},
  ): AsyncGenerator<Frame, void, void> {
    return this.#draw(async (drawing, draw) => {
      const input = source instanceof Float32Array ? source : await bytes(source);
      return this.#connection.call('reconstruct', { drawing, source: input, options: draw }, options);
    }, options);
  }

  /** The whole model as a safetensors file, with the base's or the aligned generation expert. */
  async export(weights: Weights = 'aligned', { signal }: Cancellable = {}): Promise<Blob> {
    const bytes = await this.#connection.call('exportWeights', { weights }, { signal });
    return new Blob([bytes as BlobPart], { type: 'application/octet-stream' });
  }

  /** Takes the generation expert of a file that `export` wrote as the aligned one. */
  async import(file: ImageSource, { signal }: Cancellable = {}): Promise<void> {
    return this.#connection.call('importWeights', { bytes: await bytes(file) }, { signal });
  }

  /** Forgets the aligned weights. */
  reset({ signal }: Cancellable = {}): Promise<void> {
    return this.#connection.call('reset', {}, { signal });
  }

  /** Ends the worker; calls under way fail with `aborted`. */
  dispose(): void {
    this.#connection.close(new RecaError('aborted', 'the runtime was disposed of'));
  }

  async *#draw(
    begin: (drawing: number, options: DrawOptions) => Promise<void>,
    { preview = 1, signal, ...options }: DrawingOptions,
  ): AsyncGenerator<Frame, void, void> {
    const drawing = ++this.#drawings;
    try {
      await begin(drawing, options as DrawOptions);
      for (let step = 1; ; step++) {
        const look = preview > 0 && step % preview === 0;
        const frame = await this.#connection.call('advance', { drawing, preview: look }, { signal });
        yield frame;
        if (frame.kind === 'image') return;
      }
    } finally {
      // Comes after the step under way, whether that is still waited for or not; nobody waits for
      // the answer, and a runtime that has ended has nothing left to free.
      this.#connection.call('free', { drawing }).catch(() => {});
    }
  }
}

function resolved(source: string | URL | ModelFiles): string | ModelFiles {
  const where = typeof source === 'string' || source instanceof URL;
  return where ? new URL(source, document.baseURI).href : source;
}

async function bytes(image: ImageSource): Promise<Uint8Array> {
  if (image instanceof Uint8Array) return image;
  return new Uint8Array(image instanceof Blob ? await image.arrayBuffer() : image);
}
