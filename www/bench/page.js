/** Opens the engines, checks that they compute the same, and offers what is timed as `bench.tasks`. */
import { BATCH, apart, batch, mixed, modelFiles } from './inputs.js';
import * as onnx from './onnx.js';
import * as reca from './reca.js';
import * as tensorflow from './tensorflow.js';

const MODEL = '/models/mini/';
/** Steps after which the losses of both training loops are compared. */
const AGREE = 5;

/** Tasks by row, then by engine: functions that do the work once. */
const tasks = {};

/** Fills `tasks`; returns by how much the engines differ. */
async function open() {
  const files = await modelFiles(MODEL);
  const config = JSON.parse(new TextDecoder().decode(files['config.json']));
  const [ours, ort, tfjs] = [await reca.open(files), await onnx.open(config), await tensorflow.open(files, config)];
  const differences = {};

  for (const size of [1, BATCH]) {
    const { pixels } = batch(config, size);
    differences[`embeddings, batch ${size}`] = apart(await ours.embed(pixels), await ort.embed(pixels));
    tasks[`encoder, batch ${size}`] = { reca: () => ours.embed(pixels), onnxruntime: () => ort.embed(pixels) };
  }

  // A guided step of one picture is a batch of two.
  const pair = batch(config, 2);
  const expert = ours.training(pair);
  const denoise = ort.generation(pair, mixed(pair), await expert.context());
  differences['clean latents, batch 2'] = apart(await expert.forward(), await denoise());
  tasks['denoising step, batch 2'] = { reca: () => expert.forward(), onnxruntime: denoise };

  const learned = batch(config, BATCH);
  const training = ours.training(learned);
  const other = tfjs(learned, await training.context());
  differences[`clean latents, tfjs, batch ${BATCH}`] = apart(await other.forward(), await training.forward());
  const losses = { reca: [], tfjs: [] };
  for (let step = 0; step < AGREE; step++) {
    losses.reca.push(await training.step());
    losses.tfjs.push(await other.step());
  }
  differences[`losses of ${AGREE} training steps`] = apart(losses.tfjs, losses.reca);
  tasks[`training step, batch ${BATCH}`] = { reca: () => training.step(), tfjs: () => other.step() };

  const whole = await reca.openPublic(MODEL, BATCH);
  tasks['picture, 20 guided steps'] = { reca: whole.draw };
  tasks[`RecA step, batch ${BATCH}`] = { reca: whole.align };
  return { differences, losses };
}

/** Milliseconds of `count` runs, each. */
async function time(row, engine, count) {
  const run = tasks[row][engine];
  const times = [];
  for (let i = 0; i < count; i++) {
    const begun = performance.now();
    await run();
    times.push(performance.now() - begun);
  }
  return times;
}

globalThis.bench = { open, time, rows: () => Object.entries(tasks).map(([row, engines]) => [row, Object.keys(engines)]) };
