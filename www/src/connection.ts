/** The page's end of a worker: requests out, answers in, each answer to its promise. */
import { RecaError, failure } from './error';
import type { Answer, Arguments, CallList, FromWorker, ToWorker } from './protocol';

interface Pending {
  resolve(value: never): void;
  reject(error: RecaError): void;
  onProgress?: ((progress: never) => void) | undefined;
}

export interface CallOptions<Progress> {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
}

/** A worker as `start` makes it, which browsers refuse where its script is on another site. */
export function started(start: () => Worker): Worker {
  try {
    return start();
  } catch (thrown) {
    throw new RecaError('bad_input', `the worker could not be started: ${failure(thrown).message}; serve the package from the page's own origin`);
  }
}

/** `C`: what the worker can be asked; `P`: how it tells of its progress. */
export class Connection<C extends CallList<C>, P> {
  readonly #worker: Worker;
  readonly #pending = new Map<number, Pending>();
  #last = 0;
  #dead: RecaError | null = null;

  constructor(worker: Worker) {
    this.#worker = worker;
    this.#worker.addEventListener('message', ({ data }: MessageEvent<FromWorker>) => this.#receive(data));
    this.#worker.addEventListener('error', (event) => {
      this.close(new RecaError('internal', event.message || 'the worker could not be started'));
    });
  }

  /** Why this worker can do no more, or null. */
  get dead(): RecaError | null {
    return this.#dead;
  }

  /** Asks the worker; rejects with `aborted` as soon as the signal fires. */
  call<N extends keyof C>(call: N, args: Arguments<C, N>, options: CallOptions<P> = {}): Promise<Answer<C, N>> {
    const { signal, onProgress } = options;
    if (this.#dead) return Promise.reject(this.#dead);
    if (signal?.aborted) return Promise.reject(aborted());
    const id = ++this.#last;
    const answer = new Promise<Answer<C, N>>((resolve, reject) => {
      this.#pending.set(id, { resolve, reject, onProgress });
    });
    const abort = () => {
      this.#send({ type: 'abort', id });
      this.#take(id)?.reject(aborted());
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      this.#send({ type: 'request', id, call, args } as unknown as ToWorker<C>);
    } catch (thrown) {
      this.#take(id)?.reject(new RecaError('bad_input', `${String(call)} was given what no worker can be sent: ${failure(thrown).message}`));
    }
    return answer.finally(() => signal?.removeEventListener('abort', abort));
  }

  /** Ends the worker; every call then fails with `reason`. */
  close(reason: RecaError): void {
    this.#dead ??= reason;
    this.#worker.terminate();
    for (const { reject } of this.#pending.values()) reject(this.#dead);
    this.#pending.clear();
  }

  #send(message: ToWorker<C>): void {
    this.#worker.postMessage(message);
  }

  #receive(message: FromWorker): void {
    switch (message.type) {
      case 'done':
        this.#take(message.id)?.resolve(message.value as never);
        break;
      case 'failed':
        this.#take(message.id)?.reject(new RecaError(message.error.code, message.error.message));
        break;
      case 'progress':
        this.#pending.get(message.id)?.onProgress?.(message.progress as never);
        break;
      case 'fatal':
        this.close(new RecaError(message.error.code, message.error.message));
        break;
    }
  }

  #take(id: number): Pending | undefined {
    const pending = this.#pending.get(id);
    this.#pending.delete(id);
    return pending;
  }
}

function aborted(): RecaError {
  return new RecaError('aborted', 'cancelled');
}
