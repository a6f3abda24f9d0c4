/** Light, dark, or as the system has it. */
import { button } from './dom';

const THEMES = ['system', 'light', 'dark'] as const;
const KEY = 'reca-theme';

export function theme(): void {
  const control = button('theme');
  const apply = (name: string) => {
    if (name === 'system') delete document.documentElement.dataset['theme'];
    else document.documentElement.dataset['theme'] = name;
    control.ariaLabel = control.title = `Colours: ${name === 'system' ? 'as the system' : name}`;
    control.textContent = { light: '☀', dark: '☾' }[name] ?? '◐';
  };
  let chosen = read();
  apply(chosen);
  control.addEventListener('click', () => {
    chosen = THEMES[(THEMES.findIndex((name) => name === chosen) + 1) % THEMES.length] ?? 'system';
    apply(chosen);
    try {
      localStorage.setItem(KEY, chosen);
    } catch {
      // Nothing may be stored here; the choice lasts as long as the page.
    }
  });
}

function read(): string {
  try {
    return localStorage.getItem(KEY) ?? 'system';
  } catch {
    return 'system';
  }
}
