/** The page's elements, by id and type, and pictures on canvases. */

type Constructor<T> = new () => T;

/** The element of an id; that the page lacks it is a defect. */
export function element<T extends HTMLElement>(id: string, type: Constructor<T>): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`#${id} is not a ${type.name}`);
}

export const input = (id: string) => element(id, HTMLInputElement);
export const button = (id: string) => element(id, HTMLButtonElement);

/** A new element with properties and children. */
export function make<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Partial<HTMLElementTagNameMap[K]> = {},
  ...children: (Node | string)[]
): HTMLElementTagNameMap[K] {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** Puts small buttons into a group, each with what it does. */
export function chips(id: string, texts: string[], act: (text: string) => void): void {
  const made = texts.map((textContent) => {
    const chip = make('button', { type: 'button', textContent });
    chip.addEventListener('click', () => act(textContent));
    return chip;
  });
  element(id, HTMLElement).replaceChildren(...made);
}

/** A line that is read aloud when it changes, and figures beside it, `#ID-figures`, that are not. */
export class Status {
  readonly #line: HTMLElement;
  readonly #figures: HTMLElement;

  constructor(id: string) {
    this.#line = element(id, HTMLElement);
    this.#figures = element(`${id}-figures`, HTMLElement);
  }

  get text(): string {
    return this.#line.textContent ?? '';
  }

  tell(text: string): void {
    // The same text, written anew, would be read anew.
    if (text !== this.text) this.#line.textContent = text;
    this.count('');
  }

  count(figures: string): void {
    this.#figures.textContent = figures;
  }
}

/** Lets one button be pressed in the place of another, or of what is hidden then; the focus would be lost with it. */
export function handOver(from: HTMLElement, to: HTMLButtonElement): void {
  const focused = from.contains(document.activeElement);
  to.disabled = false;
  if (focused) to.focus();
  if (from instanceof HTMLButtonElement) from.disabled = true;
  else from.hidden = true;
}

/** A canvas that shows pictures in their own resolution. */
export class Screen {
  readonly canvas: HTMLCanvasElement;

  constructor(canvas: string | HTMLCanvasElement) {
    this.canvas = typeof canvas === 'string' ? element(canvas, HTMLCanvasElement) : canvas;
  }

  show(picture: ImageData | ImageBitmap, label: string): void {
    const { width, height } = picture;
    if (this.canvas.width !== width || this.canvas.height !== height) Object.assign(this.canvas, { width, height });
    const context = this.canvas.getContext('2d');
    if (picture instanceof ImageData) context?.putImageData(picture, 0, 0);
    else context?.drawImage(picture, 0, 0);
    this.canvas.ariaLabel = label;
  }

  clear(label: string): void {
    this.canvas.getContext('2d')?.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.canvas.ariaLabel = label;
  }

  /** A PNG file of the picture, `scale` times as large. */
  file(scale: number): Promise<Blob> {
    const large = new OffscreenCanvas(this.canvas.width * scale, this.canvas.height * scale);
    const context = large.getContext('2d');
    if (context) {
      context.imageSmoothingQuality = 'high';
      context.drawImage(this.canvas, 0, 0, large.width, large.height);
    }
    return large.convertToBlob({ type: 'image/png' });
  }
}

/** Offers a file for download. */
export function save(file: Blob, name: string): void {
  const url = URL.createObjectURL(file);
  make('a', { href: url, download: name }).click();
  // Whoever is asked where to put it takes a while.
  setTimeout(() => URL.revokeObjectURL(url), 600_000);
}

/** A time to come, in words. */
export const duration = (seconds: number) => (seconds < 90 ? `${Math.ceil(seconds)} s` : `${Math.round(seconds / 60)} min`);

/** A file name of words, in any script. */
export const slug = (text: string) => text.toLowerCase().replace(/[^\p{L}\p{M}\p{N}]+/gu, '-').replace(/^-|-$/g, '');
