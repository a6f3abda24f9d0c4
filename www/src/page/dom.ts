/** The page's elements, by id and type. */

type Constructor<T> = new () => T;

/** The element of an id; that the page lacks it is a defect. */
export function element<T extends HTMLElement>(id: string, type: Constructor<T>): T {
  const found = document.getElementById(id);
  if (found instanceof type) return found;
  throw new Error(`#${id} is not a ${type.name}`);
}

/** A canvas that shows pictures in their own resolution. */
export class Screen {
  readonly #canvas: HTMLCanvasElement;

  constructor(id: string) {
    this.#canvas = element(id, HTMLCanvasElement);
  }

  show(picture: ImageData, label: string): void {
    const { width, height } = picture;
    if (this.#canvas.width !== width || this.#canvas.height !== height) {
      Object.assign(this.#canvas, { width, height });
    }
    this.#canvas.getContext('2d')?.putImageData(picture, 0, 0);
    this.#canvas.ariaLabel = label;
  }

  clear(label: string): void {
    this.#canvas.getContext('2d')?.clearRect(0, 0, this.#canvas.width, this.#canvas.height);
    this.#canvas.ariaLabel = label;
  }
}
