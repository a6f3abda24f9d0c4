/** Failures on the page: said where the user looks, never swallowed. */
import { RecaError } from '../runtime';
import { button, element } from './dom';

const place = element('error', HTMLParagraphElement);
const dialog = element('failure', HTMLDialogElement);

/** What a report tells beside the failure. */
export const facts: Record<string, string> = {};

/** Runs what a control asks for; shows what goes wrong. Being cancelled is not wrong. */
export async function attempt(work: () => Promise<void>): Promise<void> {
  place.hidden = true;
  try {
    await work();
  } catch (thrown) {
    if (thrown instanceof RecaError && thrown.code === 'aborted') return;
    if (thrown instanceof RecaError && !FATAL.has(thrown.code)) {
      place.textContent = `${thrown.message} (${thrown.code})`;
      place.hidden = false;
      place.scrollIntoView({ block: 'nearest' });
    } else {
      fail(thrown);
    }
  }
}

const FATAL = new Set(['internal', 'device_lost', 'out_of_memory', 'weights_hash', 'weights_shape', 'weights_format', 'network']);

const REMEDIES: Record<string, string> = {
  device_lost: 'The graphics device went away. Reload the page; ?backend=cpu in its address avoids the GPU.',
  out_of_memory: 'Close other tabs and reload the page.',
  network: 'Check the connection and reload the page.',
  weights_hash: 'The model was not downloaded whole. Reload the page to fetch it again.',
};

/** The screen for what cannot be mended here. */
export function fail(thrown: unknown): void {
  const { code, message } = thrown instanceof RecaError ? thrown : { code: 'internal', message: String(thrown) };
  show('Something broke', message, REMEDIES[code] ?? 'This is a defect of this page. Reload it to go on; nothing that was kept is lost.', thrown);
}

function show(title: string, what: string, remedy: string, thrown?: unknown): void {
  element('failure-title', HTMLElement).textContent = title;
  element('failure-what', HTMLElement).textContent = what;
  element('failure-remedy', HTMLElement).textContent = remedy;
  const lines = { ...facts, page: location.href, browser: navigator.userAgent, time: new Date().toISOString() };
  const told = Object.entries(lines).map(([name, value]) => `${name}: ${value}`);
  if (thrown) told.unshift(`failure: ${thrown instanceof RecaError ? `${thrown.code}: ` : ''}${String(thrown)}`);
  element('failure-report', HTMLElement).textContent = told.join('\n');
  if (!dialog.open) dialog.showModal();
}

export function reports(): void {
  button('failure-reload').addEventListener('click', () => location.reload());
  button('failure-close').addEventListener('click', () => dialog.close());
  button('failure-copy').addEventListener('click', () => {
    void navigator.clipboard.writeText(element('failure-report', HTMLElement).textContent ?? '');
  });
  button('report-open').addEventListener('click', () => {
    show('Report', 'What to send along with the description of a defect.', 'It holds no picture and no prompt but those in the address.');
  });
}
