/** Counts what the WebGPU build asks of a device, step by step; speed is no matter here. */

const counts = {};
/** The order of dispatches and reads, to see whether a step waits for an answer midway. */
let order = [];

/** Counts the calls of a method. */
function hook(owner, method, name, mark) {
  const call = owner.prototype[method];
  owner.prototype[method] = function (...of) {
    counts[name] = (counts[name] ?? 0) + 1;
    if (mark) order.push(mark);
    return call.apply(this, of);
  };
}

hook(GPUQueue, 'submit', 'submissions');
hook(GPUQueue, 'writeBuffer', 'writes');
hook(GPUComputePassEncoder, 'dispatchWorkgroups', 'dispatches', 'dispatch');
hook(GPUComputePassEncoder, 'dispatchWorkgroupsIndirect', 'dispatches', 'dispatch');
hook(GPUDevice, 'createBuffer', 'buffers');
hook(GPUDevice, 'createComputePipeline', 'pipelines');
hook(GPUBuffer, 'mapAsync', 'read-backs', 'read');

/** What `work` asks for; `midway` are reads that more dispatches follow. */
async function counted(work) {
  for (const name of Object.keys(counts)) counts[name] = 0;
  order = [];
  await work();
  const last = order.lastIndexOf('dispatch');
  return { ...counts, midway: order.filter((mark, i) => mark === 'read' && i < last).length };
}

/** Counts of some steps after the first, which compiles. */
async function steps(count, step) {
  await step();
  const found = [];
  for (let i = 0; i < count; i++) found.push(await counted(step));
  return found;
}

async function files(folder, names) {
  const read = async (name) => [name, new Uint8Array(await (await fetch(folder + name)).arrayBuffer())];
  return Object.fromEntries(await Promise.all(names.map(read)));
}

async function count(folder) {
  const { default: init, Runtime } = await import('/pkg/dist/webgpu/reca.js');
  await init();
  const runtime = await Runtime.create('webgpu');
  runtime.load(await files(folder, ['manifest.json', 'config.json', 'tokenizer.json', 'preprocessor_config.json', 'model.safetensors']));
  const world = await files(folder, ['world.json', 'sprites.png']);
  runtime.openWorld(world['world.json'], world['sprites.png']);
  const drawing = (options) => {
    const begun = runtime.generate('a red car', { steps: 20, ...options });
    return steps(4, () => begun.advance());
  };
  const found = {
    'denoising step, guided': await drawing({ guidance: 3 }),
    'denoising step, guided, 4 pictures': await drawing({ guidance: 3, count: 4 }),
    'denoising step, not guided': await drawing({ guidance: 1 }),
  };
  const pictures = runtime.pictures();
  await pictures.addScenes(runtime, 'open', 1n, 0n, 8n);
  const training = runtime.align(pictures, undefined, { steps: 100, batch: 4 });
  found['RecA step, batch 4'] = await steps(4, () => training.step());
  return found;
}

globalThis.count = count;
