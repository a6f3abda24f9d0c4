/** Rows of sample pictures to pick from. */
import { element, make } from './dom';
import type { Sample } from './lab';

/** Fills a row; `pick` is called with the sample's number. */
export function row(id: string, samples: Sample[], pick: (index: number) => void): (chosen: number) => void {
  const buttons = samples.map(({ file, caption }, index) => {
    const image = make('img', { src: `recorded/${file}`, alt: caption, width: 64, height: 64 });
    const made = make('button', { type: 'button', title: caption, ariaPressed: 'false' }, image);
    made.addEventListener('click', () => pick(index));
    return made;
  });
  element(id, HTMLElement).replaceChildren(...buttons);
  return (chosen) => buttons.forEach((button, index) => (button.ariaPressed = String(index === chosen)));
}

/** A recorded picture. */
export async function picture(file: string): Promise<Blob> {
  return (await fetch(`recorded/${file}`)).blob();
}
