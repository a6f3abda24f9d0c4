/** Loading an encoder on the page: from files, and, asked first, from another site. */
import assert from 'node:assert/strict';
import { mkdir, readFile } from 'node:fs/promises';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';

import { launch, open } from './browser.mjs';
import { serve } from './server.mjs';

const SHOTS = fileURLToPath(new URL('../../target/test/screenshots', import.meta.url));
const FILES = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json', 'model.safetensors'];

const folder = (checkpoint) => fileURLToPath(new URL(`../goldens/encoders/${checkpoint}/`, import.meta.url));
const files = (checkpoint) => FILES.map((name) => folder(checkpoint) + name);

let server, other, browser, page, said, requests;

before(async () => {
  server = await serve();
  other = await serve(new Map(), { headers: { 'access-control-allow-origin': '*' } });
  browser = await launch();
  ({ page, said, requests } = await open(browser.context, `${server.origin}/lab/?model=nano&backend=cpu`));
  await text('backend', /^CPU/);
  await page.locator('#caption-recorded').waitFor({ state: 'hidden', timeout: 60_000 });
});

after(async () => {
  await browser?.close();
  server?.close();
  other?.close();
});

/** An element's text, once it matches. */
async function text(id, pattern) {
  const found = page.locator(`#${id}`).filter({ hasText: pattern });
  await found.waitFor({ state: 'attached', timeout: 120_000 });
  return found.textContent();
}

/** The file dialog that a key opens; a busy Chromium drops a key now and then. */
async function chosen(key, tries = 3) {
  const dialog = page.waitForEvent('filechooser', { timeout: 10_000 }).catch(() => null);
  await page.keyboard.press(key);
  return (await dialog) ?? (tries > 1 ? chosen(key, tries - 1) : assert.fail(`${key} opens no dialog`));
}

const foreign = () => requests.filter((url) => !url.startsWith(`${server.origin}/lab/`) && !url.startsWith('blob:'));

/** The bars' labels and percentages. */
const bars = () => page.locator('#label-bars li').evaluateAll((rows) => rows.map((row) => [row.children[0].textContent, parseFloat(row.children[1].textContent)]));

test('loads files by keyboard alone, scores labels and maps patches', async () => {
  await page.focus('#encoder > summary');
  await page.keyboard.press('Enter');
  await page.keyboard.press('Tab');
  assert.equal(await page.evaluate(() => document.activeElement.id), 'encoder-files');
  await (await chosen('Enter')).setFiles(files('clip'));
  assert.match(await text('encoder-status', /loaded/), /^CLIP is loaded: 0\.1 million parameters, pictures of 32², patches of 8², on the CPU\.$/);
  await page.locator('#label-bars li').nth(2).waitFor();
  const scores = await bars();
  assert.deepEqual(scores.map(([label]) => label).sort(), ['a broccoli', 'a car', 'a dog']);
  assert.ok(Math.abs(scores.reduce((sum, [, percent]) => sum + percent, 0) - 100) < 0.2, JSON.stringify(scores));
  assert.ok(scores[0][1] >= scores[1][1] && scores[1][1] >= scores[2][1]);
  const whole = await text('map-note', /^Cosines/);
  assert.match(await page.locator('#encoder-map').getAttribute('aria-label'), /^patches like the whole picture: most at row \d, column \d of 4 × 4$/);
  await page.focus('#map-of');
  await page.keyboard.press('ArrowDown');
  await page.waitForFunction((whole) => document.getElementById('map-note').textContent !== whole, whole);
  assert.match(await page.locator('#encoder-map').getAttribute('aria-label'), /^patches like “a dog”/);
});

test('another picture and other labels are asked about anew', async () => {
  const before = await bars();
  await page.focus('#labels');
  await page.keyboard.press('ControlOrMeta+a');
  await page.keyboard.type('a fox, the quick brown dog');
  await page.keyboard.press('Enter');
  await page.locator('#label-bars li', { hasText: 'fox' }).waitFor();
  const first = await bars();
  assert.notDeepEqual(first, before);
  const cosines = await text('map-note', /^Cosines/);
  await page.locator('#see-samples button').nth(2).click();
  await page.waitForFunction((cosines) => {
    const { textContent } = document.getElementById('map-note');
    return textContent.startsWith('Cosines') && textContent !== cosines;
  }, cosines);
  assert.equal((await bars()).length, 2);
});

test('an empty label is refused beside the field, and the encoder stays', async () => {
  await page.fill('#labels', 'a dog, , a car');
  await page.press('#labels', 'Enter');
  assert.match(await text('encoder-error', /./), /a label is empty.*\(bad_input\)/);
  await page.fill('#labels', 'a dog, a car');
  await page.press('#labels', 'Enter');
  await page.locator('#label-bars li', { hasText: 'a car' }).waitFor();
  assert.ok(await page.locator('#encoder-error').isHidden());
});

test('NaN weights and a wrong model are named, and the laboratory goes on', async () => {
  const nan = await readFile(`${folder('clip')}model.safetensors`);
  nan.writeFloatLE(Number.NaN, nan.length - 4);
  const buffers = await Promise.all(FILES.map(async (name) => ({ name, mimeType: '', buffer: name.endsWith('safetensors') ? nan : await readFile(folder('clip') + name) })));
  await page.setInputFiles('#encoder-files', buffers);
  assert.match(await text('encoder-error', /weights_format/), /NaN|finite/);
  assert.equal(await text('encoder-status', /./), 'No encoder is loaded.');
  const bert = { name: 'config.json', mimeType: '', buffer: Buffer.from('{"model_type": "bert"}') };
  await page.setInputFiles('#encoder-files', [bert, ...buffers.slice(1)]);
  await text('encoder-error', /"bert", expected clip/);
  assert.ok(await page.locator('#failure').isHidden());
  assert.ok(await page.locator('#encoder-use').isHidden());
  await page.fill('#question', 'what is this ?');
  await page.press('#question', 'Enter');
  await page.locator('#answers b').filter({ hasText: /^[a-z]/ }).first().waitFor();
});

test('asks before it contacts another site, and then contacts that one alone', async () => {
  await page.fill('#encoder-url', `${other.origin}/encoders/siglip`);
  await page.press('#encoder-url', 'Enter');
  await page.locator('#encoder-ask').waitFor();
  assert.equal(await text('encoder-host', /./), new URL(other.origin).host);
  await page.keyboard.press('Escape');
  await page.waitForTimeout(300);
  assert.deepEqual(foreign(), []);
  await page.press('#encoder-url', 'Enter');
  await page.focus('#encoder-fetch');
  await page.keyboard.press('Enter');
  assert.match(await text('encoder-status', /loaded/), /^SigLIP is loaded/);
  await text('label-note', /by itself/);
  const asked = foreign();
  assert.ok(asked.length >= 5);
  assert.deepEqual(asked.filter((url) => !url.startsWith(`${other.origin}/encoders/siglip/`)), []);
});

test('fits 320 pixels, light and dark', async () => {
  await mkdir(SHOTS, { recursive: true });
  for (const [width, colorScheme] of [[320, 'light'], [1280, 'dark'], [1280, 'light']]) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    assert.ok(await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth), `${width}`);
    await page.screenshot({ path: `${SHOTS}/encoder-${width}-${colorScheme}.png`, fullPage: true });
  }
});

test('says nothing on the console', () => assert.deepEqual(said, []));
