/** A picture comes in: the model describes it, answers questions, shows its embeddings as colours. */
import { RecaError } from '../runtime';
import { bytes } from '../source';
import { Screen, chips, element, input, make } from './dom';
import type { Lab } from './lab';
import { colours } from './pca';
import { pictureInputs } from './picture';
import { attempt } from './report';
import { type Given, given, row } from './samples';
import { bind, state } from './state';

const SEEN = 'What the model sees, 64 × 64 pixels.';
const COMING = 'The model is still on its way; the picture is shown as soon as it is there.';
const QUESTIONS = ['what is this ?', 'what colour is the broccoli ?', 'describe the picture'];

export async function understandPanel(lab: Lab, chosen: (picture: Given) => void): Promise<void> {
  const caption = element('caption', HTMLOutputElement);
  const recordedMark = element('caption-recorded', HTMLElement);
  const answers = element('answers', HTMLOListElement);
  const form = element('ask', HTMLFormElement);
  const tools = element('see-tools', HTMLElement);
  const question = input('question');
  const screen = new Screen('seen');
  const note = element('seen-note', HTMLElement);
  /** The picture that was given last, and the one that is shown until it has come. */
  let last: Promise<Given> | null = null;
  let shown: Promise<Given> | null = null;
  /** Ends what is asked about the picture that is shown. */
  let controller = new AbortController();

  async function take(coming: Promise<Given>): Promise<void> {
    last = coming;
    let picture: Given;
    try {
      picture = await coming;
    } catch (thrown) {
      if (last === coming) last = shown;
      throw thrown;
    }
    if (last !== coming) return;
    shown = coming;
    await look(picture);
  }

  async function look(picture: Given): Promise<void> {
    controller.abort();
    controller = new AbortController();
    const { signal } = controller;
    const { file, square, sample } = picture;
    mark(sample ? samples.indexOf(sample) : -1);
    state.set('understand', { sample: sample && String(samples.indexOf(sample)) });
    screen.show(square, sample ? `the picture: ${sample.caption}` : 'the picture as the model sees it');
    const recorded = lab.loaded ? null : sample;
    recordedMark.hidden = !recorded;
    caption.value = recorded?.caption ?? '…';
    showTokens(recorded?.colours ?? []);
    answers.replaceChildren();
    chosen(picture);
    const runtime = await lab.runtime;
    const embeddings = await runtime.embed(file, { signal });
    const said = await runtime.describe(file, { signal });
    recordedMark.hidden = true;
    caption.value = said;
    screen.canvas.ariaLabel = `the picture; the model says: ${said}`;
    showTokens(colours(embeddings, lab.info?.visualTokens ?? 16));
  }

  const { samples } = await lab.recorded;
  const mark = row('see-samples', samples, (index) => void attempt(() => pick(index), tools));
  async function pick(index: number): Promise<void> {
    const sample = samples[index] ?? samples[0];
    if (sample) await take(given(sample));
  }

  /** The user's own; only the model's own reader says whether it is one. A copy, since a file may change
   * or go before the next question. */
  async function fitted(chosen: Blob): Promise<Given> {
    const file = new Blob([(await bytes(chosen)) as BlobPart]);
    if (!lab.loaded) note.textContent = COMING;
    try {
      return { file, square: await (await lab.runtime).fit(file), sample: null };
    } finally {
      // Written anew it would be read anew.
      if (note.textContent !== SEEN) note.textContent = SEEN;
    }
  }
  pictureInputs((file) => take(fitted(file)), tools);

  async function ask(text: string): Promise<void> {
    const asked = last;
    if (!asked) throw new RecaError('bad_input', 'give it a picture first');
    const item = make('li', {}, make('q', { textContent: text }), make('b', { textContent: '…' }));
    answers.prepend(item);
    try {
      const { file } = await asked;
      if (asked !== shown) return item.remove();
      // Its coming has taken the answers away.
      answers.prepend(item);
      const { signal } = controller;
      const answer = await (await lab.runtime).describe(file, { question: text, signal });
      item.lastElementChild?.replaceChildren(answer);
    } catch (thrown) {
      item.remove();
      throw thrown;
    }
  }
  form.addEventListener('submit', (event) => {
    event.preventDefault();
    state.set('understand', { question: question.value });
    void attempt(() => ask(question.value), form);
  });
  chips('question-chips', QUESTIONS, (text) => {
    question.value = text;
    form.requestSubmit();
  });
  const tokens = element('see-tokens', HTMLElement);
  input('show-tokens').addEventListener('change', (event) => {
    tokens.hidden = !(event.target as HTMLInputElement).checked;
  });
  bind('understand', { question: 'question' });
  await attempt(() => pick(Number(state.get('understand', 'sample') ?? 0)), tools);
}

function showTokens(values: [number, number, number][]): void {
  const squares = values.map((rgb) => {
    const square = make('span');
    square.style.background = `rgb(${rgb.join(' ')})`;
    return square;
  });
  element('see-tokens', HTMLElement).replaceChildren(...squares);
}
