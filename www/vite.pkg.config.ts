import { fileURLToPath } from 'node:url';
import { type Plugin, defineConfig } from 'vite';

/** Leaves the wasm builds where they are, in the folders beside the bundle. */
function builds(): Plugin {
  return {
    name: 'builds',
    enforce: 'pre',
    resolveId(source) {
      const name = /\/pkg\/dist\/([\w-]+)\/reca\.js$/.exec(source)?.[1];
      return name ? { id: `./${name}/reca.js`, external: true } : null;
    },
  };
}

/** Names a worker as bundlers know it, so that they take it, and what it imports, into a page's bundle. */
function workers(): Plugin {
  const named = /new URL\(\s*\/\* @vite-ignore \*\/\s*new URL\("([^"]+)", import\.meta\.url\)\.href,\s*"" \+ import\.meta\.url\s*\)/g;
  return {
    name: 'workers',
    enforce: 'post',
    generateBundle(_, bundle) {
      for (const chunk of Object.values(bundle)) {
        if (chunk.type !== 'chunk') continue;
        chunk.code = chunk.code.replace(named, 'new URL("./$1", import.meta.url)');
        if (chunk.code.includes('@vite-ignore')) this.error(`a worker in ${chunk.fileName} is not named as bundlers know it`);
      }
    },
  };
}

/** Bundles the runtime and its worker into the npm package. */
export default defineConfig({
  base: './',
  publicDir: false,
  plugins: [workers()],
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
