/** Pictures of the page's own: rows of samples to pick from, and results that were recorded. */
import { RecaError } from '../runtime';
import { element, make } from './dom';
import type { Sample } from './lab';

/** A picture that the model is to look at. */
export interface Given {
  file: Blob;
  /** What the model sees of it. */
  square: ImageData | ImageBitmap;
  /** Null for one of the user's. */
  sample: Sample | null;
}

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

export async function given(sample: Sample): Promise<Given> {
  const file = await picture(sample.file);
  return { file, square: await createImageBitmap(file), sample };
}

/** A recorded picture. */
export async function picture(file: string): Promise<Blob> {
  const answer = await fetch(`recorded/${file}`).catch(() => null);
  if (!answer?.ok) throw new RecaError('network', `recorded/${file} could not be fetched`);
  return answer.blob();
}

/** Recorded results, or null where they cannot all be had: the page goes on without. */
export async function results(files: string[]): Promise<ImageBitmap[] | null> {
  try {
    return await Promise.all(files.map(async (file) => createImageBitmap(await picture(file))));
  } catch {
    return null;
  }
}
