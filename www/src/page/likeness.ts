/** How well labels fit a picture, as bars, and where: the cosines of its patches over it. */
import type { CosineMap, Encoder, LabelScores } from '../runtime';
import { Screen, element, make } from './dom';

export class Likeness {
  readonly #seen = new Screen('encoder-seen');
  readonly #map = new Screen('encoder-map');
  readonly #of = element('map-of', HTMLSelectElement);
  #asked: { encoder: Encoder; picture: Blob } | null = null;

  /** Asks about a picture anew; without a text tower there is only the map. */
  async show(encoder: Encoder, picture: Blob, labels: string[]): Promise<void> {
    this.#asked = { encoder, picture };
    element('labels-form', HTMLElement).hidden = !encoder.info.labels;
    this.#seen.show(await encoder.fit(picture), 'the picture as the encoder sees it');
    const bars = element('label-bars', HTMLOListElement);
    if (encoder.info.labels) {
      const scores = await encoder.zeroShot(picture, labels);
      bars.replaceChildren(...rows(labels, scores));
      element('label-note', HTMLElement).textContent =
        scores.kind === 'softmax' ? 'CLIP shares 100 % among the labels.' : 'SigLIP judges each label by itself.';
    } else {
      bars.replaceChildren();
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
    const { encoder, picture } = this.#asked;
    const label = this.#of.value;
    const cosines = await encoder.cosineMap(picture, label ? { label } : {});
    const { low, high, at } = range(cosines);
    const of = label ? `“${label}”` : 'the whole picture';
    const place = `row ${Math.floor(at / cosines.columns) + 1}, column ${(at % cosines.columns) + 1}`;
    this.#map.show(coloured(cosines, low, high), `patches like ${of}: most at ${place} of ${cosines.rows} × ${cosines.columns}`);
    element('map-note', HTMLElement).textContent = `Cosines ${low.toFixed(3)} (dark) to ${high.toFixed(3)} (bright).`;
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
