/** What the page promises of alignments: own pictures may be of any kind, and nothing learned is lost unasked. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';
import { goldenImage } from './goldens.mjs';
import { png } from './images.mjs';
import { serve } from './server.mjs';

const WEIGHTS = '/lab/models/nano/model.safetensors';

let server, browser, page, said;
const overrides = new Map();
const address = () => `${server.origin}/lab/?model=nano&backend=cpu#align`;

before(async () => {
  server = await serve(overrides);
  browser = await launch();
  ({ page, said } = await open(browser.context, address()));
  await text('backend', /^CPU/);
});

after(async () => {
  await browser?.close();
  server?.close();
});

/** An element's text, once it matches. */
async function text(id, pattern, of = page) {
  const found = of.locator(`#${id}`).filter({ hasText: pattern });
  await found.waitFor({ state: 'attached', timeout: 120_000 });
  return found.textContent();
}

async function set(settings) {
  for (const [id, value] of Object.entries(settings)) await page.fill(`#align-${id}`, String(value));
}

/** Waits for a question that is asked first, and answers it. */
async function asked(answer) {
  await page.locator('#confirm').waitFor();
  if (answer === 'yes') await page.click('#confirm-yes');
  else await page.click('#confirm-no');
  await page.locator('#confirm').waitFor({ state: 'hidden' });
}

const there = () => page.locator('#export').isEnabled();

async function pictures() {
  const files = await Promise.all([0, 1, 2].map((index) => png(page, goldenImage(index))));
  return files.map((buffer, index) => ({ name: `${index}.png`, mimeType: 'image/png', buffer }));
}

/** The steps that the page counts from now on. */
const counted = () =>
  page.evaluateHandle(() => {
    const figures = document.getElementById('align-status-figures');
    const steps = [];
    new MutationObserver(() => steps.push(...(figures.textContent.match(/(?<=^Step )\d+/) ?? []))).observe(figures, { childList: true });
    return steps;
  });

/** A picture that is cut off. */
const damaged = ({ buffer }) => ({ name: 'holiday.png', mimeType: 'image/png', buffer: buffer.subarray(0, 60) });

test('own pictures are learned from, and a damaged one among them is left out by name', async () => {
  const [first, ...others] = await pictures();
  await set({ steps: 4, every: '' });
  await page.setInputFiles('#align-own', [first, damaged(first), ...others]);
  assert.ok(await page.locator('#align-start').isEnabled(), 'a form that is not filled in begins nothing');
  await set({ every: 4 });
  await page.setInputFiles('#align-own', [first, damaged(first), ...others]);
  assert.match(await text('align-status', /^Aligned|^Not aligned/), /^Aligned in .* Files left out: 1, the first holiday\.png: the image is damaged/);
  assert.equal(await page.locator('#thumbnails canvas').count(), 3);
  assert.ok(await there());
});

test('asks before weights that are nowhere else are replaced', async () => {
  for (const id of ['align-start', 'reset', 'shipped']) {
    await page.click(`#${id}`);
    await asked('no');
  }
  await page.click('#reset');
  await page.locator('#confirm').waitFor();
  await page.locator('#confirm').press('Escape');
  await page.locator('#confirm').waitFor({ state: 'hidden' });
  await page.setInputFiles('#import', { name: 'other.safetensors', mimeType: '', buffer: Buffer.from('no weights') });
  await asked('no');
  assert.ok(await page.locator('#error').isHidden());
  assert.ok(await there());
  await page.fill('#keep-name', 'für später');
  await page.click('#keep');
  await text('kept-status', 'as “für später”');
  await page.click('#keep');
  await text('confirm-what', /“für später”/);
  await asked('no');
  // Two questions at once come one after the other.
  await page.evaluate(() => ['keep', 'kept-delete'].forEach((id) => document.getElementById(id).click()));
  await text('confirm-title', /^Delete/);
  await page.click('#confirm-no');
  await text('confirm-title', /^Replace/);
  await asked('no');
  assert.ok(await there());
});

test('with fewer than two pictures nothing is begun, and what was learned stays', async () => {
  const [first] = await pictures();
  await page.setInputFiles('#align-own', [first, damaged(first)]);
  await text('error', /2 pictures are needed, and of 2 files 1 can be read; holiday\.png: /);
  assert.ok(await there());
  await page.click('#reset');
  await text('align-status', /^Nothing is aligned/);
  assert.ok(await page.locator('#confirm').isHidden());
});

test('a stopped alignment goes on where it was, and a typo does not end it', async () => {
  await set({ nouns: 'car, dog', count: 8, steps: 5000, every: 5000 });
  await page.click('#align-start');
  await text('align-status-figures', /^Step [1-9]\d+ of/);
  await page.click('#align-stop');
  await text('resume-text', 'An alignment of 5000 steps');
  await page.locator('#resume-offer').waitFor();
  assert.equal(await page.evaluate(() => document.activeElement.id), 'align-start');
  await set({ nouns: 'brocoli' });
  await page.click('#align-start');
  await asked('yes');
  await text('error', /no noun "brocoli"/);
  await page.locator('#resume-offer').waitFor();
  const steps = await counted();
  await page.click('#resume');
  await text('align-status-figures', /^Step/);
  const [first] = await steps.jsonValue();
  assert.ok(Number(first) > 10, first);
  await page.click('#align-stop');
  await page.locator('#resume-offer').waitFor();
  await page.click('#resume-forget');
  await page.locator('#resume-offer').waitFor({ state: 'hidden' });
});

test('so does one of own pictures, while the page is open', async () => {
  await page.click('#reset');
  await asked('yes');
  await set({ steps: 40, every: 40 });
  await page.evaluate(() => {
    const figures = document.getElementById('align-status-figures');
    const watch = new MutationObserver(() => {
      if (!/^Step [12]\d of/.test(figures.textContent)) return;
      watch.disconnect();
      document.getElementById('align-stop').click();
    });
    watch.observe(figures, { childList: true });
  });
  await page.setInputFiles('#align-own', await pictures());
  await text('resume-text', 'An alignment of 40 steps');
  const steps = await counted();
  await page.click('#resume');
  await text('align-status', /^Aligned in/);
  const [first] = await steps.jsonValue();
  assert.ok(Number(first) > 10, first);
  assert.equal(await page.locator('#thumbnails canvas').count(), 3);
  await page.click('#reset');
  await asked('yes');
});

test('an alignment that was finished, and not shown yet, is there on the next visit', async () => {
  await set({ nouns: 'car, dog', steps: 20, every: 20 });
  await page.evaluate(() => {
    const figures = document.getElementById('align-status-figures');
    new MutationObserver(() => {
      if (figures.textContent.startsWith('Step 20 of 20')) document.getElementById('align-stop').click();
    }).observe(figures, { childList: true });
  });
  await page.click('#align-start');
  await text('align-status', /^Stopped/);
  await text('resume-text', 'An alignment of 20 steps');
  assert.deepEqual(said, []);
  await page.close();
  ({ page, said } = await open(browser.context, address()));
  // Whoever does not wait until it is offered is asked, too.
  await page.click('#align-start');
  await asked('no');
  await page.locator('#resume-offer').waitFor();
  assert.ok(!(await there()));
  await page.click('#resume');
  await text('align-status', /^Aligned in/);
  assert.ok(await there());
  assert.equal(await page.locator('#probe-aligned-4').getAttribute('aria-label'), 'a red car, aligned');
  assert.ok(await page.locator('#resume-offer').isHidden());
});

test('a worker that breaks down while the probes are drawn ends no alignment', async () => {
  const other = await browser.context.newPage();
  await other.addInitScript(() => {
    const Plain = Worker;
    globalThis.workers = [];
    globalThis.Worker = class extends Plain {
      constructor(...of) {
        super(...of);
        workers.push(this);
      }
    };
  });
  await other.goto(address());
  await text('backend', /^CPU/, other);
  for (const [id, value] of Object.entries({ nouns: 'car, dog', count: 8, steps: 40, every: 20 })) await other.fill(`#align-${id}`, String(value));
  await other.evaluate(() => {
    const figures = document.getElementById('align-status-figures');
    new MutationObserver(() => {
      if (workers.length > 1 || !figures.textContent.startsWith('Step 20 of 40')) return;
      workers[0].terminate();
      workers[0].dispatchEvent(new ErrorEvent('error', { message: 'killed' }));
    }).observe(figures, { childList: true });
  });
  await other.click('#align-start');
  await text('align-status', /^Aligned in/, other);
  assert.equal(await other.evaluate(() => workers.length), 2);
  assert.ok(await other.locator('#failure').isHidden());
  await other.close();
});

test('while the model is on its way a photo waits for it, and all else can be stopped', async () => {
  const whole = readFileSync(new URL('../goldens/nano/model.safetensors', import.meta.url));
  overrides.set(WEIGHTS, { bytes: whole.subarray(0, 1000), size: whole.length });
  const other = await browser.context.newPage();
  await other.goto(address());
  await other.locator('#align-recorded').waitFor();
  await other.click('#align-start');
  await text('align-status', /still on its way/, other);
  await other.click('#align-stop');
  await text('align-status', /^Stopped/, other);
  await other.click('#tab-draw');
  await other.locator('#draw-recorded').waitFor();
  await other.click('#draw-start');
  await text('draw-status', /still on its way/, other);
  await other.click('#draw-stop');
  await text('draw-status', 'Stopped.', other);
  await other.click('#tab-understand');
  const [first] = await pictures();
  await other.setInputFiles('#file', first);
  await text('seen-note', /still on its way/, other);
  await other.close();
  overrides.clear();
});

test('without its model the page asks for a reload, whatever is pressed', async () => {
  const other = await browser.context.newPage();
  await other.goto(`${server.origin}/lab/?model=none&backend=cpu#draw`);
  await other.locator('#failure').waitFor({ timeout: 60_000 });
  await other.click('#failure-close');
  await other.click('#draw-start');
  await text('error', /check the connection and reload the page \(network\)/, other);
  await other.close();
});

test('says nothing on the console', () => assert.deepEqual(said, []));
