/** Odd picture files, and a browser whose storage or memory is full. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';
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
    globalThis.runtime = await Runtime.create({ backend: 'cpu' });
    await runtime.load(model);
    await runtime.openWorld(model);
  }, MODEL);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** The middle pixel of what the model sees of a file. */
const middle = (file) =>
  page.evaluate(async (file) => {
    const { width, height, data } = await runtime.fit(new Uint8Array(file));
    return [...data.slice(4 * (width * (height / 2) + width / 2)).slice(0, 3)];
  }, [...file]);

test('a picture of one pixel is seen and described', async () => {
  const file = await png(page, { width: 1, height: 1, rgba: [200, 30, 40, 255] });
  assert.deepEqual(await middle(file), [200, 30, 40]);
  assert.equal(await page.evaluate(async (file) => typeof (await runtime.describe(new Uint8Array(file))), [...file]), 'string');
});

test('a picture of twelve megapixels is seen', async () => {
  const seen = await page.evaluate(async () => {
    const canvas = new OffscreenCanvas(4000, 3000);
    const context = canvas.getContext('2d');
    context.fillStyle = '#0000ff';
    context.fillRect(0, 0, 4000, 3000);
    const { data, width } = await runtime.fit(await canvas.convertToBlob({ type: 'image/jpeg' }));
    return [width, ...data.slice(0, 3)];
  });
  assert.equal(seen[0], 64);
  assert.ok(seen[1] < 8 && seen[2] < 8 && seen[3] > 247, seen.join(' '));
});

/** Eight by eight pixels without cyan and black, full of magenta and yellow: red. */
const CMYK =
  '/9j/7gAOQWRvYmUAZAAAAAAA/9sAQwAQCwwODAoQDg0OEhEQExgoGhgWFhgxIyUdKDozPTw5Mzg3QEhcTkBEV0U3OFBtUVdfYmdoZz5NcXlwZHhcZWdj/8AAFAgACAAI' +
  'BEMRAE0RAFkRAEsRAP/EABQAAQAAAAAAAAAAAAAAAAAAAAf/xAAUEAEAAAAAAAAAAAAAAAAAAAAA/9oADgRDAE0AWQBLAAA/AEAfj8gP/9k=';

test('a CMYK JPEG has its colours', async () => {
  const [red, green, blue] = await middle(Buffer.from(CMYK, 'base64'));
  assert.ok(red > 240 && green < 15 && blue < 15, `${red} ${green} ${blue}`);
});

/** An animated GIF of 2×2 pixels: a red frame, then a blue one. */
function gif() {
  // LZW codes of three bits: "clear" before every pixel keeps them so short; 5 ends the frame.
  const pixels = (index) => {
    const codes = [4, index, 4, index, 4, index, 4, index, 5];
    const bits = codes.reduce((all, code, at) => all | (BigInt(code) << BigInt(3 * at)), 0n);
    return [0x2c, 0, 0, 0, 0, 2, 0, 2, 0, 0, 2, 4, ...[0n, 8n, 16n, 24n].map((by) => Number((bits >> by) & 255n)), 0];
  };
  const wait = [0x21, 0xf9, 4, 0, 10, 0, 0, 0];
  const palette = [255, 0, 0, 0, 0, 255];
  return Buffer.from([...Buffer.from('GIF89a'), 2, 0, 2, 0, 0x80, 0, 0, ...palette, ...wait, ...pixels(0), ...wait, ...pixels(1), 0x3b]);
}

test('of an animated GIF the first frame is seen', async () => {
  assert.deepEqual(await middle(gif()), [255, 0, 0]);
});

test('a text that calls itself a PNG is refused', async () => {
  const failed = await page.evaluate(async () => {
    const file = new File(['Dear diary'], 'picture.png', { type: 'image/png' });
    return runtime.describe(file).catch(({ code, message }) => ({ code, message }));
  });
  assert.deepEqual(failed, { code: 'bad_input', message: 'this is not a PNG, JPEG, WebP or GIF image' });
});

test('a file that has gone since it was chosen is named as that', async () => {
  const failed = await page.evaluate(async () => {
    const folder = await navigator.storage.getDirectory();
    const handle = await folder.getFileHandle('photo.png', { create: true });
    const writing = await handle.createWritable();
    await writing.write(new Uint8Array(100));
    await writing.close();
    const file = await handle.getFile();
    await folder.removeEntry('photo.png');
    return runtime.describe(file).catch(({ code, message }) => ({ code, message }));
  });
  assert.equal(failed.code, 'bad_input');
  assert.match(failed.message, /^the file could not be read: .*; choose it again$/);
});

test('with full storage it trains on, without checkpoints, and keeps nothing', async () => {
  const session = await fill(page);
  const { codes, why, kept } = await page.evaluate(async () => {
    const codes = [];
    let why = '';
    const options = { steps: 2, batch: 2, checkpoint: 1, publish: 2 };
    for await (const { unsaved } of runtime.align({ pool: 'open', seed: 1, from: 0, count: 2 }, options)) {
      codes.push(unsaved?.code);
      why = unsaved?.message;
    }
    return { codes, why, kept: await runtime.keep('mine').catch(({ code }) => code) };
  });
  await session.detach();
  assert.deepEqual([codes, kept], [['quota', 'quota'], 'quota']);
  assert.match(why, /^the browser's storage is full/);
});

test('a file that another tab is writing is told apart from full storage', async () => {
  const failed = await page.evaluate(async (model) => {
    const { files } = await (await fetch(`${model}manifest.json`)).json();
    const name = `mine.${files['model.safetensors'].sha256.slice(0, 16)}.kept.new`;
    const script = `(async () => {
      const folder = await (await navigator.storage.getDirectory()).getDirectoryHandle('reca', { create: true });
      await (await folder.getFileHandle('${name}', { create: true })).createSyncAccessHandle();
      postMessage('writing');
    })()`;
    const tab = new Worker(URL.createObjectURL(new Blob([script])));
    await new Promise((resolve) => (tab.onmessage = resolve));
    const failed = await runtime.keep('mine').catch(({ code, message }) => ({ code, message }));
    tab.terminate();
    return failed;
  }, MODEL);
  assert.deepEqual(failed, { code: 'busy', message: 'another tab is storing the same; close it' });
});

/** Pages of 64 KiB that the program may have in all, so that a file of `TOO_LARGE` bytes finds no room. */
const PAGES = 1024;
const TOO_LARGE = 80 * 2 ** 20;

test('a program that ran out of memory is ended, and an alignment starts another', async () => {
  const program = '/pkg/dist/cpu/reca_bg.wasm';
  overrides.set(program, limited(readFileSync(new URL(`../..${program}`, import.meta.url)), PAGES));
  const failures = await page.evaluate(
    async ([model, size]) => {
      const { Runtime } = await import('/pkg/dist/runtime.js');
      globalThis.small = await Runtime.create({ backend: 'cpu' });
      await small.load(model);
      await small.openWorld(model);
      const failed = (call) => call.then(() => null, ({ code, message }) => [code, message]);
      return [await failed(small.embed(new Uint8Array(size))), await failed(small.scenes())];
    },
    [MODEL, TOO_LARGE],
  );
  overrides.clear();
  const [first, later] = failures;
  assert.equal(first?.[0], 'internal');
  assert.match(first[1], /^the program broke down \(unreachable\)/);
  assert.deepEqual(later, first);
  const [losses, scenes] = await page.evaluate(async () => {
    const losses = [];
    const options = { steps: 2, batch: 2, checkpoint: 0 };
    for await (const { loss } of small.align({ pool: 'open', seed: 1, from: 0, count: 2 }, options)) losses.push(loss);
    const scenes = await small.scenes();
    small.dispose();
    return [losses, scenes.length];
  });
  assert.deepEqual([losses.length, scenes], [2, 1]);
});

/** A program whose memory may not grow above so many pages. */
function limited(wasm, pages) {
  const number = (at) => {
    let [value, shift] = [0, 0];
    for (; wasm[at] & 128; at++, shift += 7) value |= (wasm[at] & 127) << shift;
    return [value | (wasm[at] << shift), at + 1];
  };
  const written = (value) => (value < 128 ? [value] : [(value & 127) | 128, ...written(value >> 7)]);
  // The sections come after eight bytes; the fifth kind is the memory's: one, from so many pages to so many.
  for (let at = 8; ; ) {
    const [size, from] = number(at + 1);
    if (wasm[at] === 5) {
      const memory = [1, 1, ...written(number(from + 2)[0]), ...written(pages)];
      return Buffer.concat([wasm.subarray(0, at), Buffer.from([5, memory.length, ...memory]), wasm.subarray(from + size)]);
    }
    at = from + size;
  }
}

test('with full storage the page works, uncached', async () => {
  const other = await browser.context.newPage();
  const session = await fill(other);
  await other.goto(`${server.origin}/lab/?model=nano#draw?count=1&steps=2`);
  // Less than it waits for its service worker at most.
  await other.locator('#backend').filter({ hasText: /^CPU/ }).waitFor({ timeout: 50_000 });
  await other.click('#draw-start');
  await other.locator('#draw-status').filter({ hasText: /^Drawn/ }).waitFor({ timeout: 60_000 });
  assert.ok(await other.locator('#error').isHidden());
  await session.detach();
  await other.close();
});

/** Leaves a page's origin no room to store anything, as long as the session lasts. */
async function fill(page) {
  const session = await browser.context.newCDPSession(page);
  await session.send('Storage.overrideQuotaForOrigin', { origin: server.origin, quotaSize: 1 });
  return session;
}

test('says nothing on the console', () => assert.deepEqual(said, []));
