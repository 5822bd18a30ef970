/**
 * The requests of one priority level: those that are carried out, on seats, and those that wait, in queues (Kubernetes,
 * KEP-1040, "Fair Queuing for Server Requests").
 *
 * Queues have virtual clocks, in seat milliseconds: each has the R at which its next request would begin, and a queue
 * that begins to hold something joins where the one is that was given least. (Upstream lets the level's R run with the
 * seats in use, which says nothing where the thread and not the seats is what lacks.) A request costs its seats times a
 * guess of how long it takes, which is corrected when it is known. The queue goes first whose first request would end
 * first. Only queues that hold something exist, so that a level may be given millions.
 */
import type { PriorityLevelConfiguration } from '#api/flowcontrol.v1.ts';
import type { UserInfo } from '#base/api-request.ts';
import type { RequestInfo } from '../request-info.ts';
import { SeatDemand } from './demand.ts';
import { Hands } from './hands.ts';
import type { FlowStatistics } from './statistics.ts';
import { RetryAfter } from './retry-after.ts';
import type { Work } from './work.ts';

/** What a request is thought to take while nobody knows. */
const guessedMs = 3;
const seatsOfLevelMax = 0.15;

export type LevelSpec = PriorityLevelConfiguration['spec'];
export type Refusal = 'queue-full' | 'concurrency-limit' | 'time-out' | 'cancelled';

/** A request of this level. */
export interface Ticket {
  readonly schema: string;
  readonly distinguisher: string;
  readonly work: Work;
  readonly user: UserInfo;
  readonly info: RequestInfo;
  readonly statistics: FlowStatistics;
  readonly arrivedMs: number;
  arrivedR: number;
  startedMs: number;
  queue: Queue | undefined;
  /** Set while it waits: told that it may begin, or why not. */
  decide: ((refusal: Refusal | undefined) => void) | undefined;
}

export interface Queue {
  readonly index: number;
  readonly waiting: Ticket[];
  executing: number;
  seatsInUse: number;
  seatsWaiting: number;
  /** Seat milliseconds of those that wait. */
  workWaiting: number;
  nextStartR: number;
}

export const seatsOf = ({ seats, finalSeats }: Work): number => Math.max(seats, finalSeats);
const workOf = ({ seats, finalSeats, extraMs }: Work): number => seats * guessedMs + finalSeats * extraMs;

export class PriorityLevel {
  readonly name: string;
  uid = '';
  spec: LevelSpec;
  /** Its object is gone; it ends with its last request. */
  isLeaving = false;
  /** In seats: as configured, lent out at most, borrowed at most, and as dealt now. */
  nominalSeats = 0;
  seatsMin = 0;
  seatsMax = 0;
  currentSeats = 0;
  readonly demand: SeatDemand;
  /** Requests since the level is there. */
  readonly statistics = { dispatched: 0, refused: 0, timedOut: 0, cancelled: 0 };
  readonly retryAfter = new RetryAfter();
  /** What it was given of the thread, by its share: see `pace.ts`. */
  servedByShare = 0;
  seatsInUse = 0;
  seatsWaiting = 0;
  waiting = 0;
  /** Those that are carried out. */
  readonly running = new Set<Ticket>();
  /** Those that hold something; whoever was served last comes last. */
  readonly queues = new Map<number, Queue>();
  r = 0;
  #hands: Hands | undefined;
  #lengthMax = 0;
  #handSize = 1;
  #enqueued = 0;
  readonly #nowMs: () => number;

  constructor(name: string, spec: LevelSpec, nowMs: () => number) {
    this.name = name;
    this.spec = spec;
    this.#nowMs = nowMs;
    this.demand = new SeatDemand(nowMs());
    this.configure(spec);
  }

  get isExempt(): boolean {
    return this.spec.type === 'Exempt';
  }

  get hasQueues(): boolean {
    return this.#hands !== undefined;
  }

  get executing(): number {
    return this.running.size;
  }

  get isIdle(): boolean {
    return this.waiting === 0 && this.running.size === 0;
  }

  configure(spec: LevelSpec): void {
    const before = this.#hands === undefined ? undefined : this.spec.limited?.limitResponse.queuing;
    this.spec = spec;
    const queuing = spec.limited?.limitResponse.queuing;
    if (queuing === undefined) {
      this.#hands = undefined;
      return;
    }
    const { queues = 1, handSize = 1, queueLengthLimit = 1 } = queuing;
    this.#lengthMax = queueLengthLimit;
    this.#handSize = handSize;
    if (before?.queues !== queues || before?.handSize !== handSize) this.#hands = new Hands(queues, handSize);
  }

  /** Seats that the work of one request is counted as at most. */
  get seatsOfRequestMax(): number {
    const handSize = this.spec.limited?.limitResponse.queuing?.handSize;
    if (handSize === undefined) return 10;
    return Math.max(
      1,
      Math.min(Math.ceil(this.nominalSeats * seatsOfLevelMax), Math.floor(this.nominalSeats / handSize)),
    );
  }

  /** Whether a request may begin at once, and nobody waits whose turn it is before. */
  canBegin({ work }: Ticket): boolean {
    return this.isExempt || (this.waiting === 0 && this.#hasSeats(seatsOf(work)));
  }

  /** A request that needs more seats than there are goes alone. */
  #hasSeats(seats: number): boolean {
    if (this.isExempt) return true;
    if (seats > this.currentSeats) return this.running.size === 0 && this.currentSeats > 0;
    return this.seatsInUse + seats <= this.currentSeats;
  }

  /** Begins at once: `canBegin` says whether it may. */
  begin(ticket: Ticket): void {
    if (this.#hands !== undefined) this.#take(ticket, this.#choose(ticket));
    this.#begun(ticket);
  }

  /** Waits, unless its queue is full. */
  enqueue(ticket: Ticket): Refusal | undefined {
    if (this.#hands === undefined) return 'concurrency-limit';
    const queue = this.#choose(ticket);
    // What has seats and waits for the thread alone is as good as begun.
    const spare = Math.floor(Math.max(0, this.currentSeats - this.seatsInUse) / this.#handSize);
    if (queue.waiting.length >= this.#lengthMax + spare) {
      this.#forgetIfEmpty(queue);
      return 'queue-full';
    }
    ticket.arrivedR = this.r;
    ticket.queue = queue;
    queue.waiting.push(ticket);
    this.#countWaiting(ticket, queue, 1);
    this.#bound(queue);
    ticket.statistics.queueLength.observe(queue.waiting.length);
    return undefined;
  }

  /** The next of those that wait, begun; undefined where none can. */
  next(): Ticket | undefined {
    if (this.waiting === 0) return undefined;
    let [best, least]: [Queue | undefined, number] = [undefined, Infinity];
    for (const queue of this.queues.values()) {
      const first = queue.waiting[0];
      if (first === undefined) continue;
      const end = queue.nextStartR + workOf(first.work);
      if (end < least) [best, least] = [queue, end];
    }
    const ticket = best?.waiting[0];
    if (best === undefined || ticket === undefined) return undefined;
    if (!this.#hasSeats(seatsOf(ticket.work))) {
      ticket.statistics.noAccommodation.add();
      return undefined;
    }
    best.waiting.shift();
    this.#countWaiting(ticket, best, -1);
    this.#take(ticket, best);
    this.#bound(best);
    this.queues.delete(best.index);
    this.queues.set(best.index, best);
    this.#begun(ticket);
    return ticket;
  }

  /** Its client has gone, or it has waited too long. */
  withdraw(ticket: Ticket): void {
    const { queue } = ticket;
    const at = queue?.waiting.indexOf(ticket) ?? -1;
    if (queue === undefined || at < 0) return;
    queue.waiting.splice(at, 1);
    this.#countWaiting(ticket, queue, -1);
    this.#bound(queue);
    this.#forgetIfEmpty(queue);
    this.#noteDemand();
  }

  /** Its carrying out is over; its seats stay taken while `releaseSeats` was not called. */
  end(ticket: Ticket): void {
    this.running.delete(ticket);
    ticket.statistics.executing--;
    const { queue, work } = ticket;
    if (queue === undefined) return;
    queue.executing--;
    queue.nextStartR -= work.seats * (guessedMs - (this.#nowMs() - ticket.startedMs));
    this.#bound(queue);
  }

  releaseSeats(ticket: Ticket): void {
    const seats = seatsOf(ticket.work);
    this.seatsInUse -= seats;
    ticket.statistics.executingSeats -= seats;
    const { queue } = ticket;
    if (queue !== undefined) {
      queue.seatsInUse -= seats;
      this.#forgetIfEmpty(queue);
    }
    this.#noteDemand();
  }

  /** The queue of its hand in which the least work waits. */
  #choose({ schema, distinguisher }: Ticket): Queue {
    const hand = this.#hands?.of(schema, distinguisher) ?? [0];
    const offset = this.#enqueued++ % hand.length;
    let [best, least] = [hand[offset] ?? 0, Infinity];
    for (let i = 0; i < hand.length; i++) {
      const index = hand[(offset + i) % hand.length] ?? 0;
      const waiting = this.queues.get(index)?.workWaiting ?? 0;
      if (waiting >= least) continue;
      [best, least] = [index, waiting];
      if (waiting === 0) break;
    }
    let queue = this.queues.get(best);
    if (queue === undefined) {
      this.#setR();
      queue = {
        index: best,
        waiting: [],
        executing: 0,
        seatsInUse: 0,
        seatsWaiting: 0,
        workWaiting: 0,
        nextStartR: this.r,
      };
      this.queues.set(best, queue);
    }
    return queue;
  }

  #setR(): void {
    let least = Infinity;
    for (const { nextStartR } of this.queues.values()) if (nextStartR < least) least = nextStartR;
    if (least !== Infinity) this.r = least;
  }

  #take(ticket: Ticket, queue: Queue): void {
    ticket.queue = queue;
    queue.executing++;
    queue.seatsInUse += seatsOf(ticket.work);
    queue.nextStartR += workOf(ticket.work);
  }

  #begun(ticket: Ticket): void {
    const seats = seatsOf(ticket.work);
    ticket.startedMs = this.#nowMs();
    this.running.add(ticket);
    this.seatsInUse += seats;
    this.statistics.dispatched++;
    ticket.statistics.executing++;
    ticket.statistics.executingSeats += seats;
    this.#noteDemand();
  }

  #countWaiting({ work, statistics }: Ticket, queue: Queue, by: 1 | -1): void {
    const seats = by * seatsOf(work);
    this.waiting += by;
    this.seatsWaiting += seats;
    queue.seatsWaiting += seats;
    queue.workWaiting += by * workOf(work);
    statistics.waiting += by;
    statistics.waitingSeats += seats;
    if (by > 0) this.#noteDemand();
  }

  #noteDemand(): void {
    this.demand.set(this.seatsInUse + this.seatsWaiting, this.#nowMs());
  }

  /** A queue that was quiet saves nothing up. */
  #bound(queue: Queue): void {
    const first = queue.waiting[0];
    if (first !== undefined && queue.nextStartR < first.arrivedR) queue.nextStartR = first.arrivedR;
  }

  #forgetIfEmpty(queue: Queue): void {
    if (queue.waiting.length === 0 && queue.executing === 0 && queue.seatsInUse === 0) this.queues.delete(queue.index);
  }
}
