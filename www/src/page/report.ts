/** Failures on the page: said where the user looks, never swallowed. */
import { RecaError } from '../runtime';
import { element } from './dom';

const place = element('error', HTMLParagraphElement);

/** Runs what a control asks for; shows what goes wrong. Being cancelled is not wrong. */
export async function attempt(work: () => Promise<void>): Promise<void> {
  place.hidden = true;
  try {
    await work();
  } catch (thrown) {
    if (thrown instanceof RecaError && thrown.code === 'aborted') return;
    place.textContent = describe(thrown);
    place.hidden = false;
  }
}

function describe(thrown: unknown): string {
  if (!(thrown instanceof RecaError)) return `This page has a defect: ${String(thrown)}`;
  if (thrown.code === 'internal') return `This program has a defect: ${thrown.message} Reload the page to go on.`;
  return `${thrown.message} (${thrown.code})`;
}
