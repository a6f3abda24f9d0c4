/** The page: starts the runtime, loads the model, then hands over to its sections. */
import { type ModelInfo, RecaError, Runtime } from '../runtime';
import type { Backend } from '../runtime';
import { element } from './dom';
import { drawSection } from './draw';
import { lookSection } from './look';
import { attempt } from './report';

const SPECIAL_TOKENS = 3;

const loading = element('loading', HTMLElement);
const bar = element('loading-bar', HTMLProgressElement);
const text = element('loading-text', HTMLParagraphElement);

/** `?backend=cpu|webgpu|auto` and `?model=FOLDER` choose what is loaded. */
function parameters(): { backend: Backend; model: string } {
  const query = new URLSearchParams(location.search);
  const backend = query.get('backend') ?? 'auto';
  const model = query.get('model') ?? 'mini';
  if (backend !== 'auto' && backend !== 'cpu' && backend !== 'webgpu') {
    throw new RecaError('bad_input', `backend is "${backend}", expected auto, cpu or webgpu`);
  }
  if (!/^[\w-]+$/.test(model)) {
    throw new RecaError('bad_input', `"${model}" is not the name of a model folder`);
  }
  return { backend, model };
}

function showModel({ vocabulary }: ModelInfo): void {
  element('words', HTMLParagraphElement).textContent = vocabulary.slice(SPECIAL_TOKENS).join(', ');
}

async function start(): Promise<void> {
  const { backend, model } = parameters();
  const runtime = await Runtime.create({ backend });
  const { backend: chosen, reason } = runtime.info();
  const badge = element('backend', HTMLParagraphElement);
  badge.textContent = `${chosen === 'webgpu' ? 'WebGPU' : 'CPU'}: ${reason}`;
  badge.hidden = false;
  const info = await runtime.load(`models/${model}/`, {
    onProgress({ loaded, total }) {
      bar.max = total;
      bar.value = loaded;
      text.textContent = `Model: ${megabytes(loaded)} of ${megabytes(total)} MB`;
    },
  });
  showModel(info);
  drawSection(runtime);
  lookSection(runtime);
}

function megabytes(bytes: number): string {
  return (bytes / 1e6).toFixed(1);
}

void attempt(start).finally(() => {
  loading.hidden = true;
});
