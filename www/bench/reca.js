/** The parts of our model, from a build with the feature `bench`. */
import init, { Runtime } from '/built/cpu/reca.js';
import { STEPS } from './inputs.js';

export async function open(files) {
  await init();
  const runtime = await Runtime.create('cpu');
  runtime.load(files);
  const parts = runtime.parts();
  return {
    embed: (pixels) => parts.embed(pixels),
    training: ({ pixels, text, clean, noise, times }) => parts.training(pixels, text, clean, noise, times),
  };
}

/** What a visitor gets: the package's runtime, with the model in its worker. */
export async function openPublic(model, batch) {
  const { Runtime } = await import('/pkg/dist/runtime.js');
  const runtime = await Runtime.create({ backend: 'cpu' });
  await runtime.load(model);
  await runtime.openWorld(model);
  const steps = runtime.align(
    { pool: 'open', seed: 1, from: 0, count: 64 },
    { steps: 100_000, batch, publish: 0, checkpoint: 0 },
  );
  return {
    async draw() {
      for await (const frame of runtime.generate('a yellow broccoli', { steps: STEPS, preview: 0 })) void frame;
    },
    align: () => steps.next(),
  };
}
