/** The prompt box: draws with previews, stops within a step. */
import type { Runtime } from '../runtime';
import { Screen, element } from './dom';
import { attempt } from './report';

export function drawSection(runtime: Runtime): void {
  const form = element('draw', HTMLFormElement);
  const start = element('draw-start', HTMLButtonElement);
  const stop = element('draw-stop', HTMLButtonElement);
  const status = element('draw-status', HTMLElement);
  const screen = new Screen('drawing');
  const value = (id: string) => element(id, HTMLInputElement).value;
  let controller: AbortController | null = null;

  async function draw(signal: AbortSignal): Promise<void> {
    const prompt = value('prompt').trim();
    const options = {
      seed: Number(value('seed')),
      steps: Number(value('steps')),
      guidance: Number(value('guidance')),
      signal,
    };
    const begun = performance.now();
    status.textContent = 'Reading the prompt…';
    for await (const { kind, step, steps, picture } of runtime.generate(prompt, options)) {
      if (picture) screen.show(picture, `${prompt}, step ${step} of ${steps}`);
      const seconds = ((performance.now() - begun) / 1000).toFixed(1);
      status.textContent = kind === 'image' ? `Drawn in ${seconds} s.` : `Step ${step} of ${steps}`;
    }
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    if (controller) return;
    const current = new AbortController();
    controller = current;
    start.disabled = true;
    stop.disabled = false;
    attempt(() => draw(current.signal)).finally(() => {
      if (current.signal.aborted) status.textContent = 'Stopped.';
      else if (!status.textContent?.startsWith('Drawn')) status.textContent = 'Not drawn.';
      controller = null;
      start.disabled = false;
      stop.disabled = true;
    });
  });
  stop.addEventListener('click', () => controller?.abort());

  element('draw-fields', HTMLFieldSetElement).disabled = false;
  start.disabled = false;
}
