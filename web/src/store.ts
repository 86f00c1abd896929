// The one place of the page's state. Whoever shows something subscribes; whoever changes something calls set.

export type Listener<S> = (state: Readonly<S>, previous: Readonly<S>) => void;

export class Store<S extends object> {
  private listeners = new Set<Listener<S>>();

  constructor(private state: S) {}

  get(): Readonly<S> {
    return this.state;
  }

  /** Change some fields; listeners hear of it once, and only where a field really differs. */
  set(patch: Partial<S>): void {
    const previous = this.state;
    const changed = (Object.keys(patch) as (keyof S)[]).some((key) => !Object.is(previous[key], patch[key]));
    if (!changed) return;
    this.state = { ...previous, ...patch };
    for (const listener of [...this.listeners]) listener(this.state, previous);
  }

  /** Hear of every change; the answer ends it. */
  subscribe(listener: Listener<S>): () => void {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  /** Hear only when one of these fields changes; called at once with the present state as well. */
  watch(keys: (keyof S)[], listener: (state: Readonly<S>) => void): () => void {
    listener(this.state);
    return this.subscribe((state, previous) => {
      if (keys.some((key) => !Object.is(state[key], previous[key]))) listener(state);
    });
  }
}
