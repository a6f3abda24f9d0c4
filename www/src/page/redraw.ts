/** A picture from its embeddings alone: mixed with another's, some switched off. */
import { RecaError } from '../runtime';
import { bytes } from '../source';
import { Screen, Status, button, element, handOver, input, make, save } from './dom';
import { type Lab, stoppable } from './lab';
import { attempt } from './report';
import { type Given, given, picture, results, row } from './samples';
import { bind, state } from './state';

const TOKENS = 16;

/** Returns what makes a picture the one to redraw; null says that none comes by itself any more. */
export async function redrawPanel(lab: Lab): Promise<(picture: Given | null) => void> {
  const status = new Status('redraw-status');
  const recordedMark = element('redraw-recorded', HTMLElement);
  const [start, stop] = [button('redraw-start'), button('redraw-stop')];
  const original = new Screen('original');
  const redrawing = new Screen('redrawing');
  const off = new Set<number>();
  /** What is redrawn: a picture, or embeddings from a file. */
  let source: Blob | Float32Array | null = null;
  /** Resolves when there is one; the page's first sample comes by itself. */
  let came = () => {};
  const first = new Promise<void>((resolve) => (came = resolve));
  let controller: AbortController | null = null;
  const act = (work: () => Promise<void>) => void attempt(work, element('redraw-tools', HTMLElement));

  const { samples } = await lab.recorded;
  const markFirst = row('redraw-samples', samples, (index) => act(async () => {
    const sample = samples[index];
    if (!sample) return;
    await choose(await given(sample));
    await redraw();
  }));
  let second = 1;
  const markSecond = row('mix-samples', samples, (index) => {
    second = index;
    markSecond(index);
    if (Number(input('mix').value) === 0) mixTo(50);
    state.set('redraw', { with: String(index), mix: input('mix').value });
    act(redraw);
  });

  /** Takes another source; what is redrawn of the one before ends, and goes. */
  function take(other: Blob | Float32Array): void {
    // What waits for the first one is to redraw that.
    if (source) {
      controller?.abort();
      controller = null;
      handOver(stop, start);
    }
    source = other;
    came();
    redrawing.clear('nothing redrawn yet');
    recordedMark.hidden = true;
    status.tell('Not redrawn yet.');
  }

  /** Takes a picture; of a sample the recorded redrawing is shown until there is one. */
  async function choose({ file, square, sample }: Given): Promise<void> {
    take(file);
    markFirst(sample ? samples.indexOf(sample) : -1);
    original.show(square, sample?.caption ?? 'the picture');
    if (!sample) return;
    const [redrawn] = (await results([sample.redrawn])) ?? [];
    if (!redrawn || controller || source !== file) return;
    redrawing.show(redrawn, `redrawn: ${sample.caption}`);
    recordedMark.hidden = false;
    status.tell(`PSNR ${sample.psnr.toFixed(1)} dB`);
  }

  async function embeddings(signal: AbortSignal): Promise<Float32Array> {
    if (!source && samples.length) await stoppable(first, signal);
    if (!source) throw new RecaError('bad_input', 'give it a picture first, under Understand');
    const runtime = await stoppable(lab.runtime, signal);
    const values = Float32Array.from(source instanceof Blob ? await runtime.embed(source, { signal }) : source);
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
      status.tell(lab.loaded ? 'Redrawing…' : 'The model is still on its way…');
      const from = await embeddings(signal);
      if (signal.aborted) return;
      status.tell('Redrawing…');
      const runtime = await lab.runtime;
      const seed = Number(input('redraw-seed').value);
      for await (const { kind, step, steps, pictures } of runtime.reconstruct(from, { seed, steps: 16, signal })) {
        status.count(`Step ${step} of ${steps}`);
        const made = pictures?.[0];
        if (!made) continue;
        redrawing.show(made, `redrawn, step ${step} of ${steps}`);
        recordedMark.hidden = true;
        if (kind !== 'image') continue;
        const seen = source instanceof Blob ? await runtime.fit(source, { signal }) : null;
        status.tell(seen ? `Redrawn, PSNR ${(await runtime.psnr(seen, made, { signal })).toFixed(1)} dB` : 'Redrawn.');
      }
    } finally {
      if (controller === current) {
        handOver(stop, start);
        if (signal.aborted) status.tell('Stopped.');
        else if (!status.text.startsWith('Redrawn')) status.tell('Not redrawn.');
      }
    }
  }

  const switches = Array.from({ length: TOKENS }, (_, token) => {
    const made = make('button', { type: 'button', ariaLabel: `Embedding ${token + 1}, row ${Math.floor(token / 4) + 1}, column ${(token % 4) + 1}` });
    made.addEventListener('click', () => {
      if (!off.delete(token)) off.add(token);
      show();
      act(redraw);
    });
    return made;
  });
  function show(): void {
    switches.forEach((made, token) => (made.ariaPressed = String(!off.has(token))));
    state.set('redraw', { off: off.size ? [...off].sort((a, b) => a - b).join(',') : null });
  }
  element('switches', HTMLElement).append(...switches);

  function mixTo(percent: number): void {
    input('mix').value = String(percent);
    element('mix-value', HTMLOutputElement).value = `${percent} %`;
  }
  bind('redraw', { mix: 'mix', seed: 'redraw-seed' });
  function read(): void {
    off.clear();
    for (const token of numbers(state.get('redraw', 'off'))) if (token < TOKENS) off.add(token);
    second = numbers(state.get('redraw', 'with')).find((index) => index < samples.length) ?? 1;
    markSecond(second);
    mixTo(Number(input('mix').value));
    show();
  }
  state.onNavigate(read);
  read();
  input('mix').addEventListener('input', () => mixTo(Number(input('mix').value)));
  input('mix').addEventListener('change', () => act(redraw));
  start.addEventListener('click', () => act(redraw));
  stop.addEventListener('click', () => controller?.abort());
  button('switch-all').addEventListener('click', () => {
    off.clear();
    show();
    act(redraw);
  });
  button('embeddings-save').addEventListener('click', () => act(async () => {
    const values = await embeddings(new AbortController().signal);
    const file = JSON.stringify({ tokens: TOKENS, hidden: values.length / TOKENS, values: [...values] });
    save(new Blob([file], { type: 'application/json' }), 'embeddings.json');
  }));
  const load = input('embeddings-load');
  load.addEventListener('change', () => act(async () => {
    const file = load.files?.[0];
    load.value = '';
    if (!file) return;
    take(parse(new TextDecoder().decode(await bytes(file)), lab.info?.hiddenSize ?? 192));
    markFirst(-1);
    original.clear('embeddings from a file, and no picture');
    await redraw();
  }));
  return (chosen) => (chosen ? act(() => choose(chosen)) : came());
}

/** The whole numbers, 0 and more, of a list in the address. */
const numbers = (list: string | null) => (list ?? '').split(',').filter((word) => /^\d+$/.test(word)).map(Number);

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
