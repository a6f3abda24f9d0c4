/** Asks before something is lost, in a dialog of the page's own: in a frame of another site browsers show none
 * of theirs. */
import { button, element } from './dom';
import type { Lab } from './lab';

const dialog = element('confirm', HTMLDialogElement);
button('confirm-yes').addEventListener('click', () => dialog.close('yes'));
button('confirm-no').addEventListener('click', () => dialog.close());

/** The question before; another waits for its answer. */
let before: Promise<unknown> = Promise.resolve();

/** Whether the user agrees; `yes` is what the button says that does. */
export function confirmed(title: string, what: string, yes: string): Promise<boolean> {
  const answer = before.then(() => ask(title, what, yes));
  before = answer;
  return answer;
}

function ask(title: string, what: string, yes: string): Promise<boolean> {
  element('confirm-title', HTMLElement).textContent = title;
  element('confirm-what', HTMLElement).textContent = what;
  button('confirm-yes').textContent = yes;
  dialog.returnValue = '';
  dialog.showModal();
  button('confirm-no').focus();
  return new Promise((resolve) => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}

/** Whether the aligned weights may go; asks if they are nowhere else, or are just being learned. */
export async function mayLose({ unsaved, aligning }: Lab): Promise<boolean> {
  if (!unsaved && !aligning) return true;
  return confirmed('Give up the aligned weights?', 'They are nowhere but in this tab. Keep or export them first, or they are lost.', 'Give them up');
}
