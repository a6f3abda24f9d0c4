/** The files of a CLIP or SigLIP checkpoint, chosen on this machine or on a server, read bit by bit. */
import { RecaError, failure } from './error';
import type { EncoderSource } from './encoder-protocol';

export interface Checkpoint {
  /** A small file whole, or null where there is none. */
  file(name: string): Promise<Uint8Array | null>;
  /** A weight file, or null where there is none. */
  weights(name: string): Promise<WeightFile | null>;
}

export interface WeightFile {
  size: number;
  /** Fewer bytes than asked for where the file ends before; cheap where one range follows another. */
  read(from: number, to: number): Promise<Uint8Array>;
  /** Lets go of what reading holds; it may go on afterwards. */
  close(): void;
}

export function checkpoint(source: EncoderSource, signal: AbortSignal): Checkpoint {
  return typeof source === 'string' ? remote(source, signal) : local(source);
}

function local(files: File[]): Checkpoint {
  // Of a folder the files that lie in it, and not those of folders inside.
  const own = files.filter(({ webkitRelativePath }) => webkitRelativePath.split('/').length <= 2);
  const named = (name: string) => own.find((file) => file.name === name) ?? null;
  const read = async (file: Blob, name: string) => {
    try {
      return new Uint8Array(await file.arrayBuffer());
    } catch (thrown) {
      throw new RecaError('bad_input', `${name} could not be read: ${failure(thrown).message}; choose the files again`);
    }
  };
  return {
    async file(name) {
      const file = named(name);
      return file && read(file, name);
    },
    async weights(name) {
      const file = named(name);
      if (!file) return null;
      return { size: file.size, read: (from, to) => read(file.slice(from, to), name), close() {} };
    },
  };
}

/** The page's Content-Security-Policy, which allows no other site, does not bind a worker's requests; what
 * does is that nobody but the user gives an address. */
function remote(base: string, signal: AbortSignal): Checkpoint {
  const at = (name: string) => new URL(name, base.endsWith('/') ? base : `${base}/`);
  return {
    async file(name) {
      const answer = await get(at(name), signal);
      return answer && new Uint8Array(await answer.arrayBuffer().catch((thrown) => broken(at(name), thrown)));
    },
    async weights(name) {
      const answer = await get(at(name), signal);
      return answer && new Download(at(name), answer, signal);
    },
  };
}

/** A file that is streamed from a server: what lies before the range asked for is skipped. */
class Download implements WeightFile {
  readonly size: number;
  #reader: ReadableStreamDefaultReader<Uint8Array> | null;
  /** Where in the file `#rest` begins: what has come and is not asked for yet. */
  #at = 0;
  #rest = new Uint8Array();

  constructor(
    readonly url: URL,
    answer: Response,
    readonly signal: AbortSignal,
  ) {
    this.size = Number(answer.headers.get('content-length') ?? 0);
    if (this.size === 0) {
      const remedy = 'download the folder and choose its files instead';
      throw new RecaError('network', `the server does not say how large ${url.pathname} is; ${remedy}`);
    }
    this.#reader = answer.body?.getReader() ?? null;
  }

  async read(from: number, to: number): Promise<Uint8Array> {
    if (!this.#reader || from < this.#at) {
      this.close();
      const answer = await get(this.url, this.signal);
      this.#reader = answer?.body?.getReader() ?? null;
    }
    const bytes = new Uint8Array(to - from);
    let filled = 0;
    while (filled < bytes.length) {
      const skipped = Math.min(from - this.#at, this.#rest.length);
      const taken = skipped < from - this.#at ? 0 : Math.min(bytes.length - filled, this.#rest.length - skipped);
      bytes.set(this.#rest.subarray(skipped, skipped + taken), filled);
      filled += taken;
      from += taken;
      this.#at += skipped + taken;
      this.#rest = this.#rest.subarray(skipped + taken);
      if (filled === bytes.length) break;
      const chunk = await this.#reader?.read().catch((thrown) => broken(this.url, thrown));
      if (!chunk?.value) break;
      this.#rest = chunk.value as Uint8Array<ArrayBuffer>;
    }
    return bytes.subarray(0, filled);
  }

  close(): void {
    void this.#reader?.cancel().catch(() => {});
    this.#reader = null;
    this.#at = 0;
    this.#rest = new Uint8Array();
  }
}

/** The server's answer, or null where it has no such file. */
async function get(url: URL, signal: AbortSignal): Promise<Response | null> {
  const answer = await fetch(url, { signal, credentials: 'omit', referrerPolicy: 'no-referrer' }).catch((thrown) =>
    broken(url, thrown, '; the server must be there, and allow pages of other sites to read it (CORS)'),
  );
  if (answer.status === 404) return null;
  if (!answer.ok) throw new RecaError('network', `${url.pathname}: the server answers ${answer.status} ${answer.statusText}`);
  return answer;
}

function broken(url: URL, thrown: unknown, remedy = '; try again'): never {
  const { code, message } = failure(thrown);
  if (code === 'aborted') throw thrown;
  throw new RecaError('network', `${url.pathname} could not be fetched: ${message}${remedy}`);
}
