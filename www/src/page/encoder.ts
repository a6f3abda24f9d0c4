/** An official encoder beside the page's own model: loaded from files or, asked first, from an address. */
import { Encoder, type EncoderProgress, RecaError } from '../runtime';
import { Status, button, element, input } from './dom';
import { Likeness } from './likeness';
import { fail } from './report';
import { bind, state } from './state';

/** Returns what makes a picture the one to ask about. */
export function encoderPart(): (image: Blob) => void {
  const status = new Status('encoder-status');
  const bar = element('encoder-bar', HTMLProgressElement);
  const stop = button('encoder-stop');
  const error = element('encoder-error', HTMLElement);
  const likeness = new Likeness();
  let encoder: Encoder | null = null;
  let picture: Blob | null = null;
  let controller = new AbortController();

  /** Runs what a control asks for; what goes wrong is said in this part, and the laboratory goes on. */
  async function attempt(work: () => Promise<void>): Promise<void> {
    error.hidden = true;
    try {
      await work();
    } catch (thrown) {
      if (!(thrown instanceof RecaError)) return fail(thrown);
      if (thrown.code === 'internal' || thrown.code === 'device_lost') drop('The encoder broke down; load it again.');
      if (thrown.code === 'aborted') return;
      error.textContent = `${thrown.message} (${thrown.code})`;
      error.hidden = false;
      error.scrollIntoView({ block: 'nearest' });
    }
  }

  function drop(told: string): void {
    encoder?.dispose();
    encoder = null;
    status.tell(told);
    element('encoder-use', HTMLElement).hidden = true;
  }

  async function load(source: string | File[]): Promise<void> {
    controller.abort();
    const current = new AbortController();
    controller = current;
    drop('Loading…');
    [stop.hidden, bar.value] = [false, 0];
    try {
      const opened = await Encoder.open(source, { signal: current.signal, onProgress: progress });
      encoder = opened;
      status.tell(told(opened));
      element('encoder-use', HTMLElement).hidden = false;
      await look();
    } finally {
      if (controller === current) {
        if (document.activeElement === stop) input('encoder-files').focus();
        [stop.hidden, bar.value] = [true, 0];
        if (!encoder) status.tell(current.signal.aborted ? 'Stopped; no encoder is loaded.' : 'No encoder is loaded.');
      }
    }
  }

  function progress({ bytes, bytesTotal, tensors, tensorsTotal }: EncoderProgress): void {
    bar.value = bytes / bytesTotal;
    status.count(`${megabytes(bytes)} of ${megabytes(bytesTotal)} MB, ${tensors} of ${tensorsTotal} tensors`);
  }

  async function look(): Promise<void> {
    if (!encoder) return;
    if (!picture) throw new RecaError('bad_input', 'give it a picture first');
    await likeness.show(encoder, picture, labels(input('labels').value));
  }

  for (const id of ['encoder-files', 'encoder-folder']) {
    const chosen = input(id);
    chosen.addEventListener('change', () => {
      const files = [...(chosen.files ?? [])];
      chosen.value = '';
      if (files.length > 0) void attempt(() => load(files));
    });
  }
  const dialog = element('encoder-ask', HTMLDialogElement);
  element('encoder-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    element('encoder-host', HTMLElement).textContent = new URL(input('encoder-url').value).host;
    dialog.showModal();
  });
  button('encoder-fetch').addEventListener('click', () => {
    dialog.close();
    void attempt(() => load(input('encoder-url').value));
  });
  button('encoder-cancel').addEventListener('click', () => dialog.close());
  stop.addEventListener('click', () => controller.abort());
  element('labels-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    void attempt(look);
  });
  element('map-of', HTMLSelectElement).addEventListener('change', () => void attempt(() => likeness.map()));
  bind('understand', { encoder: 'encoder-url', labels: 'labels' });
  element('encoder', HTMLDetailsElement).open = state.get('understand', 'encoder') !== null;
  return (image) => {
    picture = image;
    void attempt(look);
  };
}

const labels = (text: string) => text.split(',').map((label) => label.trim());

const megabytes = (bytes: number) => (bytes / 1e6).toFixed(1);

function told({ info, device }: Encoder): string {
  const { family, imageSize, patchSize, parameters } = info;
  const name = family === 'clip' ? 'CLIP' : 'SigLIP';
  const size = `${(parameters / 1e6).toFixed(1)} million parameters, pictures of ${imageSize}², patches of ${patchSize}²`;
  const texts = info.labels ? '' : ' It has no text tower or no tokenizer.json, so it scores no labels.';
  return `${name} is loaded: ${size}, on the ${device.backend === 'webgpu' ? 'GPU' : 'CPU'}.${texts}`;
}
