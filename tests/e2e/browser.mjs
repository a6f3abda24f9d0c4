/** Headless Chromium, and pages that remember what they said and fetched. */
import { mkdtemp, rm } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const { chromium } = createRequire(new URL('../../www/package.json', import.meta.url))('playwright-core');

export const QUIET = [
  '--no-sandbox',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
];

/** A software WebGPU adapter, for machines without a GPU. */
export const SWIFTSHADER = ['--enable-unsafe-webgpu', '--use-webgpu-adapter=swiftshader'];

/** Starts a browser with a profile of its own; `CHROMIUM` names another executable. */
export async function launch(flags = []) {
  const profile = await mkdtemp(join(tmpdir(), 'reca-e2e-'));
  const context = await chromium.launchPersistentContext(profile, {
    executablePath: process.env.CHROMIUM ?? '/usr/bin/chromium',
    headless: true,
    args: [...QUIET, ...flags],
    viewport: { width: 1280, height: 900 },
  });
  // A loaded machine takes its time.
  context.setDefaultTimeout(120_000);
  return {
    context,
    async close() {
      await context.close();
      await rm(profile, { recursive: true, force: true });
    },
  };
}

/** A page with everything it prints and every request that it and its workers make. */
export async function open(context, url) {
  const page = await context.newPage();
  const said = [];
  const requests = [];
  page.on('console', (message) => said.push(`${message.type()}: ${message.text()}`));
  page.on('pageerror', (error) => said.push(`uncaught: ${error.message}`));
  context.on('request', (request) => requests.push(request.url()));
  await page.goto(url);
  return { page, said, requests };
}
