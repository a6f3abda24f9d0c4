/** The dedicated worker: owns the wasm instance, the device and the model. One request is worked on
 * at a time, in the order of asking; cancelling means not pulling a drawing any further. */
import type { Drawing, Evaluation } from '@reca/web/cpu';
import * as align from './align';
import { type Opened, open } from './artefact';
import { type Failure, RecaError, failure } from './error';
import { download, downloadScorer, downloadWorld } from './model';
import * as store from './store';
import type { Answer, Arguments, CallName, Frame, FromWorker, ToWorker } from './protocol';

type Handlers = {
  [N in CallName]: (args: Arguments<N>, job: Job) => Answer<N> | Promise<Answer<N>>;
};

interface Job {
  id: number;
  signal: AbortSignal;
}

/** What the names of kept weights end in. */
const KEPT = '.kept';

let opened: Opened | null = null;
let queue = Promise.resolve();
const drawings = new Map<number, Drawing>();
const evaluations = new Map<number, Evaluation>();
const controllers = new Map<number, AbortController>();

const post = (message: FromWorker) => self.postMessage(message);

const handlers: Handlers = {
  async create({ backend }) {
    opened = await open(backend, (error) => post({ type: 'fatal', error }));
    return opened.info;
  },
  async load({ source }, { id, signal }) {
    if (typeof source !== 'string') return runtime().load(source);
    const files = await download(source, signal, (progress) => post({ type: 'progress', id, progress }));
    return runtime().load(files);
  },
  async openWorld({ source }, { signal }) {
    const files = typeof source === 'string' ? await downloadWorld(source, signal) : source;
    const file = (name: string) => {
      const bytes = files[name];
      if (!bytes) throw new RecaError('weights_format', `${name} is missing from the model's files`);
      return bytes;
    };
    runtime().openWorld(file('world.json'), file('sprites.png'));
  },
  async openScorer({ source }, { signal }) {
    runtime().openScorer(typeof source === 'string' ? await downloadScorer(source, signal) : source);
  },
  scenes({ range: { pool, seed, from, count } }) {
    const [number, first] = [BigInt(seed), BigInt(from)];
    return Array.from({ length: count }, (_, offset) => {
      const index = first + BigInt(offset);
      const picture = runtime().scene(pool, number, index);
      return { picture, caption: runtime().sceneCaption(pool, number, index) };
    });
  },
  describe: ({ image, question }) => runtime().describe(image, question),
  embed: ({ image }) => runtime().embed(image),
  fit: ({ image }) => runtime().fit(image),
  psnr: ({ a, b }) => instance().wasm.psnr(a, b),
  generate({ drawing, prompt, options }) {
    drawings.set(drawing, runtime().generate(prompt, options));
  },
  reconstruct({ drawing, source, options }) {
    const begin = source instanceof Float32Array ? 'reconstructEmbeddings' : 'reconstruct';
    drawings.set(drawing, runtime()[begin](source as never, options));
  },
  async advance({ drawing: number, preview }): Promise<Frame> {
    const drawing = drawings.get(number);
    if (!drawing) throw new RecaError('bad_input', 'this drawing has ended');
    await drawing.advance();
    const { step, steps } = drawing;
    if (step < steps) {
      return { kind: 'step', step, steps, pictures: preview ? await drawing.preview() : null };
    }
    return { kind: 'image', step, steps, pictures: await drawing.images() };
  },
  free({ drawing }) {
    drawings.get(drawing)?.free();
    drawings.delete(drawing);
  },
  evaluateBegin({ evaluation, options }) {
    evaluations.set(evaluation, runtime().evaluate(options));
  },
  async evaluateStep({ evaluation: number }) {
    const evaluation = evaluations.get(number);
    if (!evaluation) throw new RecaError('bad_input', 'this evaluation has ended');
    const { done } = evaluation;
    await evaluation.advance();
    return evaluation.done > done ? evaluation.counts() : null;
  },
  evaluateEnd({ evaluation }) {
    evaluations.get(evaluation)?.free();
    evaluations.delete(evaluation);
  },
  alignBegin: ({ run, resume }, { id, signal }) =>
    align.begin(instance(), run, resume, signal, (progress) => post({ type: 'progress', id, progress })),
  alignStep: ({ publish, save }) => align.step(publish, save),
  alignEnd: () => align.end(),
  alignStored: () => align.stored(),
  alignForget: () => align.forget(),
  keep: async ({ name }) => store.save(`${name}${KEPT}`, await runtime().exportWeights('aligned')),
  kept: () => store.list(KEPT),
  async take({ name }) {
    const bytes = await store.read(`${name}${KEPT}`);
    if (!bytes) throw new RecaError('bad_input', `nothing is kept under the name ${name}`);
    runtime().importWeights(bytes);
  },
  discard: ({ name }) => store.remove(`${name}${KEPT}`),
  exportWeights: ({ weights }) => runtime().exportWeights(weights),
  importWeights: ({ bytes }) => runtime().importWeights(bytes),
  reset: () => runtime().reset(),
  // Initialising once more only gives what is there.
  memory: async () => (await instance().wasm.default()).memory.buffer.byteLength,
};

self.addEventListener('message', ({ data }: MessageEvent<ToWorker>) => {
  if (data.type === 'abort') {
    controllers.get(data.id)?.abort();
    return;
  }
  const { id, request } = data;
  const controller = new AbortController();
  controllers.set(id, controller);
  queue = queue.then(async () => {
    try {
      controller.signal.throwIfAborted();
      const handler = handlers[request.call] as (args: unknown, job: Job) => unknown;
      const value = await handler(request, { id, signal: controller.signal });
      post({ type: 'done', id, value });
    } catch (thrown) {
      const error = failure(thrown);
      if (isFatal(error)) post({ type: 'fatal', error });
      else post({ type: 'failed', id, error });
    } finally {
      controllers.delete(id);
    }
  });
});

/** Whether the device has gone. Then calls may fail as defects before it is said to be lost. */
function isFatal({ code }: Failure): boolean {
  return code === 'device_lost' || (code === 'internal' && opened?.info.backend === 'webgpu');
}

function instance(): Opened {
  if (!opened) throw new RecaError('bad_input', 'the runtime is not created yet');
  return opened;
}

function runtime() {
  return instance().runtime;
}
