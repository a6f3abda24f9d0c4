/** The page: shows its panels at once, and loads the model behind them. */
import { alignPanel } from './align';
import { drawPanel } from './draw';
import { encoderPart } from './encoder';
import { Lab, modelChoice } from './lab';
import { redrawPanel } from './redraw';
import { attempt, attemptStart, reports } from './report';
import { tabs } from './tabs';
import { theme } from './theme';
import { understandPanel } from './understand';

/** For the page's own files on a slow line or machine, before the model is fetched, which would not be kept; milliseconds. */
const LONGEST_WAIT = 60_000;

async function panels(lab: Lab): Promise<void> {
  const ask = encoderPart();
  const looking = redrawPanel(lab).then(async (choose) => {
    await understandPanel(lab, (picture) => {
      choose(picture);
      ask(picture.file);
    });
    choose(null);
  });
  await Promise.all([drawPanel(lab), alignPanel(lab), looking]);
}

/** Has the browser ask before aligned weights are lost. */
function guard(lab: Lab): void {
  window.addEventListener('beforeunload', (event) => {
    if (lab.aligning || lab.unsaved) event.preventDefault();
  });
}

/** On a first visit, waits for the service worker, so that it keeps what the page fetches from then on. */
async function offline(): Promise<void> {
  const workers = navigator.serviceWorker as ServiceWorkerContainer | undefined;
  if (!workers || !import.meta.env.PROD) return;
  const controlled = new Promise((resolve) => workers.addEventListener('controllerchange', resolve, { once: true }));
  // Where it cannot be had (no secure context), the page works without, online.
  const registered = workers.register('service-worker.js').catch(() => null);
  if (workers.controller) return;
  const installed = registered.then((registration) => {
    const worker = registration?.installing;
    // It takes the page over while it is activated, if it does.
    const ended = new Promise<void>((resolve) =>
      worker?.addEventListener('statechange', () => /^(activated|redundant)$/.test(worker.state) && resolve()),
    );
    return worker && Promise.race([controlled, ended]);
  });
  await Promise.race([installed, new Promise((resolve) => setTimeout(resolve, LONGEST_WAIT))]);
}

theme();
reports();
tabs();
void attempt(async () => modelChoice());
const lab = new Lab();
guard(lab);
void attemptStart(() => offline().then(() => lab.start()));
void attempt(() => panels(lab));
