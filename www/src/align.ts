/** Alignments in the worker: pictures in, steps out, checkpoints to the store. */
import type { Alignment, Pictures, Runtime } from '@reca/web/cpu';
import { type Failure, RecaError, failure } from './error';
import type { AlignOptions, AlignPictures, AlignRun, AlignStep, Progress } from './protocol';
import * as store from './store';

/** Files of the run on a base that was interrupted. */
const checkpointOf = (base: string) => `alignment.${base}.safetensors`;
const runOf = (base: string) => `alignment.${base}.json`;
/** Pictures that the frozen half reads between looks at the signal. */
const CHUNK = 8;
/** What the base was taught to draw, for `lambdaT2i`. */
const CAPTIONED = { pool: 'drawing', seed: 2, from: 0 } as const;
type CaptionedScenes = typeof CAPTIONED & { count: number };

let current: { alignment: Alignment; base: string } | null = null;

/** Reads the pictures and begins; with `resume`, goes on from the stored checkpoint. */
export async function begin(
  runtime: Runtime,
  base: string,
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
    const bytes = await store.read(checkpointOf(base));
    if (!bytes) throw new RecaError('bad_input', 'no checkpoint of this model is stored');
    alignment.resume(bytes);
  }
  current = { alignment, base };
  if (!('files' in run.pictures)) await store.save(runOf(base), new TextEncoder().encode(JSON.stringify(run))).catch(() => {});
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
  const { alignment, base } = current;
  const begun = performance.now();
  const { step, loss, learningRate } = (await alignment.step()) as { step: number; loss: number; learningRate: number };
  const ms = performance.now() - begun;
  if (publish) alignment.publish();
  let unsaved: Failure | null = null;
  if (save) {
    const checkpoint = await alignment.checkpoint();
    unsaved = await store.save(checkpointOf(base), checkpoint).then(() => null, failure);
  }
  return { step: Number(step), steps: Number(alignment.steps), loss, learningRate, ms, unsaved };
}

export function end(): void {
  const ended = current;
  current = null;
  ended?.alignment.free();
}

/** The run on a base of which a checkpoint is stored, or null. */
export async function stored(base: string): Promise<AlignRun | null> {
  const [run, checkpoint] = await Promise.all([store.read(runOf(base)), store.list(checkpointOf(base))]);
  if (!run || !checkpoint.length) return null;
  return JSON.parse(new TextDecoder().decode(run)) as AlignRun;
}

export async function forget(base: string): Promise<void> {
  await store.remove(checkpointOf(base));
  await store.remove(runOf(base));
}
