/** How well labels fit a picture, as bars, and where: the cosines of its patches over it. */
import type { CosineMap, Encoder, LabelScores } from '../runtime';
import { Screen, element, make } from './dom';

export class Likeness {
  readonly #seen = new Screen('encoder-seen');
  readonly #map = new Screen('encoder-map');
  readonly #of = element('map-of', HTMLSelectElement);
  readonly #bars = element('label-bars', HTMLOListElement);
  readonly #labelNote = element('label-note', HTMLElement);
  readonly #mapNote = element('map-note', HTMLElement);
  #asked: { encoder: Encoder; picture: Blob } | null = null;

  /** Asks about a picture anew; without a text tower there is only the map. */
  async show(encoder: Encoder, picture: Blob, labels: string[]): Promise<void> {
    const asked = { encoder, picture };
    this.#asked = asked;
    element('labels-form', HTMLElement).hidden = !encoder.info.labels;
    this.#clear('Looking…');
    try {
      const seen = await encoder.fit(picture);
      if (this.#asked !== asked) return;
      this.#seen.show(seen, 'the picture as the encoder sees it');
      const scores = encoder.info.labels ? await encoder.zeroShot(picture, labels) : null;
      if (this.#asked !== asked) return;
      if (scores) {
        this.#bars.replaceChildren(...rows(labels, scores));
        this.#labelNote.textContent = scores.kind === 'softmax' ? 'CLIP shares 100 % among the labels.' : 'SigLIP judges each label by itself.';
      }
    } catch (thrown) {
      if (this.#asked === asked) this.#clear('');
      throw thrown;
    }
    const chosen = this.#of.value;
    const texts = encoder.info.labels ? labels : [];
    this.#of.replaceChildren(new Option('the whole picture', ''), ...texts.map((label) => new Option(`“${label}”`, label)));
    this.#of.value = texts.includes(chosen) ? chosen : '';
    await this.map();
  }

  /** Shows the cosines with what is chosen. */
  async map(): Promise<void> {
    if (!this.#asked) return;
    const asked = this.#asked;
    const { encoder, picture } = asked;
    const label = this.#of.value;
    const cosines = await encoder.cosineMap(picture, label ? { label } : {});
    if (this.#asked !== asked) return;
    const { low, high, at } = range(cosines);
    const of = label ? `“${label}”` : 'the whole picture';
    const place = `row ${Math.floor(at / cosines.columns) + 1}, column ${(at % cosines.columns) + 1}`;
    this.#map.show(coloured(cosines, low, high), `patches like ${of}: most at ${place} of ${cosines.rows} × ${cosines.columns}`);
    this.#mapNote.textContent = `Cosines ${low.toFixed(3)} (dark) to ${high.toFixed(3)} (bright).`;
  }

  /** Takes away what was found of another picture. */
  #clear(told: string): void {
    this.#bars.replaceChildren();
    this.#map.clear('no map yet');
    this.#labelNote.textContent = '';
    this.#mapNote.textContent = told;
  }
}

/** One bar a label, the best first. */
function rows(labels: string[], { scores }: LabelScores): HTMLLIElement[] {
  const scored = labels.map((label, i) => ({ label, score: scores[i] ?? 0 }));
  scored.sort((a, b) => b.score - a.score);
  return scored.map(({ label, score }) => {
    const percent = `${(100 * score).toFixed(1)} %`;
    const meter = make('meter', { max: 1, value: score, textContent: percent });
    meter.setAttribute('aria-hidden', 'true');
    return make('li', {}, make('span', { textContent: label }), make('b', { textContent: percent }), meter);
  });
}

function range({ values }: CosineMap): { low: number; high: number; at: number } {
  const [low, high] = [Math.min(...values), Math.max(...values)];
  return { low, high, at: values.indexOf(high) };
}

/** One pixel a patch, from dark blue to bright yellow; the brighter, the more of the picture shows through. */
function coloured({ rows, columns, values }: CosineMap, low: number, high: number): ImageData {
  const picture = new ImageData(columns, rows);
  values.forEach((value, i) => {
    const share = high > low ? (value - low) / (high - low) : 0.5;
    picture.data.set([255 * share, 30 + 200 * share, 90 - 60 * share, 210 - 100 * share], 4 * i);
  });
  return picture;
}
