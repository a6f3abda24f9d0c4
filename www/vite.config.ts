import { defineConfig } from 'vite';
import { models } from './vite.models.ts';
import { offline } from './vite.offline.ts';

export default defineConfig({
  base: './',
  plugins: [models(), offline()],
  worker: { format: 'es' },
  build: { target: 'es2023', modulePreload: { polyfill: false }, chunkSizeWarningLimit: 1000 },
  server: { fs: { allow: ['..'] } },
});
