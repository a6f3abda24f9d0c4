/** The laboratory's worker: owns the wasm instance, the device and the model. Cancelling means not
 * pulling a drawing any further. */
import type * as Wasm from '@reca/web/cpu';
import * as align from './align';
import { type Artefact, type Opened, open } from './artefact';
import { type Failure, RecaError, failure } from './error';
import { MANIFEST, baseOf, download, downloadAligned, downloadLater, downloadScorer, downloadWorld } from './model';
import type { Calls, Frame, ModelFiles, Progress, Weights } from './protocol';
import { type Fetches, type Handlers, type Job, post, serve } from './serve';
import * as store from './store';

const BUILDS = import.meta.glob<typeof Wasm>('../../pkg/dist/{cpu,webgpu}/reca.js');
const artefact: Artefact<typeof Wasm, Wasm.Runtime> = {
  cpu: BUILDS['../../pkg/dist/cpu/reca.js'],
  webgpu: BUILDS['../../pkg/dist/webgpu/reca.js'],
  create: (wasm, backend) => wasm.Runtime.create(backend),
};

type Lab = Opened<typeof Wasm, Wasm.Runtime>;

let opened: Lab | null = null;
/** The loaded model: where it came from, its manifest, what tells its base from any other, and the files that
 * were left for later, once they are fetched. */
let model: { source: string | ModelFiles; manifest: Uint8Array; base: string; later: ModelFiles | null } | null = null;
const drawings = new Map<number, Wasm.Drawing>();
const evaluations = new Map<number, Wasm.Evaluation>();

const handlers: Handlers<Calls> = {
  async create({ backend }) {
    opened = await open(artefact, backend, (error) => post({ type: 'fatal', error }));
    return opened.info;
  },
  async load({ source }, { id, signal }) {
    const files = typeof source === 'string' ? await download(source, signal, telling(id)) : source;
    const info = runtime().load(files);
    const manifest = files[MANIFEST] as Uint8Array;
    model = { source, manifest, base: baseOf(manifest), later: null };
    await align.end();
    return info;
  },
  openWorld({ source }) {
    const files = fetched(source);
    const file = (name: string) => {
      const bytes = files[name];
      if (!bytes) throw new RecaError('weights_format', `${name} is missing from the model's files`);
      return bytes;
    };
    runtime().openWorld(file('world.json'), file('sprites.png'));
  },
  openScorer: ({ source }) => runtime().openScorer(fetched(source)),
  scenes({ range: { pool, seed, from, count, nouns } }) {
    const [number, first] = [BigInt(seed), BigInt(from)];
    return Array.from({ length: count }, (_, offset) => {
      const index = first + BigInt(offset);
      const picture = runtime().scene(pool, number, index, nouns);
      return { picture, caption: runtime().sceneCaption(pool, number, index, nouns) };
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
  async alignBegin({ run, resume }, { id, signal }) {
    await complete(signal);
    return align.begin(runtime(), loaded().base, run, resume, signal, telling(id));
  },
  alignStep: ({ publish, save }) => align.step(publish, save),
  alignEnd: () => align.end(),
  alignStored: () => align.stored(loaded().base),
  alignForget: () => align.forget(loaded().base),
  keep: async ({ name }, { signal }) => store.save(kept(name), await exported('aligned', signal)),
  kept: () => store.list(kept('')),
  async take({ name }) {
    const bytes = await store.read(kept(name));
    if (!bytes) throw new RecaError('bad_input', `nothing is kept of this model under the name ${name}`);
    runtime().importWeights(bytes, loaded().base);
  },
  discard: ({ name }) => store.remove(kept(name)),
  takeShipped({ files }) {
    if (files?.[MANIFEST] !== loaded().manifest) throw new RecaError('bad_input', 'another model was loaded meanwhile; fetch its weights');
    fitting(() => runtime().takeShipped(files));
  },
  exportWeights: ({ weights }, { signal }) => exported(weights, signal),
  importWeights: ({ bytes }) => runtime().importWeights(bytes, loaded().base),
  interpolate: ({ share }) => runtime().interpolate(share),
  reset: () => runtime().reset(),
  // Initialising once more only gives what is there.
  memory: async () => (await instance().wasm.default()).memory.buffer.byteLength,
};

/** What comes over a line that may be slow. */
const fetches: Fetches<Calls> = {
  openWorld: ({ source }, { signal }) => (typeof source === 'string' ? sources(downloadWorld(source, signal)) : null),
  openScorer: ({ source }, { signal }) => (typeof source === 'string' ? sources(downloadScorer(source, signal)) : null),
  async takeShipped(_, { id, signal }, before) {
    await before;
    const { source, manifest } = loaded();
    if (typeof source !== 'string') throw new RecaError('bad_input', 'only a model that was loaded from an address comes with aligned weights');
    return { files: await downloadAligned(source, manifest, signal, telling(id)) };
  },
  alignBegin: withLater,
  keep: withLater,
  exportWeights: withLater,
};

serve(handlers, isFatal, fetches);

function telling(id: number): (progress: Progress) => void {
  return (progress) => post({ type: 'progress', id, progress });
}

const sources = async (files: Promise<ModelFiles>) => ({ source: await files });

function withLater<A>(args: A, { signal }: Job): Promise<A> | null {
  return model && runtime().incomplete ? later(signal).then(() => args) : null;
}

/** Fetches what of the model was left for later. */
async function later(signal: AbortSignal): Promise<ModelFiles> {
  const model = loaded();
  const { source, manifest } = model;
  return (model.later ??= typeof source === 'string' ? await downloadLater(source, manifest, signal) : source);
}

/** Completes the model. */
async function complete(signal: AbortSignal): Promise<void> {
  if (!runtime().incomplete) return;
  const files = await later(signal);
  loaded().later = null;
  fitting(() => runtime().complete(files));
}

/** The files of a source that has been fetched. */
function fetched(source: string | ModelFiles): ModelFiles {
  if (typeof source !== 'string') return source;
  throw new RecaError('internal', `${source} was not fetched`);
}

/** Takes files that were fetched after their model; says what to do where they are not the loaded one's. */
function fitting(take: () => void): void {
  try {
    take();
  } catch (thrown) {
    const { code, message } = failure(thrown);
    if (code !== 'weights_hash') throw thrown;
    throw new RecaError(code, `${message}, or reload the page if its model has changed on the server`);
  }
}

async function exported(weights: Weights, signal: AbortSignal): Promise<Uint8Array> {
  await complete(signal);
  return runtime().exportWeights(weights, loaded().base);
}

/** Whether the device has gone. Then calls may fail as defects before it is said to be lost. On the CPU
 * those leave the program whole, but for traps. */
function isFatal({ code }: Failure): boolean {
  return code === 'device_lost' || (code === 'internal' && opened?.info.backend === 'webgpu');
}

/** The file of what is kept under a name; that of another base ends otherwise. */
function kept(name: string): string {
  return `${name}.${loaded().base}.kept`;
}

function loaded() {
  if (!model) throw new RecaError('bad_input', 'no model is loaded yet');
  return model;
}

function instance(): Lab {
  if (!opened) throw new RecaError('bad_input', 'the runtime is not created yet');
  return opened;
}

function runtime() {
  return instance().runtime;
}
