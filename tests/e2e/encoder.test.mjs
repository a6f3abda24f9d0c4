/** CLIP and SigLIP checkpoints in the browser, on the CPU: what `transformers` computes, and what a page
 * that imports the package can rely on. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';

import { launch, open } from './browser.mjs';
import { CHECKPOINTS, compared, faults } from './encoder.mjs';
import { serve } from './server.mjs';

const CLIP = '/encoders/clip/';

let server, browser, page, said;
const overrides = new Map();

before(async () => {
  server = await serve(overrides);
  browser = await launch();
  ({ page, said } = await open(browser.context, `${server.origin}/blank/`));
  await page.evaluate(async () => {
    const { Encoder } = await import('/pkg/dist/runtime.js');
    globalThis.Encoder = Encoder;
    globalThis.picture = new Uint8Array(await (await fetch('/encoders/picture-0.png')).arrayBuffer());
    /** A checkpoint's files, as chosen by a user, but for those to leave out. */
    globalThis.chosen = (checkpoint, without = []) => {
      const names = ['config.json', 'tokenizer.json', 'tokenizer_config.json', 'preprocessor_config.json', 'model.safetensors'];
      const file = async (name) => new File([await (await fetch(`/encoders/${checkpoint}/${name}`)).blob()], name);
      return Promise.all(names.filter((name) => !without.includes(name)).map(file));
    };
  });
});

after(async () => {
  await browser?.close();
  server?.close();
});

for (const checkpoint of CHECKPOINTS) {
  test(`${checkpoint} computes what transformers computes`, async () => {
    const { pairs, tokens, grid } = await compared(page, 'encoders', 'cpu', checkpoint);
    assert.deepEqual(faults(pairs), []);
    assert.deepEqual(tokens[0], tokens[1]);
    assert.deepEqual(grid, [4, 4]);
  });
}

test('another activation or epsilon would be noticed', async () => {
  for (const [checkpoint, from, to] of [['clip', '"quick_gelu"', '"gelu"'], ['siglip', '1e-06', '1e-05']]) {
    const path = `/encoders/${checkpoint}/config.json`;
    const config = file(path).toString();
    assert.ok(config.includes(from));
    overrides.set(path, Buffer.from(config.replaceAll(from, to)));
    const { pairs } = await compared(page, 'encoders', 'cpu', checkpoint);
    overrides.clear();
    assert.match(faults(pairs).join('; '), /image_embeds: error/);
    assert.match(faults(pairs).join('; '), /logits: error/);
  }
});

test('loads from files and from an address, telling bytes and tensors', async () => {
  const [files, url] = await page.evaluate(async () => {
    const loaded = async (source) => {
      const told = [];
      const encoder = await Encoder.open(source, { backend: 'cpu', onProgress: (progress) => told.push(progress) });
      const values = [...(await encoder.embed(picture))];
      encoder.dispose();
      return { told, values, info: encoder.info, backend: encoder.device.backend };
    };
    return [await loaded(await chosen('clip')), await loaded('/encoders/clip/')];
  });
  assert.deepEqual(files, url);
  assert.deepEqual([files.info.family, files.info.imageSize, files.info.labels, files.backend], ['clip', 32, true, 'cpu']);
  const { bytes, bytesTotal, tensors, tensorsTotal } = files.told.at(-1);
  assert.deepEqual([bytes, tensors, files.told.length], [bytesTotal, tensorsTotal, tensorsTotal]);
  assert.ok(files.told.every(({ bytes }, i) => i === 0 || bytes > files.told[i - 1].bytes));
});

test('scores labels: CLIP shares 1 among them, SigLIP judges each', async () => {
  const [clip, siglip] = await page.evaluate(async () => {
    const scored = async (url) => {
      const encoder = await Encoder.open(url, { backend: 'cpu' });
      const all = await encoder.zeroShot(picture, ['a cat', 'a dog', 'a red car']);
      const alone = await encoder.zeroShot(picture, ['a dog']);
      const maps = [await encoder.cosineMap(picture), await encoder.cosineMap(picture, { label: 'a dog' })];
      encoder.dispose();
      return { all, alone, maps };
    };
    return [await scored('/encoders/clip/'), await scored('/encoders/siglip2/')];
  });
  assert.deepEqual([clip.all.kind, siglip.all.kind], ['softmax', 'sigmoid']);
  assert.ok(Math.abs(clip.all.scores.reduce((a, b) => a + b) - 1) < 1e-5);
  assert.ok(Math.abs(clip.alone.scores[0] - 1) < 1e-6);
  assert.ok(Math.abs(siglip.alone.scores[0] - siglip.all.scores[1]) < 1e-5);
  for (const { maps } of [clip, siglip]) {
    assert.deepEqual(maps.map(({ rows, columns, values }) => [rows, columns, values.length]), [[4, 4, 16], [4, 4, 16]]);
    assert.ok(maps.every(({ values }) => values.every((value) => Math.abs(value) <= 1.0001)));
    assert.notDeepEqual(maps[0].values, maps[1].values);
  }
});

test('without a tokenizer only the vision tower is loaded, and labels are refused', async () => {
  const { info, embeds, code, message } = await page.evaluate(async () => {
    const encoder = await Encoder.open(await chosen('siglip', ['tokenizer.json']), { backend: 'cpu' });
    const embeds = (await encoder.embed(picture)).length;
    const failed = await encoder.zeroShot(picture, ['a dog']).catch(({ code, message }) => ({ code, message }));
    encoder.dispose();
    return { info: encoder.info, embeds, ...failed };
  });
  assert.deepEqual([info.labels, embeds, code], [false, 32, 'bad_input']);
  assert.match(message, /tokenizer\.json/);
});

test('a signal ends a load between two tensors, and before it begins', async () => {
  for (const tensors of [0, 3]) {
    const { code, told } = await page.evaluate(async (tensors) => {
      const controller = new AbortController();
      let told = 0;
      const stop = () => tensors === told && controller.abort();
      stop();
      const source = await chosen('clip');
      const opened = Encoder.open(source, { backend: 'cpu', signal: controller.signal, onProgress: () => (told++, stop()) });
      const failed = await opened.catch(({ code }) => code);
      await new Promise((resolve) => setTimeout(resolve, 300));
      return { code: failed, told };
    }, tensors);
    assert.deepEqual([code, told], ['aborted', tensors]);
  }
});

test('refuses labels that are empty, and none', async () => {
  const failed = await page.evaluate(async () => {
    const encoder = await Encoder.open('/encoders/clip/', { backend: 'cpu' });
    const failed = [];
    for (const [labels, options] of [[[], {}], [['a dog', ' '], {}], [['a dog'], { template: 'a photo' }]]) {
      failed.push(await encoder.zeroShot(picture, labels, options).catch(({ code, message }) => `${code}: ${message}`));
    }
    failed.push(await encoder.embed(new TextEncoder().encode('no picture')).catch(({ code, message }) => `${code}: ${message}`));
    const after = await encoder.zeroShot(picture, ['a dog']);
    encoder.dispose();
    return [...failed, after.scores.length];
  });
  assert.match(failed[0], /^bad_input: .*a cat, a dog/);
  assert.match(failed[1], /^bad_input: .*empty/);
  assert.match(failed[2], /^bad_input: .*\{\}/);
  assert.match(failed[3], /^bad_input: .*PNG/);
  assert.equal(failed[4], 1);
});

/** What opening CLIP's files says; `changed` maps names to other bytes, or null for none. */
async function failure(changed) {
  const without = Object.keys(changed).filter((name) => !changed[name]);
  for (const [name, bytes] of Object.entries(changed)) if (bytes) overrides.set(CLIP + name, bytes);
  const said = await page.evaluate(async (without) => {
    const opened = Encoder.open(await chosen('clip', without), { backend: 'cpu' });
    return opened.then(() => 'it opened', ({ name, code, message }) => `${name} ${code}: ${message}`);
  }, without);
  overrides.clear();
  return said;
}

const file = (name) => readFileSync(new URL(`../goldens${name}`, import.meta.url));
const weights = () => file(`${CLIP}model.safetensors`);

/** The weights with another header of the same length. */
function withHeader(change) {
  const bytes = weights();
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const header = change(bytes.toString('utf8', 8, start));
  assert.equal(header.length, start - 8);
  bytes.write(header, 8);
  return bytes;
}

test('refuses files that are cut off, lie, hold NaN or are of another kind', async () => {
  const nan = weights();
  nan.writeFloatLE(Number.NaN, nan.length - 4);
  const config = (change) => Buffer.from(JSON.stringify({ ...JSON.parse(file(`${CLIP}config.json`)), ...change }));
  for (const [changed, said] of [
    [{ 'model.safetensors': weights().subarray(0, 100_000) }, /weights_format: .*fetch it again/],
    [{ 'model.safetensors': weights().subarray(0, 5) }, /weights_format: model\.safetensors: .*fewer than 8 bytes/],
    [{ 'model.safetensors': Buffer.from('<!doctype html>') }, /weights_format: .*header claims/],
    [{ 'model.safetensors': withHeader((json) => json.replace(/\[0,(\d)/, (_, digit) => `[0,${(Number(digit) + 1) % 9 || 1}`)) }, /weights_format: .*but has bytes|weights_format: .*begins at/],
    [{ 'model.safetensors': withHeader((json) => json.replace('visual_projection', 'visual_projectiom')) }, /weights_shape: .*missing: visual_projection/],
    [{ 'model.safetensors': nan }, /weights_format: .*(NaN|finite)/],
    [{ 'model.safetensors': null }, /bad_input: .*neither model\.safetensors/],
    [{ 'config.json': null }, /bad_input: there is no config\.json/],
    [{ 'config.json': config({ model_type: 'bert' }) }, /weights_format: .*"bert", expected clip/],
    [{ 'config.json': config({ model_type: 'siglip2' }) }, /weights_format: .*NaFlex/],
    [{ 'tokenizer.json': Buffer.from('{}') }, /weights_format: tokenizer\.json/],
    [{ 'preprocessor_config.json': Buffer.from('{"resample": 9}') }, /weights_format: .*resample is 9/],
  ]) {
    assert.match(await failure(changed), new RegExp(`^RecaError ${said.source}`), JSON.stringify(Object.keys(changed)));
  }
});

test('refuses an address where nothing is, and a server that stops short', async () => {
  const opening = (url) => page.evaluate((url) => Encoder.open(url, { backend: 'cpu' }).catch(({ code, message }) => `${code}: ${message}`), url);
  assert.match(await opening('/encoders/none/'), /^bad_input: there is no config\.json.*resolve\/main/);
  assert.match(await opening('http://127.0.0.1:1/'), /^network: .*CORS/);
  overrides.set(`${CLIP}model.safetensors`, weights().subarray(0, 50_000));
  assert.match(await opening(CLIP), /^weights_format: .*fetch it again/);
  overrides.clear();
});

/** The beginning of a vision tower with a hidden size of 32768: 8 GB in halves. */
function giant() {
  const bytes = file('/encoders/clip-vision/model.safetensors');
  const small = JSON.parse(bytes.toString('utf8', 8, 8 + Number(bytes.readBigUInt64LE(0))));
  let at = 0;
  const header = {};
  for (const [name, { dtype, shape }] of Object.entries(small)) {
    if (!shape || /layers\.[12]\./.test(name)) continue;
    const large = shape.map((side) => (side === 32 ? 32768 : side));
    header[name] = { dtype, shape: large, data_offsets: [at, (at += 2 * large.reduce((a, b) => a * b, 1))] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(json.length));
  return { bytes: Buffer.concat([prefix, json]), size: 8 + json.length + at };
}

test('refuses weights that will not fit, with the figures, before it reads them', async () => {
  const config = { ...JSON.parse(file('/encoders/clip-vision/config.json')), hidden_size: 32768, num_hidden_layers: 1 };
  overrides.set('/encoders/giant/config.json', Buffer.from(JSON.stringify(config)));
  overrides.set('/encoders/giant/model.safetensors', giant());
  const failed = await page.evaluate(() => Encoder.open('/encoders/giant/', { backend: 'cpu' }).catch(({ code, message }) => `${code}: ${message}`));
  assert.match(failed, /^out_of_memory: the weights need \d{5} MB of memory, \d{4} MB are free/);
  overrides.clear();
});

test('says nothing on the console but what is not there', () => {
  assert.deepEqual(said.filter((line) => !/status of 404|ERR_CONNECTION_REFUSED|ERR_UNSAFE_PORT/.test(line)), []);
});
