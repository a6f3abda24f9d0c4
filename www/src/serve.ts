/** A worker's end of the connection: one request is worked on at a time, in the order of asking. */
import { type Failure, failure } from './error';
import type { Answer, Arguments, CallList, FromWorker, ToWorker } from './protocol';

export interface Job {
  id: number;
  signal: AbortSignal;
}

export type Handlers<C extends CallList<C>> = {
  [N in keyof C]: (args: Arguments<C, N>, job: Job) => Answer<C, N> | Promise<Answer<C, N>>;
};

export const post = (message: FromWorker) => self.postMessage(message);

/** Answers requests; `isFatal` says after which failures the worker is unusable. */
export function serve<C extends CallList<C>>(handlers: Handlers<C>, isFatal: (error: Failure) => boolean): void {
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
    queue = queue.then(async () => {
      try {
        controller.signal.throwIfAborted();
        const value = await handlers[call](args, { id, signal: controller.signal });
        post({ type: 'done', id, value });
      } catch (thrown) {
        const error = failure(thrown);
        // A trap leaves the program in the middle of a call.
        if (thrown instanceof WebAssembly.RuntimeError || isFatal(error)) post({ type: 'fatal', error });
        else post({ type: 'failed', id, error });
      } finally {
        controllers.delete(id);
      }
    });
  });
}
