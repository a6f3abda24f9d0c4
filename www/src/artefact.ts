/** Which of a worker's two wasm builds to fetch: the small one for the CPU, or the one with WebGPU. */
import { type Failure, RecaError, failure } from './error';
import type { Backend, RuntimeInfo } from './protocol';

/** What every build has. */
interface Build {
  default(): Promise<unknown>;
  onFatal(listener: (message: string) => void): void;
}

/** What owns a device. */
interface Owner {
  info(): unknown;
}

/** A wasm instance with what owns its device. */
export interface Opened<W, R> {
  wasm: W;
  runtime: R;
  info: RuntimeInfo;
}

/** The builds that a worker may fetch, and how it opens a device in one. */
export interface Artefact<W extends Build, R extends Owner> {
  cpu: (() => Promise<W>) | undefined;
  webgpu: (() => Promise<W>) | undefined;
  create(wasm: W, backend: 'cpu' | 'webgpu'): Promise<R>;
}

interface Adapter {
  info?: { isFallbackAdapter?: boolean };
}

interface Gpu {
  requestAdapter(options: { powerPreference: string }): Promise<Adapter | null>;
}

/** Longest that a device may take to be opened and to show that it computes rightly. */
const TRIAL_SECONDS = 30;

type OnFatal = (failure: Failure) => void;

/**
 * Opens the backend that is asked for. `auto` takes WebGPU where a hardware adapter is found and
 * computes rightly, else the CPU; `info.reason` says why. `onFatal` is told when it breaks down.
 */
export async function open<W extends Build, R extends Owner>(
  artefact: Artefact<W, R>,
  backend: Backend,
  onFatal: OnFatal,
): Promise<Opened<W, R>> {
  if (backend === 'cpu') return start(artefact, 'cpu', 'asked for', onFatal);
  if (backend === 'webgpu') return start(artefact, 'webgpu', 'asked for', onFatal);
  const obstacle = await webgpuObstacle();
  if (obstacle) return start(artefact, 'cpu', obstacle, onFatal);
  try {
    return await start(artefact, 'webgpu', 'a WebGPU adapter was found', onFatal);
  } catch (thrown) {
    return start(artefact, 'cpu', `WebGPU failed: ${failure(thrown).message}`, onFatal);
  }
}

/** Why WebGPU is not worth its download here, or null. */
async function webgpuObstacle(): Promise<string | null> {
  const gpu = (navigator as { gpu?: Gpu }).gpu;
  if (!gpu) return 'this browser has no WebGPU';
  const adapter = await gpu.requestAdapter({ powerPreference: 'high-performance' }).catch(() => null);
  if (!adapter) return 'no WebGPU adapter was found';
  if (adapter.info?.isFallbackAdapter) return 'the only WebGPU adapter is a software one';
  return null;
}

async function start<W extends Build, R extends Owner>(
  artefact: Artefact<W, R>,
  name: 'cpu' | 'webgpu',
  reason: string,
  onFatal: OnFatal,
): Promise<Opened<W, R>> {
  const build = artefact[name];
  if (!build) throw new RecaError('no_webgpu', `this page has no ${name} build`);
  let wasm: W;
  try {
    wasm = await build();
    await wasm.default();
  } catch (thrown) {
    throw new RecaError('network', `the ${name} build could not be loaded: ${failure(thrown).message}`);
  }
  const runtime = await onTrial(wasm, () => artefact.create(wasm, name), onFatal);
  return { wasm, runtime, info: { ...(runtime.info() as RuntimeInfo), reason } };
}

/** A runtime that has shown that it works; until then its breaking down is only this call's failure. */
async function onTrial<R>(wasm: Build, create: () => Promise<R>, onFatal: OnFatal): Promise<R> {
  let fail: OnFatal = () => {};
  const trial = new Promise<never>((_, reject) => (fail = ({ code, message }) => reject(new RecaError(code, message))));
  let listener = fail;
  wasm.onFatal((message) => listener({ code: 'internal', message }));
  const late = setTimeout(() => fail({ code: 'no_webgpu', message: `no answer within ${TRIAL_SECONDS} s` }), TRIAL_SECONDS * 1000);
  // What the program throws in a task of its own goes to no promise, and would end the connection to the page.
  const broken = (event: ErrorEvent) => {
    event.preventDefault();
    fail({ code: 'internal', message: event.message });
  };
  self.addEventListener('error', broken);
  try {
    const runtime = await Promise.race([create(), trial]);
    listener = onFatal;
    return runtime;
  } finally {
    clearTimeout(late);
    self.removeEventListener('error', broken);
  }
}
