/** Files that outlive the tab, in the origin's private file system. Only the worker uses it. */
import { RecaError, failure } from './error';

const FOLDER = 'reca';
/** The name of what a browser throws whose storage is full. */
const FULL = 'QuotaExceededError';

async function folder(): Promise<FileSystemDirectoryHandle> {
  const storage = navigator.storage as StorageManager | undefined;
  if (!storage?.getDirectory) throw new Error('it needs a page by https or from localhost');
  const root = await storage.getDirectory();
  return root.getDirectoryHandle(FOLDER, { create: true });
}

/** Writes a file anew; fails with `quota` where it does not fit or nothing may be stored, with `busy` where another
 * tab is writing it. */
export async function save(name: string, bytes: Uint8Array): Promise<void> {
  try {
    // First whole under another name, so that a crash leaves the old file.
    const directory = await folder();
    const file = await directory.getFileHandle(`${name}.new`, { create: true });
    const access = await (file as unknown as { createSyncAccessHandle(): Promise<Access> }).createSyncAccessHandle();
    try {
      access.truncate(0);
      if (access.write(bytes, { at: 0 }) < bytes.length) throw new DOMException('the file is cut off', FULL);
      access.flush();
    } finally {
      access.close();
    }
    await (file as unknown as { move(name: string): Promise<void> }).move(name);
  } catch (thrown) {
    const { name: why } = thrown as Error;
    // That file is the other tab's.
    if (why === 'NoModificationAllowedError') throw new RecaError('busy', 'another tab is storing the same; close it');
    await remove(`${name}.new`);
    if (why === FULL) throw new RecaError('quota', "the browser's storage is full; discard what is kept, or free some space");
    throw new RecaError('quota', `the browser does not store it: ${failure(thrown).message}`);
  }
}

interface Access {
  truncate(size: number): void;
  write(bytes: Uint8Array, options: { at: number }): number;
  flush(): void;
  close(): void;
}

/** A file's bytes, or null. */
export async function read(name: string): Promise<Uint8Array | null> {
  try {
    const file = await (await folder()).getFileHandle(name);
    return new Uint8Array(await (await file.getFile()).arrayBuffer());
  } catch {
    return null;
  }
}

export async function remove(name: string): Promise<void> {
  await (await folder().catch(() => null))?.removeEntry(name).catch(() => {});
}

/** Names of all files that end in `suffix`, without it. */
export async function list(suffix: string): Promise<string[]> {
  const names: string[] = [];
  const directory = await folder().catch(() => null);
  const keys = directory && (directory as unknown as { keys(): AsyncIterable<string> }).keys();
  if (keys) for await (const name of keys) if (name.endsWith(suffix)) names.push(name.slice(0, -suffix.length));
  return names.sort();
}
