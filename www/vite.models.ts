/** Puts the model directories beside the page, fetched and never bundled: weights in 8 bits a value, one
 * scale a row, and compressed, those that only alignment needs in a file of their own, so that a first
 * visit stays small. */
import { createHash } from 'node:crypto';
import { cp, mkdir, readFile, readdir, writeFile } from 'node:fs/promises';
import { existsSync } from 'node:fs';
import { gzipSync } from 'node:zlib';
import type { Plugin } from 'vite';

const WEIGHTS = 'model.safetensors';
const LATER = 'latent_encoder.safetensors';
const ALIGNED = 'aligned.safetensors';
const LATER_PREFIX = 'autoencoder.encoder.';
const LISTED = ['config.json', 'tokenizer.json', 'preprocessor_config.json'];

export function models(): Plugin {
  return {
    name: 'models',
    apply: 'build',
    async closeBundle() {
      if (!existsSync('models')) return;
      for (const name of await readdir('models')) await pack(`models/${name}`, `dist/models/${name}`);
    },
  };
}

async function pack(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  await cp(from, to, { recursive: true });
  const files: Record<string, object> = {};
  for (const name of LISTED) files[name] = entry(await readFile(`${to}/${name}`));
  const tensors = [...quantised(await readFile(`${from}/${WEIGHTS}`))];
  const isLater = ([name]: [string, Tensor]) => name.startsWith(LATER_PREFIX);
  files[WEIGHTS] = await compressed(`${to}/${WEIGHTS}`, serialised(tensors.filter((tensor) => !isLater(tensor))));
  const later = { [LATER]: await compressed(`${to}/${LATER}`, serialised(tensors.filter(isLater))) };
  if (existsSync(`${from}/${ALIGNED}`)) {
    const aligned = quantised(await readFile(`${from}/${ALIGNED}`));
    Object.assign(later, { [ALIGNED]: await compressed(`${to}/${ALIGNED}`, serialised([...aligned])) });
  }
  await writeFile(`${to}/manifest.json`, JSON.stringify({ files, later }));
}

function entry(bytes: Buffer): { size: number; sha256: string } {
  return { size: bytes.length, sha256: createHash('sha256').update(bytes).digest('hex') };
}

/** Writes a file, and beside it the same compressed. */
async function compressed(path: string, bytes: Buffer): Promise<object> {
  const small = gzipSync(bytes, { level: 9 });
  await writeFile(path, bytes);
  await writeFile(`${path}.gzip`, small);
  return { ...entry(bytes), gzip: small.length };
}

interface Tensor {
  dtype: string;
  shape: number[];
  bytes: Buffer;
}

/** The tensors of a safetensors file, its f16 matrices as I8 rows and F32 `NAME.scale`; the rest stays. */
function quantised(file: Buffer): Map<string, Tensor> {
  const start = 8 + Number(file.readBigUInt64LE(0));
  const header = JSON.parse(file.toString('utf8', 8, start)) as Record<string, { dtype: string; shape: number[]; data_offsets: [number, number] }>;
  const tensors = new Map<string, Tensor>();
  for (const [name, { dtype, shape, data_offsets: [from, end] = [0, 0] }] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const bytes = file.subarray(start + from, start + end);
    if (dtype !== 'F16' || shape.length < 2) tensors.set(name, { dtype, shape, bytes });
    else rows(name, shape, bytes, tensors);
  }
  return tensors;
}

function rows(name: string, shape: number[], bytes: Buffer, to: Map<string, Tensor>): void {
  const values = Float32Array.from({ length: bytes.length / 2 }, (_, i) => half(bytes.readUInt16LE(2 * i)));
  const count = shape[0] ?? 1;
  const length = values.length / count;
  const [small, scales] = [new Int8Array(values.length), new Float32Array(count)];
  for (let row = 0; row < count; row++) {
    const of = values.subarray(row * length, (row + 1) * length);
    const scale = of.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127 || 1;
    scales[row] = scale;
    of.forEach((value, i) => (small[row * length + i] = Math.round(value / scale)));
  }
  to.set(name, { dtype: 'I8', shape, bytes: Buffer.from(small.buffer) });
  to.set(`${name}.scale`, { dtype: 'F32', shape: [count], bytes: Buffer.from(scales.buffer) });
}

/** The value of an IEEE half. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
  return sign * (exponent ? 2 ** (exponent - 15) * (1 + fraction / 1024) : 2 ** -14 * (fraction / 1024));
}

/** Wider values first, as readers want them aligned. */
function serialised(tensors: [string, Tensor][]): Buffer {
  const width: Record<string, number> = { F32: 4, F16: 2, BF16: 2, I8: 1 };
  const sorted = [...tensors].sort(([a, x], [b, y]) => (width[y.dtype] ?? 0) - (width[x.dtype] ?? 0) || (a < b ? -1 : 1));
  let offset = 0;
  const header = Object.fromEntries(
    sorted.map(([name, { dtype, shape, bytes }]) => [name, { dtype, shape, data_offsets: [offset, (offset += bytes.length)] }]),
  );
  let text = JSON.stringify(header);
  text += ' '.repeat((8 - (text.length % 8)) % 8);
  const size = Buffer.alloc(8);
  size.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([size, Buffer.from(text), ...sorted.map(([, { bytes }]) => bytes)]);
}
