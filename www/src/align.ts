/** Alignments in the worker: pictures in, steps out, checkpoints to the store. */
import type { Alignment, Runtime } from '@reca/web/cpu';
import { type Failure, RecaError, failure } from './error';
import type { AlignOptions, AlignPictures, AlignRun, AlignStep, Progress } from './protocol';
import * as store from './store';

const CHECKPOINT = 'alignment.safetensors';
const RUN = 'alignment.json';
/** Pictures that the frozen half reads between looks at the signal. */
const CHUNK = 8;

let current: Alignment | null = null;

/** Reads the pictures and begins; with `resume`, goes on from the stored checkpoint. */
export async function begin(
  runtime: Runtime,
  run: AlignRun,
  resume: boolean,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<{ step: number; steps: number }> {
  end();
  const pictures = runtime.pictures();
  const total = size(run.pictures);
  for (let made = 0; made < total; ) {
    signal.throwIfAborted();
    made += await add(pictures, runtime, run.pictures, made);
    onProgress({ loaded: made, total });
    // Lets a message with the abort in.
    await new Promise((resolve) => setTimeout(resolve));
  }
  const alignment = runtime.align(pictures, { ...run.options } as AlignOptions);
  if (resume) {
    const bytes = await store.read(CHECKPOINT);
    if (!bytes) throw new RecaError('bad_input', 'no checkpoint is stored');
    alignment.resume(bytes);
  }
  current = alignment;
  if (!('files' in run.pictures)) await store.save(RUN, new TextEncoder().encode(JSON.stringify(run))).catch(() => {});
  return { step: Number(alignment.made), steps: Number(alignment.steps) };
}

function size(pictures: AlignPictures): number {
  return 'files' in pictures ? pictures.files.length : pictures.count;
}

async function add(
  to: Awaited<ReturnType<Runtime['pictures']>>,
  runtime: Runtime,
  from: AlignPictures,
  made: number,
): Promise<number> {
  if ('files' in from) {
    await to.add(from.files[made] as Uint8Array);
    return 1;
  }
  const count = Math.min(CHUNK, from.count - made);
  await to.addScenes(runtime, from.pool, BigInt(from.seed), BigInt(from.from + made), BigInt(count));
  return count;
}

/** One step; `publish` makes what is learned the aligned weights, `save` stores a checkpoint. */
export async function step(publish: boolean, save: boolean): Promise<AlignStep> {
  if (!current) throw new RecaError('bad_input', 'no alignment is under way');
  const begun = performance.now();
  const { step, loss, learningRate } = (await current.step()) as { step: number; loss: number; learningRate: number };
  const ms = performance.now() - begun;
  if (publish) current.publish();
  let unsaved: Failure | null = null;
  if (save) {
    try {
      await store.save(CHECKPOINT, await current.checkpoint());
    } catch (thrown) {
      unsaved = failure(thrown);
    }
  }
  return { step: Number(step), steps: Number(current.steps), loss, learningRate, ms, unsaved };
}

export function end(): void {
  current?.free();
  current = null;
}

/** The run of which a checkpoint is stored, or null. */
export async function stored(): Promise<AlignRun | null> {
  const [run, checkpoint] = await Promise.all([store.read(RUN), store.list('.safetensors')]);
  if (!run || !checkpoint.includes('alignment')) return null;
  return JSON.parse(new TextDecoder().decode(run)) as AlignRun;
}

export async function forget(): Promise<void> {
  await store.remove(CHECKPOINT);
  await store.remove(RUN);
}
