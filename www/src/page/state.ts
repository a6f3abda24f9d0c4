/** What the page shows, in the URL: `#panel?key=value`, one set of values a panel. */
export const PANELS = ['understand', 'redraw', 'draw', 'align'] as const;
export type Panel = (typeof PANELS)[number];

const values = new Map<Panel, URLSearchParams>(PANELS.map((panel) => [panel, new URLSearchParams()]));
let current: Panel = 'understand';
/** The address as last read or written here; where it is another, the user has gone there and it is yet to be read. */
let known = '';
const listeners: (() => void)[] = [];

function read(): void {
  known = location.hash;
  const [name = '', query = ''] = location.hash.slice(1).split('?', 2);
  const panel = PANELS.find((known) => known === name);
  if (!panel) return;
  current = panel;
  if (query) values.set(panel, new URLSearchParams(query));
}

export const state = {
  get panel(): Panel {
    return current;
  },

  get(panel: Panel, key: string): string | null {
    return values.get(panel)?.get(key) ?? null;
  },

  /** Changes values of a panel; null removes one. */
  set(panel: Panel, changes: Record<string, string | null>): void {
    const own = values.get(panel) as URLSearchParams;
    for (const [key, value] of Object.entries(changes)) {
      if (value === null) own.delete(key);
      else own.set(key, value);
    }
    if (location.hash === known) this.show(current, false);
  },

  /** Goes to a panel; `history` adds an entry to go back to. */
  show(panel: Panel, history: boolean): void {
    current = panel;
    const query = values.get(panel)?.toString();
    const url = `#${panel}${query ? `?${query}` : ''}`;
    if (url === location.hash) return;
    window.history[history ? 'pushState' : 'replaceState'](null, '', url);
    known = location.hash;
  },

  /** Calls back when the user goes to another URL of this page. */
  onNavigate(listener: () => void): void {
    listeners.push(listener);
  },
};

/** Keeps form controls and a panel's values the same; the ids are the keys. */
export function bind(panel: Panel, ids: Record<string, string>): void {
  const controls = Object.entries(ids).map(([key, id]) => [key, document.getElementById(id)] as const);
  const fill = () => {
    for (const [key, control] of controls) {
      const value = state.get(panel, key);
      if (value === null) continue;
      if (control instanceof HTMLInputElement) control.value = value;
      else if (control instanceof HTMLSelectElement && offers(control, value)) control.value = value;
      else state.set(panel, { [key]: null });
    }
  };
  for (const [key, control] of controls) {
    control?.addEventListener('change', () => state.set(panel, { [key]: (control as HTMLInputElement).value }));
  }
  state.onNavigate(fill);
  fill();
}

/** Whether a value can be chosen now. */
const offers = ({ options }: HTMLSelectElement, value: string) => [...options].some((option) => option.value === value && !option.disabled);

read();
window.addEventListener('hashchange', () => {
  read();
  for (const listener of listeners) listener();
});
