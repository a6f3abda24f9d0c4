/** A worker's end of the connection: one request is worked on at a time, in the order of asking, but for
 * those that something is fetched for, which wait for it beside the others. */
import { type Failure, failure } from './error';
import type { Answer, Arguments, CallList, FromWorker, ToWorker } from './protocol';

export interface Job {
  id: number;
  signal: AbortSignal;
}

export type Handlers<C extends CallList<C>> = {
  [N in keyof C]: (args: Arguments<C, N>, job: Job) => Answer<C, N> | Promise<Answer<C, N>>;
};

/** What fetches a request's arguments before its turn comes, or null where all are there; `before` resolves when
 * the requests before it are done. */
export type Fetches<C extends CallList<C>> = {
  [N in keyof C]?: (args: Arguments<C, N>, job: Job, before: Promise<void>) => Promise<Arguments<C, N>> | null;
};

export const post = (message: FromWorker) => self.postMessage(message);

/** Answers requests; `isFatal` says after which failures the worker is unusable. */
export function serve<C extends CallList<C>>(
  handlers: Handlers<C>,
  isFatal: (error: Failure) => boolean,
  fetches: Fetches<C> = {},
): void {
  const controllers = new Map<number, AbortController>();
  let queue = Promise.resolve();
  self.addEventListener('message', ({ data }: MessageEvent<ToWorker<C>>) => {
    if (data.type === 'abort') {
      controllers.get(data.id)?.abort();
      return;
    }
    const { id, call, args } = data;
    const controller = new AbortController();
    controllers.set(id, controller);
    const job = { id, signal: controller.signal };
    const answer = async (whole: typeof args) => {
      job.signal.throwIfAborted();
      post({ type: 'done', id, value: await handlers[call](whole, job) });
      controllers.delete(id);
    };
    const fail = (thrown: unknown) => {
      controllers.delete(id);
      const error = failure(thrown);
      // A trap leaves the program in the middle of a call.
      if (thrown instanceof WebAssembly.RuntimeError || isFatal(error)) post({ type: 'fatal', error });
      else post({ type: 'failed', id, error });
    };
    const take = (whole: typeof args) => (queue = queue.then(() => answer(whole)).catch(fail));
    const coming = fetches[call]?.(args, job, queue);
    if (coming) coming.then(take, fail);
    else void take(args);
  });
}
