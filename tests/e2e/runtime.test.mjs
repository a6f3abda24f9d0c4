/** What the package's runtime promises to a page that imports it, on the CPU. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';
import { distance, golden, goldenImage, largest } from './goldens.mjs';
import { png } from './images.mjs';
import { serve } from './server.mjs';

const MODEL = '/lab/models/nano/';

let server, browser, page, said;
const overrides = new Map();

before(async () => {
  server = await serve(overrides);
  browser = await launch();
  ({ page, said } = await open(browser.context, `${server.origin}/blank/`));
  await page.evaluate(async (model) => {
    const { Runtime } = await import('/pkg/dist/runtime.js');
    globalThis.Runtime = Runtime;
    globalThis.runtime = await Runtime.create({ backend: 'cpu' });
    globalThis.model = await runtime.load(model);
  }, MODEL);
});

after(async () => {
  await browser?.close();
  server?.close();
});

test('tells what it runs on and what it loaded', async () => {
  const { info, model } = await page.evaluate(() => ({ info: runtime.info(), model }));
  assert.equal(info.backend, 'cpu');
  assert.equal(model.imageSize, 64);
  assert.equal(model.vocabulary[3], 'nothing');
  assert.deepEqual(model.styles, ['noto']);
});

test('embeds as the PyTorch reference does', async () => {
  const expected = golden('connector.output');
  const size = expected.values.length / 3;
  for (const index of [0, 1, 2]) {
    const file = [...(await png(page, goldenImage(index)))];
    const found = await page.evaluate(async (file) => [...(await runtime.embed(new Uint8Array(file)))], file);
    const apart = distance(found, expected.values.slice(index * size, (index + 1) * size));
    assert.ok(apart < 1e-4 * largest(expected.values), `image ${index}: ${apart}`);
  }
});

test('redraws the same from an image and from its embeddings', async () => {
  const file = [...(await png(page, goldenImage(0)))];
  const [fromImage, fromEmbeddings] = await page.evaluate(async (file) => {
    const image = new Uint8Array(file);
    const pictures = [];
    for (const source of [image, await runtime.embed(image)]) {
      for await (const frame of runtime.reconstruct(source, { seed: 3, steps: 4, preview: 0 })) {
        if (frame.kind === 'image') pictures.push([...frame.picture.data]);
        else if (frame.picture) throw new Error('a preview was made');
      }
    }
    return pictures;
  }, file);
  assert.deepEqual(fromImage, fromEmbeddings);
});

/** The code of what `work` throws in the page. */
const code = (work, argument) =>
  page.evaluate(
    async ([work, argument]) => {
      try {
        await new Function('argument', `return (${work})(argument)`)(argument);
      } catch (error) {
        return { code: error.code, name: error.name, message: error.message };
      }
      return null;
    },
    [work.toString(), argument],
  );

test('a signal cancels within one step', async () => {
  const failed = await code(async () => {
    const controller = new AbortController();
    for await (const { step } of runtime.generate('a red car', { steps: 1000, signal: controller.signal })) {
      if (step === 2) controller.abort();
      if (step > 2) throw new Error('it went on');
    }
  });
  assert.deepEqual([failed.name, failed.code], ['RecaError', 'aborted']);
});

test('two drawings may be pulled in turn', async () => {
  const [alone, together] = await page.evaluate(async () => {
    const last = async (frames) => {
      let picture;
      for await (const frame of frames) picture = frame.picture;
      return [...picture.data];
    };
    const options = { seed: 5, steps: 3 };
    const alone = await last(runtime.generate('a dog', options));
    const both = await Promise.all([
      last(runtime.generate('a dog', options)),
      last(runtime.generate('a car', options)),
    ]);
    return [alone, both[0]];
  });
  assert.deepEqual(together, alone);
});

test('refuses options that are out of range', async () => {
  for (const options of [{ steps: 0 }, { seed: 1.5 }, { guidance: Number.NaN }]) {
    const failed = await code(async (options) => {
      for await (const _ of runtime.generate('a red car', options)) void _;
    }, options);
    assert.equal(failed?.code, 'bad_input', JSON.stringify(options));
  }
});

test('refuses a model that is cut off, damaged, missing or none, and keeps the one it has', async () => {
  const load = () => code((model) => runtime.load(model), MODEL);
  const weights = Buffer.from(
    await page.evaluate(async (url) => [...new Uint8Array(await (await fetch(url)).arrayBuffer())], `${MODEL}model.safetensors`),
  );
  overrides.set(`${MODEL}model.safetensors`, weights.subarray(0, 1000));
  assert.equal((await load()).code, 'weights_hash');
  weights[weights.length - 1] ^= 1;
  overrides.set(`${MODEL}model.safetensors`, weights);
  const damaged = await load();
  assert.equal(damaged.code, 'weights_hash');
  assert.match(damaged.message, /model\.safetensors/);
  overrides.set(`${MODEL}manifest.json`, Buffer.from('<html>'));
  assert.equal((await load()).code, 'weights_format');
  overrides.clear();
  const missing = await code(() => runtime.load('/lab/models/none/'));
  assert.equal(missing.code, 'network');
  assert.equal(await code(() => runtime.embed(new Uint8Array(4))).then((failed) => failed.code), 'bad_input');
  assert.equal(await page.evaluate(async () => (await runtime.generate('a car', { steps: 1 }).next()).value.kind), 'image');
});

test('disposing ends what is under way', async () => {
  const failed = await code(async () => {
    const other = await Runtime.create({ backend: 'cpu' });
    const loading = other.load('/lab/models/nano/');
    other.dispose();
    await loading;
  });
  assert.equal(failed.code, 'aborted');
});

test('says nothing on the console', () => assert.deepEqual(said, []));
