/** Which of the two wasm builds to fetch: the small one for the CPU, or the one with WebGPU. */
import type * as Wasm from '@reca/web/cpu';
import { type Failure, RecaError, failure } from './error';
import type { Backend, RuntimeInfo } from './protocol';

export type Artefact = typeof Wasm;

/** A wasm instance with its runtime. */
export interface Opened {
  wasm: Artefact;
  runtime: Wasm.Runtime;
  info: RuntimeInfo;
}

const BUILDS = import.meta.glob<Artefact>('../../pkg/dist/{cpu,webgpu}/reca.js');

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
export async function open(backend: Backend, onFatal: OnFatal): Promise<Opened> {
  if (backend === 'cpu') return start('cpu', 'asked for', onFatal);
  if (backend === 'webgpu') return start('webgpu', 'asked for', onFatal);
  const obstacle = await webgpuObstacle();
  if (obstacle) return start('cpu', obstacle, onFatal);
  try {
    return await start('webgpu', 'a WebGPU adapter was found', onFatal);
  } catch (thrown) {
    return start('cpu', `WebGPU failed: ${failure(thrown).message}`, onFatal);
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

async function start(name: 'cpu' | 'webgpu', reason: string, onFatal: OnFatal): Promise<Opened> {
  const build = BUILDS[`../../pkg/dist/${name}/reca.js`];
  if (!build) throw new RecaError('no_webgpu', `this page has no ${name} build`);
  const wasm = await build();
  try {
    await wasm.default();
  } catch (thrown) {
    throw new RecaError('network', `the ${name} build could not be loaded: ${failure(thrown).message}`);
  }
  const runtime = await onTrial(wasm, name, onFatal);
  return { wasm, runtime, info: { ...runtime.info(), reason } };
}

/** A runtime that has shown that it works; until then its breaking down is only this call's failure. */
async function onTrial(wasm: Artefact, name: 'cpu' | 'webgpu', onFatal: OnFatal): Promise<Wasm.Runtime> {
  const trial = Promise.withResolvers<never>();
  const fail: OnFatal = ({ code, message }) => trial.reject(new RecaError(code, message));
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
    const runtime = await Promise.race([wasm.Runtime.create(name), trial.promise]);
    listener = onFatal;
    return runtime;
  } finally {
    clearTimeout(late);
    self.removeEventListener('error', broken);
  }
}
