/**
 * A unified multimodal model in a worker: it describes images, draws prompts, and redraws images
 * from their understanding embeddings. Every failure is a `RecaError`; every call takes a signal.
 */
import { Connection, started } from './connection';
import { RecaError, failure } from './error';
import type {
  AlignOptions,
  AlignPictures,
  AlignRun,
  AlignStep,
  Backend,
  Calls,
  DrawOptions,
  EvaluateOptions,
  Evaluated,
  Frame,
  ModelFiles,
  ModelInfo,
  Progress,
  RuntimeInfo,
  Scene,
  SceneRange,
  Weights,
} from './protocol';
import { type Cancellable, type ImageSource, address, bytes } from './source';

export * from './encoder';
export { type ErrorCode, RecaError } from './error';
export type {
  AlignOptions,
  AlignPictures,
  AlignRun,
  AlignStep,
  Backend,
  DrawOptions,
  EvaluateOptions,
  Evaluated,
  Frame,
  ModelFiles,
  ModelInfo,
  Progress,
  RuntimeInfo,
  Scene,
  SceneRange,
  Share,
  Tally,
  Weights,
} from './protocol';

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

export interface AligningOptions extends Cancellable, Partial<AlignOptions> {
  /** The aligned weights are made anew every so many steps, where it goes on from a checkpoint, and at the end. Default 10. */
  publish?: number;
  /** A checkpoint is stored every so many steps, and at the end; 0 for none. Default 10. */
  checkpoint?: number;
  /** Go on from the stored checkpoint; without it that one is forgotten. */
  resume?: boolean;
  /** Pictures read so far, before the first step, and the files that are left out. */
  onProgress?: (progress: Progress) => void;
}

export interface EvaluatingOptions extends Cancellable, Partial<EvaluateOptions> {}

/** Crashes of the worker that one alignment gets over. */
const RESTARTS = 3;

type Lab = Connection<Calls, Progress>;

const connect = (): Lab =>
  new Connection(started(() => new Worker(new URL('./worker.ts', import.meta.url), { type: 'module', name: 'reca' })));

export class Runtime {
  #connection: Lab;
  #info: RuntimeInfo;
  /** Drawings and evaluations begun. */
  #begun = 0;
  #disposed = false;
  /** What a new worker needs to be as this one. */
  #backend: Backend = 'auto';
  #model: string | ModelFiles | null = null;
  #world: string | ModelFiles | null = null;
  #scorer: string | ModelFiles | null = null;
  #share = 1;

  private constructor(connection: Lab, info: RuntimeInfo) {
    this.#connection = connection;
    this.#info = info;
  }

  /** Starts a worker and opens a device in it. Fails with `no_webgpu` only if WebGPU is forced. */
  static async create({ backend = 'auto', signal }: CreateOptions = {}): Promise<Runtime> {
    const connection = connect();
    try {
      const runtime = new Runtime(connection, await connection.call('create', { backend }, { signal }));
      runtime.#backend = backend;
      return runtime;
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
  async load(source: string | URL | ModelFiles, { signal, onProgress }: LoadOptions = {}): Promise<ModelInfo> {
    const model = resolved(source);
    const info = await this.#connection.call('load', { source: model }, { signal, onProgress });
    this.#model = model;
    this.#share = 1;
    return info;
  }

  /** Opens the world that a model directory was trained in, of which `scenes` then makes pictures. */
  async openWorld(source: string | URL | ModelFiles, { signal }: Cancellable = {}): Promise<void> {
    const world = resolved(source);
    await this.#connection.call('openWorld', { source: world }, { signal });
    this.#world = world;
  }

  /** Opens the scorer of a model directory, which `evaluate` judges drawings with. */
  async openScorer(source: string | URL | ModelFiles, { signal }: Cancellable = {}): Promise<void> {
    const scorer = resolved(source);
    await this.#connection.call('openScorer', { source: scorer }, { signal });
    this.#scorer = scorer;
  }

  /** Makes pictures with their captions; the same range is always the same pictures. */
  async scenes(range: Partial<SceneRange> = {}, { signal }: Cancellable = {}): Promise<Scene[]> {
    const all = counted({ pool: 'open', seed: 0, from: 0, count: 1, ...range });
    return this.#connection.call('scenes', { range: all }, { signal });
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

  /**
   * Reconstruction Alignment of the base, a step a turn. Leaving the loop, or the signal, ends it;
   * what was published stays. If the worker breaks down, a new one goes on from the last checkpoint,
   * and steps since then come again. While another tab aligns the same model, nothing is stored.
   */
  async *align(
    pictures: AlignPictures,
    { publish = 10, checkpoint = 10, resume = false, signal, onProgress, ...options }: AligningOptions = {},
  ): AsyncGenerator<AlignStep, void, void> {
    const run: AlignRun = { pictures: 'files' in pictures ? pictures : counted(pictures), options };
    const due = (every: number, step: number, steps: number) => every > 0 && (step % every === 0 || step === steps);
    let restarts = 0;
    let saved = resume;
    for (;;) {
      try {
        let { step, steps } = await this.#connection.call('alignBegin', { run, resume: saved }, { signal, onProgress });
        while (step < steps) {
          const next = step + 1;
          const save = due(checkpoint, next, steps);
          const request = { publish: next === steps || due(publish, next, steps), save };
          const made = await this.#connection.call('alignStep', request, { signal });
          saved ||= save && !made.unsaved;
          step = made.step;
          yield made;
        }
        return;
      } catch (thrown) {
        if (!this.#connection.dead || this.#disposed || restarts++ >= RESTARTS) throw thrown;
        await this.#restart(signal);
      } finally {
        this.#connection.call('alignEnd', {}).catch(() => {});
      }
    }
  }

  /**
   * Draws prompts in GenEval's categories and counts the pictures that show what they ask for, a prompt
   * a turn. World and scorer must be open. The same options are the same prompts and noise for any
   * weights. Leaving the loop, or the signal, ends it within one denoising step.
   */
  async *evaluate({ signal, ...options }: EvaluatingOptions = {}): AsyncGenerator<Evaluated, void, void> {
    const evaluation = ++this.#begun;
    try {
      await this.#connection.call('evaluateBegin', { evaluation, options }, { signal });
      for (;;) {
        const counts = await this.#connection.call('evaluateStep', { evaluation }, { signal });
        if (!counts) continue;
        yield counts;
        if (counts.done === counts.prompts) return;
      }
    } finally {
      this.#connection.call('evaluateEnd', { evaluation }).catch(() => {});
    }
  }

  /** The alignment of the loaded model of which a checkpoint is stored on this machine, or null; of files, which
   * are not stored, as long as the runtime's worker lives. */
  stored({ signal }: Cancellable = {}): Promise<AlignRun | null> {
    return this.#connection.call('alignStored', {}, { signal });
  }

  /** Removes the stored checkpoint. */
  forget({ signal }: Cancellable = {}): Promise<void> {
    return this.#connection.call('alignForget', {}, { signal });
  }

  /** Stores the loaded model's aligned weights on this machine under a name; `take` makes them the aligned ones again. */
  async keep(name: string, { signal }: Cancellable = {}): Promise<void> {
    return this.#connection.call('keep', { name: plain(name) }, { signal });
  }

  /** Names of the weights that are kept of the loaded model; those of another base are not among them. */
  kept({ signal }: Cancellable = {}): Promise<string[]> {
    return this.#connection.call('kept', {}, { signal });
  }

  /** Takes kept weights as the aligned ones, all of the way. */
  async take(name: string, { signal }: Cancellable = {}): Promise<void> {
    await this.#connection.call('take', { name: plain(name) }, { signal });
    this.#share = 1;
  }

  /**
   * Fetches the aligned weights that come with the model, `aligned.safetensors` in its folder, and takes
   * them as the aligned ones, all of the way. A folder without them fails with `bad_input`.
   */
  async takeShipped({ onProgress, signal }: LoadOptions = {}): Promise<void> {
    await this.#connection.call('takeShipped', { files: null }, { onProgress, signal });
    this.#share = 1;
  }

  async discard(name: string, { signal }: Cancellable = {}): Promise<void> {
    return this.#connection.call('discard', { name: plain(name) }, { signal });
  }

  /** The whole model as a safetensors file, with the base's or the aligned generation expert. */
  async export(weights: Weights = 'aligned', { signal }: Cancellable = {}): Promise<Blob> {
    const bytes = await this.#connection.call('exportWeights', { weights }, { signal });
    return new Blob([bytes as BlobPart], { type: 'application/octet-stream' });
  }

  /** Takes the generation expert of a file that `export` wrote of the same base as the aligned one, all of the way. */
  async import(file: ImageSource, { signal }: Cancellable = {}): Promise<void> {
    await this.#connection.call('importWeights', { bytes: await bytes(file) }, { signal });
    this.#share = 1;
  }

  /**
   * Takes the aligned weights only this part of the way from the base, 0 to 1, from now on; less than
   * all forgets less. What is drawn, counted, kept and exported as aligned follows.
   */
  async interpolate(share: number, { signal }: Cancellable = {}): Promise<void> {
    await this.#connection.call('interpolate', { share }, { signal });
    this.#share = share;
  }

  /** Forgets the aligned weights, and takes the next ones all of the way. */
  async reset({ signal }: Cancellable = {}): Promise<void> {
    await this.#connection.call('reset', {}, { signal });
    this.#share = 1;
  }

  /** Bytes that the model's program holds in its worker. They never shrink; what is on a GPU is apart. */
  memory({ signal }: Cancellable = {}): Promise<number> {
    return this.#connection.call('memory', {}, { signal });
  }

  /** Ends the worker; calls under way fail with `aborted`. */
  dispose(): void {
    this.#disposed = true;
    this.#connection.close(new RecaError('aborted', 'the runtime was disposed of'));
  }

  /** A new worker with the same model, after the old one broke down. One that does not get so far is broken, too. */
  async #restart(signal: AbortSignal | undefined): Promise<void> {
    const connection = connect();
    this.#connection = connection;
    try {
      this.#info = await connection.call('create', { backend: this.#backend }, { signal });
      if (this.#model) await connection.call('load', { source: this.#model }, { signal });
      if (this.#world) await connection.call('openWorld', { source: this.#world }, { signal });
      if (this.#scorer) await connection.call('openScorer', { source: this.#scorer }, { signal });
      await connection.call('interpolate', { share: this.#share }, { signal });
    } catch (thrown) {
      connection.close(new RecaError('internal', `the worker broke down, and no other took its place: ${failure(thrown).message}`));
      throw thrown;
    }
  }

  async *#draw(
    begin: (drawing: number, options: DrawOptions) => Promise<void>,
    { preview = 1, signal, ...options }: DrawingOptions,
  ): AsyncGenerator<Frame, void, void> {
    const drawing = ++this.#begun;
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

/** A name that may become a file's. */
function plain(name: string): string {
  if (/^[\p{L}\p{N}_][\p{L}\p{M}\p{N}_ .-]{0,59}$/u.test(name)) return name;
  throw new RecaError('bad_input', 'a name has 1 to 60 letters, digits, spaces, dots or dashes, and begins with a letter or digit');
}

/** A range whose numbers are such as the data engine counts by. */
function counted(range: SceneRange): SceneRange {
  for (const name of ['seed', 'from', 'count'] as const) {
    if (Number.isSafeInteger(range[name]) && range[name] >= 0) continue;
    throw new RecaError('bad_input', `${name} is ${range[name]}, expected a whole number, 0 or more`);
  }
  return range;
}

function resolved(source: string | URL | ModelFiles): string | ModelFiles {
  return typeof source === 'string' || source instanceof URL ? address(source) : source;
}
