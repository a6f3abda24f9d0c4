/** Probe prompts, drawn by the base and by the aligned model from the same noise. */
import { RecaError, type Runtime, type Weights } from '../runtime';
import { Screen, element, make } from './dom';

const PROMPTS = ['a yellow broccoli', 'a blue teapot', 'a purple pear', 'a pink guitar', 'a red car', 'a dog left of a house'];
const STEPS = 16;

const notDrawn = (prompt: string, who: Weights) => `${prompt}, ${who}: not drawn yet`;

export class Probes {
  readonly #screens = PROMPTS.map((prompt, index) => {
    const screen = (who: Weights) =>
      new Screen(make('canvas', { id: `probe-${who}-${index}`, width: 64, height: 64, role: 'img', ariaLabel: notDrawn(prompt, who) }));
    return { base: screen('base'), aligned: screen('aligned') };
  });
  readonly #unknown = new Set<number>();
  #drawn = new Set<Weights>();

  constructor() {
    const cards = PROMPTS.map((prompt, index) => {
      const { base, aligned } = this.#screens[index] as { base: Screen; aligned: Screen };
      const names = [make('span', { textContent: 'base' }), make('span', { textContent: 'aligned' })];
      return make('div', { className: 'probe' }, make('b', { textContent: prompt }), base.canvas, aligned.canvas, ...names);
    });
    element('probes', HTMLElement).replaceChildren(...cards);
  }

  show(index: number, who: Weights, picture: ImageData | ImageBitmap): void {
    this.#screens[index]?.[who].show(picture, `${PROMPTS[index]}, ${who}`);
  }

  /** Draws all prompts; the base's are drawn once. The first drawing takes away what was recorded. */
  async draw(runtime: Runtime, who: Weights, seed: number, signal?: AbortSignal): Promise<void> {
    if (who === 'base' && this.#drawn.has('base')) return;
    if (!this.#drawn.size) this.#clear();
    for (const [index, prompt] of PROMPTS.entries()) {
      const options = { seed, steps: STEPS, weights: who, preview: 0, ...(signal ? { signal } : {}) };
      try {
        for await (const { pictures } of runtime.generate(prompt, options)) {
          if (pictures?.[0]) this.show(index, who, pictures[0]);
        }
      } catch (thrown) {
        // A model of another world lacks some of the words; the other prompts are drawn all the same.
        if (!(thrown instanceof RecaError && thrown.code === 'bad_input' && who === 'base')) {
          if (!this.#unknown.has(index)) throw thrown;
          continue;
        }
        this.#unknown.add(index);
        this.#screens[index]?.base.canvas.previousElementSibling?.append(' (words it does not know)');
      }
    }
    this.#drawn.add(who);
  }

  #clear(): void {
    for (const [index, prompt] of PROMPTS.entries()) {
      for (const who of ['base', 'aligned'] as const) this.#screens[index]?.[who].clear(notDrawn(prompt, who));
    }
  }
}
