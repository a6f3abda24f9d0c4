/** Locks that one tab of the origin holds at a time; they go with the worker that holds them. */

export interface Lock {
  /** Resolves when others can have it. */
  release(): Promise<void>;
}

/** Longest wait for a lock; that of a worker that has just ended may still be held. Milliseconds. */
const LONGEST_WAIT = 2000;

/** Takes a lock; null where another tab holds it. */
export async function hold(name: string): Promise<Lock | null> {
  // Without a secure context there are none, and nothing is stored that they would keep apart.
  const locks = navigator.locks as LockManager | undefined;
  if (!locks) return { release: async () => {} };
  const waiting = new AbortController();
  const late = setTimeout(() => waiting.abort(), LONGEST_WAIT);
  return new Promise((resolve) => {
    let end = () => {};
    const ended = new Promise<void>((done) => (end = done));
    const held: Promise<unknown> = locks.request(name, { signal: waiting.signal }, () => {
      clearTimeout(late);
      resolve({
        async release() {
          end();
          await held;
        },
      });
      return ended;
    });
    held.catch(() => resolve(null));
  });
}

/** Whether any tab holds a lock. */
export async function isHeld(name: string): Promise<boolean> {
  const locks = navigator.locks as LockManager | undefined;
  const { held = [] } = (await locks?.query()) ?? {};
  return held.some((lock) => lock.name === name);
}
