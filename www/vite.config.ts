import { defineConfig } from 'vite';
import { models } from './vite.models';
import { offline } from './vite.offline';

export default defineConfig({
  base: './',
  plugins: [models(), offline()],
  worker: { format: 'es' },
  build: { target: 'es2023', modulePreload: { polyfill: false }, chunkSizeWarningLimit: 1000 },
  server: { fs: { allow: ['..'] } },
});
