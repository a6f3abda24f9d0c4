/** What the panels share: the runtime, which comes up behind the page, and the samples. */
import { type Backend, type ModelInfo, RecaError, Runtime } from '../runtime';
import { Status, element } from './dom';
import { connection, facts } from './report';

/** A picture of the page's own, with what a recorded run said of it. */
export interface Sample {
  file: string;
  caption: string;
  /** Colours of its 16 embeddings. */
  colours: [number, number, number][];
  redrawn: string;
  psnr: number;
}

/** Results that were recorded on this page, for the time until the model is there. */
export interface Recorded {
  samples: Sample[];
  draw: { prompt: string; seed: number; files: string[] } | null;
  align: {
    steps: number;
    pictures: number;
    /** What alone they show; all things if empty. */
    nouns: string;
    seconds: number;
    losses: number[];
    probes: { prompt: string; base: string; aligned: string }[];
  } | null;
}

/** Where they cannot be had, the page does without. */
const NOTHING: Recorded = { samples: [], draw: null, align: null };

export class Lab {
  info: ModelInfo | null = null;
  /** Whether there are aligned weights. */
  aligned = false;
  /** Whether they are nowhere but in this tab. */
  unsaved = false;
  /** Whether an alignment is under way. */
  aligning = false;
  readonly recorded: Promise<Recorded>;
  /** The runtime with its model, once it is there. */
  readonly runtime: Promise<Runtime>;
  #ready!: (runtime: Runtime) => void;
  #failed!: (thrown: unknown) => void;
  #badge = new Status('backend');
  #model = '';
  #world: Promise<void> | null = null;
  #scorer: Promise<void> | null = null;

  constructor() {
    this.recorded = fetch('recorded/recorded.json')
      .then((answer) => answer.json() as Promise<Recorded>)
      .catch(() => NOTHING);
    this.runtime = new Promise((resolve, reject) => ([this.#ready, this.#failed] = [resolve, reject]));
    // Whoever waits for it says what failed.
    this.runtime.catch(() => {});
  }

  get loaded(): boolean {
    return this.info !== null;
  }

  /** Starts the runtime and loads the model that the address names. */
  async start(): Promise<void> {
    const bar = element('loading-bar', HTMLProgressElement);
    const badge = this.#badge;
    try {
      const { backend, model } = parameters();
      this.#model = `models/${model}/`;
      const runtime = await Runtime.create({ backend });
      badge.tell('loading');
      Object.assign(facts, { version: runtime.info().version, model });
      this.info = await runtime.load(this.#model, {
        onProgress({ loaded, total }) {
          bar.value = loaded / total;
          badge.count(`${megabytes(loaded)} of ${megabytes(total)} MB`);
        },
      });
      this.badge(runtime);
      this.#ready(runtime);
    } catch (thrown) {
      badge.tell('no model');
      connection.remedy = 'check the connection and reload the page';
      this.#failed(thrown);
      throw thrown;
    } finally {
      bar.classList.add('done');
    }
  }

  /** Says what is computed on, and why. */
  badge(runtime: Runtime): void {
    const { backend, reason } = runtime.info();
    facts['backend'] = `${backend === 'webgpu' ? 'WebGPU' : 'CPU'}: ${reason}`;
    this.#badge.tell(facts['backend']);
  }

  /** Opens the data engine's world at its first use. */
  async world(): Promise<Runtime> {
    const runtime = await this.runtime;
    this.#world ??= runtime.openWorld(this.#model);
    // One that failed is tried again.
    await this.#world.catch((thrown) => {
      this.#world = null;
      throw thrown;
    });
    return runtime;
  }

  /** Opens the world and the scorer at their first use. */
  async scorer(): Promise<Runtime> {
    const runtime = await this.world();
    this.#scorer ??= runtime.openScorer(this.#model);
    await this.#scorer.catch((thrown) => {
      this.#scorer = null;
      throw thrown;
    });
    return runtime;
  }
}

/** What `work` gives, unless the signal fires before: whoever waits for the model may stop. */
export function stoppable<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return Promise.race([
    work,
    new Promise<never>((_, reject) => {
      const stop = () => reject(new RecaError('aborted', 'cancelled'));
      if (signal.aborted) stop();
      else signal.addEventListener('abort', stop, { once: true });
    }),
  ]);
}

/** The model that the page opens with, and recorded its results with. */
const OWN = 'mini';

/** Shows which model is loaded; choosing another opens the page anew with it. */
export function modelChoice(): void {
  const choice = element('model', HTMLSelectElement);
  const { model } = parameters();
  if (![...choice.options].some(({ value }) => value === model)) choice.add(new Option(model));
  choice.value = model;
  if (model !== OWN) {
    for (const mark of document.querySelectorAll('.recorded')) mark.textContent = `recorded with ${OWN}`;
  }
  choice.addEventListener('change', () => {
    const address = new URL(location.href);
    address.searchParams.set('model', choice.value);
    // Whoever stays when the browser asks, stays with this model.
    choice.value = model;
    location.assign(address);
  });
}

/** `?backend=cpu|webgpu|auto` and `?model=FOLDER` choose what is loaded. */
function parameters(): { backend: Backend; model: string } {
  const query = new URLSearchParams(location.search);
  const backend = query.get('backend') ?? 'auto';
  const model = query.get('model') ?? OWN;
  if (backend !== 'auto' && backend !== 'cpu' && backend !== 'webgpu') {
    throw new RecaError('bad_input', `backend is "${backend}", expected auto, cpu or webgpu`);
  }
  if (!/^[\w-]+$/.test(model)) throw new RecaError('bad_input', `"${model}" is not the name of a model folder`);
  return { backend, model };
}

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);
