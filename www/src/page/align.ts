/** The experiment: alignment in the tab, watched by its loss and by probe prompts. */
import { type AlignPictures, type AlignRun, RecaError, type Runtime } from '../runtime';
import type { ImageSource } from '../source';
import { chart } from './chart';
import { confirmed, mayLose } from './confirm';
import { Screen, Status, button, duration, element, handOver, input, make } from './dom';
import { type Lab, stoppable } from './lab';
import { Probes } from './probes';
import { attempt, facts } from './report';
import { results } from './samples';
import { scores } from './score';
import { bind, state } from './state';
import { weights } from './weights';

const THUMBNAILS = 60;
/** Shortest time between two drawings of the curve, milliseconds. */
const CHART_EVERY = 100;

export async function alignPanel(lab: Lab): Promise<void> {
  const status = new Status('align-status');
  const bar = element('align-bar', HTMLProgressElement);
  const recordedMark = element('align-recorded', HTMLElement);
  const form = element('align-form', HTMLFormElement);
  const [start, stop] = [button('align-start'), button('align-stop')];
  const own = input('align-own');
  const offer = element('resume-offer', HTMLElement);
  const value = (id: string) => (document.getElementById(id) as HTMLInputElement).value;
  const number = (id: string) => Number(value(id));
  const probes = new Probes(lab);
  const ready = weights(lab, changed);
  scores(lab);
  let controller: AbortController | null = null;
  let redrawing = new AbortController();
  /** Of the probes of the run under way. */
  let running: number | null = null;
  /** A run that may go on. */
  let interrupted: AlignRun | null = null;

  /** Draws the probes by weights that were not aligned just now; `told` says which have come, or that those
   * before are gone. Without it they are the same, taken more or less far. */
  async function changed(told?: string): Promise<void> {
    redrawing.abort();
    redrawing = new AbortController();
    const { signal } = redrawing;
    if (told !== undefined) {
      clear();
      if (!controller) status.tell(told);
      if (lab.aligned) element('chart-note', HTMLElement).textContent = 'None comes with weights that are taken or fetched.';
    }
    if (lab.aligned) await probes.aligned(await lab.runtime, running ?? number('align-seed'), signal);
  }

  /** Takes away what is shown of weights that were there, or were recorded. */
  function clear(): void {
    recordedMark.hidden = true;
    probes.clear();
    chart([], 1);
  }

  function fromForm(): AlignRun {
    const nouns = value('align-nouns').split(',').map((noun) => noun.trim()).filter(Boolean);
    const pictures: AlignPictures = {
      pool: value('align-pool') as 'open' | 'strict',
      seed: 1000 + number('align-seed'),
      from: 0,
      count: number('align-count'),
      ...(nouns.length ? { nouns } : {}),
    };
    const options = {
      steps: number('align-steps'),
      batch: number('align-batch'),
      learningRate: number('align-rate'),
      seed: number('align-seed'),
      method: value('method') as 'reca',
      optimizer: value('align-optimizer') as 'adamw',
      lambdaT2i: number('align-rehearse'),
      tokenDrop: number('align-drop'),
    };
    return { pictures, options };
  }

  async function run({ pictures, options }: AlignRun, resume: boolean, asked: boolean, signal: AbortSignal): Promise<void> {
    status.tell(lab.loaded ? 'Making the pictures…' : 'The model is still on its way…');
    const runtime = await stoppable(lab.world(), signal);
    // One that was interrupted may not have been offered yet.
    if (!resume && !asked && (await runtime.stored({ signal })) && !(await giveUp())) return;
    if (!recordedMark.hidden) clear();
    await thumbnails(runtime, pictures, signal);
    status.tell('The base draws the probe prompts…');
    const seed = number('align-seed');
    redrawing.abort();
    running = seed;
    await probes.base(runtime, seed, signal);
    status.tell('Looking at the pictures…');
    const losses: number[] = [];
    let info = runtime.info();
    let restarted = '';
    let leftOut = '';
    /** Whether another tab stores its own alignment of the model, and this one none. */
    let elsewhere = false;
    const every = number('align-every');
    const begun = performance.now();
    let training = 0;
    let charted = 0;
    const learned = () => {
      lab.unsaved = true;
      ready(true);
    };
    const steps = runtime.align(pictures, {
      ...options,
      resume,
      publish: every,
      signal,
      onProgress({ loaded, total, refused = [] }) {
        status.count(`${loaded} of ${total}`);
        if (refused.length) leftOut = ` Files left out: ${refused.length}, the first ${refused[0]}.`;
      },
    });
    for await (const { step, steps: all, loss, ms, unsaved } of steps) {
      losses.push(loss);
      training += ms;
      elsewhere ||= unsaved?.code === 'busy';
      const each = training / losses.length / 1000;
      if (step === all || performance.now() - charted > CHART_EVERY) {
        chart(losses, losses.length + all - step);
        charted = performance.now();
      }
      bar.value = step / all;
      if (runtime.info() !== info) {
        info = runtime.info();
        lab.badge(runtime);
        restarted = ' The device broke down once; a new one went on from the last checkpoint.';
        if (step === 1) {
          // There was none yet.
          lab.unsaved = false;
          ready(false);
        }
      }
      // Its checkpoint has given the weights that it begins with.
      if (resume && losses.length === 1) learned();
      status.tell(`Aligning…${unsaved ? ` It cannot be resumed: ${unsaved.message}.` : restarted}${leftOut}`);
      status.count(`Step ${step} of ${all}, ${(1 / each).toFixed(2)} steps a second, ${duration((all - step) * each)} left.`);
      if (step % every === 0 && step < all) {
        learned();
        await probes.aligned(runtime, seed, signal).catch(survived);
      }
    }
    bar.value = 1;
    // A run that is resumed after its last step has no other.
    learned();
    await probes.aligned(runtime, seed, signal);
    if (!elsewhere) await runtime.forget({ signal });
    status.tell(
      `Aligned in ${duration((performance.now() - begun) / 1000)}, probes included. The aligned weights can be chosen under Draw, too.${leftOut}`,
    );
  }

  async function thumbnails(runtime: Runtime, pictures: AlignPictures, signal: AbortSignal): Promise<void> {
    const shown =
      'files' in pictures
        ? await fitted(runtime, pictures.files.slice(0, THUMBNAILS), signal)
        : (await runtime.scenes({ ...pictures, count: Math.min(THUMBNAILS, pictures.count) }, { signal })).map((scene) => scene.picture);
    const made = shown.map((image) => {
      const screen = new Screen(make('canvas'));
      screen.show(image, '');
      return screen.canvas;
    });
    element('thumbnails', HTMLElement).replaceChildren(...made);
  }

  /** Whether what a new run takes the place of may go. */
  async function mayBegin(): Promise<boolean> {
    return lab.unsaved || !interrupted ? mayLose(lab) : giveUp();
  }

  const giveUp = () =>
    confirmed('Give up the interrupted alignment?', 'It could go on where it was; another one takes its place.', 'Give it up');

  async function begin(what: AlignRun, resume = false): Promise<void> {
    if (!resume && !(await mayBegin())) return;
    const current = new AbortController();
    controller = current;
    const asked = interrupted !== null;
    interrupted = null;
    handOver(offer, stop);
    handOver(start, stop);
    if (document.activeElement === own) stop.focus();
    own.disabled = true;
    lab.aligning = true;
    void attempt(() => run(what, resume, asked, current.signal), form).finally(() => {
      if (controller !== current) return;
      if (current.signal.aborted) status.tell('Stopped. What was learned up to the last redrawing stays.');
      else if (!status.text.startsWith('Aligned')) status.tell('Not aligned.');
      handOver(stop, start);
      own.disabled = false;
      lab.aligning = false;
      controller = null;
      running = null;
      void offerResume();
    });
  }

  form.addEventListener('submit', (event) => {
    event.preventDefault();
    void begin(fromForm());
  });
  stop.addEventListener('click', () => controller?.abort());
  own.addEventListener('change', () => {
    const files = [...(own.files ?? [])];
    own.value = '';
    if (files.length && form.reportValidity()) void begin({ ...fromForm(), pictures: { files } });
  });
  button('resume').addEventListener('click', () => {
    if (interrupted) void begin(interrupted, true);
  });
  button('resume-forget').addEventListener('click', () =>
    void attempt(async () => {
      await (await lab.runtime).forget();
      interrupted = null;
      handOver(offer, start);
    }, form),
  );
  bind('align', {
    method: 'method', steps: 'align-steps', batch: 'align-batch', rate: 'align-rate', optimizer: 'align-optimizer',
    rehearse: 'align-rehearse', drop: 'align-drop', pictures: 'align-count', nouns: 'align-nouns', pool: 'align-pool', prompts: 'score-prompts',
    each: 'score-pictures', every: 'align-every', seed: 'align-seed',
  });
  void offerResume();
  void lab.runtime.then(() => {
    if (state.get('align', 'nouns') !== null) return;
    const known = value('align-nouns').split(', ').filter((noun) => lab.info?.vocabulary.includes(noun));
    input('align-nouns').value = known.join(', ');
  }, () => {});

  async function offerResume(): Promise<void> {
    const runtime = await lab.runtime.catch(() => null);
    const stored = (await runtime?.stored().catch(() => null)) ?? null;
    if (controller) return;
    interrupted = stored;
    if (!stored) return;
    facts['stored alignment'] = JSON.stringify(stored.options);
    element('resume-text', HTMLElement).textContent = `An alignment of ${stored.options.steps ?? 100} steps was interrupted here.`;
    offer.hidden = false;
  }

  const { align: recorded, samples } = await lab.recorded;
  const files = recorded?.probes.flatMap(({ base, aligned }) => [base, aligned]) ?? [];
  const drawn = await results(files);
  if (!recorded || !drawn || state.get('align', 'steps') || controller || lab.aligned) return;
  recordedMark.hidden = false;
  const of = recorded.nouns ? ` of ${recorded.nouns}` : '';
  status.tell(`${recorded.steps} steps on ${recorded.pictures} pictures${of}, ${duration(recorded.seconds)}, as they went once.`);
  chart(recorded.losses, recorded.losses.length);
  const alike = samples.filter(({ caption }) => recorded.nouns.split(', ').some((noun) => caption.includes(noun)));
  const made = alike.map(({ file }) => make('img', { src: `recorded/${file}`, alt: '', width: 64, height: 64 }));
  element('thumbnails', HTMLElement).replaceChildren(...made);
  drawn.forEach((made, i) => probes.show(i >> 1, i % 2 ? 'aligned' : 'base', made));
}

/** A broken worker ends no run: the next step starts another, which goes on from the last checkpoint. */
function survived(thrown: unknown): void {
  const broken = thrown instanceof RecaError && (thrown.code === 'internal' || thrown.code === 'device_lost');
  if (!broken) throw thrown;
}

/** What the model sees of files, one read at a time; those that are no pictures are left out. */
async function fitted(runtime: Runtime, files: ImageSource[], signal: AbortSignal): Promise<ImageData[]> {
  const squares: ImageData[] = [];
  for (const file of files) {
    try {
      squares.push(await runtime.fit(file, { signal }));
    } catch (thrown) {
      if (!(thrown instanceof RecaError) || thrown.code !== 'bad_input') throw thrown;
    }
  }
  return squares;
}
