import { existsSync } from 'node:fs';
import { cp } from 'node:fs/promises';
import { type Plugin, defineConfig } from 'vite';

/** Puts the model directories beside the page. They are fetched, never bundled. */
function models(): Plugin {
  return {
    name: 'models',
    apply: 'build',
    async closeBundle() {
      if (existsSync('models')) await cp('models', 'dist/models', { recursive: true });
    },
  };
}

export default defineConfig({
  base: './',
  plugins: [models()],
  worker: { format: 'es' },
  build: { target: 'es2023', modulePreload: { polyfill: false }, chunkSizeWarningLimit: 1000 },
  server: { fs: { allow: ['..'] } },
});
