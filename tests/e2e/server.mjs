/** A static server as plain as any host: no special headers, the page in a sub-path. */
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { extname, join, normalize, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));

/** URL prefix to folder below the repository; the first that fits wins. */
const FOLDERS = {
  '/lab/models/nano/scorer/': 'www/models/mini/scorer',
  '/lab/models/nano/': 'tests/goldens/nano',
  '/lab/': 'www/dist',
  '/pkg/': 'pkg',
  '/encoders/': 'tests/goldens/encoders',
  '/bench/': 'www/bench',
  '/built/': 'target/bench-web',
  '/models/': 'www/models',
};

const TYPES = {
  '.html': 'text/html',
  '.js': 'text/javascript',
  '.mjs': 'text/javascript',
  '.css': 'text/css',
  '.json': 'application/json',
  '.svg': 'image/svg+xml',
  '.wasm': 'application/wasm',
};

const BLANK = '<!doctype html><meta charset="utf-8"><title>blank</title><link rel="icon" href="/lab/icon.svg">';

/** Starts the server; `overrides` maps URL paths to other bytes, for damaged and missing files, or to the
 * beginning of a file that is never sent whole, `{ bytes, size }`. `headers` are sent along with all, and `more`
 * are folders beside those above. `asked` gives the paths that were asked for so far. */
export async function serve(overrides = new Map(), { headers = {}, more = {} } = {}) {
  const folders = { ...FOLDERS, ...more };
  const asked = [];
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, 'http://localhost');
    asked.push(pathname);
    try {
      const bytes = overrides.get(pathname) ?? (await read(pathname, folders));
      response.writeHead(200, {
        'content-type': TYPES[extname(pathname)] ?? (pathname.endsWith('/') ? TYPES['.html'] : 'application/octet-stream'),
        'cache-control': 'no-store',
        'content-length': bytes.size ?? bytes.length,
        ...headers,
      });
      if (bytes.size) response.write(bytes.bytes);
      else response.end(bytes);
    } catch {
      response.writeHead(404).end();
    }
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${server.address().port}`;
  return { origin, asked: () => asked, close: () => server.close() };
}

async function read(pathname, folders) {
  if (pathname === '/blank/') return BLANK;
  const prefix = Object.keys(folders).find((prefix) => pathname.startsWith(prefix));
  if (!prefix) throw new Error(`nothing is served at ${pathname}`);
  const rest = normalize(decodeURIComponent(pathname.slice(prefix.length)));
  if (rest.startsWith('..')) throw new Error('outside');
  return readFile(join(resolve(ROOT, folders[prefix]), pathname.endsWith('/') ? join(rest, 'index.html') : rest));
}
