/** Probe prompts, drawn by the base and by the aligned model from the same noise. */
import type { Runtime, Weights } from '../runtime';
import { Screen, element, make } from './dom';
import type { Lab } from './lab';

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
  /** The seeds that the base's were drawn with; none where it was not. */
  readonly #seeds: (number | null)[] = PROMPTS.map(() => null);

  constructor(readonly lab: Lab) {
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

  /** Draws all prompts by the aligned model, beside the base's of the same seed. */
  async aligned(runtime: Runtime, seed: number, signal: AbortSignal): Promise<void> {
    await this.base(runtime, seed, signal);
    for (const index of PROMPTS.keys()) {
      if (this.#knows(index)) await this.#draw(runtime, index, 'aligned', seed, signal);
    }
  }

  /** Draws by the base what is not there of this seed; what the aligned model drew of another goes. */
  async base(runtime: Runtime, seed: number, signal: AbortSignal): Promise<void> {
    for (const [index, drawn] of this.#seeds.entries()) {
      if (drawn === seed || !this.#knows(index)) continue;
      this.#clear(index, 'aligned');
      await this.#draw(runtime, index, 'base', seed, signal);
      this.#seeds[index] = seed;
    }
  }

  /** A model of another world lacks some of the words; the other prompts are drawn all the same. */
  #knows(index: number): boolean {
    if (this.#unknown.has(index)) return false;
    const known = PROMPTS[index]?.split(' ').every((word) => this.lab.info?.vocabulary.includes(word));
    if (known) return true;
    this.#unknown.add(index);
    this.#clear(index, 'base');
    this.#clear(index, 'aligned');
    this.#screens[index]?.base.canvas.previousElementSibling?.append(' (words it does not know)');
    return false;
  }

  /** Takes away what the aligned model drew, and what was recorded. */
  clear(): void {
    for (const [index, seed] of this.#seeds.entries()) {
      this.#clear(index, 'aligned');
      if (seed === null) this.#clear(index, 'base');
    }
  }

  async #draw(runtime: Runtime, index: number, who: Weights, seed: number, signal: AbortSignal): Promise<void> {
    const options = { seed, steps: STEPS, weights: who, preview: 0, signal };
    for await (const { pictures } of runtime.generate(PROMPTS[index] as string, options)) {
      if (pictures?.[0]) this.show(index, who, pictures[0]);
    }
  }

  #clear(index: number, who: Weights): void {
    this.#screens[index]?.[who].clear(notDrawn(PROMPTS[index] as string, who));
  }
}
