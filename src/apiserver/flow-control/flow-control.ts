/**
 * API priority and fairness (Kubernetes, "API Priority and Fairness"; KEP-1040): each request has a FlowSchema, each
 * schema a priority level, and a level carries out so many at a time and queues fairly what is beyond it. Nobody's
 * flood takes the seats, or the turns of the thread (`pace.ts`), of other flows and levels.
 *
 * A request that nothing is in the way of is admitted in the turn in which it came, without a promise. Refusals are
 * answered at the thread's pace too: a client that is refused at once only asks again at once.
 */
import type { FlowSchema } from '#api/flowcontrol.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { ApiRequest, UserInfo } from '#base/api-request.ts';
import type { Clock, Timer } from '#os/clock.ts';
import type { Metrics } from '#observe/metrics.ts';
import { mandatoryFlowSchemas, mandatoryPriorityLevels } from '#schema/flow-control-objects.ts';
import { borrowingMs, queueMsMax, refusalsWaitingMax, requestMsMax, serverSeats } from '../limits.ts';
import type { RequestInfo } from '../request-info.ts';
import { byPrecedence, compileFlowSchema, distinguisherOf } from './classify.ts';
import { type Configured, Levels } from './levels.ts';
import { Pace, type Thread } from './pace.ts';
import { seatsOf, type PriorityLevel, type Refusal, type Ticket } from './priority-level.ts';
import { FlowMetrics, type FlowStatistics } from './statistics.ts';
import { WorkEstimates } from './work.ts';

export type Schema = Pick<FlowSchema, 'spec'> & { metadata: { name: string; uid?: string } };

/** By which schema and level a request was admitted or refused: UIDs, '' for what is imagined. */
export interface AdmittedBy {
  readonly schemaUid: string;
  readonly levelUid: string;
}

/** A request that may be carried out. */
export interface Admission extends AdmittedBy {
  /** Once, when it is over; of a watch, when it has begun. */
  release(): void;
  /** Between two pieces of long work: resolves when the next one has its turn; undefined where nobody waits for it. */
  pause(): Promise<void> | undefined;
}

/** Of each schema that is in force: its level, and what its answers say of it. */
interface Target extends AdmittedBy {
  schema: Schema;
  matches(user: UserInfo, info: RequestInfo): boolean;
  level: PriorityLevel;
}

export interface FlowControlOptions {
  clock: Clock;
  metrics: Metrics;
  /** Without it nothing but seats is bounded. */
  thread?: Thread | undefined;
}

export class FlowControl {
  readonly estimates = new WorkEstimates();
  readonly levels: Levels;
  readonly #clock: Clock;
  readonly #metrics: FlowMetrics;
  readonly #pace: Pace;
  #targets: Target[] = [];
  /** Answers that wait for their turn, by level. */
  readonly #refusals = new Map<PriorityLevel, (() => void)[]>();
  #refusalsWaiting = 0;
  /** Long work that waits for its next turn, by flow. */
  readonly #paused = new Map<string, (() => void)[]>();
  #rebalancing = false;
  /** What the level was served by its share that was served last. */
  #servedByShare = 0;

  constructor({ clock, metrics, thread }: FlowControlOptions) {
    this.#clock = clock;
    const nowMs = (): number => clock.monotonic();
    this.#metrics = new FlowMetrics(metrics, {
      levels: () => this.levels.all(),
      fairShare: () => this.levels.fairShare,
    });
    this.#pace = new Pace(thread, nowMs, () => this.#turn());
    this.levels = new Levels(serverSeats, nowMs);
    this.configure([], []);
  }

  /** Objects as they are stored now. What is mandatory and not there is imagined. */
  configure(levels: readonly Configured[], schemas: readonly Schema[]): void {
    const all = [...levels, ...absent(mandatoryPriorityLevels, levels)];
    this.levels.configure(all);
    this.#targets = [...schemas, ...absent(mandatoryFlowSchemas, schemas)].sort(byPrecedence).flatMap((schema) => {
      const level = this.levels.get(schema.spec.priorityLevelConfiguration.name);
      return level === undefined || level.isLeaving
        ? []
        : [
            {
              schema,
              matches: compileFlowSchema(schema),
              level,
              schemaUid: schema.metadata.uid ?? '',
              levelUid: level.uid,
            },
          ];
    });
    this.#dispatch();
  }

  /** Whether what one request does in one go is waited for by those of others. */
  get isShared(): boolean {
    return this.#pace.isShared;
  }

  /** Deals the seats anew, by what each level could use since the last time. */
  rebalance(): void {
    this.levels.rebalance();
    this.#dispatch();
  }

  /** A promise only where the request has to wait. Rejects with TooManyRequests. */
  admit(request: ApiRequest, user: UserInfo, info: RequestInfo): Admission | Promise<Admission> {
    const target = this.#classify(user, info);
    const { level, schema } = target;
    const work = this.estimates.estimate(request, info, level.seatsOfRequestMax);
    const statistics = this.#metrics.of(level.name, schema.metadata.name);
    statistics.estimatedSeats.observe(seatsOf(work));
    const ticket: Ticket = {
      schema: schema.metadata.name,
      distinguisher: level.isExempt ? '' : distinguisherOf(user, info, schema),
      work,
      statistics,
      arrivedMs: this.#clock.monotonic(),
      arrivedR: 0,
      startedMs: 0,
      queue: undefined,
      decide: undefined,
      user,
      info,
    };
    if (!level.isExempt) this.#pace.note(ticket.distinguisher, ticket.arrivedMs);
    // A level without queues has nowhere to keep what the thread's turn has no room for.
    if (level.canBegin(ticket) && (!level.hasQueues || this.#pace.take(seatsOf(work), ticket.arrivedMs))) {
      level.begin(ticket);
      if (!level.isExempt) this.#noteDemand(statistics);
      return this.#admission(target, ticket);
    }
    return this.#wait(target, ticket, request);
  }

  /** While there is demand, seats are dealt anew from time to time. */
  #noteDemand(statistics: FlowStatistics): void {
    statistics.waitedExecuted.observe(0);
    if (this.#rebalancing) return;
    this.#rebalancing = true;
    this.#clock.setTimer(
      borrowingMs,
      () => {
        this.#rebalancing = false;
        this.rebalance();
      },
      { background: true },
    );
  }

  #classify(user: UserInfo, info: RequestInfo): Target {
    for (const target of this.#targets) if (target.matches(user, info)) return target;
    // What has neither group of everybody's is nobody's: it is caught as well.
    const last = this.#targets.findLast(({ schema }) => schema.metadata.name === 'catch-all');
    if (last === undefined) throw new Error('there is no catch-all flow schema');
    return last;
  }

  #admission({ level, schemaUid, levelUid }: Target, ticket: Ticket): Admission {
    ticket.statistics.dispatched.add();
    let isOver = false;
    return {
      schemaUid,
      levelUid,
      release: () => {
        if (isOver) return;
        isOver = true;
        this.#end(level, ticket);
      },
      pause: () => (this.#pace.isShared ? this.#pause(`${ticket.schema}/${ticket.distinguisher}`) : undefined),
    };
  }

  #pause(flow: string): Promise<void> {
    this.#pace.wake();
    return new Promise((resolve) => {
      const waiting = this.#paused.get(flow);
      if (waiting === undefined) this.#paused.set(flow, [resolve]);
      else waiting.push(resolve);
    });
  }

  #end(level: PriorityLevel, ticket: Ticket): void {
    const { statistics, work, info } = ticket;
    const seconds = (this.#clock.monotonic() - ticket.startedMs) / 1000;
    (info.verb === 'watch' ? statistics.watchSeconds : statistics.executedSeconds).observe(seconds);
    level.end(ticket);
    const release = (): void => {
      level.releaseSeats(ticket);
      if (level.isLeaving && level.isIdle) this.levels.forget(level);
      if (level.waiting > 0) this.#dispatch();
    };
    if (work.extraMs > 0) this.#clock.setTimer(work.extraMs, release, { background: true });
    else release();
  }

  async #wait(target: Target, ticket: Ticket, request: ApiRequest): Promise<Admission> {
    const { level } = target;
    if (level.waiting === 0) level.servedByShare = Math.max(level.servedByShare, this.#servedByShare);
    const full = level.enqueue(ticket);
    if (full === undefined) this.#pace.wake();
    if (full !== undefined) return this.#refuse(target, ticket, full);
    const { promise, resolve } = Promise.withResolvers<Refusal | undefined>();
    ticket.decide = resolve;
    const withdraw = (refusal: Refusal): void => {
      if (ticket.decide === undefined) return;
      ticket.decide = undefined;
      level.withdraw(ticket);
      resolve(refusal);
    };
    const leave = (): void => withdraw('cancelled');
    const timer: Timer = this.#clock.setTimer(queueMsOf(request), () => withdraw('time-out'), { background: true });
    request.signal.addEventListener('abort', leave, { once: true });
    if (request.signal.aborted) leave();
    const refusal = await promise;
    timer.cancel();
    request.signal.removeEventListener('abort', leave);
    const seconds = (this.#clock.monotonic() - ticket.arrivedMs) / 1000;
    if (refusal !== undefined) {
      ticket.statistics.waitedRefused.observe(seconds);
      return this.#refuse(target, ticket, refusal);
    }
    ticket.statistics.waitedExecuted.observe(seconds);
    return this.#admission(target, ticket);
  }

  async #refuse({ level, schemaUid, levelUid }: Target, ticket: Ticket, refusal: Refusal): Promise<never> {
    const { statistics } = level;
    if (refusal === 'cancelled') statistics.cancelled++;
    else if (refusal === 'time-out') statistics.timedOut++;
    statistics.refused++;
    this.#metrics.refused(level.name, ticket.schema, refusal);
    level.retryAfter.note(this.#clock.now());
    if (this.#pace.isBounded && this.#refusalsWaiting < refusalsWaitingMax) {
      this.#refusalsWaiting++;
      this.#pace.wake();
      await new Promise<void>((resolve) => {
        const list = this.#refusals.get(level);
        if (list === undefined) this.#refusals.set(level, [resolve]);
        else list.push(resolve);
      });
    }
    throw new TooManyRequests(level.retryAfter.seconds, { schemaUid, levelUid });
  }

  #turn(): void {
    this.#answerRefusals();
    this.#dispatch();
    this.#goOn();
  }

  /** Long work has what the slice has left, flow by flow, and always one piece. */
  #goOn(): void {
    const nowMs = this.#clock.monotonic();
    let hasRoom = this.#paused.size > 0;
    for (const [flow, waiting] of this.#paused) {
      if (!hasRoom) break;
      this.#paused.delete(flow);
      waiting.shift()?.();
      if (waiting.length > 0) this.#paused.set(flow, waiting);
      hasRoom = this.#pace.take(1, nowMs);
    }
    if (this.#paused.size > 0) this.#pace.wake();
  }

  #answerRefusals(): void {
    let left = this.#pace.refusalsPerTurn;
    while (left > 0 && this.#refusals.size > 0)
      for (const [level, list] of this.#refusals) {
        list.shift()?.();
        this.#refusalsWaiting--;
        if (list.length === 0) this.#refusals.delete(level);
        if (--left <= 0) break;
      }
    if (this.#refusals.size > 0) this.#pace.wake();
  }

  /** Begins what may begin, level by level as they were served least by their shares. */
  #dispatch(): void {
    const stuck = new Set<PriorityLevel>();
    for (;;) {
      let level: PriorityLevel | undefined;
      for (const each of this.levels.all())
        if (each.waiting > 0 && !stuck.has(each) && (level === undefined || each.servedByShare < level.servedByShare))
          level = each;
      if (level === undefined) return;
      if (!this.#pace.hasRoom()) return this.#pace.wake();
      const ticket = level.next();
      if (ticket === undefined) {
        stuck.add(level);
        continue;
      }
      const seats = seatsOf(ticket.work);
      this.#pace.take(seats, this.#clock.monotonic());
      this.#servedByShare = level.servedByShare;
      level.servedByShare += seats / Math.max(1, level.nominalSeats);
      const { decide } = ticket;
      ticket.decide = undefined;
      decide?.(undefined);
    }
  }
}

/** Told as the real system tells it: in plain text, with the seconds to wait. */
export class TooManyRequests extends ApiError {
  readonly by: AdmittedBy;

  constructor(retryAfterSeconds: number, by: AdmittedBy) {
    super('TooManyRequests', 'Too many requests, please try again later.', { retryAfterSeconds });
    this.by = by;
  }
}

/** A request waits for a quarter of the time that it may take. */
function queueMsOf({ query }: ApiRequest): number {
  const asked = /^(\d+)(ms|s|m|h)$/.exec(query.get('timeout') ?? '');
  const unitMs = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 }[asked?.[2] ?? ''] ?? 0;
  const ms = Number(asked?.[1] ?? 0) * unitMs;
  return Math.min(ms > 0 ? Math.min(ms, requestMsMax) / 4 : requestMsMax / 4, queueMsMax);
}

function absent<T extends { metadata: { name: string } }>(
  mandatory: readonly T[],
  there: readonly { metadata: { name: string } }[],
): T[] {
  return mandatory.filter(({ metadata }) => !there.some((each) => each.metadata.name === metadata.name));
}
