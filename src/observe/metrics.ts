/**
 * What is measured, in Prometheus' terms: families of counters, gauges and histograms, each with a series for each set
 * of label values. Recording costs a look into a map and an addition: every request and every transaction does it. How
 * it is shown is `exposition.ts`.
 *
 * Names and labels are Kubernetes' where Kubernetes has such a metric (documentation, "Kubernetes Metrics Reference"),
 * and begin with `tiphys_` where it has none. Whoever records bounds its label values: what strangers send is none.
 */
export interface Definition {
  name: string;
  help: string;
  labels?: readonly string[];
}

export class Counter {
  value = 0;

  add(amount = 1): void {
    this.value += amount;
  }
}

export class Gauge {
  value = 0;
}

export class Histogram {
  readonly #bounds: readonly number[];
  /** Observations up to each bound and above the one before; the last is for those above all. */
  readonly #counts: number[];
  #sum = 0;
  #count = 0;

  constructor(bounds: readonly number[]) {
    this.#bounds = bounds;
    this.#counts = [...bounds.map(() => 0), 0];
  }

  observe(value: number): void {
    let at = 0;
    for (const bound of this.#bounds) {
      if (value <= bound) break;
      at++;
    }
    this.#counts[at] = (this.#counts[at] ?? 0) + 1;
    this.#sum += value;
    this.#count++;
  }

  get sum(): number {
    return this.#sum;
  }
  get count(): number {
    return this.#count;
  }

  /** For each bound how many were not above it. */
  cumulative(): { bound: number; count: number }[] {
    let count = 0;
    return this.#bounds.map((bound, i) => ({ bound, count: (count += this.#counts[i] ?? 0) }));
  }
}

const separator = '\u0000';

/** The series of one metric. */
export class Family<T extends Counter | Gauge | Histogram> {
  readonly definition: Definition;
  readonly #make: () => T;
  readonly #series = new Map<string, T>();

  constructor(definition: Definition, make: () => T) {
    this.definition = definition;
    this.#make = make;
  }

  /** The series of these label values, in the order of the definition's labels. */
  of(...values: readonly string[]): T {
    const key = values.join(separator);
    let series = this.#series.get(key);
    if (series === undefined) this.#series.set(key, (series = this.#make()));
    return series;
  }

  *series(): Generator<{ labels: Record<string, string>; value: T }> {
    const names = this.definition.labels ?? [];
    for (const [key, value] of this.#series) {
      const values = key.split(separator);
      yield { labels: Object.fromEntries(names.map((name, i) => [name, values[i] ?? ''])), value };
    }
  }

  /** What these labels name is there no more. */
  delete(...values: readonly string[]): void {
    this.#series.delete(values.join(separator));
  }

  /** For a gauge that is set anew each time somebody looks. */
  clear(): void {
    this.#series.clear();
  }
}

export type AnyFamily = Family<Counter> | Family<Gauge> | Family<Histogram>;

/** Seconds: short ones first, as a store's or a queue's. */
const secondsBounds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60];

/** All that one process measures. */
export class Metrics {
  readonly #families = new Map<string, AnyFamily>();
  readonly #collectors: (() => void)[] = [];

  /** `collect` sets its values when somebody looks, for what is counted elsewhere. */
  counter(definition: Definition, collect?: (family: Family<Counter>) => void): Family<Counter> {
    const family = this.#add(definition, new Family(definition, () => new Counter()));
    if (collect !== undefined) this.#collectors.push(() => collect(family));
    return family;
  }

  histogram(definition: Definition, bounds: readonly number[] = secondsBounds): Family<Histogram> {
    return this.#add(definition, new Family(definition, () => new Histogram(bounds)));
  }

  /** `collect` sets its values when somebody looks. */
  gauge(definition: Definition, collect?: (family: Family<Gauge>) => void): Family<Gauge> {
    const family = this.#add(definition, new Family(definition, () => new Gauge()));
    if (collect !== undefined) this.#collectors.push(() => collect(family));
    return family;
  }

  /** A name is one family for the whole process. */
  #add<F extends AnyFamily>(definition: Definition, made: F): F {
    const known = this.#families.get(definition.name);
    if (known !== undefined) throw new Error(`the metric ${definition.name} is defined already`);
    this.#families.set(definition.name, made);
    return made;
  }

  /** The families as they are now. */
  collect(): Iterable<AnyFamily> {
    for (const collect of this.#collectors) collect();
    return this.#families.values();
  }
}
