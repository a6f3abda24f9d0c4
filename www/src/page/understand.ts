/** A picture comes in: the model describes it, answers questions, shows its embeddings as colours. */
import { RecaError } from '../runtime';
import { Screen, chips, element, input, make } from './dom';
import type { Lab, Sample } from './lab';
import { colours } from './pca';
import { pictureInputs } from './picture';
import { attempt } from './report';
import { picture, row } from './samples';
import { bind, state } from './state';

const QUESTIONS = ['what is this ?', 'what colour is the broccoli ?', 'describe the picture'];

export async function understandPanel(lab: Lab, chosen: (image: Blob, sample: Sample | null) => void): Promise<void> {
  const caption = element('caption', HTMLOutputElement);
  const recordedMark = element('caption-recorded', HTMLElement);
  const answers = element('answers', HTMLOListElement);
  const question = input('question');
  const screen = new Screen('seen');
  let image: Blob | null = null;
  let controller = new AbortController();

  async function look(blob: Blob, sample: Sample | null): Promise<void> {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    if (sample) {
      caption.value = sample.caption;
      showTokens(sample.colours);
    }
    recordedMark.hidden = !sample || lab.loaded;
    if (sample) screen.show(await createImageBitmap(blob), `the picture: ${sample.caption}`);
    const runtime = await lab.runtime;
    const seen = await runtime.fit(blob, { signal });
    if (signal.aborted) return;
    image = blob;
    screen.show(seen, 'the picture as the model sees it');
    chosen(blob, sample);
    answers.replaceChildren();
    if (!sample) caption.value = '…';
    caption.value = await runtime.describe(blob, { signal });
    recordedMark.hidden = true;
    screen.canvas.ariaLabel = `the picture; the model says: ${caption.value}`;
    const embeddings = await runtime.embed(blob, { signal });
    showTokens(colours(embeddings, lab.info?.visualTokens ?? 16));
  }

  const { samples } = await lab.recorded;
  const mark = row('see-samples', samples, (index) => void attempt(() => pick(index)));
  async function pick(index: number): Promise<void> {
    const sample = samples[index];
    if (!sample) return;
    mark(index);
    state.set('understand', { sample: String(index) });
    await look(await picture(sample.file), sample);
  }

  pictureInputs(async (blob) => {
    mark(-1);
    state.set('understand', { sample: null });
    await look(blob, null);
  });

  async function ask(text: string): Promise<void> {
    const item = make('li', {}, make('q', { textContent: text }), make('b', { textContent: '…' }));
    answers.prepend(item);
    try {
      const runtime = await lab.runtime;
      if (!image) throw new RecaError('bad_input', 'give it a picture first');
      const answer = await runtime.describe(image, { question: text, signal: controller.signal });
      item.lastElementChild?.replaceChildren(answer);
    } catch (thrown) {
      item.remove();
      throw thrown;
    }
  }
  element('ask', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    state.set('understand', { question: question.value });
    void attempt(() => ask(question.value));
  });
  chips('question-chips', QUESTIONS, (text) => {
    question.value = text;
    element('ask', HTMLFormElement).requestSubmit();
  });
  const tokens = element('see-tokens', HTMLElement);
  input('show-tokens').addEventListener('change', (event) => {
    tokens.hidden = !(event.target as HTMLInputElement).checked;
  });
  bind('understand', { question: 'question' });
  await attempt(() => pick(Number(state.get('understand', 'sample') ?? 0)));
}

function showTokens(values: [number, number, number][]): void {
  const squares = values.map((rgb) => {
    const square = make('span');
    square.style.background = `rgb(${rgb.join(' ')})`;
    return square;
  });
  element('see-tokens', HTMLElement).replaceChildren(...squares);
}
