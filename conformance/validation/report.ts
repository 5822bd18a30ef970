/** What was compared of a kind: shares, and differences grouped by cause, with the mutants that show them. */
import type { Difference } from './compare.ts';
import type { Mutant } from './mutate.ts';

const examplesMax = 3;
const sameShareMin = 0.99;
const takenShareMin = 0.3;

interface Group {
  count: number;
  examples: Mutant[];
}

export class KindReport {
  readonly name: string;
  readonly #seed: number;
  #count = 0;
  #taken = 0;
  #same = 0;
  readonly #byAspect = new Map<string, number>();
  readonly #groups = new Map<string, Group>();

  constructor(name: string, seed: number) {
    this.name = name;
    this.#seed = seed;
  }

  /** Words of messages are told of, and do not count. */
  add(mutant: Mutant, taken: boolean, differences: readonly Difference[]): void {
    this.#count++;
    if (taken) this.#taken++;
    if (differences.every(({ aspect }) => aspect === 'message')) this.#same++;
    for (const aspect of new Set(differences.map((one) => one.aspect)))
      this.#byAspect.set(aspect, (this.#byAspect.get(aspect) ?? 0) + 1);
    for (const { aspect, text } of differences) {
      const key = `${aspect}: ${text}`;
      const group = this.#groups.get(key) ?? { count: 0, examples: [] };
      group.count++;
      if (group.examples.length < examplesMax) group.examples.push(mutant);
      this.#groups.set(key, group);
    }
  }

  get passes(): boolean {
    return this.#same >= sameShareMin * this.#count && this.#taken >= takenShareMin * this.#count;
  }

  line(): string {
    const percent = (count: number): string => `${((100 * count) / Math.max(1, this.#count)).toFixed(2)} %`;
    const aspects = [...this.#byAspect].map(([aspect, count]) => `${aspect} ${count}`).join(', ');
    return `${this.passes ? 'ok  ' : 'BAD '} ${this.name}: ${this.#count} mutants, ${percent(this.#same)} the same, ${percent(this.#taken)} taken${aspects === '' ? '' : `; differ: ${aspects}`}`;
  }

  print(groupsMax: number, withMessages: boolean): void {
    console.log(`\n${this.line()}`);
    const groups = [...this.#groups]
      .filter(([key]) => withMessages || !key.startsWith('message'))
      .sort(([, a], [, b]) => b.count - a.count);
    for (const [text, { count, examples }] of groups.slice(0, groupsMax)) {
      console.log(`  ${count} × ${text}`);
      for (const { index, operation, steps } of examples.slice(0, 1))
        console.log(`      --seed ${this.#seed} --only ${index} (${operation}: ${steps.join('; ').slice(0, 300)})`);
    }
    if (groups.length > groupsMax) console.log(`  and ${groups.length - groupsMax} more`);
  }
}
