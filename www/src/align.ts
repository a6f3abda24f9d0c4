/** Alignments in the worker: pictures in, steps out, checkpoints to the store. */
import type { Alignment, Pictures, Runtime } from '@reca/web/cpu';
import { type Failure, RecaError, failure } from './error';
import { type Lock, hold, isHeld } from './lock';
import type { AlignOptions, AlignPictures, AlignRun, AlignStep, Progress } from './protocol';
import { type ImageSource, bytes } from './source';
import * as store from './store';

/** Files of the run on a base that was interrupted. */
const checkpointOf = (base: string) => `alignment.${base}.safetensors`;
const runOf = (base: string) => `alignment.${base}.json`;
/** Held by the one tab that trains a base and stores its checkpoints. */
const lockOf = (base: string) => `reca alignment ${base}`;
const BUSY: Failure = { code: 'busy', message: 'another tab is aligning the same model' };
/** Pictures that the frozen half reads between looks at the signal. */
const CHUNK = 8;
/** Pictures that an alignment needs. */
const LEAST = 2;
/** What the base was taught to draw, for `lambdaT2i`. */
const CAPTIONED = { pool: 'drawing', seed: 2, from: 0 } as const;
type CaptionedScenes = typeof CAPTIONED & { count: number };

let current: { alignment: Alignment; base: string; lock: Lock | null } | null = null;
/** The last run on files, which are not stored: it can go on as long as this worker lives. */
let ofFiles: { base: string; run: AlignRun } | null = null;

/** Reads the pictures and begins; with `resume`, goes on from the stored checkpoint, which is forgotten else. */
export async function begin(
  runtime: Runtime,
  base: string,
  run: AlignRun,
  resume: boolean,
  signal: AbortSignal,
  onProgress: (progress: Progress) => void,
): Promise<{ step: number; steps: number }> {
  await end();
  const captioned: CaptionedScenes | null =
    (run.options.lambdaT2i ?? 0) > 0 ? { ...CAPTIONED, count: size(run.pictures) } : null;
  const all = [run.pictures, ...(captioned ? [captioned] : [])];
  const total = all.reduce((sum, pictures) => sum + size(pictures), 0);
  const collections: Pictures[] = [];
  const refused: string[] = [];
  let loaded = 0;
  for (const from of all) {
    const collection = runtime.pictures();
    collections.push(collection);
    for (let made = 0; made < size(from); ) {
      signal.throwIfAborted();
      const added = await add(collection, runtime, from, made, refused);
      made += added;
      loaded += added;
      onProgress({ loaded, total, refused });
      // Lets a message with the abort in.
      await new Promise((resolve) => setTimeout(resolve));
    }
  }
  const [pictures, own] = collections as [Pictures, Pictures?];
  if (refused.length && pictures.length < LEAST) {
    throw new RecaError('bad_input', `${LEAST} pictures are needed, and of ${size(run.pictures)} files ${pictures.length} can be read; ${refused[0]}`);
  }
  const alignment = runtime.align(pictures, own, { ...run.options } as AlignOptions);
  const lock = await hold(lockOf(base));
  current = { alignment, base, lock };
  if (resume) await goOn(alignment, base, lock);
  else if (lock) await remove(base);
  if (lock && 'files' in run.pictures) ofFiles = { base, run };
  else if (lock) await store.save(runOf(base), new TextEncoder().encode(JSON.stringify(run))).catch(() => {});
  return { step: Number(alignment.made), steps: Number(alignment.steps) };
}

async function goOn(alignment: Alignment, base: string, lock: Lock | null): Promise<void> {
  if (!lock) throw new RecaError(BUSY.code, `${BUSY.message}; stop it there first`);
  const checkpoint = await store.read(checkpointOf(base));
  if (!checkpoint) throw new RecaError('bad_input', 'no checkpoint of this model is stored');
  alignment.resume(checkpoint);
  // After the last step nothing would, and what was published before went with its worker.
  alignment.publish();
}

function size(pictures: AlignPictures | CaptionedScenes): number {
  return 'files' in pictures ? pictures.files.length : pictures.count;
}

async function add(
  to: Pictures,
  runtime: Runtime,
  from: AlignPictures | CaptionedScenes,
  made: number,
  refused: string[],
): Promise<number> {
  if ('files' in from) {
    const file = from.files[made] as ImageSource;
    try {
      await to.add(await bytes(file));
    } catch (thrown) {
      const { code, message } = failure(thrown);
      if (code !== 'bad_input') throw thrown;
      refused.push(`${file instanceof File ? file.name : `file ${made + 1}`}: ${message}`);
    }
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
  const { alignment, base, lock } = current;
  const begun = performance.now();
  const { step, loss, learningRate } = (await alignment.step()) as { step: number; loss: number; learningRate: number };
  const ms = performance.now() - begun;
  if (publish) alignment.publish();
  let unsaved: Failure | null = null;
  if (save && !lock) unsaved = BUSY;
  else if (save) {
    const checkpoint = await alignment.checkpoint();
    unsaved = await store.save(checkpointOf(base), checkpoint).then(() => null, failure);
  }
  return { step: Number(step), steps: Number(alignment.steps), loss, learningRate, ms, unsaved };
}

export async function end(): Promise<void> {
  const ended = current;
  current = null;
  ended?.alignment.free();
  await ended?.lock?.release();
}

/** The run on a base of which a checkpoint is stored, or null; one that is under way was not interrupted. */
export async function stored(base: string): Promise<AlignRun | null> {
  if (await isHeld(lockOf(base))) return null;
  const [run, checkpoint] = await Promise.all([store.read(runOf(base)), store.list(checkpointOf(base))]);
  if (!checkpoint.length) return null;
  if (run) return JSON.parse(new TextDecoder().decode(run)) as AlignRun;
  return ofFiles?.base === base ? ofFiles.run : null;
}

/** Removes the stored checkpoint, but not that of a run under way, which may be another tab's. */
export async function forget(base: string): Promise<void> {
  if (!(await isHeld(lockOf(base)))) await remove(base);
}

async function remove(base: string): Promise<void> {
  if (ofFiles?.base === base) ofFiles = null;
  await store.remove(checkpointOf(base));
  await store.remove(runOf(base));
}
