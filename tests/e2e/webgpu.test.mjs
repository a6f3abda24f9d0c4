/** The WebGPU build computes what the CPU build and the PyTorch reference compute, on a software
 * adapter; speed is no matter here. */
import assert from 'node:assert/strict';
import { existsSync, readFileSync } from 'node:fs';
import { after, before, describe, test } from 'node:test';

import { SWIFTSHADER, launch, open } from './browser.mjs';
import { CHECKPOINTS, compared, faults } from './encoder.mjs';
import { distance, golden, goldenImage, largest } from './goldens.mjs';
import { png } from './images.mjs';
import { serve } from './server.mjs';

const WORKER = '/pkg/dist/worker.js';
const overrides = new Map();

/** From now on workers begin with this code, which stands for the machine's driver and adapter. */
function driver(code) {
  overrides.set(WORKER, `{${code}}\n${readFileSync(new URL(`../..${WORKER}`, import.meta.url), 'utf8')}`);
}

/** The software adapter says that it is a hardware one. */
const HARDWARE = `Object.defineProperty(GPUAdapterInfo.prototype, 'isFallbackAdapter', { get: () => false });`;

const built = existsSync(new URL('../../pkg/dist/webgpu/reca_bg.wasm', import.meta.url));

describe('WebGPU', { skip: built ? false : 'pkg/dist/webgpu is not built', timeout: 600_000 }, () => {
  let server, browser, page, said;

  before(async () => {
    server = await serve(overrides);
    browser = await launch(SWIFTSHADER);
    ({ page, said } = await open(browser.context, `${server.origin}/blank/`));
    await page.evaluate(async () => {
      const { Runtime } = await import('/pkg/dist/runtime.js');
      globalThis.Runtime = Runtime;
      globalThis.runtimes = {};
      for (const backend of ['cpu', 'webgpu']) {
        runtimes[backend] = await Runtime.create({ backend });
        await runtimes[backend].load('/lab/models/nano/');
      }
      globalThis.automatic = await Runtime.create();
    });
  });

  after(async () => {
    await browser?.close();
    server?.close();
  });

  test('is what it says, and is not chosen by itself on a software adapter', async () => {
    const infos = await page.evaluate(() => [runtimes.webgpu.info(), automatic.info()]);
    assert.equal(infos[0].backend, 'webgpu');
    assert.deepEqual([infos[1].backend, infos[1].reason], ['cpu', 'the only WebGPU adapter is a software one']);
  });

  test('embeds as the PyTorch reference and the CPU do', async (t) => {
    const expected = golden('connector.output');
    const size = expected.values.length / 3;
    for (const index of [0, 1, 2]) {
      const file = [...(await png(page, goldenImage(index)))];
      const [cpu, webgpu] = await page.evaluate(async (file) => {
        const image = new Uint8Array(file);
        return [[...(await runtimes.cpu.embed(image))], [...(await runtimes.webgpu.embed(image))]];
      }, file);
      const apart = [distance(webgpu, expected.values.slice(index * size, (index + 1) * size)), distance(webgpu, cpu)];
      t.diagnostic(`image ${index}: ${apart.map((d) => d.toExponential(1)).join(' from PyTorch, ')} from the CPU`);
      assert.ok(Math.max(...apart) < 1e-4 * largest(expected.values), `${apart}`);
    }
  });

  test('describes with the same words', async () => {
    const file = [...(await png(page, goldenImage(0)))];
    const [cpu, webgpu] = await page.evaluate(async (file) => {
      const image = new Uint8Array(file);
      return [await runtimes.cpu.describe(image), await runtimes.webgpu.describe(image)];
    }, file);
    assert.equal(webgpu, cpu);
  });

  for (const kind of ['generate', 'reconstruct']) {
    test(`${kind}s the same picture within a level or two`, async (t) => {
      const source = kind === 'generate' ? 'a red car left of a dog' : [...(await png(page, goldenImage(1)))];
      const [cpu, webgpu] = await page.evaluate(
        async ([kind, source]) => {
          const draw = async (runtime) => {
            const input = typeof source === 'string' ? source : new Uint8Array(source);
            let picture;
            for await (const frame of runtime[kind](input, { seed: 9, steps: 4, preview: 2 })) picture = frame.pictures?.[0] ?? picture;
            return [...picture.data];
          };
          return [await draw(runtimes.cpu), await draw(runtimes.webgpu)];
        },
        [kind, source],
      );
      const apart = distance(cpu, webgpu);
      t.diagnostic(`largest difference ${apart} of 255`);
      assert.ok(apart <= 2 && new Set(cpu).size > 16, `${apart}`);
    });
  }

  for (const checkpoint of CHECKPOINTS) {
    test(`${checkpoint} computes what transformers computes`, async () => {
      const { pairs, tokens } = await compared(page, 'webgpu-encoders', 'webgpu', checkpoint);
      assert.deepEqual(faults(pairs), []);
      assert.deepEqual(tokens[0], tokens[1]);
    });
  }

  /** What a runtime that chooses for itself says, and how many values it embeds a picture in. */
  const automatic = () =>
    page.evaluate(async (file) => {
      const runtime = await Runtime.create();
      await runtime.load('/lab/models/nano/');
      const found = { ...runtime.info(), values: (await runtime.embed(new Uint8Array(file))).length };
      runtime.dispose();
      return found;
    }, picture);
  let picture;

  test('is chosen by itself on a hardware adapter', async () => {
    picture = [...(await png(page, goldenImage(0)))];
    driver(HARDWARE);
    const { backend, reason } = await automatic();
    assert.deepEqual([backend, reason], ['webgpu', 'a WebGPU adapter was found']);
  });

  const FAULTS = {
    'computes wrongly': [
      /computes wrongly/,
      `const { getMappedRange } = GPUBuffer.prototype;
       GPUBuffer.prototype.getMappedRange = function (...of) {
         const range = getMappedRange.apply(this, of);
         if (this.usage & GPUBufferUsage.MAP_READ) new Uint8Array(range).fill(0);
         return range;
       };`,
    ],
    'throws': [/no pipelines here/, `GPUDevice.prototype.createComputePipeline = () => { throw new Error('no pipelines here'); };`],
  };
  for (const [fault, [reason, code]] of Object.entries(FAULTS)) {
    test(`gives way to the CPU where the driver ${fault}`, async () => {
      driver(HARDWARE + code);
      const found = await automatic();
      assert.equal(found.backend, 'cpu');
      assert.match(found.reason, /^WebGPU failed: /);
      assert.match(found.reason, reason);
      assert.ok(found.values > 0);
      const forced = await page.evaluate(() => Runtime.create({ backend: 'webgpu' }).catch(({ name, message }) => ({ name, message })));
      assert.equal(forced.name, 'RecaError');
      assert.match(forced.message, reason);
    });
  }

  test('goes on aligning from the last checkpoint when the device is lost, as the CPU aligns', async (t) => {
    driver(`
      const { requestDevice } = GPUAdapter.prototype;
      GPUAdapter.prototype.requestDevice = async function (...of) {
        const device = await requestDevice.apply(this, of);
        new BroadcastChannel('driver').onmessage = () => device.destroy();
        return device;
      };`);
    const { steps, losses, infos } = await page.evaluate(async () => {
      const runtime = await Runtime.create({ backend: 'webgpu' });
      await runtime.load('/lab/models/nano/');
      await runtime.openWorld('/lab/models/nano/');
      const infos = [runtime.info()];
      const steps = [];
      const losses = { cpu: [], webgpu: [] };
      let lost = false;
      const scenes = { pool: 'open', seed: 1, from: 0, count: 4 };
      const options = { steps: 5, batch: 2, checkpoint: 2, publish: 5 };
      await runtimes.cpu.openWorld('/lab/models/nano/');
      for await (const { loss } of runtimes.cpu.align(scenes, { ...options, checkpoint: 0 })) losses.cpu.push(loss);
      for await (const { step, loss } of runtime.align(scenes, options)) {
        steps.push(step);
        losses.webgpu[step - 1] = loss;
        if (step !== 3 || lost) continue;
        lost = true;
        new BroadcastChannel('driver').postMessage('lose');
        await new Promise((resolve) => setTimeout(resolve, 2000));
      }
      infos.push(runtime.info());
      await runtime.forget();
      runtime.dispose();
      return { steps, losses, infos };
    });
    assert.deepEqual(steps, [1, 2, 3, 3, 4, 5]);
    t.diagnostic(`losses ${losses.cpu} on the CPU, ${losses.webgpu} on WebGPU`);
    assert.ok(distance(losses.webgpu, losses.cpu) < 1e-3);
    assert.equal(infos[1].backend, 'webgpu');
  });

  test('says nothing on the console but of the faults', () => {
    // Optional files of the encoders' checkpoints are asked for and not there.
    const known = /status of 404|no pipelines here|device was lost|unreachable|wgpu|GPU|poison/i;
    assert.deepEqual(said.filter((line) => !known.test(line)), []);
  });
});
