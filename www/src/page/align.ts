/** The experiment: alignment in the tab, watched by its loss and by probe prompts. */
import type { AlignPictures, AlignRun, Runtime } from '../runtime';
import { chart } from './chart';
import { Screen, button, duration, element, input, make } from './dom';
import type { Lab } from './lab';
import { Probes } from './probes';
import { attempt, facts } from './report';
import { picture } from './samples';
import { scores } from './score';
import { bind, state } from './state';
import { weights } from './weights';

const THUMBNAILS = 60;

export async function alignPanel(lab: Lab): Promise<void> {
  const status = element('align-status', HTMLElement);
  const bar = element('align-bar', HTMLProgressElement);
  const recordedMark = element('align-recorded', HTMLElement);
  const [start, stop] = [button('align-start'), button('align-stop')];
  const own = input('align-own');
  const value = (id: string) => (document.getElementById(id) as HTMLInputElement).value;
  const number = (id: string) => Number(value(id));
  const probes = new Probes();
  const ready = weights(lab, () => redrawAligned());
  scores(lab);
  let controller: AbortController | null = null;

  async function redrawAligned(): Promise<void> {
    const runtime = await lab.runtime;
    recordedMark.hidden = true;
    await probes.draw(runtime, 'base', number('align-seed'));
    await probes.draw(runtime, 'aligned', number('align-seed'));
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

  async function run({ pictures, options }: AlignRun, resume: boolean, signal: AbortSignal): Promise<void> {
    status.textContent = lab.loaded ? 'Making the pictures…' : 'The model is still on its way…';
    const runtime = await lab.world();
    recordedMark.hidden = true;
    if (!resume) await runtime.forget({ signal });
    await thumbnails(runtime, pictures, signal);
    status.textContent = 'The base draws the probe prompts…';
    await probes.draw(runtime, 'base', number('align-seed'), signal);
    const losses: number[] = [];
    let info = runtime.info();
    let restarted = '';
    const every = number('align-every');
    const begun = performance.now();
    let training = 0;
    const steps = runtime.align(pictures, {
      ...options,
      resume,
      publish: every,
      signal,
      onProgress: ({ loaded, total }) => (status.textContent = `Looking at picture ${loaded} of ${total}…`),
    });
    for await (const { step, steps: all, loss, ms, unsaved } of steps) {
      losses.push(loss);
      training += ms;
      const each = training / losses.length / 1000;
      chart(losses, losses.length + all - step);
      bar.value = step / all;
      if (runtime.info() !== info) {
        info = runtime.info();
        lab.badge(runtime);
        restarted = ' The device broke down once; a new one went on from the last checkpoint.';
      }
      const note = unsaved ? ' It cannot be resumed: the browser’s storage is full.' : restarted;
      status.textContent = `Step ${step} of ${all}, ${(1 / each).toFixed(2)} steps a second, ${duration((all - step) * each)} left.${note}`;
      if (step % every === 0 || step === all) {
        ready(true);
        await probes.draw(runtime, 'aligned', number('align-seed'), signal);
      }
    }
    await runtime.forget({ signal });
    status.textContent = `Aligned in ${duration((performance.now() - begun) / 1000)}, probes included. The aligned weights can be chosen under Draw, too.`;
  }

  async function thumbnails(runtime: Runtime, pictures: AlignPictures, signal: AbortSignal): Promise<void> {
    const shown =
      'files' in pictures
        ? await Promise.all(pictures.files.slice(0, THUMBNAILS).map((file) => runtime.fit(file, { signal })))
        : (await runtime.scenes({ ...pictures, count: Math.min(THUMBNAILS, pictures.count) }, { signal })).map((scene) => scene.picture);
    const made = shown.map((image) => {
      const screen = new Screen(make('canvas', { role: 'img' }));
      screen.show(image, 'a picture to learn from');
      return screen.canvas;
    });
    element('thumbnails', HTMLElement).replaceChildren(...made);
  }

  function begin(what: AlignRun, resume = false): void {
    controller?.abort();
    const current = new AbortController();
    controller = current;
    [start.disabled, stop.disabled] = [true, false];
    element('resume-offer', HTMLElement).hidden = true;
    void attempt(() => run(what, resume, current.signal)).finally(() => {
      if (controller !== current) return;
      if (current.signal.aborted) status.textContent = 'Stopped. What was learned up to the last redrawing stays.';
      else if (!status.textContent?.startsWith('Aligned')) status.textContent = 'Not aligned.';
      [start.disabled, stop.disabled] = [false, true];
      controller = null;
    });
  }

  element('align-form', HTMLFormElement).addEventListener('submit', (event) => {
    event.preventDefault();
    begin(fromForm());
  });
  stop.addEventListener('click', () => controller?.abort());
  own.addEventListener('change', () =>
    void attempt(async () => {
      const files = await Promise.all([...(own.files ?? [])].map(async (file) => new Uint8Array(await file.arrayBuffer())));
      own.value = '';
      if (files.length) begin({ ...fromForm(), pictures: { files } });
    }),
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
    const stored = await runtime?.stored().catch(() => null);
    if (!stored || controller) return;
    facts['stored alignment'] = JSON.stringify(stored.options);
    element('resume-text', HTMLElement).textContent = `An alignment of ${stored.options.steps ?? 100} steps was interrupted here.`;
    element('resume-offer', HTMLElement).hidden = false;
    button('resume').addEventListener('click', () => begin(stored, true));
    button('resume-forget').addEventListener('click', () =>
      void attempt(async () => {
        await runtime?.forget();
        element('resume-offer', HTMLElement).hidden = true;
      }),
    );
  }

  const { align: recorded, samples } = await lab.recorded;
  if (!recorded || state.get('align', 'steps') || controller) return;
  recordedMark.hidden = false;
  const of = recorded.nouns ? ` of ${recorded.nouns}` : '';
  status.textContent = `${recorded.steps} steps on ${recorded.pictures} pictures${of}, ${duration(recorded.seconds)}, as they went once.`;
  chart(recorded.losses, recorded.losses.length);
  const alike = samples.filter(({ caption }) => recorded.nouns.split(', ').some((noun) => caption.includes(noun)));
  const made = alike.map(({ file }) => make('img', { src: `recorded/${file}`, alt: 'a picture like those it learned from', width: 64, height: 64 }));
  element('thumbnails', HTMLElement).replaceChildren(...made);
  for (const [index, { base, aligned }] of recorded.probes.entries()) {
    probes.show(index, 'base', await createImageBitmap(await picture(base)));
    probes.show(index, 'aligned', await createImageBitmap(await picture(aligned)));
  }
}
