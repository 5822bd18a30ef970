/**
 * `/debug/api_priority_and_fairness/…`: what is queued and under way, as rows (Kubernetes, "API Priority and Fairness",
 * "Debug endpoints"). One column each of a comma and a tab, padded like a table.
 */
import type { FlowControl } from './flow-control.ts';
import type { PriorityLevel, Ticket } from './priority-level.ts';

const levelColumns = [
  'PriorityLevelName',
  'ActiveQueues',
  'IsIdle',
  'IsQuiescing',
  'WaitingRequests',
  'ExecutingRequests',
  'DispatchedRequests',
  'RejectedRequests',
  'TimedoutRequests',
  'CancelledRequests',
];
const queueColumns = [
  'PriorityLevelName',
  'Index',
  'PendingRequests',
  'ExecutingRequests',
  'SeatsInUse',
  'NextDispatchR',
  'InitialSeatsSum',
  'MaxSeatsSum',
  'TotalWorkSum',
];
const requestColumns = [
  'PriorityLevelName',
  'FlowSchemaName',
  'QueueIndex',
  'RequestIndexInQueue',
  'FlowDistingsher',
  'ArriveTime',
  'InitialSeats',
  'FinalSeats',
  'AdditionalLatency',
  'StartTime',
];
const detailColumns = ['UserName', 'Verb', 'APIPath', 'Namespace', 'Name', 'APIVersion', 'Resource', 'SubResource'];

type Row = readonly (string | number | boolean)[];

/** Cells of a column begin below each other, at multiples of eight, one apart at least. */
function tableOf(rows: readonly Row[]): string {
  const cells = rows.map((row) => row.map((cell, i) => (i < row.length - 1 ? `${cell},` : String(cell))));
  const widths: number[] = [];
  for (const row of cells)
    row.slice(0, -1).forEach((cell, i) => (widths[i] = Math.max(widths[i] ?? 8, cell.length + 1)));
  return cells
    .map((row) => `${row.map((cell, i) => cell.padEnd(i < row.length - 1 ? (widths[i] ?? 8) : 0)).join('')}\n`)
    .join('');
}

const named = (flowControl: FlowControl): PriorityLevel[] =>
  [...flowControl.levels.all()].sort((a, b) => (a.name < b.name ? -1 : 1));

function dumpLevels(flowControl: FlowControl): Row[] {
  return named(flowControl).map((level) => {
    const { dispatched, refused, timedOut, cancelled } = level.statistics;
    const active = [...level.queues.values()].filter(({ waiting }) => waiting.length > 0).length;
    return [
      level.name,
      active,
      level.isIdle,
      level.isLeaving,
      level.waiting,
      level.executing,
      dispatched,
      refused,
      timedOut,
      cancelled,
    ];
  });
}

const seconds = (seatMs: number): string => `${(seatMs / 1000).toFixed(8)}ss`;

function dumpQueues(flowControl: FlowControl): Row[] {
  return named(flowControl).flatMap((level) =>
    [...level.queues.values()]
      .sort((a, b) => a.index - b.index)
      .map((queue) => [
        level.name,
        queue.index,
        queue.waiting.length,
        queue.executing,
        queue.seatsInUse,
        seconds(queue.nextStartR),
        queue.waiting.reduce((sum, { work }) => sum + work.seats, 0),
        queue.seatsWaiting,
        seconds(queue.workWaiting),
      ]),
  );
}

interface Clocks {
  /** What is added to a monotonic time to make a time of day of it. */
  offsetMs: number;
  withDetails: boolean;
}

function rowOf(level: string, [queue, at]: [number, number], ticket: Ticket, { offsetMs, withDetails }: Clocks): Row {
  const { work, user, info } = ticket;
  const time = (ms: number): string => (ms === 0 ? '0001-01-01T00:00:00Z' : new Date(ms + offsetMs).toISOString());
  const details = [
    user.name,
    info.verb,
    info.path,
    info.namespace,
    info.name,
    info.group === '' ? info.version : `${info.group}/${info.version}`,
    info.resource,
    info.subresource,
  ];
  return [
    level,
    ticket.schema,
    queue,
    at,
    ticket.distinguisher,
    time(ticket.arrivedMs),
    work.seats,
    work.finalSeats,
    work.extraMs === 0 ? '0s' : `${work.extraMs}ms`,
    time(ticket.startedMs),
    ...(withDetails ? details : []),
  ];
}

function dumpRequests(flowControl: FlowControl, clocks: Clocks): Row[] {
  return named(flowControl).flatMap((level) => [
    ...[...level.queues.values()].flatMap(({ index, waiting }) =>
      waiting.map((ticket, at) => rowOf(level.name, [index, at], ticket, clocks)),
    ),
    ...[...level.running].map((ticket) => rowOf(level.name, [ticket.queue?.index ?? -1, -1], ticket, clocks)),
  ]);
}

/** Undefined where there is no such dump. */
export function dumpFlowControl(flowControl: FlowControl, name: string, clocks: Clocks): string | undefined {
  switch (name) {
    case 'dump_priority_levels':
      return tableOf([levelColumns, ...dumpLevels(flowControl)]);
    case 'dump_queues':
      return tableOf([queueColumns, ...dumpQueues(flowControl)]);
    case 'dump_requests':
      return tableOf([
        clocks.withDetails ? [...requestColumns, ...detailColumns] : requestColumns,
        ...dumpRequests(flowControl, clocks),
      ]);
    default:
      return undefined;
  }
}
