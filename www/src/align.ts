/** Alignments in the worker: pictures in, steps out, checkpoints to the store. */
import type { Alignment, Pictures, Runtime } from '@reca/web/cpu';
import { type Failure, RecaError, failure } from './error';
import type { AlignOptions, AlignPictures, AlignRun, AlignStep, Progress } from './protocol';
import * as store from './store';

const CHECKPOINT = 'alignment.safetensors';
const RUN = 'alignment.json';
/** Pictures that the frozen half reads between looks at the signal. */
const CHUNK = 8;
/** What the base was taught to draw, for `lambdaT2i`. */
const CAPTIONED = { pool: 'drawing', seed: 2, from: 0 } as const;
type CaptionedScenes = typeof CAPTIONED & { count: number };

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
  const captioned: CaptionedScenes | null =
    (run.options.lambdaT2i ?? 0) > 0 ? { ...CAPTIONED, count: size(run.pictures) } : null;
  const all = [run.pictures, ...(captioned ? [captioned] : [])];
  const total = all.reduce((sum, pictures) => sum + size(pictures), 0);
  const collections: Pictures[] = [];
  let loaded = 0;
  for (const from of all) {
    const collection = runtime.pictures();
    collections.push(collection);
    for (let made = 0; made < size(from); ) {
      signal.throwIfAborted();
      const added = await add(collection, runtime, from, made);
      made += added;
      loaded += added;
      onProgress({ loaded, total });
      // Lets a message with the abort in.
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  const [pictures, own] = collections as [Pictures, Pictures?];
  const alignment = runtime.align(pictures, own, { ...run.options } as AlignOptions);
  if (resume) {
    const bytes = await store.read(CHECKPOINT);
    if (!bytes) throw new RecaError('bad_input', 'no checkpoint is stored');
    alignment.resume(bytes);
  }
  current = alignment;
  if (!('files' in run.pictures)) await store.save(RUN, new TextEncoder().encode(JSON.stringify(run))).catch(() => {});
  return { step: Number(alignment.made), steps: Number(alignment.steps) };
}

function size(pictures: AlignPictures | CaptionedScenes): number {
  return 'files' in pictures ? pictures.files.length : pictures.count;
}

async function add(
  to: Pictures,
  runtime: Runtime,
  from: AlignPictures | CaptionedScenes,
  made: number,
): Promise<number> {
  if ('files' in from) {
    await to.add(from.files[made] as Uint8Array);
    return 1;
  }
  const count = Math.min(CHUNK, from.count - made);
  const nouns = 'nouns' in from ? from.nouns : undefined;
  await to.addScenes(runtime, from.pool, BigInt(from.seed), BigInt(from.from + made), BigInt(count), nouns);
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
