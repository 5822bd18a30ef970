/**
 * Which of several API servers the clients of a process ask: one of them, until it fails, then the next, for all of the
 * clients at once. A server fails when its connection does, when it answers neither a connection nor a ping in time, or
 * when it says that it cannot serve now (503, 504): one that is cut off from its store answers nothing else.
 */
export class ServerChoice {
  #servers: readonly string[];
  #at = 0;
  readonly #listeners = new Set<() => void>();

  /** Origins, the one to be asked first before the others. */
  constructor(servers: readonly string[]) {
    if (servers.length === 0) throw new Error('no API server');
    this.#servers = servers;
  }

  get current(): string {
    return this.#servers[this.#at % this.#servers.length] ?? '';
  }

  get all(): readonly string[] {
    return this.#servers;
  }

  /** The next one is asked from now on, if it was this one that was asked. */
  failed(server: string): void {
    if (server !== this.current || this.#servers.length === 1) return;
    this.#at = (this.#at + 1) % this.#servers.length;
    this.#tell();
  }

  /** Servers have come or gone. The one that is asked stays, where it is among them. */
  replace(servers: readonly string[]): void {
    if (servers.length === 0) return;
    const before = this.current;
    this.#servers = servers;
    this.#at = Math.max(0, servers.indexOf(before));
    if (this.current !== before) this.#tell();
  }

  /** Called when another one is asked. Answers how to end that. */
  onChange(changed: () => void): () => void {
    this.#listeners.add(changed);
    return () => this.#listeners.delete(changed);
  }

  #tell(): void {
    for (const changed of this.#listeners) changed();
  }
}
