/** What calls of both runtimes take. */
import { RecaError, failure } from './error';

/** An image file (PNG, JPEG, WebP, GIF) or its bytes. */
export type ImageSource = Blob | ArrayBuffer | Uint8Array;

/** An address as it reads from the page. */
export function address(source: string | URL): string {
  try {
    return new URL(source, document.baseURI).href;
  } catch {
    throw new RecaError('bad_input', `"${source}" is no address`);
  }
}

export interface Cancellable {
  signal?: AbortSignal;
}

/** The bytes of a source; a file may be a folder, or may have changed since it was chosen. */
export async function bytes(source: ImageSource): Promise<Uint8Array> {
  if (source instanceof Uint8Array) return source;
  if (!(source instanceof Blob)) return new Uint8Array(source);
  try {
    return new Uint8Array(await source.arrayBuffer());
  } catch (thrown) {
    throw new RecaError('bad_input', `the file could not be read: ${failure(thrown).message}; choose it again`);
  }
}
