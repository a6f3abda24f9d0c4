/** Stable reasons of failure, the same in Rust, on the command line and here. */
export type ErrorCode =
  | 'no_webgpu'
  | 'limit_too_small'
  | 'device_lost'
  | 'out_of_memory'
  | 'weights_hash'
  | 'weights_shape'
  | 'weights_format'
  | 'network'
  | 'quota'
  | 'aborted'
  | 'busy'
  | 'bad_input'
  | 'internal';

/** A failure as it travels between threads. */
export interface Failure {
  code: ErrorCode;
  message: string;
}

/** Every failure of the runtime; `code` says which, the message names the remedy. */
export class RecaError extends Error {
  override readonly name = 'RecaError';

  constructor(
    readonly code: ErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** Anything thrown as a failure; what is not ours is a defect and gets the code `internal`. */
export function failure(thrown: unknown): Failure {
  if (thrown instanceof Error && thrown.name === 'RecaError' && 'code' in thrown) {
    return { code: thrown.code as ErrorCode, message: thrown.message };
  }
  if (thrown instanceof DOMException && thrown.name === 'AbortError') {
    return { code: 'aborted', message: 'cancelled' };
  }
  if (thrown instanceof WebAssembly.RuntimeError) {
    return { code: 'internal', message: `the program broke down (${thrown.message}), often for want of memory; start it anew` };
  }
  return { code: 'internal', message: thrown instanceof Error ? thrown.message : String(thrown) };
}
