/** Records what the page shows before the model is there, on the page itself: `node tests/e2e/record.mjs`
 * after a build. Run it anew when the model changes. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';

import { launch, open } from './browser.mjs';
import { serve } from './server.mjs';

const FOLDER = new URL('../../www/public/recorded/', import.meta.url);
const recorded = JSON.parse(await readFile(new URL('recorded.json', FOLDER), 'utf8'));
const steps = Number(process.argv[2] ?? 100);

const server = await serve();
const browser = await launch();
const { page } = await open(browser.context, `${server.origin}/lab/#draw?count=4`);
await mkdir(FOLDER, { recursive: true });

/** Stores a canvas as a PNG file. */
async function keep(id, name) {
  const bytes = await page.evaluate(async (id) => {
    const canvas = document.getElementById(id);
    const blob = await new Promise((resolve) => canvas.toBlob(resolve));
    return [...new Uint8Array(await blob.arrayBuffer())];
  }, id);
  await writeFile(new URL(name, FOLDER), Buffer.from(bytes));
  return name;
}

const said = (id, pattern) => page.locator(`#${id}`).filter({ hasText: pattern }).waitFor({ state: 'attached', timeout: 1_200_000 });

await said('backend', /^CPU|^WebGPU/);
await page.fill('#prompt', recorded.draw.prompt);
await page.click('#draw-start');
await said('draw-status', /^Drawn/);
recorded.draw.files = [];
for (const index of [0, 1, 2, 3]) recorded.draw.files.push(await keep(`drawing-${index}`, `draw-${index}.png`));

for (const [index, sample] of recorded.samples.entries()) {
  await page.click('#tab-understand');
  await page.evaluate(() => document.getElementById('see-tokens').replaceChildren());
  await page.locator('#see-samples button').nth(index).click();
  await page.waitForFunction(() => document.getElementById('see-tokens').childElementCount > 0);
  sample.caption = await page.locator('#caption').textContent();
  sample.colours = await page.evaluate(() => [...document.querySelectorAll('#see-tokens span')].map((square) => square.style.background.match(/\d+/g).map(Number)));
  await page.click('#tab-redraw');
  await page.click('#redraw-start');
  await said('redraw-status', /^Redrawn, PSNR/);
  sample.psnr = Number(/([\d.]+) dB/.exec(await page.locator('#redraw-status').textContent())[1]);
  sample.redrawn = await keep('redrawing', `redrawn-${index}.png`);
}

if (steps > 0) {
  await page.click('#tab-align');
  await page.fill('#align-steps', String(steps));
  const begun = Date.now();
  await page.click('#align-start');
  await said('align-status', /^Aligned/);
  const probes = await page.evaluate(() => [...document.querySelectorAll('.probe b')].map((title) => title.textContent));
  recorded.align = {
    steps,
    pictures: Number(await page.inputValue('#align-count')),
    nouns: await page.inputValue('#align-nouns'),
    seconds: Math.round((Date.now() - begun) / 1000),
    losses: await page.evaluate(() => JSON.parse(document.getElementById('chart-note').dataset.losses)),
    probes: [],
  };
  for (const [index, prompt] of probes.entries()) {
    const [base, aligned] = [await keep(`probe-base-${index}`, `probe-base-${index}.png`), await keep(`probe-aligned-${index}`, `probe-aligned-${index}.png`)];
    recorded.align.probes.push({ prompt, base, aligned });
  }
}
await writeFile(new URL('recorded.json', FOLDER), JSON.stringify(recorded));
console.log(await page.locator('#align-status').textContent(), recorded.samples.map(({ caption, psnr }) => [caption, psnr]));
await browser.close();
server.close();
