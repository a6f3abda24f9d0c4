/** Makes the page work offline after its first visit. Every file of the page is kept under its hash: an
 * update fetches what has changed, takes the rest over, and drops what neither it nor the version before names. */
const FILES = __FILES__;
const NOW = __NOW__;
const ROOT = new URL('./', self.location.href);
/** All copies of the page on an origin share its storage. */
const CACHE = `reca ${ROOT.pathname}`;
/** The one that versions before this shared. */
const SHARED = 'reca';
/** Where the keys of the version that is installed are kept. */
const INSTALLED = new URL('installed?keys', ROOT).href;

/** Where a file's bytes of this version are kept. */
const key = (name) => new URL(`${name}?sha256=${FILES[name]}`, ROOT).href;

const kept = async (name) => (await caches.open(CACHE)).match(key(name));
const fetched = (name) => fetch(new URL(name, ROOT), { cache: 'no-cache' });

/** Keeps a file as the server sends it, if it is this version's; says whether it is. */
async function keep(name, sent) {
  const bytes = await sent.arrayBuffer();
  const digest = new Uint8Array(await crypto.subtle.digest('SHA-256', bytes));
  const sha256 = Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
  if (!sent.ok || !sha256.startsWith(FILES[name])) return false;
  const cache = await caches.open(CACHE);
  // Where storage is full the page goes on, online.
  await cache.put(key(name), new Response(bytes, sent)).catch(() => {});
  return true;
}

/** Without a file of its own a version is not installed, and the one before stays. */
async function ready(name) {
  if ((await kept(name)) || (await keep(name, await fetched(name)))) return;
  throw new Error(`the server has another version of ${name}`);
}

/** The kept file, or the server's, which the page need not wait for to be kept. */
async function answer(name, event) {
  const there = await kept(name);
  if (there) return there;
  const sent = await fetched(name);
  event.waitUntil(keep(name, sent.clone()));
  return sent;
}

/** A file of the version before, whose names have a hash; or what the server has under that name. */
async function former(request) {
  const cache = await caches.open(CACHE);
  return (await cache.match(request, { ignoreSearch: true })) ?? fetch(request);
}

/** Copies what a version before kept of this copy of the page. */
async function inherit() {
  const [shared, cache] = await Promise.all([caches.open(SHARED), caches.open(CACHE)]);
  for (const request of await shared.keys()) {
    if (request.url.startsWith(ROOT.href)) await cache.put(request, await shared.match(request)).catch(() => {});
  }
}

/** Removes it from there. */
async function disinherit() {
  const shared = await caches.open(SHARED);
  const keys = await shared.keys();
  const own = keys.filter(({ url }) => url.startsWith(ROOT.href));
  await Promise.all(own.map((request) => shared.delete(request)));
  if (own.length === keys.length) await caches.delete(SHARED);
}

self.addEventListener('install', (event) => {
  event.waitUntil(
    inherit()
      .then(() => Promise.all(NOW.map(ready)))
      .then(() => self.skipWaiting()),
  );
});

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      const keys = Object.keys(FILES).map(key);
      // A page of the version before may be open still, and ask for its workers.
      const before = (await (await cache.match(INSTALLED))?.json()) ?? [];
      const named = new Set([...keys, ...before, INSTALLED]);
      for (const { url } of await cache.keys()) if (!named.has(url)) await cache.delete(url);
      // Where storage is full nothing is kept, and the page is not to wait.
      await cache.put(INSTALLED, Response.json(keys)).catch(() => {});
      await disinherit();
      await self.clients.claim();
    })(),
  );
});

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== 'GET' || !url.href.startsWith(ROOT.href)) return;
  const name = url.pathname.slice(ROOT.pathname.length) || 'index.html';
  if (name in FILES) event.respondWith(answer(name, event));
  else if (name.startsWith('assets/')) event.respondWith(former(event.request));
});
