/**
 * The priority levels, and how many seats each has (Kubernetes, "API Priority and Fairness", "Priority levels", "Seat
 * borrowing"): by its share of the server's, less what it lends to others, more what it borrows.
 */
import type { PriorityLevelConfiguration } from '#api/flowcontrol.v1.ts';
import { allocateSeats } from './allocate.ts';
import { PriorityLevel, type LevelSpec } from './priority-level.ts';

export type Configured = Pick<PriorityLevelConfiguration, 'spec'> & { metadata: { name: string; uid?: string } };

interface Shares {
  nominalConcurrencyShares?: number;
  lendablePercent?: number;
  borrowingLimitPercent?: number;
}
const sharesOf = ({ limited, exempt }: LevelSpec): Shares => limited ?? exempt ?? {};

/** What cannot be, because validation came after it was stored, is not there. */
const isWhole = ({ metadata, spec }: Configured): boolean =>
  (spec.type === 'Exempt') === (metadata.name === 'exempt') &&
  (spec.type === 'Limited') === (spec.limited !== undefined) &&
  (spec.limited?.limitResponse.type === 'Queue') === (spec.limited?.limitResponse.queuing !== undefined);

export class Levels {
  /** Of its target, what each level can have. */
  fairShare = 0;
  readonly #levels = new Map<string, PriorityLevel>();
  readonly #serverSeats: number;
  readonly #nowMs: () => number;

  constructor(serverSeats: number, nowMs: () => number) {
    this.#serverSeats = serverSeats;
    this.#nowMs = nowMs;
  }

  get(name: string): PriorityLevel | undefined {
    return this.#levels.get(name);
  }

  all(): Iterable<PriorityLevel> {
    return this.#levels.values();
  }

  configure(configured: readonly Configured[]): void {
    const made = new Set<PriorityLevel>();
    const wanted = new Set<string>();
    for (const each of configured.filter(isWhole)) {
      const { name, uid = '' } = each.metadata;
      wanted.add(name);
      let level = this.#levels.get(name);
      if (level === undefined) {
        level = new PriorityLevel(name, each.spec, this.#nowMs);
        this.#levels.set(name, level);
        made.add(level);
      } else level.configure(each.spec);
      level.uid = uid;
      level.isLeaving = false;
    }
    for (const level of this.all())
      if (!wanted.has(level.name)) {
        level.isLeaving = true;
        if (level.isIdle) this.#levels.delete(level.name);
      }
    this.#share(made);
    this.rebalance(false);
  }

  forget(level: PriorityLevel): void {
    if (this.#levels.get(level.name) === level) this.#levels.delete(level.name);
  }

  #share(made: ReadonlySet<PriorityLevel>): void {
    const sum = [...this.all()].reduce((all, { spec }) => all + (sharesOf(spec).nominalConcurrencyShares ?? 0), 0);
    for (const level of this.all()) {
      const { nominalConcurrencyShares = 0, lendablePercent = 0, borrowingLimitPercent } = sharesOf(level.spec);
      const nominal = sum === 0 ? 0 : Math.ceil((this.#serverSeats * nominalConcurrencyShares) / sum);
      const lendable = Math.round((nominal * lendablePercent) / 100);
      const borrowed =
        borrowingLimitPercent === undefined ? this.#serverSeats : Math.round((nominal * borrowingLimitPercent) / 100);
      level.nominalSeats = nominal;
      level.seatsMin = nominal - lendable;
      level.seatsMax = nominal + borrowed;
      if (made.has(level)) level.currentSeats = nominal - Math.floor(lendable / 2);
    }
  }

  /** `endsPeriod`: the demand since the last time is what counts from now on. */
  rebalance(endsPeriod = true): void {
    const nowMs = this.#nowMs();
    let remaining = 0;
    for (const level of this.all()) {
      if (endsPeriod) level.demand.endPeriod(nowMs);
      remaining += level.nominalSeats;
    }
    const total = remaining;
    const limited: { level: PriorityLevel; lower: number; upper: number; target: number }[] = [];
    for (const level of this.all()) {
      const { demand, seatsMin, seatsMax, nominalSeats } = level;
      if (level.isExempt) {
        level.currentSeats = Math.max(seatsMin, demand.high);
        remaining -= level.currentSeats;
        continue;
      }
      const lower = Math.max(seatsMin, Math.min(nominalSeats, demand.high));
      limited.push({ level, lower, upper: seatsMax, target: Math.max(lower, demand.smoothed) });
    }
    const least = limited.reduce((all, { level }) => all + level.seatsMin, 0);
    const lowest = limited.reduce((all, { lower }) => all + lower, 0);
    if (remaining <= lowest) {
      // The exempt level has taken so many that others cannot have what they need: what is left is dealt out.
      this.fairShare = 0;
      const part = remaining <= least ? 0 : (remaining - least) / (lowest - least);
      for (const { level, lower } of limited)
        level.currentSeats = level.seatsMin + Math.round((lower - level.seatsMin) * part);
      return;
    }
    const dealt = allocateSeats(total, limited);
    if (dealt === undefined) return;
    this.fairShare = dealt.fairShare;
    limited.forEach(({ level }, i) => {
      level.currentSeats = Math.round(dealt.seats[i] ?? level.currentSeats);
    });
  }
}
