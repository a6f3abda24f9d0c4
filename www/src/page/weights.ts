/** The aligned weights: how far they are taken; kept by name, taken out and brought in. */
import { chart } from './chart';
import { button, element, input, save, slug } from './dom';
import type { Lab } from './lab';
import { attempt } from './report';

/** Wires the controls; `changed` redraws. Returns what says whether there are aligned weights. */
export function weights(lab: Lab, changed: () => Promise<void>): (there: boolean) => void {
  const kept = element('kept', HTMLSelectElement);
  const share = input('share');
  const shown = () => (element('share-shown', HTMLOutputElement).textContent = `${Math.round(100 * share.valueAsNumber)} %`);

  function ready(there: boolean): void {
    lab.aligned = there;
    document.dispatchEvent(new CustomEvent('aligned'));
    for (const id of ['keep', 'export', 'reset']) button(id).disabled = !there;
    share.disabled = !there;
    const option = element('weights', HTMLSelectElement).querySelector<HTMLOptionElement>('[value=aligned]');
    if (option) option.disabled = !there;
    if (!there) element('weights', HTMLSelectElement).value = 'base';
  }

  async function list(): Promise<void> {
    const names = await (await lab.runtime).kept();
    kept.replaceChildren(new Option('kept weights…', ''), ...names.map((name) => new Option(name)));
    kept.disabled = names.length === 0;
  }

  const act = (id: string, work: () => Promise<void>) => button(id).addEventListener('click', () => void attempt(work));
  act('keep', async () => {
    await (await lab.runtime).keep(input('keep-name').value.trim());
    await list();
  });
  act('export', async () => save(await (await lab.runtime).export('aligned'), `${slug(input('keep-name').value)}.safetensors`));
  act('reset', async () => {
    await (await lab.runtime).reset();
    share.value = '1';
    shown();
    ready(false);
  });
  kept.addEventListener('change', () => {
    if (!kept.value) return;
    void attempt(async () => {
      await (await lab.runtime).take(kept.value);
      ready(true);
      await changed();
    });
  });
  share.addEventListener('input', shown);
  share.addEventListener('change', () =>
    void attempt(async () => {
      await (await lab.runtime).interpolate(share.valueAsNumber);
      document.dispatchEvent(new CustomEvent('aligned'));
      await changed();
    }),
  );
  const file = input('import');
  file.addEventListener('change', () =>
    void attempt(async () => {
      const chosen = file.files?.[0];
      file.value = '';
      if (!chosen) return;
      await (await lab.runtime).import(chosen);
      ready(true);
      await changed();
    }),
  );
  act('shipped', async () => {
    const shipped = button('shipped');
    const { textContent } = shipped;
    shipped.disabled = true;
    try {
      await (await lab.runtime).takeShipped({
        onProgress: ({ loaded, total }) => (shipped.textContent = `Fetching, ${Math.round((100 * loaded) / total)} %`),
      });
      shipped.textContent = textContent;
      ready(true);
      element('align-status', HTMLElement).textContent = 'Aligned beforehand by RecA, for thousands of steps: the model’s card says how.';
      chart([], 1);
      element('chart-note', HTMLElement).textContent = 'None is recorded for weights that were fetched.';
      await changed();
    } finally {
      Object.assign(shipped, { textContent, disabled: false });
    }
  });
  void list().catch(() => {});
  return ready;
}
