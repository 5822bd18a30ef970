/**
 * What is measured of priority levels and flow schemas, with Kubernetes' names (documentation, "Kubernetes Metrics
 * Reference"). Requests count in plain fields; gauges are made of them when somebody looks.
 */
import type { Counter, Family, Gauge, Histogram, Metrics } from '#observe/metrics.ts';
import type { SeatDemand } from './demand.ts';

/** Of the requests of one schema at one level. */
export interface FlowStatistics {
  waiting: number;
  waitingSeats: number;
  executing: number;
  executingSeats: number;
  readonly dispatched: Counter;
  readonly queueLength: Histogram;
  readonly waitedExecuted: Histogram;
  readonly waitedRefused: Histogram;
  readonly executedSeconds: Histogram;
  readonly watchSeconds: Histogram;
  readonly estimatedSeats: Histogram;
  readonly watchCount: Histogram;
  readonly noAccommodation: Counter;
}

/** What is shown of a priority level. */
interface MeasuredLevel {
  readonly name: string;
  readonly isExempt: boolean;
  readonly nominalSeats: number;
  readonly seatsMin: number;
  readonly seatsMax: number;
  readonly currentSeats: number;
  readonly r: number;
  readonly demand: SeatDemand;
}

const prefix = 'apiserver_flowcontrol_';
const byLevel = ['priority_level'];
const bySchema = ['priority_level', 'flow_schema'];
const secondsBounds = [0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30];

const levelGauges: readonly [name: string, help: string, of: (level: MeasuredLevel) => number][] = [
  ['nominal_limit_seats', 'Seats of a priority level as configured.', (level) => level.nominalSeats],
  ['lower_limit_seats', 'Seats that a priority level keeps at least.', (level) => level.seatsMin],
  ['upper_limit_seats', 'Seats that a priority level may have at most.', (level) => level.seatsMax],
  ['current_limit_seats', 'Seats of a priority level now.', (level) => level.currentSeats],
  ['demand_seats_high_watermark', 'Highest demand of the last period.', (level) => level.demand.high],
  ['demand_seats_average', 'Average demand of the last period.', (level) => level.demand.average],
  ['demand_seats_stdev', 'Standard deviation of the demand of the last period.', (level) => level.demand.deviation],
  ['demand_seats_smoothed', 'Demand, smoothed over periods.', (level) => level.demand.smoothed],
  ['current_r', "A priority level's virtual time, in seat seconds.", (level) => level.r / 1000],
];

const flowGauges: readonly [name: string, help: string, of: (flow: FlowStatistics) => number][] = [
  ['current_inqueue_requests', 'Requests that wait.', (flow) => flow.waiting],
  ['current_inqueue_seats', 'Seats that those ask for who wait.', (flow) => flow.waitingSeats],
  ['current_executing_requests', 'Requests under way; a watch only while it begins.', (flow) => flow.executing],
  ['current_executing_seats', 'Seats in use.', (flow) => flow.executingSeats],
];

interface Measured {
  levels(): Iterable<MeasuredLevel>;
  fairShare(): number;
}

export class FlowMetrics {
  readonly #flows = new Map<string, { level: string; schema: string; statistics: FlowStatistics }>();
  readonly #counters;
  readonly #histograms;

  constructor(metrics: Metrics, measured: Measured) {
    const counter = (name: string, help: string, labels = bySchema): Family<Counter> =>
      metrics.counter({ name: `${prefix}${name}`, help, labels });
    const histogram = (name: string, help: string, bounds: number[], labels = bySchema): Family<Histogram> =>
      metrics.histogram({ name: `${prefix}${name}`, help, labels }, bounds);
    this.#counters = {
      refused: counter('rejected_requests_total', 'Requests refused.', [...bySchema, 'reason']),
      dispatched: counter('dispatched_requests_total', 'Requests begun.'),
      noAccommodation: counter('request_dispatch_no_accommodation_total', 'Times that seats were lacking.'),
    };
    this.#histograms = {
      queueLength: histogram(
        'request_queue_length_after_enqueue',
        'Length of a queue, as each request sees it that joins.',
        [0, 10, 25, 50, 100, 250, 500, 1000],
      ),
      waited: histogram('request_wait_duration_seconds', 'Time in a queue.', secondsBounds, [...bySchema, 'execute']),
      executed: histogram(
        'request_execution_seconds',
        'Time under way; of a watch, until it has begun.',
        secondsBounds,
        [...bySchema, 'type'],
      ),
      seats: histogram('work_estimated_seats', 'Seats of each request.', [1, 2, 4, 8, 16, 32, 64, 100]),
      watchCount: histogram('watch_count_samples', 'Watches told of each write.', [0, 1, 10, 100, 1000, 10000]),
    };
    const gauge = (name: string, help: string, labels: string[], collect: (family: Family<Gauge>) => void): void => {
      metrics.gauge({ name: `${prefix}${name}`, help, labels }, (family) => {
        family.clear();
        collect(family);
      });
    };
    for (const [name, help, of] of levelGauges)
      gauge(name, help, byLevel, (family) => {
        for (const level of measured.levels()) family.of(level.name).value = of(level);
      });
    for (const [name, help, of] of flowGauges)
      gauge(name, help, bySchema, (family) => {
        for (const { level, schema, statistics } of this.#flows.values())
          family.of(level, schema).value = of(statistics);
      });
    gauge('target_seats', 'Seats that a priority level should have.', byLevel, (family) => {
      for (const level of measured.levels())
        if (!level.isExempt) family.of(level.name).value = Math.max(level.seatsMin, level.demand.smoothed);
    });
    gauge('seat_fair_frac', 'The part of its target that each priority level can have.', [], (family) => {
      family.of().value = measured.fairShare();
    });
  }

  /** Schemas and levels are an administrator's: their number is bounded by the store. */
  of(level: string, schema: string): FlowStatistics {
    const key = `${level}\0${schema}`;
    let known = this.#flows.get(key);
    if (known === undefined) {
      const { dispatched, noAccommodation } = this.#counters;
      const { queueLength, waited, executed, seats, watchCount } = this.#histograms;
      known = {
        level,
        schema,
        statistics: {
          waiting: 0,
          waitingSeats: 0,
          executing: 0,
          executingSeats: 0,
          dispatched: dispatched.of(level, schema),
          noAccommodation: noAccommodation.of(level, schema),
          queueLength: queueLength.of(level, schema),
          waitedExecuted: waited.of(level, schema, 'true'),
          waitedRefused: waited.of(level, schema, 'false'),
          executedSeconds: executed.of(level, schema, 'regular'),
          watchSeconds: executed.of(level, schema, 'watch'),
          estimatedSeats: seats.of(level, schema),
          watchCount: watchCount.of(level, schema),
        },
      };
      this.#flows.set(key, known);
    }
    return known.statistics;
  }

  refused(level: string, schema: string, reason: string): void {
    this.#counters.refused.of(level, schema, reason).add();
  }
}
