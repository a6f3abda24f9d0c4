/** What the page promises, on a browser without WebGPU. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { launch, open } from './browser.mjs';
import { goldenImage } from './goldens.mjs';
import { png } from './images.mjs';
import { serve } from './server.mjs';

/** Where screenshots of the panels are kept. */
const SHOTS = fileURLToPath(new URL('../../target/test/screenshots', import.meta.url));

let server, browser, page, said, requests;

before(async () => {
  server = await serve();
  browser = await launch();
  ({ page, said, requests } = await open(browser.context, `${server.origin}/lab/?model=nano#draw?count=1`));
  await text('backend', /^CPU|^no model/);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** An element's text, once it matches. */
async function text(id, pattern) {
  const found = page.locator(`#${id}`).filter({ hasText: pattern });
  await found.waitFor({ state: 'attached', timeout: 120_000 });
  return found.textContent();
}

/** Waits until the model has said what it sees in the picture that it is given. */
async function seen(give) {
  await page.evaluate(() => (document.getElementById('seen').ariaLabel = ''));
  await give();
  await page.locator('#seen[aria-label*="the model says"]').waitFor({ timeout: 60_000 });
}

const file = async (image) => ({ name: 'picture.png', mimeType: 'image/png', buffer: await png(page, image) });

/** All bytes of a canvas. */
const pixels = (id) =>
  page.evaluate((id) => {
    const { width, height } = document.getElementById(id);
    const copy = new OffscreenCanvas(width, height).getContext('2d', { willReadFrequently: true });
    copy.drawImage(document.getElementById(id), 0, 0);
    return Array.from(copy.getImageData(0, 0, width, height).data);
  }, id);

async function draw(prompt, seed, steps) {
  await page.fill('#prompt', prompt);
  await page.fill('#seed', String(seed));
  await page.fill('#steps', String(steps));
  await page.click('#draw-start');
}

test('falls back to the CPU and says why', async () => {
  assert.equal(await text('backend', /./), 'CPU: no WebGPU adapter was found');
  await text('words', /broccoli/);
});

test('draws a prompt with a preview at every step', async () => {
  const labels = await page.evaluateHandle(() => {
    const canvas = document.getElementById('drawing-0');
    const labels = [];
    new MutationObserver(() => labels.push(canvas.ariaLabel)).observe(canvas, { attributeFilter: ['aria-label'] });
    return labels;
  });
  await draw('a red car', 7, 6);
  await text('draw-status', /^Drawn in/);
  const expected = Array.from({ length: 6 }, (_, i) => `a red car, step ${i + 1} of 6`);
  assert.deepEqual(await labels.jsonValue(), expected);
});

test('the same seed draws the same bytes, another seed others', async () => {
  const first = await pixels('drawing-0');
  for (const [seed, same] of [[7, true], [8, false]]) {
    await draw('a red car', seed, 6);
    await text('draw-status', /^Drawn in/);
    assert.equal(Buffer.from(await pixels('drawing-0')).equals(Buffer.from(first)), same, `seed ${seed}`);
  }
  assert.ok(new Set(first).size > 16, 'the picture is not flat');
});

test('stops within a step and draws again', async () => {
  await draw('a dog left of a car', 1, 1000);
  await text('draw-status-figures', /^Step/);
  await page.click('#draw-stop');
  assert.equal(await text('draw-status', 'Stopped.'), 'Stopped.');
  await draw('a dog', 1, 2);
  await text('draw-status', /^Drawn in/);
});

test('names a word that it does not know, and a near one', async () => {
  await draw('a yelow car', 1, 2);
  await text('error', /"yelow" \(did you mean "yellow"/);
  assert.equal(await text('draw-status', 'Not drawn.'), 'Not drawn.');
});

test('places by lot are for models that plan them', async () => {
  assert.ok(await page.locator('#layout').isDisabled());
  assert.equal(await page.locator('#layout').inputValue(), 'written');
});

test('draws from the keyboard alone', async () => {
  await page.focus('#prompt');
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('two bananas');
  await page.keyboard.press('Enter');
  await text('draw-status', /^Drawn in/);
  assert.match(await page.locator('#drawing-0').getAttribute('aria-label'), /^two bananas/);
  assert.ok(await page.locator('#error').isHidden());
});

test('describes a chosen picture, answers, and redraws it beside the original', async () => {
  await page.click('#tab-understand');
  const golden = goldenImage(0);
  await seen(async () => page.setInputFiles('#file', await file(golden)));
  assert.match(await text('caption', /^[a-z]/), /^[a-z? ]+$/);
  assert.deepEqual(await pixels('seen'), golden.rgba);
  await page.fill('#question', 'what colour is the car ?');
  await page.press('#question', 'Enter');
  await page.locator('#answers b').filter({ hasText: /^[a-z]/ }).waitFor();
  await page.check('#show-tokens');
  assert.equal(await page.locator('#see-tokens span').count(), 16);
  await page.click('#tab-redraw');
  await page.click('#redraw-start');
  const said = await text('redraw-status', /^Redrawn, PSNR/);
  assert.ok(Math.abs(Number(/PSNR ([\d.]+) dB/.exec(said)[1]) - psnr(golden.rgba, await pixels('redrawing'))) < 0.06);
});

test('an embedding that is switched off changes what is redrawn', async () => {
  const whole = await pixels('redrawing');
  const told = await page.evaluateHandle(() => {
    const [figures, status] = ['redraw-status-figures', 'redraw-status'].map((id) => document.getElementById(id));
    const told = [];
    for (const line of [figures, status]) new MutationObserver(() => told.push(line.textContent)).observe(line, { childList: true });
    return told;
  });
  await page.locator('#switches button').nth(5).click();
  // Steps may pass faster than a test can look.
  await page.waitForFunction((told) => told.some((text) => /^Step/.test(text)) && told.some((text) => /^Redrawn/.test(text)), told);
  assert.notDeepEqual(await pixels('redrawing'), whole);
  assert.match(page.url(), /#redraw\?.*off=5/);
});

test('a photo stands in Redraw as the model sees it, beside no other picture’s result', async () => {
  await page.click('#tab-understand');
  await seen(() => page.locator('#see-samples button').nth(1).click());
  await text('redraw-status', /^PSNR/);
  assert.equal(await page.locator('#redraw-recorded').getAttribute('hidden'), null);
  const wide = { width: 128, height: 64, rgba: Array.from({ length: 128 * 64 }, (_, i) => [2 * (i % 128), 90, 40, 255]).flat() };
  await seen(async () => page.setInputFiles('#file', await file(wide)));
  await page.click('#tab-redraw');
  assert.equal(await text('redraw-status', /./), 'Not redrawn yet.');
  assert.ok(await page.locator('#redraw-recorded').isHidden());
  assert.ok((await pixels('redrawing')).every((value) => value === 0));
  assert.deepEqual(await pixels('original'), await pixels('seen'));
});

test('a question right after another sample is about that one, and its answer stays', async () => {
  await page.click('#tab-understand');
  await seen(() =>
    page.evaluate(() => {
      document.querySelectorAll('#see-samples button')[2].click();
      document.querySelector('#question-chips button').click();
    }),
  );
  await page.locator('#answers b').filter({ hasText: /^[a-z]/ }).waitFor();
  assert.equal(await page.locator('#answers li').count(), 1);
});

test('takes a dropped picture, and refuses a file that is none', async () => {
  await page.click('#tab-understand');
  const drop = async (bytes) => {
    const transfer = await page.evaluateHandle((bytes) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([new Uint8Array(bytes)], 'dropped'));
      return transfer;
    }, [...bytes]);
    await page.dispatchEvent('#understand', 'drop', { dataTransfer: transfer });
  };
  await drop(Buffer.from('no picture'));
  await text('error', /PNG, JPEG, WebP or GIF.*\(bad_input\)/);
  const golden = goldenImage(1);
  await seen(async () => drop(await png(page, golden)));
  assert.deepEqual(await pixels('seen'), golden.rgba);
});

test('a photo once given stays, whatever becomes of its file', async () => {
  const path = join(await mkdtemp(join(tmpdir(), 'reca-photo-')), 'photo.png');
  await writeFile(path, await png(page, goldenImage(0)));
  await seen(() => page.setInputFiles('#file', path));
  await writeFile(path, 'no picture any more');
  await page.fill('#question', 'what is this ?');
  await page.press('#question', 'Enter');
  await page.locator('#answers b').filter({ hasText: /^[a-z]/ }).waitFor();
  assert.ok(await page.locator('#error').isHidden());
  await rm(dirname(path), { recursive: true });
});

test('a file that is dropped elsewhere does not take the place of the page', async () => {
  await page.click('#tab-draw');
  const before = await pixels('seen');
  const prevented = await page.evaluate(() => {
    const dataTransfer = new DataTransfer();
    dataTransfer.items.add(new File(['no picture'], 'dropped'));
    const event = () => new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true });
    return [document.getElementById('draw'), document.body].map((place) => !place.dispatchEvent(event()));
  });
  assert.deepEqual(prevented, [true, true]);
  assert.deepEqual(await pixels('seen'), before);
  assert.ok(await page.locator('#error').isHidden());
});

test('aligns, redraws the probes, and offers the aligned weights', async () => {
  await page.click('#tab-align');
  await page.fill('#align-nouns', 'brocoli');
  await page.click('#align-start');
  await text('error', /no noun "brocoli"; did you mean "broccoli"/);
  for (const [id, value] of [['nouns', 'broccoli, car'], ['steps', 6], ['count', 8], ['every', 3]]) await page.fill(`#align-${id}`, String(value));
  await page.click('#align-start');
  assert.match(await text('align-status', /^Aligned|^Not aligned/), /^Aligned in/);
  assert.notDeepEqual(await pixels('probe-aligned-4'), await pixels('probe-base-4'));
  assert.ok(await page.locator('#export').isEnabled());
  assert.match(await text('chart-note', /./), /^Mean/);
  await page.locator('#share').press('Home');
  await text('share-shown', /^0 %/);
  await page.waitForFunction(() => {
    const pixels = (id) => {
      const copy = new OffscreenCanvas(64, 64).getContext('2d', { willReadFrequently: true });
      copy.drawImage(document.getElementById(id), 0, 0);
      return copy.getImageData(0, 0, 64, 64).data.join();
    };
    return pixels('probe-aligned-4') === pixels('probe-base-4');
  });
  await page.locator('#share').press('End');
  await text('share-shown', /^100 %/);
});

test('counts right pictures before and after, on the same prompts', async () => {
  await page.selectOption('#score-prompts', '4');
  const height = () => page.evaluate(() => document.getElementById('align').scrollHeight);
  const before = await height();
  await page.click('#score-start');
  await text('score-status', /^Counted\./);
  for (const weights of ['base', 'aligned']) {
    assert.match(await text(`score-${weights}-colors`, /of 4/), /^\d+\d+ to \d+, \d of 4$/);
    assert.match(await text(`score-${weights}-overall`, /to/), /^\d+ to \d+/);
  }
  assert.equal(await text('score-base-counting', /./), '–');
  assert.equal(await height(), before);
  await page.selectOption('#score-prompts', '40');
  await page.click('#score-start');
  await text('score-status-figures', /^Prompt/);
  await page.click('#score-stop');
  await text('score-status', /^Stopped/);
});

test('keeps weights by name, takes them whole, deletes them, and forgets what was aligned', async () => {
  const held = () => page.evaluate(() => !dispatchEvent(new Event('beforeunload', { cancelable: true })));
  assert.ok(await held(), 'the browser asks before the weights are lost');
  await page.locator('#share').fill('0.5');
  await page.fill('#keep-name', 'half');
  await page.click('#keep');
  await text('kept-status', 'as “half”');
  assert.ok(!(await held()));
  await page.click('#kept-take');
  await text('align-status', 'those kept as “half”');
  assert.equal(await page.locator('#share-shown').textContent(), '100 %');
  await page.focus('#kept-delete');
  await page.keyboard.press('Enter');
  await page.click('#confirm-yes');
  await text('kept-status', '“half” is deleted');
  assert.ok(await page.locator('#kept').isDisabled());
  await page.click('#reset');
  await text('align-status', /^Nothing is aligned/);
  assert.ok((await pixels('probe-aligned-4')).every((value) => value === 0));
});

test('a file that holds no weights is refused beside the button', async () => {
  await page.setInputFiles('#import', { name: 'diary.safetensors', mimeType: '', buffer: Buffer.from('Dear diary, no weights') });
  await page.locator('#weights-tools + #error').filter({ hasText: '(weights_format)' }).waitFor();
  assert.ok(await page.locator('#failure').isHidden());
  assert.ok(await page.locator('#export').isDisabled());
});

test('leaves the main thread free while it trains', async (t) => {
  for (const [id, value] of [['steps', 300], ['count', 8], ['every', 300]]) await page.fill(`#align-${id}`, String(value));
  await page.click('#align-start');
  await text('align-status-figures', /^Step/);
  await page.click('#tab-draw');
  await page.locator('#prompt').waitFor();
  await page.click('#tab-align');
  await page.locator('#align-start').waitFor();
  assert.match(await page.locator('#align-status').textContent(), /^Aligning/);
  const [longest, programs] = await page.evaluate(async () => {
    let longest = 0;
    const observer = new PerformanceObserver((list) => list.getEntries().forEach(({ duration }) => (longest = Math.max(longest, duration))));
    observer.observe({ type: 'longtask' });
    while (document.getElementById('align-status').textContent.startsWith('Aligning')) await new Promise(requestAnimationFrame);
    return [longest, performance.getEntriesByType('resource').filter(({ name }) => name.endsWith('.wasm')).length];
  });
  // A busy machine holds threads up for reasons of its own.
  t.diagnostic(longest ? `the longest task took ${longest} ms` : 'no task took 50 ms');
  assert.equal(programs, 0, 'the model’s program is the worker’s alone');
  await text('align-status', /^Aligned/);
});

test('moves between panels by keyboard, and fits 320 pixels', async () => {
  await page.focus('#tab-align');
  await page.keyboard.press('ArrowRight');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'tab-understand');
  await page.setViewportSize({ width: 320, height: 700 });
  for (const panel of ['understand', 'redraw', 'draw', 'align']) {
    await page.click(`#tab-${panel}`);
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), panel);
    await mkdir(SHOTS, { recursive: true });
    await page.screenshot({ path: `${SHOTS}/${panel}-320.png`, fullPage: true });
  }
});

test('works offline after the first visit, at the same address, and gives two things places', async (t) => {
  // A browser of its own, where no page before has installed anything.
  const first = await launch();
  t.after(() => first.close());
  const { page: other, said } = await open(first.context, `${server.origin}/lab/?model=mini#draw?count=1&steps=2&prompt=a+red+dog+and+a+blue+fish`);
  const there = other.locator('#backend').filter({ hasText: /^CPU/ });
  await there.waitFor({ timeout: 120_000 });
  // The page does not wait until its last file is kept.
  await other.waitForFunction(async () => {
    const keys = await (await caches.open('reca /lab/')).keys();
    return ['.wasm', 'model.safetensors'].every((name) => keys.some(({ url }) => url.includes(name)));
  });
  await first.context.setOffline(true);
  await other.reload();
  await there.waitFor({ timeout: 60_000 });
  await other.click('#tab-understand');
  await other.waitForFunction(() => {
    const pictures = [...document.querySelectorAll('#see-samples img')];
    return pictures.length > 0 && pictures.every(({ complete, naturalWidth }) => complete && naturalWidth > 0);
  });
  await other.fill('#question', 'what colour is the dog ?');
  await other.press('#question', 'Enter');
  await other.locator('#answers b').filter({ hasText: /^[a-z]/ }).waitFor();
  await other.click('#tab-draw');
  const drawn = async () => {
    await other.click('#draw-start');
    await other.locator('#draw-stop:disabled').waitFor({ timeout: 60_000 });
    assert.match(await other.locator('#draw-status').textContent(), /^Drawn/);
    return other.evaluate(() => document.getElementById('drawing-0').toDataURL());
  };
  const planned = await drawn();
  await other.selectOption('#layout', 'written');
  assert.notEqual(await drawn(), planned);
  assert.ok(await other.locator('#failure').isHidden());
  assert.deepEqual(said, []);
});

test('an address that names aligned weights draws by the base where there are none', async () => {
  const other = await browser.context.newPage();
  await other.goto(`${server.origin}/lab/?model=nano#draw?count=1&steps=2&prompt=a+dog&weights=aligned`);
  await other.locator('#backend').filter({ hasText: /^CPU/ }).waitFor({ timeout: 60_000 });
  await other.click('#draw-start');
  await other.locator('#draw-status').filter({ hasText: /^Drawn/ }).waitFor({ timeout: 60_000 });
  assert.equal(await other.inputValue('#weights'), 'base');
  assert.ok(!other.url().includes('weights='));
  await other.close();
});

test('an address with switches and a picture that are not there is mended', async () => {
  const other = await browser.context.newPage();
  await other.goto(`${server.origin}/lab/?model=nano#redraw?off=99,5,x&with=-3`);
  await other.waitForURL(/#redraw\?off=5/);
  assert.equal(await other.locator('#switches [aria-pressed=false]').count(), 1);
  await other.evaluate(() => (location.hash = '#redraw?off=1,2'));
  await other.waitForFunction(() => document.querySelectorAll('#switches [aria-pressed=false]').length === 2);
  // What changes in the page before the browser tells of another address does not undo it.
  await other.evaluate(() => {
    location.hash = '#redraw?off=1,2,3';
    document.getElementById('redraw-seed').dispatchEvent(new Event('change'));
  });
  await other.waitForFunction(() => document.querySelectorAll('#switches [aria-pressed=false]').length === 3);
  assert.ok(await other.locator('#failure').isHidden());
  await other.close();
});

test('another model is a choice away, at the same panel', async () => {
  assert.equal(await page.inputValue('#model'), 'nano');
  const other = await browser.context.newPage();
  await other.goto(`${server.origin}/lab/?model=mini#draw?count=1&steps=2&prompt=three+apples`);
  const there = other.locator('#backend').filter({ hasText: /^CPU/ });
  await there.waitFor({ timeout: 60_000 });
  await other.click('#draw-start');
  await other.locator('#error').filter({ hasText: 'apples' }).waitFor({ timeout: 60_000 });
  await other.selectOption('#model', 'tiny');
  await other.waitForURL(/model=tiny#draw/);
  await there.waitFor({ timeout: 60_000 });
  assert.equal(await other.textContent('#draw-recorded'), 'recorded with mini');
  await other.click('#draw-start');
  await other.locator('#draw-status').filter({ hasText: /^Drawn/ }).waitFor({ timeout: 60_000 });
  await other.click('#tab-align');
  await other.click('#shipped');
  await other.locator('#align-status').filter({ hasText: /^Aligned beforehand/ }).waitFor({ timeout: 60_000 });
  await other.click('#tab-draw');
  await other.selectOption('#weights', 'aligned');
  await other.click('#draw-start');
  await other.locator('#draw-status').filter({ hasText: /^Drawn/ }).waitFor({ timeout: 60_000 });
  await other.close();
});

test('weights that a model does not come with are missed by name', async () => {
  await page.click('#tab-align');
  await page.click('#shipped');
  await page.click('#confirm-yes');
  await page.locator('#error').filter({ hasText: 'models/nano/ has no aligned weights' }).waitFor({ timeout: 60_000 });
});

test('says nothing on the console and asks no other origin', () => {
  assert.deepEqual(said, []);
  const foreign = requests.filter((url) => !url.startsWith(`${server.origin}/lab/`) && !url.startsWith('blob:'));
  assert.deepEqual(foreign, []);
  assert.ok(requests.some((url) => url.endsWith('.wasm')), 'the worker’s requests are seen');
});

test('without recorded results it looks and draws', async (t) => {
  const bare = await serve(new Map([['/lab/recorded/recorded.json', Buffer.from('<!doctype html>')]]));
  t.after(() => bare.close());
  const other = await browser.context.newPage();
  await other.goto(`${bare.origin}/lab/?model=nano#draw?count=1&steps=2&prompt=a+dog`);
  await other.locator('#drawing-0').waitFor();
  await other.click('#draw-start');
  await other.locator('#draw-status').filter({ hasText: /^Drawn/ }).waitFor({ timeout: 60_000 });
  await other.click('#tab-understand');
  await other.setInputFiles('#file', await file(goldenImage(0)));
  await other.locator('#caption').filter({ hasText: /^[a-z]/ }).waitFor({ timeout: 60_000 });
  assert.ok(await other.locator('#error').isHidden());
  await other.close();
});

function psnr(a, b) {
  const errors = a.filter((_, i) => i % 4 < 3).map((value, i) => value - b[Math.floor(i / 3) * 4 + (i % 3)]);
  const mean = errors.reduce((sum, e) => sum + e * e, 0) / errors.length;
  return 10 * Math.log10((255 * 255) / mean);
}
