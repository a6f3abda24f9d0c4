/** A picture from its embeddings alone: mixed with another's, some switched off. */
import { RecaError } from '../runtime';
import { Screen, button, element, input, make, save } from './dom';
import type { Lab, Sample } from './lab';
import { attempt } from './report';
import { picture, row } from './samples';
import { bind, state } from './state';

const TOKENS = 16;

/** Returns what makes a picture the one to redraw. */
export async function redrawPanel(lab: Lab): Promise<(image: Blob, sample: Sample | null) => void> {
  const status = element('redraw-status', HTMLElement);
  const stop = button('redraw-stop');
  const original = new Screen('original');
  const redrawing = new Screen('redrawing');
  const off = new Set((state.get('redraw', 'off') ?? '').split(',').filter(Boolean).map(Number));
  let image: Blob | null = null;
  /** Embeddings from a file, in the place of a picture's. */
  let own: Float32Array | null = null;
  let controller: AbortController | null = null;

  const { samples } = await lab.recorded;
  const markFirst = row('redraw-samples', samples, (index) => void attempt(async () => {
    const sample = samples[index];
    if (!sample) return;
    await choose(await picture(sample.file), sample);
    await redraw();
  }));
  let second = Number(state.get('redraw', 'with') ?? 1);
  const markSecond = row('mix-samples', samples, (index) => {
    second = index;
    markSecond(index);
    state.set('redraw', { with: String(index) });
    if (Number(input('mix').value) === 0) mixTo(50);
    void attempt(redraw);
  });
  markSecond(second);

  async function choose(blob: Blob, sample: Sample | null): Promise<void> {
    image = blob;
    own = null;
    markFirst(sample ? samples.indexOf(sample) : -1);
    original.show(await createImageBitmap(blob), sample?.caption ?? 'the picture');
    if (!sample) return;
    redrawing.show(await createImageBitmap(await picture(sample.redrawn)), `redrawn: ${sample.caption}`);
    element('redraw-recorded', HTMLElement).hidden = false;
    status.textContent = `PSNR ${sample.psnr.toFixed(1)} dB`;
  }

  async function embeddings(signal: AbortSignal): Promise<Float32Array> {
    const runtime = await lab.runtime;
    if (!image && !own) throw new RecaError('bad_input', 'choose a picture first');
    const values = Float32Array.from(own ?? (await runtime.embed(image as Blob, { signal })));
    const share = Number(input('mix').value) / 100;
    const other = samples[second];
    if (share > 0 && other) {
      const mixed = await runtime.embed(await picture(other.file), { signal });
      values.forEach((value, i) => (values[i] = (1 - share) * value + share * (mixed[i] ?? 0)));
    }
    if (off.size > 0) {
      // What stands there for an empty picture says "nothing here"; zeros would say nothing known.
      const empty = await runtime.embed(await blank(), { signal });
      const width = values.length / TOKENS;
      for (const token of off) values.set(empty.subarray(token * width, (token + 1) * width), token * width);
    }
    return values;
  }

  async function redraw(): Promise<void> {
    controller?.abort();
    const current = new AbortController();
    controller = current;
    const { signal } = current;
    stop.disabled = false;
    try {
      status.textContent = lab.loaded ? 'Redrawing…' : 'The model is still on its way…';
      const runtime = await lab.runtime;
      const source = await embeddings(signal);
      element('redraw-recorded', HTMLElement).hidden = true;
      const seed = Number(input('redraw-seed').value);
      for await (const { kind, step, steps, pictures } of runtime.reconstruct(source, { seed, steps: 16, signal })) {
        const made = pictures?.[0];
        if (made) redrawing.show(made, `redrawn, step ${step} of ${steps}`);
        status.textContent = `Step ${step} of ${steps}`;
        if (kind !== 'image' || !made) continue;
        const seen = image && !own ? await runtime.fit(image, { signal }) : null;
        status.textContent = seen ? `Redrawn, PSNR ${(await runtime.psnr(seen, made, { signal })).toFixed(1)} dB` : 'Redrawn.';
      }
    } finally {
      if (controller === current) {
        stop.disabled = true;
        if (signal.aborted) status.textContent = 'Stopped.';
        else if (!status.textContent?.startsWith('Redrawn')) status.textContent = 'Not redrawn.';
      }
    }
  }

  const switches = Array.from({ length: TOKENS }, (_, token) => {
    const made = make('button', { type: 'button', ariaLabel: `Embedding ${token + 1}, row ${Math.floor(token / 4) + 1}, column ${(token % 4) + 1}` });
    made.addEventListener('click', () => {
      if (!off.delete(token)) off.add(token);
      show();
      void attempt(redraw);
    });
    return made;
  });
  function show(): void {
    switches.forEach((made, token) => (made.ariaPressed = String(!off.has(token))));
    state.set('redraw', { off: off.size ? [...off].sort((a, b) => a - b).join(',') : null });
  }
  element('switches', HTMLElement).append(...switches);
  show();

  function mixTo(percent: number): void {
    input('mix').value = String(percent);
    element('mix-value', HTMLOutputElement).value = `${percent} %`;
  }
  bind('redraw', { mix: 'mix', seed: 'redraw-seed' });
  mixTo(Number(input('mix').value));
  input('mix').addEventListener('input', () => mixTo(Number(input('mix').value)));
  input('mix').addEventListener('change', () => void attempt(redraw));
  button('redraw-start').addEventListener('click', () => void attempt(redraw));
  stop.addEventListener('click', () => controller?.abort());
  button('switch-all').addEventListener('click', () => {
    off.clear();
    show();
    void attempt(redraw);
  });
  button('embeddings-save').addEventListener('click', () => void attempt(async () => {
    const values = await embeddings(new AbortController().signal);
    const file = JSON.stringify({ tokens: TOKENS, hidden: values.length / TOKENS, values: [...values] });
    save(new Blob([file], { type: 'application/json' }), 'embeddings.json');
  }));
  const load = input('embeddings-load');
  load.addEventListener('change', () => void attempt(async () => {
    const file = load.files?.[0];
    load.value = '';
    if (!file) return;
    own = parse(await file.text(), lab.info?.hiddenSize ?? 192);
    await redraw();
  }));
  return (blob, sample) => void attempt(() => choose(blob, sample));
}

function parse(text: string, hidden: number): Float32Array {
  try {
    const { values } = JSON.parse(text) as { values: number[] };
    if (values.length === TOKENS * hidden && values.every(Number.isFinite)) return Float32Array.from(values);
  } catch {
    // Said below, as for JSON of another shape.
  }
  throw new RecaError('bad_input', `this is no file of embeddings; ${TOKENS} × ${hidden} values are expected, as Save writes them`);
}

function blank(): Promise<Blob> {
  const canvas = new OffscreenCanvas(64, 64);
  const context = canvas.getContext('2d');
  if (context) {
    context.fillStyle = '#ffffff';
    context.fillRect(0, 0, 64, 64);
  }
  return canvas.convertToBlob({ type: 'image/png' });
}
