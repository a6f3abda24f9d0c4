/** Makes the page work offline after its first visit. Every file of the page is kept under its hash: an
 * update fetches what has changed, takes the rest over, and drops what nobody names any more. */
const FILES = __FILES__;
const NOW = __NOW__;
const CACHE = 'reca';
const ROOT = new URL('./', self.location.href);

/** Where a file's bytes of this version are kept. */
const key = (name) => new URL(`${name}?sha256=${FILES[name]}`, ROOT).href;

async function fresh(name) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(key(name));
  if (kept) return kept;
  const answer = await fetch(new URL(name, ROOT), { cache: 'no-cache' });
  // Where storage is full the page goes on, online.
  if (answer.ok) await cache.put(key(name), answer.clone()).catch(() => {});
  return answer;
}

self.addEventListener('install', (event) => {
  event.waitUntil(Promise.all(NOW.map(fresh)).then(() => self.skipWaiting()));
});

self.addEventListener('activate', (event) => {
  event.waitUntil(
    (async () => {
      const cache = await caches.open(CACHE);
      const named = new Set(Object.keys(FILES).map(key));
      for (const { url } of await cache.keys()) if (!named.has(url)) await cache.delete(url);
      await self.clients.claim();
    })(),
  );
});

self.addEventListener('fetch', (event) => {
  const url = new URL(event.request.url);
  if (event.request.method !== 'GET' || !url.href.startsWith(ROOT.href)) return;
  const name = url.pathname.slice(ROOT.pathname.length) || 'index.html';
  if (name in FILES) event.respondWith(fresh(name));
});
