/** Before and after, counted: a table of GenEval's categories that fills prompt by prompt. */
import type { Evaluated, Share, Weights } from '../runtime';
import { Status, button, duration, element, handOver, make } from './dom';
import { type Lab, stoppable } from './lab';
import { attempt } from './report';

const ROWS: Record<string, string> = {
  single_object: 'One object',
  two_object: 'Two objects',
  counting: 'Counts',
  colors: 'Colours',
  position: 'Places',
  color_attr: 'Colours of two',
  overall: 'Overall',
};
const COLUMNS: Weights[] = ['base', 'aligned'];

export function scores(lab: Lab): void {
  const status = new Status('score-status');
  const form = element('score-form', HTMLFormElement);
  const bar = element('score-bar', HTMLProgressElement);
  const [start, stop] = [button('score-start'), button('score-stop')];
  const number = (id: string) => Number((document.getElementById(id) as HTMLInputElement).value);
  const cells = new Map<string, HTMLTableCellElement>();
  let controller: AbortController | null = null;
  /** Whether there are other aligned weights than those that are being counted. */
  let changed = false;
  /** The base's counts, which stay right for the same settings. */
  let base: { settings: string; counts: Evaluated } | null = null;

  const rows = Object.entries(ROWS).map(([row, name]) => {
    const columns = COLUMNS.map((weights) => {
      const cell = make('td', { id: `score-${weights}-${row}`, textContent: '–' });
      cells.set(`${weights} ${row}`, cell);
      return cell;
    });
    return make('tr', {}, make('th', { scope: 'row', textContent: name }), ...columns);
  });
  element('scores-rows', HTMLTableSectionElement).replaceChildren(...rows);

  function clear(weights: Weights): void {
    for (const row of Object.keys(ROWS)) cells.get(`${weights} ${row}`)?.replaceChildren('–');
  }

  function show(weights: Weights, row: string, { mean, low, high }: Share, counted: string): void {
    const range = make('small', { textContent: `${percent(low)} to ${percent(high)}${counted}` });
    cells.get(`${weights} ${row}`)?.replaceChildren(percent(mean), range);
  }

  function fill(weights: Weights, { categories, overall }: Evaluated): void {
    for (const { category, share, correct, pictures } of categories) {
      show(weights, category, share, `, ${correct} of ${pictures}`);
    }
    show(weights, 'overall', overall, '');
  }

  async function count(signal: AbortSignal): Promise<void> {
    const options = { perCategory: number('score-prompts'), seeds: number('score-pictures'), seed: number('align-seed') };
    const settings = JSON.stringify(options);
    status.tell(lab.loaded ? 'The scorer is being opened…' : 'The model is still on its way…');
    const runtime = await stoppable(lab.scorer(), signal);
    COLUMNS.forEach(clear);
    let skipped = 0;
    for (const weights of COLUMNS) {
      if (weights === 'aligned' && !lab.aligned) continue;
      if (weights === 'base' && base?.settings === settings) {
        fill('base', base.counts);
        continue;
      }
      changed = false;
      status.tell(`Counting with the ${weights} weights…`);
      const begun = performance.now();
      for await (const counts of runtime.evaluate({ ...options, weights, signal })) {
        fill(weights, counts);
        const { done, prompts } = counts;
        bar.value = done / prompts;
        const left = (((performance.now() - begun) / 1000) * (prompts - done)) / done;
        status.count(`Prompt ${done} of ${prompts}, ${duration(left)} left.`);
        if (weights === 'base' && done === prompts) base = { settings, counts };
        skipped = counts.skipped;
      }
    }
    const without = skipped ? ` ${skipped} prompts with words that it does not know are left out.` : '';
    const missing = lab.aligned ? 'The aligned weights have changed meanwhile: count' : 'Align, and count';
    status.tell(`Counted.${without}${lab.aligned && !changed ? '' : ` ${missing} again for the second column.`}`);
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    const current = new AbortController();
    controller = current;
    handOver(start, stop);
    void attempt(() => count(current.signal), form).finally(() => {
      if (current.signal.aborted) status.tell('Stopped; what is counted so far stays.');
      else if (!status.text.startsWith('Counted')) status.tell('Not counted.');
      if (changed) clear('aligned');
      handOver(stop, start);
      controller = null;
    });
  });
  stop.addEventListener('click', () => controller?.abort());
  // Counts of other weights than there are now would mislead.
  document.addEventListener('aligned', () => {
    changed = true;
    if (!controller) clear('aligned');
  });
}

const percent = (share: number) => String(Math.round(100 * share));
