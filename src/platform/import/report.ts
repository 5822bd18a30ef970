/** What an import says: what came, what was here already, and what could not be taken over and why. */

export class ImportReport {
  readonly #print: (line: string) => void;
  readonly #counts = new Map<string, { taken: number; known: number }>();
  #refused = 0;

  constructor(print: (line: string) => void) {
    this.#print = print;
  }

  take(kind: string, isNew: boolean, name: string): void {
    const counts = this.#counts.get(kind) ?? { taken: 0, known: 0 };
    counts[isNew ? 'taken' : 'known']++;
    this.#counts.set(kind, counts);
    if (isNew) this.#print(`${kind} ${name}`);
  }

  /** Something comes, but not whole. */
  note(text: string): void {
    this.#print(`note: ${text}`);
  }

  refuse(kind: string, name: string, reason: string): void {
    this.#refused++;
    this.#print(`${kind} ${name} is left: ${reason}`);
  }

  /** Whether all of it came. */
  end(): boolean {
    for (const [kind, { taken, known }] of this.#counts)
      this.#print(`${kind}s: ${taken} taken over${known === 0 ? '' : `, ${known} were here`}`);
    return this.#refused === 0;
  }
}
