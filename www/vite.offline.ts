/** Writes the service worker with the hash of every file of the page. */
import { createHash } from 'node:crypto';
import { readFile, readdir, writeFile } from 'node:fs/promises';
import type { Plugin } from 'vite';

const TEMPLATE = 'src/service-worker.js';
/** Fetched and kept when they are first asked for, not before: large, or not wanted by all. */
const LATER = /^models\/|\.wasm$|\.gzip$/;

export function offline(): Plugin {
  return {
    name: 'offline',
    apply: 'build',
    enforce: 'post',
    closeBundle: {
      // After the models are there.
      order: 'post',
      sequential: true,
      async handler() {
        const names = (await readdir('dist', { recursive: true, withFileTypes: true }))
          .filter((entry) => entry.isFile() && entry.name !== 'service-worker.js')
          .map((entry) => `${entry.parentPath}/${entry.name}`.replace(/^dist\//, ''))
          .sort();
        const files: Record<string, string> = {};
        for (const name of names) files[name] = createHash('sha256').update(await readFile(`dist/${name}`)).digest('hex').slice(0, 16);
        const now = names.filter((name) => !LATER.test(name));
        const source = (await readFile(TEMPLATE, 'utf8')).replace('__FILES__', JSON.stringify(files)).replace('__NOW__', JSON.stringify(now));
        await writeFile('dist/service-worker.js', source);
      },
    },
  };
}
