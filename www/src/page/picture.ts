/** Ways to give the model a picture: choose, drop, paste, camera, sketch. */
import { RecaError } from '../runtime';
import { button, element, input, make } from './dom';
import { attempt } from './report';

type Take = (picture: Blob) => Promise<void>;

/** Wires all ways, dropping and pasting while the panel is there; what goes wrong is said below `tools`. */
export function pictureInputs(take: Take, tools: HTMLElement): void {
  const give = (blob: Blob | null | undefined) => {
    if (blob) void attempt(() => take(blob), tools);
  };
  const panel = element('understand', HTMLElement);
  const file = input('file');
  file.addEventListener('change', () => {
    give(file.files?.[0]);
    file.value = '';
  });
  drop(panel, give);
  document.addEventListener('paste', (event) => {
    if (!panel.hidden) give(event.clipboardData?.files[0]);
  });
  button('paste').addEventListener('click', () => void attempt(async () => take(await pasted()), tools));
  camera(give, tools);
  sketch(give);
}

/** A file that is dropped anywhere never takes the place of the page. */
function drop(panel: HTMLElement, give: (blob: Blob | undefined) => void): void {
  for (const type of ['dragover', 'dragleave', 'drop'] as const) {
    document.addEventListener(type, (event) => {
      if (!event.dataTransfer?.types.includes('Files')) return;
      event.preventDefault();
      element('see-drop', HTMLElement).classList.toggle('over', type === 'dragover');
      if (type === 'drop' && !panel.hidden) give(event.dataTransfer.files[0]);
    });
  }
}

async function pasted(): Promise<Blob> {
  // Where the page is not secure there is none, and some browsers only write.
  const clipboard = navigator.clipboard as Partial<Clipboard> | undefined;
  const items = await clipboard?.read?.().catch(() => null);
  if (!items) throw new RecaError('bad_input', 'the browser does not let this page read the clipboard; press Ctrl+V instead');
  for (const item of items) {
    const type = item.types.find((type) => type.startsWith('image/'));
    if (type) return item.getType(type);
  }
  throw new RecaError('bad_input', 'there is no picture in the clipboard');
}

function camera(give: (blob: Blob) => void, tools: HTMLElement): void {
  const dialog = element('camera', HTMLDialogElement);
  const video = element('camera-video', HTMLVideoElement);
  let asking = false;
  let stream: MediaStream | null = null;
  button('take').addEventListener('click', () =>
    void attempt(async () => {
      // A second stream, asked for while the user decides on the first, would leave that one on.
      if (asking) return;
      asking = true;
      stream = await navigator.mediaDevices?.getUserMedia({ video: { facingMode: 'environment' } }).catch(() => null);
      asking = false;
      if (!stream) throw new RecaError('bad_input', 'no camera can be had here; choose a file instead');
      video.srcObject = stream;
      dialog.showModal();
      await video.play();
    }, tools),
  );
  button('camera-take').addEventListener('click', () => {
    const frame = make('canvas', { width: video.videoWidth, height: video.videoHeight });
    frame.getContext('2d')?.drawImage(video, 0, 0);
    frame.toBlob((blob) => blob && give(blob));
    dialog.close();
  });
  button('camera-close').addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => stream?.getTracks().forEach((track) => track.stop()));
}

const INKS = ['#e23b3b', '#f08c1d', '#f5d120', '#3fa34d', '#2f6fde', '#8b3fb5', '#f28ab2', '#7a4a21', '#222222', '#ffffff'];
const INK_NAMES = ['red', 'orange', 'yellow', 'green', 'blue', 'purple', 'pink', 'brown', 'black', 'white'];

function sketch(give: (blob: Blob) => void): void {
  const dialog = element('sketchpad', HTMLDialogElement);
  const pad = element('pad', HTMLCanvasElement);
  const context = pad.getContext('2d');
  if (!context) return;
  let ink = INKS[0] as string;
  const inks = INKS.map((colour, index) => {
    const made = make('button', { type: 'button', ariaLabel: INK_NAMES[index] ?? colour, ariaPressed: String(index === 0) });
    made.style.background = colour;
    made.addEventListener('click', () => {
      ink = colour;
      for (const other of inks) other.ariaPressed = String(other === made);
    });
    return made;
  });
  element('pad-colours', HTMLElement).append(...inks);
  const clear = () => {
    context.fillStyle = '#ffffff';
    context.fillRect(0, 0, pad.width, pad.height);
  };
  let last: [number, number] | null = null;
  const at = (event: PointerEvent): [number, number] => {
    const { left, top, width, height } = pad.getBoundingClientRect();
    return [((event.clientX - left) * pad.width) / width, ((event.clientY - top) * pad.height) / height];
  };
  pad.addEventListener('pointerdown', (event) => {
    pad.setPointerCapture(event.pointerId);
    last = at(event);
  });
  pad.addEventListener('pointermove', (event) => {
    if (!last) return;
    const next = at(event);
    Object.assign(context, { strokeStyle: ink, lineWidth: Number(input('pad-size').value), lineCap: 'round' });
    context.beginPath();
    context.moveTo(...last);
    context.lineTo(...next);
    context.stroke();
    last = next;
  });
  for (const end of ['pointerup', 'pointercancel'] as const) pad.addEventListener(end, () => (last = null));
  clear();
  button('sketch').addEventListener('click', () => dialog.showModal());
  button('pad-clear').addEventListener('click', clear);
  button('pad-close').addEventListener('click', () => dialog.close());
  button('pad-use').addEventListener('click', () => {
    pad.toBlob((blob) => blob && give(blob));
    dialog.close();
  });
}
