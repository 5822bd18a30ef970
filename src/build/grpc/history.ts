/**
 * Builds of before, `docker buildx history`: what was asked for, how it ended, how the result was made, and what it told. The newest are kept,
 * in table `build-history`; what a build told is a blob of its status responses, each after four bytes of length.
 */
import { onceAborted } from '#base/streams.ts';
import type { Content, Hold } from '#content/content.ts';
import type { Clock } from '#os/clock.ts';
import { historyLogBytesMax, historyMax } from './limits.ts';
import { numberIn, textIn, timestampOf } from '#grpc/fields.ts';
import { statusMessage } from './grpc.ts';
import { decodeMessage, encodeMessage } from './messages.ts';
import type { Message } from '#grpc/fields.ts';
import type { Progress } from './progress.ts';
import type { Statement } from './statement.ts';

interface HistoryBlob {
  digest: string;
  sizeBytes: number;
}

export interface HistoryRecord {
  ref: string;
  frontend: string;
  attributes: Record<string, string>;
  exporters: { type: string; attributes: Record<string, string> }[];
  createdAtMs: number;
  /** undefined: it runs. */
  completedAtMs?: number;
  error?: string;
  /** Its code, and the document that has its details. */
  failure?: { code: number; document: HistoryBlob };
  /** How what was made was made, by platform; '' where there is one alone. */
  provenance?: (HistoryBlob & { platform: string; predicateType: string })[];
  response: Record<string, string>;
  steps: { total: number; completed: number; cached: number; warnings: number };
  log?: HistoryBlob;
  isPinned: boolean;
}

const table = 'build-history';
const responseType = 'moby.buildkit.v1.StatusResponse';
const eventType = { started: 0, complete: 1, deleted: 2 } as const;

/** By what the protocol has one result, and by platform several. */
function resultsOf({ provenance = [] }: HistoryRecord): Message {
  const resultOf = ({ digest, sizeBytes, predicateType }: (typeof provenance)[number]): Message => ({
    Attestations: [
      {
        media_type: 'application/vnd.in-toto+json',
        digest,
        size: sizeBytes,
        annotations: { 'in-toto.io/predicate-type': predicateType },
      },
    ],
  });
  const only = provenance.find(({ platform }) => platform === '');
  if (only !== undefined) return { Result: resultOf(only) };
  return { Results: Object.fromEntries(provenance.map((each) => [each.platform, resultOf(each)])) };
}

function recordMessage(record: HistoryRecord): Message {
  const { steps, error, failure, log, completedAtMs } = record;
  return {
    Ref: record.ref,
    Frontend: record.frontend,
    FrontendAttrs: record.attributes,
    Exporters: record.exporters.map(({ type, attributes }) => ({ Type: type, Attrs: attributes })),
    ...(error === undefined ? {} : { error: { code: failure?.code ?? 2, message: error } }),
    CreatedAt: timestampOf(record.createdAtMs),
    ...(completedAtMs === undefined ? {} : { CompletedAt: timestampOf(completedAtMs) }),
    ...(log === undefined
      ? {}
      : { logs: { media_type: 'application/vnd.buildkit.status.v0', digest: log.digest, size: log.sizeBytes } }),
    ...(failure === undefined
      ? {}
      : {
          externalError: {
            media_type: 'application/vnd.googleapis.google.rpc.status+proto',
            digest: failure.document.digest,
            size: failure.document.sizeBytes,
          },
        }),
    ...resultsOf(record),
    ExporterResponse: record.response,
    pinned: record.isPinned,
    numCachedSteps: steps.cached,
    numTotalSteps: steps.total,
    numCompletedSteps: steps.completed,
    numWarnings: steps.warnings,
  };
}

function eventOf(record: HistoryRecord): Message {
  const type = record.completedAtMs === undefined ? eventType.started : eventType.complete;
  return { type, record: recordMessage(record) };
}

/** Status responses in bytes; the last ones are left out where they are too many. */
function packLog(responses: readonly Message[]): Buffer {
  const parts: Uint8Array[] = [];
  let left = historyLogBytesMax;
  for (const response of responses) {
    const bytes = encodeMessage(responseType, response);
    left -= bytes.length + 4;
    if (left < 0) break;
    const head = Buffer.alloc(4);
    head.writeUInt32BE(bytes.length);
    parts.push(head, bytes);
  }
  return Buffer.concat(parts);
}

function documentsOf({ log, failure, provenance = [] }: HistoryRecord): string[] {
  return [log, failure?.document, ...provenance].flatMap((blob) => blob?.digest ?? []);
}

/** How a build ended. `error` undefined: it went well. */
export interface BuildOutcome {
  error?: unknown;
  response: Record<string, string>;
  provenance: readonly { platform: string; statement: Statement }[];
}

export class BuildHistory {
  readonly #content: Content;
  readonly #clock: Clock;
  readonly #running = new Map<string, HistoryRecord>();
  readonly #listeners = new Set<(event: Message) => void>();

  constructor(content: Content, clock: Clock) {
    this.#content = content;
    this.#clock = clock;
    content.addRoots(() => ({ blobs: this.#kept().flatMap(documentsOf), layers: [] }));
  }

  #kept(): HistoryRecord[] {
    return [...this.#content.records.entries<HistoryRecord>(table)].map(([, record]) => record);
  }

  #tell(event: Message): void {
    for (const listener of [...this.#listeners]) listener(event);
  }

  begin(about: Pick<HistoryRecord, 'ref' | 'frontend' | 'attributes' | 'exporters'>): void {
    const steps = { total: 0, completed: 0, cached: 0, warnings: 0 };
    const record: HistoryRecord = { ...about, createdAtMs: this.#clock.now(), response: {}, steps, isPinned: false };
    this.#running.set(about.ref, record);
    this.#tell(eventOf(record));
  }

  async #write(bytes: Uint8Array, hold: Hold): Promise<HistoryBlob> {
    const digest = await this.#content.blobs.writeBytes(bytes);
    hold.addBlob(digest);
    return { digest, sizeBytes: bytes.length };
  }

  async #outcome({ error, provenance }: BuildOutcome, hold: Hold): Promise<Partial<HistoryRecord>> {
    if (error !== undefined) {
      const status = statusMessage(error);
      const document = await this.#write(encodeMessage('google.rpc.Status', { ...status }), hold);
      return { error: status.message, failure: { code: status.code, document } };
    }
    if (provenance.length === 0) return {};
    const written = provenance.map(async ({ platform, statement: { predicateType, predicate } }) => ({
      ...(await this.#write(Buffer.from(JSON.stringify(predicate)), hold)),
      platform,
      predicateType,
    }));
    return { provenance: await Promise.all(written) };
  }

  async end(ref: string, progress: Progress, outcome: BuildOutcome): Promise<void> {
    const running = this.#running.get(ref);
    if (running === undefined) return;
    this.#running.delete(ref);
    using hold = this.#content.hold();
    const [log, ended] = await Promise.all([
      this.#write(packLog(progress.responses), hold),
      this.#outcome(outcome, hold),
    ]);
    const record: HistoryRecord = {
      ...running,
      completedAtMs: this.#clock.now(),
      ...ended,
      response: outcome.response,
      steps: progress.steps,
      log,
    };
    const free = this.#kept().filter((each) => !each.isPinned && each.ref !== ref);
    const old = free.sort((a, b) => a.createdAtMs - b.createdAtMs).slice(0, Math.max(0, free.length + 1 - historyMax));
    await this.#content.records.commit([
      { table, key: ref, value: record },
      ...old.map((each) => ({ table, key: each.ref, value: undefined })),
    ]);
    this.#tell(eventOf(record));
  }

  /** `ListenBuildHistory`: what there is, and then what comes, until the client goes or wanted no more. */
  async listen(request: Message, signal: AbortSignal, send: (event: Message) => Promise<void>): Promise<void> {
    const ref = textIn(request, 'Ref');
    const isWanted = (record: HistoryRecord): boolean =>
      (ref === '' || record.ref === ref) && (request['ActiveOnly'] !== true || record.completedAtMs === undefined);
    const limit = numberIn(request, 'Limit');
    const all = [...this.#running.values(), ...this.#kept()].filter(isWanted);
    all.sort((a, b) => b.createdAtMs - a.createdAtMs);
    const waiting: Message[] = all.slice(0, limit > 0 ? limit : all.length).map(eventOf);
    if (request['EarlyExit'] === true) {
      for (const event of waiting) await send(event);
      return;
    }
    let wake = (): void => {};
    const listener = (event: Message): void => {
      waiting.push(event);
      wake();
    };
    this.#listeners.add(listener);
    const forget = onceAborted(signal, () => wake());
    try {
      while (!signal.aborted) {
        for (const event of waiting.splice(0)) await send(event);
        if (waiting.length > 0 || signal.aborted) continue;
        await new Promise<void>((resolve) => {
          wake = resolve;
        });
      }
    } finally {
      forget();
      this.#listeners.delete(listener);
    }
  }

  /** Throws nothing for one that is not there: whoever removes it wanted it gone. */
  async update(request: Message): Promise<void> {
    const ref = textIn(request, 'Ref');
    const record = this.#content.records.get<HistoryRecord>(table, ref);
    if (record === undefined) return;
    if (request['Delete'] !== true) {
      const value: HistoryRecord = { ...record, isPinned: request['Pinned'] === true };
      await this.#content.records.commit([{ table, key: ref, value }]);
      return;
    }
    await this.#content.records.commit([{ table, key: ref, value: undefined }]);
    this.#tell({ type: eventType.deleted, record: { Ref: ref } });
  }

  /** Whether a build of before has a document of this digest. */
  hasDocument(digest: string): boolean {
    return this.#kept().some((record) => documentsOf(record).includes(digest));
  }

  isKept(ref: string): boolean {
    return this.#content.records.get<HistoryRecord>(table, ref) !== undefined;
  }

  /** What a build of before told; undefined: there was none of this name. */
  async log(ref: string): Promise<Message[] | undefined> {
    const log = this.#content.records.get<HistoryRecord>(table, ref)?.log;
    if (log === undefined) return undefined;
    const bytes = Buffer.from(await this.#content.blobs.readBytes(log.digest, historyLogBytesMax));
    const responses: Message[] = [];
    for (let at = 0; at + 4 <= bytes.length;) {
      const length = bytes.readUInt32BE(at);
      responses.push(decodeMessage(responseType, bytes.subarray(at + 4, at + 4 + length)));
      at += 4 + length;
    }
    return responses;
  }
}
