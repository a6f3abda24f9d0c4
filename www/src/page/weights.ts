/** The aligned weights: how far they are taken; kept by name, taken out and brought in. */
import { confirmed, mayLose } from './confirm';
import { button, element, input, save, slug } from './dom';
import { type Lab, stoppable } from './lab';
import { attempt } from './report';
import { state } from './state';

/** Wires the controls; `changed` shows what there is now, and says what has come if anything has. Returns what
 * says whether there are aligned weights. */
export function weights(lab: Lab, changed: (told?: string) => Promise<void>): (there: boolean) => void {
  const kept = element('kept', HTMLSelectElement);
  const told = element('kept-status', HTMLElement);
  const tools = element('weights-tools', HTMLElement);
  const share = input('share');
  let fetching: AbortController | null = null;
  const shown = () => (element('share-shown', HTMLOutputElement).textContent = `${Math.round(100 * share.valueAsNumber)} %`);

  function ready(there: boolean): void {
    // What is fetched would take the place of others than those that it was to.
    fetching?.abort();
    lab.aligned = there;
    document.dispatchEvent(new CustomEvent('aligned'));
    for (const control of ['keep', 'export', 'reset'].map(button)) {
      if (!there && control === document.activeElement) button('align-start').focus();
      control.disabled = !there;
    }
    share.disabled = !there;
    const choice = element('weights', HTMLSelectElement);
    const option = choice.querySelector<HTMLOptionElement>('[value=aligned]');
    if (option) option.disabled = !there;
    if (there) return;
    choice.value = 'base';
    state.set('draw', { weights: null });
  }

  /** Weights that are stored elsewhere, too, have come, or those that there were have gone. */
  async function replaced(there: boolean, by: string): Promise<void> {
    share.value = '1';
    shown();
    lab.unsaved = false;
    ready(there);
    await changed(by);
  }

  async function list(): Promise<void> {
    const names = await (await lab.runtime).kept();
    kept.replaceChildren(...(names.length ? names : ['none']).map((name) => new Option(name)));
    for (const control of [kept, button('kept-take'), button('kept-delete')]) {
      if (!names.length && control === document.activeElement) input('keep-name').focus();
      control.disabled = !names.length;
    }
  }

  const act = (id: string, work: () => Promise<void>, by = tools) => button(id).addEventListener('click', () => void attempt(work, by));
  act('keep', async () => {
    const name = input('keep-name').value.trim();
    const runtime = await lab.runtime;
    const same = (await runtime.kept()).includes(name);
    if (same && !(await confirmed('Replace the kept weights?', `Others are kept as “${name}”. They are lost.`, 'Replace them'))) return;
    await runtime.keep(name);
    lab.unsaved = false;
    await list();
    kept.value = name;
    told.textContent = `Kept on this machine as “${name}”.`;
  });
  act('export', async () => {
    save(await (await lab.runtime).export('aligned'), `${slug(input('keep-name').value) || 'aligned'}.safetensors`);
    lab.unsaved = false;
  });
  act('reset', async () => {
    if (!(await mayLose(lab))) return;
    await (await lab.runtime).reset();
    await replaced(false, 'Nothing is aligned yet.');
  });
  act('kept-take', async () => {
    const name = kept.value;
    if (!(await mayLose(lab))) return;
    await (await lab.runtime).take(name);
    await replaced(true, `The aligned weights are those kept as “${name}”.`);
  });
  act('kept-delete', async () => {
    const name = kept.value;
    if (!(await confirmed('Delete the kept weights?', `Only a file that was exported brings back those kept as “${name}”.`, 'Delete them'))) return;
    await (await lab.runtime).discard(name);
    await list();
    told.textContent = `“${name}” is deleted.`;
  });
  share.addEventListener('input', shown);
  share.addEventListener('change', () =>
    void attempt(async () => {
      await (await lab.runtime).interpolate(share.valueAsNumber);
      document.dispatchEvent(new CustomEvent('aligned'));
      await changed();
    }, element('share-field', HTMLElement)),
  );
  const file = input('import');
  file.addEventListener('change', () =>
    void attempt(async () => {
      const chosen = file.files?.[0];
      file.value = '';
      if (!chosen || !(await mayLose(lab))) return;
      await (await lab.runtime).import(chosen);
      await replaced(true, `The aligned weights are those of ${chosen.name}.`);
    }, tools),
  );
  act('shipped', async () => {
    if (fetching) return fetching.abort();
    if (!(await mayLose(lab))) return;
    const shipped = button('shipped');
    const { textContent } = shipped;
    fetching = new AbortController();
    const { signal } = fetching;
    shipped.textContent = 'Stop fetching';
    try {
      const runtime = await stoppable(lab.runtime, signal);
      await runtime.takeShipped({
        signal,
        onProgress: ({ loaded, total }) => (shipped.textContent = `Stop fetching, at ${Math.round((100 * loaded) / total)} %`),
      });
    } finally {
      fetching = null;
      shipped.textContent = textContent;
    }
    await replaced(true, 'Aligned beforehand by RecA: the model’s card says how.');
  }, element('align-form', HTMLElement));
  void list().catch(() => {});
  return ready;
}
