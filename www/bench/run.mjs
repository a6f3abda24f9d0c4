/** Times reca beside onnxruntime-web and tfjs in headless Chromium, and counts what WebGPU is asked for.
 *
 * node run.mjs [--rounds N] [--json FILE] [cpu] [webgpu]
 */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { parseArgs } from 'node:util';

import { QUIET, SWIFTSHADER } from '../../tests/e2e/browser.mjs';
import { serve } from '../../tests/e2e/server.mjs';

const { chromium } = createRequire(new URL('../package.json', import.meta.url))('playwright-core');

/** Wall time that a turn takes at least, so that the processor time's ticks of 10 ms are small beside it. */
const TURN_MS = 1000;

const { values: options, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '9' }, json: { type: 'string' } },
  allowPositionals: true,
});
const parts = positionals.length ? positionals : ['cpu', 'webgpu'];
const server = await serve();
const report = {};
if (parts.includes('cpu')) report.cpu = await inBrowser([], '/bench/', times);
if (parts.includes('webgpu')) {
  if (existsSync(new URL('../../pkg/dist/webgpu/reca_bg.wasm', import.meta.url))) report.webgpu = await inBrowser(SWIFTSHADER, '/blank/', counts);
  else console.log('\npkg/dist/webgpu is not built: nothing to count');
}
server.close();
if (options.json) await writeFile(options.json, `${JSON.stringify(report, null, 1)}\n`);

async function inBrowser(flags, path, work) {
  const executablePath = process.env.CHROMIUM ?? '/usr/bin/chromium';
  const browser = await chromium.launch({ executablePath, args: [...QUIET, ...flags] });
  try {
    const page = await browser.newPage();
    page.on('console', (message) => console.error(message.text()));
    page.on('pageerror', (error) => console.error(error.message));
    page.setDefaultTimeout(0);
    await page.goto(server.origin + path);
    return { browser: browser.version(), ...(await work(page, await browser.newBrowserCDPSession())) };
  } finally {
    await browser.close();
  }
}

/** Rounds over all rows, engines in turn, so that what else the machine does meets all alike. */
async function times(page, session) {
  const { differences, losses } = await page.evaluate(() => bench.open());
  print('largest difference between engines, of the largest value', Object.entries(differences).map(([of, d]) => [of, d.toExponential(1)]));
  const rows = await page.evaluate(() => bench.rows());
  const found = new Map(rows.map(([row, engines]) => [row, new Map(engines.map((engine) => [engine, { wall: [], cpu: [] }]))]));
  const turn = async (row, engine, count) => {
    const before = await processorSeconds(session);
    const wall = await page.evaluate(([row, engine, count]) => bench.time(row, engine, count), [row, engine, count]);
    return { wall, cpu: (1e3 * ((await processorSeconds(session)) - before)) / count };
  };
  const counts = new Map();
  for (const [row, engines] of rows) {
    for (const engine of engines) {
      await turn(row, engine, 3);
      const { wall } = await turn(row, engine, 2);
      counts.set(row + engine, Math.ceil(TURN_MS / Math.min(...wall)));
    }
  }
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const [row, engines] of rows) {
      for (const engine of round % 2 ? [...engines].reverse() : engines) {
        const { wall, cpu } = await turn(row, engine, counts.get(row + engine));
        const kept = found.get(row).get(engine);
        kept.wall.push(...wall);
        kept.cpu.push(cpu);
      }
    }
  }
  const summary = Object.fromEntries(
    [...found].map(([row, engines]) => {
      const of = ({ wall, cpu }) => ({ best: Math.min(...wall), median: median(wall), processor: median(cpu), runs: wall.length });
      return [row, Object.fromEntries([...engines].map(([engine, kept]) => [engine, of(kept)]))];
    }),
  );
  const line = ([row, engines]) =>
    Object.entries(engines).map(([engine, { best, median, processor }]) => [
      row,
      engine,
      ...[best, median, processor].map((ms) => ms.toFixed(1)),
      engine === 'reca' ? '' : (processor / engines.reca.processor).toFixed(2),
    ]);
  print('milliseconds, one thread', [['', 'engine', 'best', 'median', 'processor', 'times ours'], ...Object.entries(summary).flatMap(line)]);
  return { differences, losses, rows: summary };
}

/** Processor time of all renderers so far, which other programs on the machine do not lengthen. */
async function processorSeconds(session) {
  const { processInfo } = await session.send('SystemInfo.getProcessInfo');
  return processInfo.filter(({ type }) => type === 'renderer').reduce((sum, { cpuTime }) => sum + cpuTime, 0);
}

async function counts(page) {
  await page.addScriptTag({ url: '/bench/webgpu.js', type: 'module' });
  await page.waitForFunction(() => globalThis.count);
  const found = await page.evaluate(() => count('/lab/models/nano/'));
  const names = ['dispatches', 'submissions', 'buffers', 'writes', 'read-backs', 'midway', 'pipelines'];
  const lines = Object.entries(found).map(([of, steps]) => [of, ...names.map((name) => range(steps.map((step) => step[name] ?? 0)))]);
  print('WebGPU, nano, a step after the first (midway: read-backs before the last dispatch)', [['', ...names], ...lines]);
  return { steps: found };
}

function range(values) {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return least === most ? `${least}` : `${least}–${most}`;
}

function median(values) {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
}

function print(title, rows) {
  const widths = rows[0].map((_, i) => Math.max(...rows.map((row) => `${row[i]}`.length)));
  console.log(`\n${title}`);
  for (const row of rows) console.log(`  ${row.map((cell, i) => (i ? `${cell}`.padStart(widths[i]) : `${cell}`.padEnd(widths[i]))).join('  ')}`);
}
