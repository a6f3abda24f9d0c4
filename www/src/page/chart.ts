/** The loss curve: every step's loss, and their running mean. */
import { element } from './dom';

const [WIDTH, HEIGHT, MARGIN] = [400, 200, 10];
/** Share of the past in the running mean. */
const KEPT = 0.9;

/** Draws the losses of `steps` steps; those to come leave room. */
export function chart(losses: number[], steps: number): void {
  const means = running(losses);
  const sorted = [...losses].sort((a, b) => a - b);
  const high = sorted[Math.floor(sorted.length * 0.98)] ?? 1;
  const low = sorted[0] ?? 0;
  const points = (values: number[]) =>
    values
      .map((value, i) => {
        const x = MARGIN + ((WIDTH - 2 * MARGIN) * i) / Math.max(1, steps - 1);
        const height = Math.min(1, (value - low) / Math.max(1e-9, high - low));
        return `${x.toFixed(1)},${(HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * height).toFixed(1)}`;
      })
      .join(' ');
  document.getElementById('chart-raw')?.setAttribute('points', points(losses));
  document.getElementById('chart-mean')?.setAttribute('points', points(means));
  const [first, last] = [means[0], means.at(-1)];
  // For the recorder of the results that the page comes with.
  element('chart-note', HTMLElement).dataset['losses'] = JSON.stringify(losses.map((loss) => Number(loss.toFixed(4))));
  const note = first === undefined || last === undefined ? '' : `Mean ${first.toFixed(3)} → ${last.toFixed(3)}`;
  element('chart-note', HTMLElement).textContent = note;
  document.getElementById('chart')?.setAttribute('aria-label', note ? `Loss over ${losses.length} steps: ${note}` : 'Loss: no steps yet');
}

function running(losses: number[]): number[] {
  let mean = 0;
  let weight = 0;
  return losses.map((loss) => {
    mean = KEPT * mean + (1 - KEPT) * loss;
    weight = KEPT * weight + (1 - KEPT);
    return mean / weight;
  });
}
