/** A picture comes in: the model describes it, redraws it from its embeddings, answers questions. */
import type { Runtime } from '../runtime';
import { Screen, element } from './dom';
import { attempt } from './report';

export function lookSection(runtime: Runtime): void {
  const drop = element('drop', HTMLLabelElement);
  const file = element('file', HTMLInputElement);
  const caption = element('caption', HTMLOutputElement);
  const answer = element('answer', HTMLOutputElement);
  const question = element('question', HTMLInputElement);
  const askFields = element('ask-fields', HTMLFieldSetElement);
  const status = element('redraw-status', HTMLElement);
  const original = new Screen('original');
  const redrawing = new Screen('redrawing');
  let image: Blob | null = null;
  let controller = new AbortController();

  async function look(blob: Blob): Promise<void> {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    image = null;
    askFields.disabled = true;
    caption.value = answer.value = '–';
    status.textContent = 'What it redraws';
    redrawing.clear('nothing redrawn yet');
    const seen = await runtime.fit(blob, { signal });
    image = blob;
    askFields.disabled = false;
    original.show(seen, 'the picture as the model sees it');
    caption.value = await runtime.describe(blob, { signal });
    for await (const { kind, step, steps, picture } of runtime.reconstruct(blob, { signal })) {
      if (picture) redrawing.show(picture, `redrawn, step ${step} of ${steps}`);
      status.textContent =
        kind === 'image'
          ? `Redrawn, PSNR ${(await runtime.psnr(seen, picture, { signal })).toFixed(1)} dB`
          : `Step ${step} of ${steps}`;
    }
  }

  const take = (files: FileList | null | undefined) => {
    const blob = files?.[0];
    if (blob) void attempt(() => look(blob));
  };
  file.addEventListener('change', () => take(file.files));
  for (const type of ['dragover', 'dragleave', 'drop']) {
    drop.addEventListener(type, (event) => {
      event.preventDefault();
      drop.classList.toggle('over', type === 'dragover');
    });
  }
  drop.addEventListener('drop', (event) => take(event.dataTransfer?.files));

  element('ask', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    const blob = image;
    if (!blob) return;
    void attempt(async () => {
      answer.value = '…';
      const { signal } = controller;
      answer.value = await runtime
        .describe(blob, { question: question.value, signal })
        .finally(() => (answer.value = '–'));
    });
  });

  file.disabled = false;
}
