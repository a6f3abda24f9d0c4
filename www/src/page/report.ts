/** Failures on the page: said where the user looks, never swallowed. */
import { RecaError } from '../runtime';
import { button, element } from './dom';

const top = element('main', HTMLElement);
const place = element('error', HTMLParagraphElement);
const dialog = element('failure', HTMLDialogElement);

/** What a report tells beside the failure. */
export const facts: Record<string, string> = {};

/** After these the page cannot go on; and without its model it cannot begin. */
const FATAL = new Set(['internal', 'device_lost', 'out_of_memory']);
const FATAL_AT_START = new Set([...FATAL, 'weights_hash', 'weights_shape', 'weights_format', 'network']);

/** What helps where a file did not come; once the model did not, nothing less does. */
export const connection = { remedy: 'check the connection and try again' };

type Work = () => Promise<void>;

/** Runs what a control asks for; shows below `by` what goes wrong. Being cancelled is not wrong. */
export const attempt = (work: Work, by?: HTMLElement): Promise<void> => run(work, FATAL, by);

/** Runs what loads the model. */
export const attemptStart = (work: Work): Promise<void> => run(work, FATAL_AT_START);

async function run(work: Work, fatal: Set<string>, by?: HTMLElement): Promise<void> {
  place.hidden = true;
  try {
    await work();
  } catch (thrown) {
    if (!(thrown instanceof RecaError) || fatal.has(thrown.code)) fail(thrown);
    else if (thrown.code !== 'aborted') tell(thrown, by);
  }
}

function tell({ code, message }: RecaError, by?: HTMLElement): void {
  // Below a control of another panel nobody would see it.
  if (by && !by.closest('[hidden]')) by.after(place);
  else top.prepend(place);
  const remedy = code === 'network' ? `; ${connection.remedy}` : '';
  place.textContent = `${message}${remedy} (${code})`;
  place.hidden = false;
  place.scrollIntoView({ block: 'nearest' });
}

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
  const copy = button('failure-copy');
  // Only a secure page may write there; the report can be selected all the same.
  copy.hidden = !('clipboard' in navigator);
  copy.addEventListener('click', () => {
    void navigator.clipboard.writeText(element('failure-report', HTMLElement).textContent ?? '');
  });
  button('report-open').addEventListener('click', () => {
    show('Report', 'What to send along with the description of a defect.', 'It holds no picture and no prompt but those in the address.');
  });
}
