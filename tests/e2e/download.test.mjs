/** What a first visit fetches, and what comes only when somebody aligns. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { launch, open } from './browser.mjs';
import { serve } from './server.mjs';

/** Bytes of a first visit over the wire, the model's among them. */
const MOST = 12_000_000;
const LATER = '/lab/models/mini/latent_encoder.safetensors.gzip';
const ALIGNED = 'aligned.safetensors.gzip';
const DIST = new URL('../../www/dist/', import.meta.url);

let server, browser, page, said;
const overrides = new Map();

before(async () => {
  server = await serve(overrides);
  browser = await launch();
  ({ page, said } = await open(browser.context, `${server.origin}/lab/`));
});

after(async () => {
  await browser?.close();
  server?.close();
});

test('a first visit stays small', async (t) => {
  await page.locator('#backend').filter({ hasText: /^CPU/ }).waitFor({ timeout: 60_000 });
  await page.evaluate(() => navigator.serviceWorker.ready);
  const files = new Set(server.asked().map((path) => path.replace(/^\/lab\//, '').replace(/^$/, 'index.html')));
  const sent = [...files].filter((name) => existsSync(new URL(name, DIST))).map((name) => [name, wire(name)]);
  const bytes = sent.reduce((sum, [, size]) => sum + size, 0);
  t.diagnostic(`${bytes} bytes in ${sent.length} files`);
  assert.ok(sent.some(([name]) => name.endsWith('.wasm')) && sent.some(([name]) => name.endsWith('model.safetensors.gzip')));
  assert.ok(bytes <= MOST, sent.sort((a, b) => b[1] - a[1]).slice(0, 8).join(' '));
  assert.ok(!server.asked().includes(LATER));
});

/** Bytes of a file as hosts send it. */
function wire(name) {
  const bytes = readFileSync(new URL(name, DIST));
  return /\.(html|js|css|json|svg|webmanifest|wasm)$/.test(name) ? gzipSync(bytes, { level: 9 }).length : bytes.length;
}

test('what only alignment needs comes with the first one, checked', async () => {
  overrides.set(LATER, gzipSync(Buffer.alloc(1000)));
  const run = () =>
    page.evaluate(async (model) => {
      globalThis.Runtime ??= (await import('/pkg/dist/runtime.js')).Runtime;
      if (!globalThis.runtime) {
        globalThis.runtime = await Runtime.create({ backend: 'cpu' });
        await runtime.load(model);
        await runtime.openWorld(model);
      }
      const losses = [];
      try {
        for await (const { loss } of runtime.align({ pool: 'open', seed: 1, from: 0, count: 2 }, { steps: 2, batch: 2, checkpoint: 0 })) losses.push(loss);
        return { losses, bytes: (await runtime.export('aligned')).size };
      } catch ({ code, message }) {
        return { code, message };
      }
    }, '/lab/models/mini/');
  const { code, message } = await run();
  assert.equal(code, 'weights_hash');
  assert.match(message, /^latent_encoder\.safetensors has 1000 bytes, the manifest says \d+/);
  overrides.delete(LATER);
  const { losses, bytes } = await run();
  assert.ok(losses.length === 2 && losses.every((loss) => loss > 0 && loss < 1), `${losses}`);
  const whole = readFileSync(new URL('../../www/models/mini/model.safetensors', import.meta.url));
  assert.ok(Math.abs(bytes - whole.length) < 10_000, `${bytes} of ${whole.length}`);
});

test('weights aligned beforehand come when they are asked for, checked, and draw otherwise', async () => {
  assert.ok(!server.asked().some((path) => path.endsWith(ALIGNED)));
  overrides.set(`/lab/models/mini/${ALIGNED}`, gzipSync(Buffer.alloc(1000)));
  const take = () => page.evaluate(() => runtime.takeShipped().catch(({ code, message }) => ({ code, message })));
  const { code, message } = await take();
  assert.equal(code, 'weights_hash');
  assert.match(message, /^aligned\.safetensors has 1000 bytes, the manifest says \d+/);
  overrides.clear();
  assert.equal(await take(), undefined);
  const [base, aligned] = await page.evaluate(async () => {
    const drawn = [];
    for (const weights of ['base', 'aligned']) {
      for await (const { kind, pictures } of runtime.generate('a yellow broccoli', { seed: 1, steps: 4, weights })) {
        if (kind === 'image') drawn.push([...pictures[0].data]);
      }
    }
    return drawn;
  });
  const apart = base.reduce((sum, value, i) => sum + Math.abs(value - aligned[i]), 0) / base.length;
  assert.ok(apart > 2, `${apart}`);
});

test('says nothing on the console', () => assert.deepEqual(said, []));
