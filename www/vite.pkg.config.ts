import { fileURLToPath } from 'node:url';
import { type Plugin, defineConfig } from 'vite';

/** Leaves the wasm builds where they are, in the folders beside the bundle. */
function builds(): Plugin {
  return {
    name: 'builds',
    enforce: 'pre',
    resolveId(source) {
      const name = /\/pkg\/dist\/(cpu|encoders|webgpu)\/reca\.js$/.exec(source)?.[1];
      return name ? { id: `./${name}/reca.js`, external: true } : null;
    },
  };
}

/** Bundles the runtime and its worker into the npm package. */
export default defineConfig({
  base: './',
  publicDir: false,
  worker: {
    format: 'es',
    plugins: () => [builds()],
    rollupOptions: { output: { entryFileNames: '[name].js' } },
  },
  build: {
    target: 'es2023',
    minify: false,
    outDir: fileURLToPath(new URL('../pkg/dist', import.meta.url)),
    emptyOutDir: false,
    assetsDir: '.',
    modulePreload: false,
    rollupOptions: {
      input: 'src/runtime.ts',
      preserveEntrySignatures: 'strict',
      output: { entryFileNames: '[name].js' },
    },
  },
});
