/** What the package's runtime promises to a page that imports it, on the CPU. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';
import { distance, golden, goldenImage, largest } from './goldens.mjs';
import { png } from './images.mjs';
import { serve } from './server.mjs';

const MODEL = '/lab/models/nano/';

let server, browser, page, said;
const overrides = new Map();

before(async () => {
  server = await serve(overrides);
  browser = await launch();
  ({ page, said } = await open(browser.context, `${server.origin}/blank/`));
  await page.evaluate(async (model) => {
    const { Runtime } = await import('/pkg/dist/runtime.js');
    globalThis.Runtime = Runtime;
    globalThis.runtime = await Runtime.create({ backend: 'cpu' });
    globalThis.model = await runtime.load(model);
  }, MODEL);
});

after(async () => {
  await browser?.close();
  server?.close();
});

test('tells what it runs on and what it loaded', async () => {
  const { info, model } = await page.evaluate(() => ({ info: runtime.info(), model }));
  assert.equal(info.backend, 'cpu');
  assert.equal(model.imageSize, 64);
  assert.equal(model.vocabulary[3], 'nothing');
  assert.deepEqual(model.styles, ['noto']);
});

test('embeds as the PyTorch reference does', async () => {
  const expected = golden('connector.output');
  const size = expected.values.length / 3;
  for (const index of [0, 1, 2]) {
    const file = [...(await png(page, goldenImage(index)))];
    const found = await page.evaluate(async (file) => [...(await runtime.embed(new Uint8Array(file)))], file);
    const apart = distance(found, expected.values.slice(index * size, (index + 1) * size));
    assert.ok(apart < 1e-4 * largest(expected.values), `image ${index}: ${apart}`);
  }
});

test('redraws the same from an image and from its embeddings', async () => {
  const file = [...(await png(page, goldenImage(0)))];
  const [fromImage, fromEmbeddings] = await page.evaluate(async (file) => {
    const image = new Uint8Array(file);
    const pictures = [];
    for (const source of [image, await runtime.embed(image)]) {
      for await (const frame of runtime.reconstruct(source, { seed: 3, steps: 4, preview: 0 })) {
        if (frame.kind === 'image') pictures.push([...frame.pictures[0].data]);
        else if (frame.pictures) throw new Error('a preview was made');
      }
    }
    return pictures;
  }, file);
  assert.deepEqual(fromImage, fromEmbeddings);
});

/** The code of what `work` throws in the page. */
const code = (work, argument) =>
  page.evaluate(
    async ([work, argument]) => {
      try {
        await new Function('argument', `return (${work})(argument)`)(argument);
      } catch (error) {
        return { code: error.code, name: error.name, message: error.message };
      }
      return null;
    },
    [work.toString(), argument],
  );

test('a signal cancels within one step', async () => {
  const failed = await code(async () => {
    const controller = new AbortController();
    for await (const { step } of runtime.generate('a red car', { steps: 1000, signal: controller.signal })) {
      if (step === 2) controller.abort();
      if (step > 2) throw new Error('it went on');
    }
  });
  assert.deepEqual([failed.name, failed.code], ['RecaError', 'aborted']);
});

test('two drawings may be pulled in turn', async () => {
  const [alone, together] = await page.evaluate(async () => {
    const last = async (frames) => {
      let pictures;
      for await (const frame of frames) pictures = frame.pictures;
      return [...pictures[0].data];
    };
    const options = { seed: 5, steps: 3 };
    const alone = await last(runtime.generate('a dog', options));
    const both = await Promise.all([
      last(runtime.generate('a dog', options)),
      last(runtime.generate('a car', options)),
    ]);
    return [alone, both[0]];
  });
  assert.deepEqual(together, alone);
});

test('refuses options that are out of range', async () => {
  for (const options of [{ steps: 0 }, { seed: 1.5 }, { guidance: Number.NaN }]) {
    const failed = await code(async (options) => {
      for await (const _ of runtime.generate('a red car', options)) void _;
    }, options);
    assert.equal(failed?.code, 'bad_input', JSON.stringify(options));
  }
});

test('refuses what is no address, and what no worker can be sent', async () => {
  const address = await code(() => runtime.load('http://'));
  assert.deepEqual([address.name, address.code, address.message], ['RecaError', 'bad_input', '"http://" is no address']);
  const uncloned = await code(() => runtime.psnr(() => {}, () => {}));
  assert.equal(uncloned.code, 'bad_input');
  assert.match(uncloned.message, /^psnr was given what no worker can be sent: /);
});

test('refuses a model that is cut off, damaged, missing or none, and keeps the one it has', async () => {
  const load = () => code((model) => runtime.load(model), MODEL);
  const weights = Buffer.from(
    await page.evaluate(async (url) => [...new Uint8Array(await (await fetch(url)).arrayBuffer())], `${MODEL}model.safetensors`),
  );
  overrides.set(`${MODEL}model.safetensors`, weights.subarray(0, 1000));
  assert.equal((await load()).code, 'weights_hash');
  weights[weights.length - 1] ^= 1;
  overrides.set(`${MODEL}model.safetensors`, weights);
  const damaged = await load();
  assert.equal(damaged.code, 'weights_hash');
  assert.match(damaged.message, /model\.safetensors/);
  overrides.set(`${MODEL}manifest.json`, Buffer.from('<html>'));
  assert.equal((await load()).code, 'weights_format');
  overrides.clear();
  const missing = await code(() => runtime.load('/lab/models/none/'));
  assert.equal(missing.code, 'network');
  assert.equal(await code(() => runtime.embed(new Uint8Array(4))).then((failed) => failed.code), 'bad_input');
  assert.equal(await page.evaluate(async () => (await runtime.generate('a car', { steps: 1 }).next()).value.kind), 'image');
});

test('disposing ends what is under way', async () => {
  const failed = await code(async () => {
    const other = await Runtime.create({ backend: 'cpu' });
    const loading = other.load('/lab/models/nano/');
    other.dispose();
    await loading;
  });
  assert.equal(failed.code, 'aborted');
});

test('a grid holds the pictures of its seeds', async () => {
  const [grid, alone] = await page.evaluate(async () => {
    const last = async (options) => {
      let pictures;
      for await (const frame of runtime.generate('a red car', { steps: 3, ...options })) pictures = frame.pictures;
      return pictures.map(({ data }) => [...data]);
    };
    return [await last({ seed: 4, count: 3 }), await last({ seed: 6 })];
  });
  assert.equal(grid.length, 3);
  assert.ok(distance(grid[2], alone[0]) <= 1);
});

test('makes the same scenes again, with their captions', async () => {
  const scenes = await page.evaluate(async (model) => {
    await runtime.openWorld(model);
    const made = async (range) => (await runtime.scenes(range)).map(({ picture, caption }) => [caption, ...picture.data]);
    return [await made({ seed: 1, from: 0, count: 3 }), await made({ seed: 1, from: 2 })];
  }, MODEL);
  assert.deepEqual(scenes[1][0], scenes[0][2]);
  assert.match(scenes[0][0][0], /^[a-z, ]+$/);
  const captions = await page.evaluate(async () => (await runtime.scenes({ nouns: ['dog'], count: 12 })).map(({ caption }) => caption));
  assert.ok(captions.every((caption) => /dog/.test(caption) && !/ of | above | below /.test(caption)), `${captions}`);
  assert.equal((await code(() => runtime.scenes({ seed: 1.5 }))).message, 'seed is 1.5, expected a whole number, 0 or more');
  const unknown = await code(() => runtime.scenes({ nouns: ['dogg'] }));
  assert.deepEqual([unknown.code, unknown.message], ['bad_input', 'the world has no noun "dogg"; did you mean "dog"?']);
});

const SCENES = { pool: 'open', seed: 5, from: 0, count: 16 };
const OPTIONS = { steps: 12, batch: 4, learningRate: 1e-3, seed: 2 };

const EVALUATION = { perCategory: 3, seeds: 2, seed: 4, steps: 2 };

test('counts right pictures by category and tier, the same for the same seed', async () => {
  const closed = await code(() => runtime.evaluate({}).next());
  assert.deepEqual([closed.code, closed.message], ['bad_input', 'no scorer is opened yet']);
  const [made, again] = await page.evaluate(
    async ([model, options]) => {
      await runtime.openScorer(model);
      const counted = async () => {
        const made = [];
        for await (const counts of runtime.evaluate(options)) made.push(counts);
        return made;
      };
      return [await counted(), (await counted()).at(-1)];
    },
    [MODEL, EVALUATION],
  );
  const last = made.at(-1);
  assert.deepEqual(made.map(({ done }) => done), Array.from({ length: last.prompts }, (_, index) => index + 1));
  assert.deepEqual(last, again);
  assert.deepEqual(last.categories.map(({ category }) => category), ['single_object', 'two_object', 'colors', 'position', 'color_attr']);
  for (const { category, tier, prompts, pictures, correct, share } of last.categories) {
    assert.deepEqual([tier, pictures], [undefined, 2 * prompts]);
    const tiers = last.tiers.filter((tally) => tally.category === category);
    assert.equal(tiers.reduce((sum, tally) => sum + tally.correct, 0), correct);
    assert.ok(share.mean === correct / pictures && share.low <= share.mean && share.mean <= share.high && share.low < share.high);
  }
  assert.ok(last.tiers.some(({ tier }) => tier === 'natural_only'));
});

test('a signal ends an evaluation within one step', async () => {
  const failed = await code(async (options) => {
    const controller = new AbortController();
    setTimeout(() => controller.abort(), 300);
    for await (const _ of runtime.evaluate({ ...options, steps: 1000, signal: controller.signal })) throw new Error('it went on');
  }, EVALUATION);
  assert.equal(failed.code, 'aborted');
  assert.equal((await code((options) => runtime.evaluate({ ...options, seeds: 5 }).next(), EVALUATION)).code, 'bad_input');
});

test('alignment lowers the loss and changes what is drawn', async () => {
  const found = await page.evaluate(
    async ([scenes, options]) => {
      const losses = [];
      for await (const { loss } of runtime.align(scenes, { ...options, steps: 60, batch: 8, publish: 60, checkpoint: 0 })) losses.push(loss);
      const drawn = {};
      for (const weights of ['base', 'aligned']) {
        for await (const { pictures } of runtime.generate('a red car', { steps: 3, weights })) drawn[weights] = [...pictures[0].data];
      }
      return { losses, drawn };
    },
    [SCENES, OPTIONS],
  );
  const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  assert.ok(mean(found.losses.slice(-15)) < mean(found.losses.slice(0, 15)), found.losses.join(' '));
  assert.notDeepEqual(found.drawn.aligned, found.drawn.base);
});

test('captions are rehearsed beside it, embeddings are left out, and Muon updates otherwise', async () => {
  const [plain, rehearsed, muon, whole] = await page.evaluate(
    async ([scenes, options]) => {
      const losses = async (more) => {
        const losses = [];
        for await (const { loss } of runtime.align(scenes, { ...options, steps: 3, checkpoint: 0, ...more })) losses.push(loss);
        return losses;
      };
      return [await losses({}), await losses({ lambdaT2i: 1 }), await losses({ optimizer: 'muon' }), await losses({ tokenDrop: 0 })];
    },
    [SCENES, OPTIONS],
  );
  assert.ok(rehearsed[0] > 1.2 * plain[0], `${rehearsed} beside ${plain}`);
  assert.equal(muon[0], plain[0]);
  assert.notEqual(muon[2], plain[2]);
  assert.notDeepEqual(whole, plain);
  const begin = (more) => code(([scenes, options]) => runtime.align(scenes, options).next(), [SCENES, { ...OPTIONS, ...more }]);
  assert.equal((await begin({ lambdaT2i: -1 })).message, 'lambdaT2i must be 0 to 100');
  assert.equal((await begin({ tokenDrop: 2 })).message, 'tokenDrop must be 0 to 1');
  assert.equal((await begin({ optimizer: 'sgd' })).code, 'bad_input');
});

test('aligns on files of any kind, and leaves out those that are no pictures', async () => {
  const files = await Promise.all([0, 1, 2].map(async (index) => [...(await png(page, goldenImage(index)))]));
  const [losses, refused, stored, failed] = await page.evaluate(
    async ([files, scenes, options]) => {
      const [a, b, c] = files.map((file) => new Uint8Array(file));
      const diary = new File(['Dear diary'], 'diary.png');
      for await (const { step } of runtime.align(scenes, { ...options, checkpoint: 2 })) if (step === 2) break;
      const losses = [];
      let refused;
      const few = { steps: 2, batch: 2, checkpoint: 2, onProgress: (progress) => ({ refused } = progress) };
      for await (const { loss } of runtime.align({ files: [new Blob([a]), diary, b, c.buffer] }, few)) losses.push(loss);
      // The checkpoint is theirs now, and no more that of the scenes.
      const { options: { steps }, pictures } = await runtime.stored();
      const stored = [steps, pictures.files.length];
      await runtime.forget();
      const failed = await runtime.align({ files: [a, diary] }, few).next().catch(({ code, message }) => [code, message]);
      return [losses, refused, stored, failed];
    },
    [files, SCENES, OPTIONS],
  );
  const why = 'diary.png: this is not a PNG, JPEG, WebP or GIF image';
  assert.equal(losses.length, 2);
  assert.deepEqual(refused, [why]);
  assert.deepEqual(stored, [2, 4]);
  assert.deepEqual(failed, ['bad_input', `2 pictures are needed, and of 2 files 1 can be read; ${why}`]);
});

test('a run that ended before anybody took its weights gives them when it is resumed', async () => {
  const [steps, drawn] = await page.evaluate(
    async ([scenes, options]) => {
      const draw = async () => {
        for await (const { kind, pictures } of runtime.generate('a dog', { steps: 2, weights: 'aligned' })) if (kind === 'image') return [...pictures[0].data];
      };
      const drawn = [];
      const run = { ...options, checkpoint: 4, publish: 0 };
      for await (const _ of runtime.align(scenes, run)) void _;
      drawn.push(await draw());
      await runtime.reset();
      const steps = [];
      for await (const { step } of runtime.align(scenes, { ...run, resume: true })) steps.push(step);
      drawn.push(await draw());
      await runtime.forget();
      return [steps, drawn];
    },
    [SCENES, OPTIONS],
  );
  assert.deepEqual(steps, []);
  assert.ok(distance(drawn[1], drawn[0]) <= 1);
});

test('while one tab aligns a model, another neither takes over its checkpoint nor removes it', async () => {
  const found = await page.evaluate(
    async ([url, scenes, options]) => {
      const other = await Runtime.create({ backend: 'cpu' });
      await other.load(url);
      await other.openWorld(url);
      const found = {};
      for await (const { step } of runtime.align(scenes, { ...options, checkpoint: 2 })) {
        if (step < 2) continue;
        found.offered = await other.stored();
        await other.forget();
        found.resumed = await other.align(scenes, { ...options, resume: true }).next().catch(({ code }) => code);
        const own = other.align(scenes, { ...options, checkpoint: 1 });
        found.unsaved = (await own.next()).value.unsaved?.code;
        await own.return();
        break;
      }
      other.dispose();
      found.left = (await runtime.stored())?.options.steps;
      await runtime.forget();
      return found;
    },
    [MODEL, SCENES, OPTIONS],
  );
  assert.deepEqual(found, { offered: null, resumed: 'busy', unsaved: 'busy', left: OPTIONS.steps });
});

test('an alignment goes on after its worker was killed, with the same losses', async () => {
  const [straight, broken] = await page.evaluate(
    async ([scenes, options]) => {
      const straight = [];
      for await (const { loss } of runtime.align(scenes, { ...options, checkpoint: 0 })) straight.push(loss);
      const workers = [];
      const Plain = Worker;
      globalThis.Worker = class extends Plain {
        constructor(...of) {
          super(...of);
          workers.push(this);
        }
      };
      const other = await Runtime.create({ backend: 'cpu' });
      await other.load('/lab/models/nano/');
      await other.openWorld('/lab/models/nano/');
      const broken = [];
      for await (const { step, loss } of other.align(scenes, { ...options, checkpoint: 4 })) {
        broken[step - 1] = loss;
        if (step === 6 && workers.length === 1) {
          workers[0].terminate();
          workers[0].dispatchEvent(new ErrorEvent('error', { message: 'killed' }));
        }
      }
      globalThis.Worker = Plain;
      const stored = await other.stored();
      await other.forget();
      other.dispose();
      if (stored?.options.steps !== options.steps) throw new Error('no checkpoint is stored');
      return [straight, broken];
    },
    [SCENES, OPTIONS],
  );
  assert.deepEqual(broken, straight);
});

test('aligned weights go out and come back in', async () => {
  const [before, after, size] = await page.evaluate(async () => {
    const draw = async () => {
      for await (const { kind, pictures } of runtime.generate('a dog', { steps: 2, weights: 'aligned' })) if (kind === 'image') return [...pictures[0].data];
    };
    const before = await draw();
    const file = await runtime.export();
    await runtime.keep('mine');
    await runtime.reset();
    await runtime.import(file);
    const after = await draw();
    if (!(await runtime.kept()).includes('mine')) throw new Error('it was not kept');
    await runtime.discard('mine');
    return [before, after, file.size];
  });
  assert.ok(distance(before, after) <= 3 && size > 100_000);
  assert.equal((await code(() => runtime.import(new Uint8Array(9)))).code, 'weights_format');
});

test('what is kept, and a run that was interrupted, belong to their base', async () => {
  const found = await page.evaluate(
    async ([url, scenes, options]) => {
      for await (const { step } of runtime.align(scenes, { ...options, publish: 2, checkpoint: 2 })) if (step === 2) break;
      await runtime.keep('mine');
      const names = ['manifest.json', 'config.json', 'tokenizer.json', 'preprocessor_config.json', 'model.safetensors'];
      const bytes = async (name) => new Uint8Array(await (await fetch(url + name)).arrayBuffer());
      const files = Object.fromEntries(await Promise.all(names.map(async (name) => [name, await bytes(name)])));
      const other = await Runtime.create({ backend: 'cpu' });
      await other.openWorld(url);
      const look = async () => [await other.kept(), (await other.stored())?.options.steps];
      const failed = (call) => call.then(() => null, ({ code, message }) => [code, message]);
      const unloaded = await failed(other.kept());
      await other.load(files);
      const same = await look();
      // As after a training anew: all shapes are the same.
      const weights = files['model.safetensors'];
      weights[weights.length - 1] ^= 1;
      const manifest = JSON.parse(new TextDecoder().decode(files['manifest.json']));
      const sha256 = new Uint8Array(await crypto.subtle.digest('SHA-256', weights));
      manifest.files['model.safetensors'].sha256 = Array.from(sha256, (byte) => byte.toString(16).padStart(2, '0')).join('');
      files['manifest.json'] = new TextEncoder().encode(JSON.stringify(manifest));
      await other.load(files);
      const retrained = await look();
      const taken = await failed(other.take('mine'));
      const exported = new Uint8Array(await (await runtime.export()).arrayBuffer());
      const imported = await failed(other.import(exported));
      // As the command line writes it, without a name.
      const start = 8 + Number(new DataView(exported.buffer).getBigUint64(0, true));
      const { __metadata__: named, ...tensors } = JSON.parse(new TextDecoder().decode(exported.subarray(8, start)));
      const header = new TextEncoder().encode(JSON.stringify(tensors).padEnd(start - 8));
      const unnamed = new Blob([exported.subarray(0, 8), header, exported.subarray(start)]);
      const anonymous = await failed(other.import(unnamed));
      const resumed = await failed(other.align(scenes, { ...options, resume: true }).next());
      other.dispose();
      const own = [await runtime.kept(), (await runtime.stored()).options.steps];
      await runtime.discard('mine');
      await runtime.forget();
      return { unloaded, same, retrained, taken, imported, named: named.base.length, anonymous, resumed, own };
    },
    [MODEL, SCENES, OPTIONS],
  );
  assert.deepEqual(found, {
    unloaded: ['bad_input', 'no model is loaded yet'],
    same: [['mine'], OPTIONS.steps],
    retrained: [[], undefined],
    taken: ['bad_input', 'nothing is kept of this model under the name mine'],
    imported: [
      'bad_input',
      'these weights are of another base than the loaded one; open the model that they were exported from, and import them there',
    ],
    named: 16,
    anonymous: null,
    resumed: ['bad_input', 'no checkpoint of this model is stored'],
    own: [['mine'], OPTIONS.steps],
  });
});

test('aligned weights may be taken a part of the way', async () => {
  const [base, none, all, half, taken] = await page.evaluate(async () => {
    const draw = async (weights) => {
      for await (const { kind, pictures } of runtime.generate('a dog', { steps: 2, weights })) if (kind === 'image') return [...pictures[0].data];
    };
    const drawn = [await draw('base')];
    for (const share of [0, 1, 0.5]) {
      await runtime.interpolate(share);
      drawn.push(await draw('aligned'));
    }
    await runtime.keep('half');
    await runtime.take('half');
    await runtime.discard('half');
    drawn.push(await draw('aligned'));
    return drawn;
  });
  assert.ok(distance(none, base) <= 1);
  assert.ok(distance(half, base) > 1 && distance(half, all) > 1);
  assert.ok(distance(taken, half) <= 3, 'what was kept half way is not halved again');
  assert.equal((await code(() => runtime.interpolate(1.5))).message, 'share is 1.5, expected 0 (the base) to 1');
});

test('memory stays flat over 500 training steps', async (t) => {
  const found = await page.evaluate(async ([model, scenes]) => {
    await runtime.openWorld(model);
    const found = [];
    for await (const { step } of runtime.align(scenes, { steps: 500, batch: 2, publish: 50, checkpoint: 100 })) {
      if (step % 50 === 0) found.push(await runtime.memory());
    }
    await runtime.forget();
    return found;
  }, [MODEL, SCENES]);
  const [settled, ...later] = found.slice(1);
  t.diagnostic(`${(settled / 2 ** 20).toFixed(1)} MiB after 100 steps, ${(later.at(-1) / 2 ** 20).toFixed(1)} after 500`);
  assert.deepEqual(later, later.map(() => settled));
});

test('says nothing on the console', () => assert.deepEqual(said, []));
