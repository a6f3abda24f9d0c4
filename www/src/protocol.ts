/** What the page and the worker say to each other. The page asks, the worker answers each request
 * once, in order; drawings and alignments are pulled a step at a time. */
import type { AlignOptions, Backend, DrawOptions, EvaluateOptions, Evaluated, ModelInfo, RuntimeInfo, Share, Tally, Weights } from '@reca/web/cpu';
import type { Failure } from './error';
import type { ImageSource } from './source';

export type { AlignOptions, Backend, DrawOptions, EvaluateOptions, Evaluated, ModelInfo, RuntimeInfo, Share, Tally, Weights };

/** The files of a model directory by name, `manifest.json` among them. */
export type ModelFiles = Record<string, Uint8Array>;

/** Scenes that the data engine makes: `count` of a pool and seed, from number `from` on. */
export interface SceneRange {
  /** `open` holds anything, `strict` nothing that the model was not taught to draw. */
  pool: 'open' | 'strict';
  seed: number;
  from: number;
  count: number;
  /** The only things that are shown; all of the world's if left out. */
  nouns?: string[];
}

/** A made picture, and what it shows in words. */
export interface Scene {
  picture: ImageData;
  caption: string;
}

/** A look at pictures that are being drawn, one a seed. */
export type Frame =
  | { kind: 'step'; step: number; steps: number; pictures: ImageData[] | null }
  | { kind: 'image'; step: number; steps: number; pictures: ImageData[] };

/** What to align on: scenes, or image files, which are read one at a time; those that are no pictures are left out. */
export type AlignPictures = SceneRange | { files: ImageSource[] };

/** An alignment: pictures and settings. */
export interface AlignRun {
  pictures: AlignPictures;
  options: Partial<AlignOptions>;
}

/** One training step's outcome. */
export interface AlignStep {
  /** Steps made, this one included. */
  step: number;
  steps: number;
  loss: number;
  learningRate: number;
  /** Time of the step, milliseconds. */
  ms: number;
  /** Why the checkpoint that was due could not be stored, or null. */
  unsaved: Failure | null;
}

/** Arguments and answer of every request. */
export interface Calls {
  create: [{ backend: Backend }, RuntimeInfo];
  /** From the URL of a model directory, or from its files. */
  load: [{ source: string | ModelFiles }, ModelInfo];
  openWorld: [{ source: string | ModelFiles }, void];
  openScorer: [{ source: string | ModelFiles }, void];
  scenes: [{ range: SceneRange }, Scene[]];
  describe: [{ image: Uint8Array; question: string }, string];
  embed: [{ image: Uint8Array }, Float32Array];
  /** The picture as the model sees it. */
  fit: [{ image: Uint8Array }, ImageData];
  psnr: [{ a: ImageData; b: ImageData }, number];
  generate: [{ drawing: number; prompt: string; options: DrawOptions }, void];
  /** From an image file or from embeddings. */
  reconstruct: [{ drawing: number; source: Uint8Array | Float32Array; options: DrawOptions }, void];
  /** One step; the last one answers with the pictures and ends the drawing. */
  advance: [{ drawing: number; preview: boolean }, Frame];
  free: [{ drawing: number }, void];
  evaluateBegin: [{ evaluation: number; options: EvaluateOptions }, void];
  /** One denoising step of a prompt's pictures; the counts when it finishes the prompt. */
  evaluateStep: [{ evaluation: number }, Evaluated | null];
  evaluateEnd: [{ evaluation: number }, void];
  alignBegin: [{ run: AlignRun; resume: boolean }, { step: number; steps: number }];
  alignStep: [{ publish: boolean; save: boolean }, AlignStep];
  alignEnd: [object, void];
  /** The run of which a checkpoint is stored. */
  alignStored: [object, AlignRun | null];
  alignForget: [object, void];
  /** Stores the aligned weights under a name. */
  keep: [{ name: string }, void];
  kept: [object, string[]];
  take: [{ name: string }, void];
  discard: [{ name: string }, void];
  /** Takes the aligned weights that come with the model; fetches them where there are no files. */
  takeShipped: [{ files: ModelFiles | null }, void];
  exportWeights: [{ weights: Weights }, Uint8Array];
  importWeights: [{ bytes: Uint8Array }, void];
  /** How far the base is moved to the aligned weights, 0 to 1. */
  interpolate: [{ share: number }, void];
  reset: [object, void];
  memory: [object, number];
}

/** Calls by name, each with its arguments and its answer. */
export type CallList<C> = { [N in keyof C]: [object, unknown] };
export type Arguments<C extends CallList<C>, N extends keyof C> = C[N][0];
export type Answer<C extends CallList<C>, N extends keyof C> = C[N][1];

export type ToWorker<C extends CallList<C>> =
  | { [N in keyof C]: { type: 'request'; id: number; call: N; args: Arguments<C, N> } }[keyof C]
  /** Stops the request's download, if it is at one. */
  | { type: 'abort'; id: number };

export type FromWorker =
  | { type: 'done'; id: number; value: unknown }
  | { type: 'failed'; id: number; error: Failure }
  | { type: 'progress'; id: number; progress: unknown }
  /** The worker is unusable and must be replaced. */
  | { type: 'fatal'; error: Failure };

/** Bytes of a download, or pictures to align on, so far and in all. */
export interface Progress {
  loaded: number;
  total: number;
  /** Of image files to align on: those that are left out, each with why. */
  refused?: string[];
}
