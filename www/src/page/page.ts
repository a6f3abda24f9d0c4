/** The page: shows its panels at once, and loads the model behind them. */
import { alignPanel } from './align';
import { drawPanel } from './draw';
import { encoderPart } from './encoder';
import { Lab, modelChoice } from './lab';
import { redrawPanel } from './redraw';
import { attempt, attemptStart, reports } from './report';
import type { Given } from './samples';
import { tabs } from './tabs';
import { theme } from './theme';
import { understandPanel } from './understand';

async function panels(lab: Lab): Promise<void> {
  const choose = await redrawPanel(lab);
  const ask = encoderPart();
  const chosen = (picture: Given) => {
    choose(picture);
    ask(picture.file);
  };
  await Promise.all([drawPanel(lab), alignPanel(lab), understandPanel(lab, chosen)]);
}

/** Has the browser ask before aligned weights are lost. */
function guard(lab: Lab): void {
  window.addEventListener('beforeunload', (event) => {
    if (lab.aligning || lab.unsaved) event.preventDefault();
  });
}

/** Waits a little for the service worker, so that it keeps what a first visit fetches. */
async function offline(): Promise<void> {
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (!workers || !import.meta.env.PROD) return;
  const controlled = new Promise<void>((resolve) => {
    if (workers.controller) resolve();
    else workers.addEventListener('controllerchange', () => resolve(), { once: true });
  });
  // Where it cannot be had (no secure context), the page works without, online.
  const registered = workers.register('service-worker.js').then(() => controlled, () => {});
  await Promise.race([registered, new Promise((resolve) => setTimeout(resolve, 3000))]);
}

theme();
reports();
tabs();
void attempt(async () => modelChoice());
const lab = new Lab();
guard(lab);
void attemptStart(() => offline().then(() => lab.start()));
void attempt(() => panels(lab));
