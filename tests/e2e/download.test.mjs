/** What a first visit fetches, what comes only when somebody aligns, and that versions are not mixed. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { gzipSync } from 'node:zlib';

import { launch, open } from './browser.mjs';
import { serve } from './server.mjs';

/** Bytes of a first visit over the wire, the model's among them. */
const MOST = 12_000_000;
const MINI = '/lab/models/mini/';
const LATER = `${MINI}latent_encoder.safetensors.gzip`;
const ALIGNED = 'aligned.safetensors';
const DIST = new URL('../../www/dist/', import.meta.url);

let server, browser, page, said;
const overrides = new Map();

before(async () => {
  server = await serve(overrides, { more: { '/copy/': 'www/dist' } });
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
  assert.ok(!server.asked().some((path) => path === LATER || path === `${MINI}${ALIGNED}.gzip`));
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
    }, MINI);
  const { code, message } = await run();
  assert.equal(code, 'weights_hash');
  assert.match(message, /^latent_encoder\.safetensors has 1000 bytes, the manifest says \d+.*reload the page/);
  overrides.delete(LATER);
  const { losses, bytes } = await run();
  assert.ok(losses.length === 2 && losses.every((loss) => loss > 0 && loss < 1), `${losses}`);
  const whole = readFileSync(new URL('../../www/models/mini/model.safetensors', import.meta.url));
  assert.ok(Math.abs(bytes - whole.length) < 10_000, `${bytes} of ${whole.length}`);
});

const take = () => page.evaluate(() => runtime.takeShipped().catch(({ code, message }) => ({ code, message })));

test('weights that fit the server’s model of now, and not the loaded one, are refused', async () => {
  const bytes = readFileSync(new URL(`models/mini/${ALIGNED}`, DIST));
  const manifest = JSON.parse(readFileSync(new URL('models/mini/manifest.json', DIST)));
  bytes[bytes.length - 1] ^= 1;
  manifest.later[ALIGNED].sha256 = createHash('sha256').update(bytes).digest('hex');
  overrides.set(`${MINI}${ALIGNED}.gzip`, gzipSync(bytes, { level: 1 }));
  overrides.set(`${MINI}manifest.json`, Buffer.from(JSON.stringify(manifest)));
  const { code, message } = await take();
  assert.equal(code, 'weights_hash');
  assert.match(message, /^aligned\.safetensors has sha256 .*reload the page if its model has changed on the server$/);
  overrides.clear();
});

test('a download that stalls holds up nothing else, and can be stopped', async () => {
  const whole = readFileSync(new URL(`models/mini/${ALIGNED}.gzip`, DIST));
  overrides.set(`${MINI}${ALIGNED}.gzip`, { bytes: whole.subarray(0, 1000), size: whole.length });
  const [kind, code] = await page.evaluate(async () => {
    const controller = new AbortController();
    let began;
    const begun = new Promise((resolve) => (began = resolve));
    const taken = runtime.takeShipped({ signal: controller.signal, onProgress: began }).catch(({ code }) => code);
    await begun;
    const { value } = await runtime.generate('a red car', { steps: 1 }).next();
    controller.abort();
    return [value.kind, await taken];
  });
  assert.deepEqual([kind, code], ['image', 'aborted']);
  overrides.clear();
});

test('weights aligned beforehand come when they are asked for, checked, and draw otherwise', async () => {
  overrides.set(`${MINI}${ALIGNED}.gzip`, gzipSync(Buffer.alloc(1000)));
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

test('a file of another version is not kept for offline, and a version that is not there whole not installed', async () => {
  const [name, other] = ['models/mini/sprites.png', Buffer.from('of another version')];
  /** What is fetched, and what is kept of it after so many looks at most. */
  const get = (looks) =>
    page.evaluate(async ([name, looks]) => {
      const size = (await (await fetch(name)).arrayBuffer()).byteLength;
      const cache = await caches.open('reca /lab/');
      const kept = async () => {
        const own = (await cache.keys()).find(({ url }) => url.includes(name));
        return own ? (await (await cache.match(own)).arrayBuffer()).byteLength : null;
      };
      for (let look = 0; look < looks && (await kept()) === null; look++) await new Promise((resolve) => setTimeout(resolve, 20));
      return [size, await kept()];
    }, [name, looks]);
  const { length } = readFileSync(new URL(name, DIST));
  overrides.set(`/lab/${name}`, other);
  assert.deepEqual(await get(50), [other.length, null]);
  overrides.clear();
  assert.deepEqual(await get(1000), [length, length]);
  const script = readFileSync(new URL('service-worker.js', DIST), 'utf8');
  overrides.set('/lab/service-worker.js', Buffer.from(script.replace(/("icon.svg":")\w{16}/, '$1ffffffffffffffff')));
  const [ended, kept] = await page.evaluate(async () => {
    const registration = await navigator.serviceWorker.ready;
    const ended = new Promise((resolve) => {
      registration.addEventListener('updatefound', () => {
        const { installing } = registration;
        installing.addEventListener('statechange', () => resolve(installing.state));
      });
    });
    await registration.update().catch(() => {});
    return [await ended, (await (await caches.open('reca /lab/')).keys()).some(({ url }) => url.includes('icon.svg'))];
  });
  overrides.clear();
  assert.deepEqual([ended, kept], ['redundant', true]);
});

test('two copies of the page on one origin keep files of their own', async () => {
  const kept = (cache) => page.evaluate(async (cache) => (await (await caches.open(cache)).keys()).map(({ url }) => url), cache);
  const before = await kept('reca /lab/');
  // As versions kept them that shared one cache.
  const [own, others] = [`${server.origin}/copy/old?sha256=0`, `${server.origin}/other/old?sha256=0`];
  await page.evaluate(async (urls) => {
    const shared = await caches.open('reca');
    for (const url of urls) await shared.put(url, new Response());
  }, [own, others]);
  const copy = await browser.context.newPage();
  await copy.goto(`${server.origin}/copy/`);
  const inherited = async () => (await (await caches.open('reca')).keys()).length === 1;
  for (let tries = 0; tries < 200 && !(await copy.evaluate(inherited)); tries += 1) await copy.waitForTimeout(100);
  await copy.close();
  assert.deepEqual(await kept('reca'), [others]);
  const after = await kept('reca /lab/');
  assert.deepEqual(before.filter((url) => !after.includes(url)), []);
  const copied = await kept('reca /copy/');
  assert.ok(copied.length > 0 && copied.every((url) => url.startsWith(`${server.origin}/copy/`)));
});

test('says nothing on the console', () => assert.deepEqual(said, []));
