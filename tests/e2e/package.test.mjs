/** The npm package works for those who install it: bundled by Vite, and as plain modules from a static server. */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';
import { serve } from './server.mjs';

const PACKAGE = fileURLToPath(new URL('../../pkg', import.meta.url));

/** A page's program: draws once and says what came of it. */
const program = (from) => `
import { RecaError, Runtime } from '${from}';
const runtime = await Runtime.create({ backend: 'cpu' });
await runtime.load('/lab/models/nano/');
for await (const { kind, pictures } of runtime.generate('a red car', { seed: 1, steps: 2 })) {
  if (kind === 'image') globalThis.picture = pictures[0];
}
globalThis.code = await runtime.load('/nowhere/').catch((error) => error instanceof RecaError && error.code);
runtime.dispose();
globalThis.ready = true;
`;

let folder, server, browser;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'reca-package-'));
  const installed = join(folder, 'project/node_modules/@reca/web');
  await mkdir(installed, { recursive: true });
  execFileSync('npm', ['pack', '--silent', '--pack-destination', folder], { cwd: PACKAGE });
  execFileSync('sh', ['-c', `tar xzf "${folder}"/*.tgz -C "${installed}" --strip-components 1`]);
  const more = {
    '/plain/web/': installed,
    '/plain/': join(folder, 'plain'),
    '/bundled/': join(folder, 'project/dist'),
  };
  server = await serve(new Map(), { more });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  server?.close();
  await rm(folder, { recursive: true, force: true });
});

const page = (script) => `<!doctype html><link rel="icon" href="data:,"><script type="module" ${script}</script>`;

test('holds each build once', async () => {
  const files = await readdir(join(folder, 'project/node_modules/@reca/web/dist'), { recursive: true });
  const builds = files.filter((file) => file.endsWith('.wasm'));
  const elsewhere = builds.filter((file) => !/^(cpu|encoders|webgpu|webgpu-encoders)\/reca_bg\.wasm$/.test(file));
  assert.ok(builds.includes('cpu/reca_bg.wasm'));
  assert.deepEqual(elsewhere, []);
});

async function works(path) {
  const { page, said } = await open(browser.context, server.origin + path);
  await page.waitForFunction(() => globalThis.ready);
  assert.deepEqual(await page.evaluate(() => [picture.width, picture.height, code]), [64, 64, 'network']);
  assert.deepEqual(said.filter((line) => !/404/.test(line)), []);
  await page.close();
}

test('as modules of a static server', async () => {
  await mkdir(join(folder, 'plain'));
  await writeFile(join(folder, 'plain/index.html'), page(`>${program('./web/dist/runtime.js')}`));
  await works('/plain/');
});

test('in a project that Vite bundles', async () => {
  const project = join(folder, 'project');
  await writeFile(join(project, 'package.json'), '{ "type": "module" }');
  await writeFile(join(project, 'index.html'), page('src="./main.js">'));
  await writeFile(join(project, 'main.js'), program('@reca/web'));
  const vite = createRequire(new URL('../../www/package.json', import.meta.url)).resolve('vite');
  const { build } = await import(pathToFileURL(vite));
  await build({ root: project, base: './', configFile: false, logLevel: 'error', worker: { format: 'es' }, build: { target: 'es2023' } });
  await works('/bundled/');
});
