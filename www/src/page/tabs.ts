/** Tabs: arrow keys move between them, each has its place in the URL. */
import { button, element } from './dom';
import { PANELS, type Panel, state } from './state';

function select(panel: Panel): void {
  for (const name of PANELS) {
    const chosen = name === panel;
    const tab = button(`tab-${name}`);
    tab.ariaSelected = String(chosen);
    tab.tabIndex = chosen ? 0 : -1;
    element(name, HTMLElement).hidden = !chosen;
  }
  document.dispatchEvent(new CustomEvent('panel', { detail: panel }));
}

export function tabs(): void {
  for (const [index, name] of PANELS.entries()) {
    const tab = button(`tab-${name}`);
    tab.addEventListener('click', () => {
      state.show(name, true);
      select(name);
    });
    tab.addEventListener('keydown', (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const to = step === undefined ? { Home: 0, End: PANELS.length - 1 }[event.key] : index + step;
      const next = to === undefined ? undefined : PANELS[(to + PANELS.length) % PANELS.length];
      if (!next) return;
      event.preventDefault();
      button(`tab-${next}`).focus();
      button(`tab-${next}`).click();
    });
  }
  const follow = () => {
    select(state.panel);
    // A link of the panel that went has lost the focus, or has it where nobody sees; another tab's says the wrong one.
    const focused = document.activeElement;
    if (!focused || focused === document.body || focused.closest('[hidden], [role="tablist"]')) button(`tab-${state.panel}`).focus({ preventScroll: true });
    window.scrollTo({ top: 0 });
  };
  state.onNavigate(follow);
  window.addEventListener('popstate', follow);
  select(state.panel);
}
