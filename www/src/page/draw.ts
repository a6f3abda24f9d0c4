/** The prompt box: a grid of pictures out of noise, preview by preview; stops within a step. */
import { Screen, Status, button, chips, element, handOver, input, make, save, slug } from './dom';
import { type Lab, stoppable } from './lab';
import { attempt } from './report';
import { results } from './samples';
import { bind, state } from './state';

const PROMPTS = ['a yellow broccoli', 'a blue teapot', 'a red car', 'a purple pear', 'a dog left of a house', 'a red bell and a blue fish', 'a strawberry', 'a pink cactus, twemoji style'];
const SPECIAL_TOKENS = 3;

export async function drawPanel(lab: Lab): Promise<void> {
  const form = element('draw-form', HTMLFormElement);
  const [start, stop] = [button('draw-start'), button('draw-stop')];
  const status = new Status('draw-status');
  const recordedMark = element('draw-recorded', HTMLElement);
  const sheet = element('sheet', HTMLElement);
  const value = (id: string) => (document.getElementById(id) as HTMLInputElement).value;
  let screens: Screen[] = [];
  /** What the screens show. */
  let prompts: string[] = [];
  let controller: AbortController | null = null;

  function lay(count: number): void {
    if (screens.length === count) return;
    screens = [];
    prompts = [];
    recordedMark.hidden = true;
    sheet.classList.toggle('one', count === 1);
    const figures = Array.from({ length: count }, (_, index) => {
      const canvas = make('canvas', { id: `drawing-${index}`, width: 64, height: 64, role: 'img', ariaLabel: 'nothing drawn yet' });
      const screen = new Screen(canvas);
      screens.push(screen);
      const keep = make('button', { type: 'button', textContent: 'Save', ariaLabel: `Save picture ${index + 1}`, disabled: true });
      keep.addEventListener('click', () => void attempt(async () => save(await screen.file(8), `${slug(prompts[index] ?? '')}-${index}.png`)));
      return make('figure', { className: 'frame' }, canvas, make('figcaption', {}, make('span'), keep));
    });
    sheet.replaceChildren(...figures);
  }

  async function draw(signal: AbortSignal): Promise<void> {
    const prompt = value('prompt').trim();
    const seed = Number(value('seed'));
    status.tell(lab.loaded ? 'Drawing…' : 'The model is still on its way; it draws as soon as it is there…');
    const runtime = await stoppable(lab.runtime, signal);
    const count = Number(value('count'));
    lay(count);
    const begun = performance.now();
    status.tell('Drawing…');
    const options = {
      seed,
      count,
      steps: Number(value('steps')),
      guidance: Number(value('guidance')),
      weights: value('weights') as 'base' | 'aligned',
      asWritten: value('layout') === 'written',
      signal,
    };
    for await (const { kind, step, steps, pictures } of runtime.generate(prompt, options)) {
      pictures?.forEach((made, index) => show(index, made, prompt, `step ${step} of ${steps}`, seed + index));
      recordedMark.hidden = true;
      if (kind === 'step') status.count(`Step ${step} of ${steps}`);
      else status.tell(`Drawn in ${((performance.now() - begun) / 1000).toFixed(1)} s.`);
    }
  }

  function show(index: number, made: ImageData | ImageBitmap, prompt: string, how: string, seed: number): void {
    prompts[index] = prompt;
    const screen = screens[index];
    screen?.show(made, `${prompt}, ${how}`);
    const [note, keep] = screen?.canvas.nextElementSibling?.children ?? [];
    if (note) note.textContent = `seed ${seed}`;
    if (keep instanceof HTMLButtonElement) keep.disabled = false;
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    controller?.abort();
    const current = new AbortController();
    controller = current;
    stop.disabled = false;
    state.set('draw', { prompt: value('prompt') });
    void attempt(() => draw(current.signal), form).finally(() => {
      if (controller !== current) return;
      if (current.signal.aborted) status.tell('Stopped.');
      else if (!status.text.startsWith('Drawn')) status.tell('Not drawn.');
      controller = null;
      handOver(stop, start);
    });
  });
  stop.addEventListener('click', () => controller?.abort());
  chips('prompt-chips', PROMPTS, (text) => {
    input('prompt').value = text;
    form.requestSubmit();
  });
  bind('draw', { prompt: 'prompt', seed: 'seed', steps: 'steps', guidance: 'guidance', count: 'count', layout: 'layout', weights: 'weights' });
  lay(Number(value('count')));

  void lab.runtime.then(() => {
    element('words', HTMLElement).textContent = lab.info?.vocabulary.slice(SPECIAL_TOKENS).join(', ') ?? '';
    const layout = element('layout', HTMLSelectElement);
    layout.disabled = !lab.info?.plansLayout;
    if (layout.disabled) layout.value = 'written';
  }, () => {});
  const { draw: recorded } = await lab.recorded;
  const drawn = recorded && (await results(recorded.files));
  if (!drawn || lab.loaded || controller || state.get('draw', 'prompt')) return;
  recordedMark.hidden = false;
  status.tell(`“${recorded.prompt}”, as it was drawn once. Press Draw to see it done.`);
  drawn.forEach((made, index) => show(index, made, recorded.prompt, 'recorded', recorded.seed + index));
}
