/**
 * BuildKit's services as its clients ask for them: `Control` (builds, their progress, the cache) and `LLBBridge`, by
 * which a client drives the front end of its own build. A call of the bridge names its build in its metadata.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import { canonicalName, parseReference, withDefaultTag } from '#base/reference.ts';
import { onceAborted } from '#base/streams.ts';
import { fieldOf, isObject, itemsOf } from '#base/unknown.ts';
import type { ImageRecord } from '#content/image-records.ts';
import type { Clock } from '#os/clock.ts';
import type { Builder } from '../builder.ts';
import { Arrivals } from './arrivals.ts';
import { GrpcError, code, unary } from './grpc.ts';
import type { Handler, Request } from './grpc.ts';
import { Job } from './job.ts';
import { jobWaitMs, jobsMax } from './limits.ts';
import { bytesIn, messageIn, messagesIn, numberIn, textIn, textMapIn, textsIn, timestampOf } from './messages.ts';
import type { Message } from './messages.ts';
import { Progress } from './progress.ts';
import type { Sessions } from './session.ts';

export interface ServiceParts {
  builder: Builder;
  sessions: Sessions;
  clock: Clock;
  version: string;
}

const buildIdHeader = 'buildkit-controlapi-buildid';

/** What the bridge can do, by the protocol's names. */
const frontendCapabilities = [
  'solve.base',
  'return',
  'returnmap',
  'proto.refarray',
  'frontend.caps',
  'gateway.evaluate',
  'gateway.solve.evaluate',
];

class Jobs {
  readonly #parts: ServiceParts;
  readonly #jobs: Arrivals<Job>;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#jobs = new Arrivals(parts.clock, jobWaitMs, 'no such job');
  }

  open(ref: string, sessionId: string, tags: string[] | undefined): Job {
    if (ref === '') throw new ApiError('BadRequest', 'a build needs a ref');
    if (this.#jobs.has(ref)) throw new ApiError('Conflict', `job ${ref.slice(0, 100)} exists`);
    if (this.#jobs.size >= jobsMax) throw new ApiError('TooManyRequests', `more than ${jobsMax} builds`);
    const job = new Job(this.#parts, { ref, sessionId, tags }, new Progress(ref, this.#parts.clock));
    this.#jobs.add(ref, job);
    return job;
  }

  /** The job, or the one that comes within a moment. */
  get(ref: string, signal: AbortSignal): Promise<Job> {
    return this.#jobs.get(ref, signal);
  }

  /** Who asks for the status of a short build may come after its end. */
  close(job: Job): void {
    const { ref } = job.request;
    job.close();
    this.#parts.clock.setTimer(jobWaitMs, () => this.#jobs.remove(ref, job), { background: true });
  }
}

/** Names that the exporters give; undefined when the result stays in the cache. */
function tagsOf(request: Message): string[] | undefined {
  const given = messagesIn(request, 'Exporters').map((exporter) => ({
    type: textIn(exporter, 'Type'),
    attributes: textMapIn(exporter, 'Attrs'),
  }));
  const old = textIn(request, 'ExporterDeprecated');
  const exporters =
    given.length > 0 || old === '' ? given : [{ type: old, attributes: textMapIn(request, 'ExporterAttrsDeprecated') }];
  const tags: string[] = [];
  for (const { type, attributes } of exporters) {
    if (type !== 'moby' && type !== 'image')
      throw new ApiError(
        'BadRequest',
        `exporter ${JSON.stringify(type.slice(0, 50))} could not be found: images are exported to this engine's own store, others are not written yet`,
      );
    if (attributes['push'] !== undefined && attributes['push'] !== 'false')
      throw new ApiError('BadRequest', 'the builder does not push: use docker push');
    tags.push(...(attributes['name'] ?? '').split(',').filter((name) => name !== ''));
  }
  return exporters.length === 0 ? undefined : tags;
}

function refuseUnsupported(request: Message): void {
  for (const type of messagesIn(messageIn(request, 'Cache'), 'Exports').map((entry) => textIn(entry, 'Type')))
    if (type !== 'inline')
      throw new ApiError('BadRequest', `cache export of type ${type.slice(0, 50)} is not supported yet`);
  for (const entitlement of textsIn(request, 'Entitlements'))
    if (entitlement !== 'network.host')
      throw new ApiError('BadRequest', `entitlement ${entitlement.slice(0, 100)} is not allowed`);
  if (messagesIn(messageIn(request, 'SourcePolicy'), 'rules').length > 0)
    throw new ApiError('BadRequest', 'source policies are not applied yet');
  if (Object.keys(messageIn(request, 'FrontendInputs')).length > 0)
    throw new ApiError('BadRequest', 'inputs of a front end are not supported yet');
}

function responseOf(record: ImageRecord | undefined, tags: readonly string[]): Message {
  if (record === undefined) return { ExporterResponse: {} };
  const digest = record.manifestDigest === '' ? record.id : record.manifestDigest;
  const names = tags.map((tag) => canonicalName(withDefaultTag(parseReference(tag))));
  return {
    ExporterResponse: {
      'containerimage.config.digest': record.id,
      'containerimage.digest': digest,
      ...(names.length === 0 ? {} : { 'image.name': names.join(',') }),
    },
  };
}

function workerOf({ version }: ServiceParts): Message {
  const { os, architecture, variant = '' } = hostPlatform();
  return {
    ID: 'tiphys',
    Labels: { 'org.mobyproject.buildkit.worker.executor': 'oci', 'tiphys.io/platform': formatPlatform(hostPlatform()) },
    platforms: [{ OS: os, Architecture: architecture, Variant: variant }],
    BuildkitVersion: { package: 'tiphys', version, revision: '', dockerfileVersion: '1' },
  };
}

async function solve(jobs: Jobs, { request, signal }: Request): Promise<Message> {
  refuseUnsupported(request);
  const tags = tagsOf(request);
  const job = jobs.open(textIn(request, 'Ref'), textIn(request, 'Session'), tags);
  const forget = onceAborted(signal, () => job.close());
  try {
    const frontend = textIn(request, 'Frontend');
    const definition = itemsOf(fieldOf(request, 'Definition', 'def'));
    if (definition.length > 0 || !['', 'dockerfile.v0'].includes(frontend)) throw unsupported(frontend);
    const record = frontend === '' ? await job.returned : await job.build(textMapIn(request, 'FrontendAttrs'));
    const exporting = tags === undefined ? undefined : job.progress.begin('exporting to image');
    for (const tag of tags ?? [])
      exporting?.count(`naming to ${canonicalName(withDefaultTag(parseReference(tag)))}`, 0, true);
    exporting?.end();
    return responseOf(record, tags ?? []);
  } finally {
    forget();
    jobs.close(job);
  }
}

function unsupported(frontend: string): ApiError {
  return frontend === ''
    ? new ApiError('BadRequest', 'build definitions (LLB) are not carried out yet: use the Dockerfile front end')
    : new ApiError('BadRequest', `unknown frontend: ${frontend.slice(0, 100)}`);
}

async function solveBridge(job: Job, request: Message): Promise<Message> {
  const frontend = textIn(request, 'Frontend');
  if (frontend !== 'dockerfile.v0') throw unsupported(frontend);
  const record = await job.build(textMapIn(request, 'FrontendOpt'));
  return {
    result: {
      ref: { id: job.keep(record) },
      metadata: { 'containerimage.config': Buffer.from(JSON.stringify(record.file)) },
    },
  };
}

function returnResult(job: Job, request: Message): Message {
  const failure = messageIn(request, 'error');
  if (numberIn(failure, 'code') !== code.ok)
    job.fail(new GrpcError(numberIn(failure, 'code'), textIn(failure, 'message')));
  else {
    const result = messageIn(request, 'result');
    const refs = Object.values(messageIn(messageIn(result, 'refs'), 'refs')).filter(isObject);
    const ids = [messageIn(result, 'ref'), ...refs].map((ref) => textIn(ref, 'id'));
    job.return(ids.find((id) => id !== ''));
  }
  return {};
}

function usage({ builder }: ServiceParts): Message[] {
  return builder.cache.list().map(({ id, record, sizeBytes, isInUse }) => ({
    ID: id,
    Size: sizeBytes,
    InUse: isInUse,
    CreatedAt: timestampOf(record.atMs),
    LastUsedAt: timestampOf(record.atMs),
    UsageCount: 1,
    Description: record.about,
    RecordType: 'regular',
    Shared: isInUse,
  }));
}

/**
 * containerd's filters, `field==value,field!=value`: a list of alternatives, each of conditions that all hold. A field
 * alone means that it is true, or not empty. Throws BadRequest for what is no such filter.
 */
function matcherOf(given: readonly string[]): ((record: Message) => boolean) | undefined {
  const filters = given.filter((filter) => filter !== '');
  if (filters.length === 0) return undefined;
  const alternatives = filters.map((filter) =>
    filter.split(',').map((condition) => {
      const [, field, operator, value] = /^(\w+)(?:(==|!=)"?([^"]*)"?)?$/.exec(condition) ?? [];
      if (field === undefined) throw new ApiError('BadRequest', `failed to parse prune filter ${filter.slice(0, 200)}`);
      return { field: field.toLowerCase(), operator, value };
    }),
  );
  return (record) => {
    const valueOf = (field: string): string => {
      if (field === 'type') return String(record['RecordType']);
      if (field === 'private') return String(record['Shared'] !== true);
      if (field === 'immutable') return 'true';
      const found = Object.entries(record).find(([name]) => name.toLowerCase() === field);
      return String(found?.[1] ?? '');
    };
    return alternatives.some((conditions) =>
      conditions.every(({ field, operator, value }) => {
        const own = valueOf(field);
        if (operator === undefined) return own !== '' && own !== 'false';
        return (own === value) === (operator === '==');
      }),
    );
  };
}

async function prune(parts: ServiceParts, { request, send }: Request): Promise<undefined> {
  const before = new Map(usage(parts).map((record) => [textIn(record, 'ID'), record]));
  const matches = matcherOf(textsIn(request, 'filter'));
  const keepForMs = numberIn(request, 'keepDuration') / 1e6;
  const keepBytes = numberIn(request, 'reservedSpace') || numberIn(request, 'maxUsedSpace');
  const { ids } = await parts.builder.cache.prune({
    all: request['all'] === true,
    ...(keepForMs > 0 ? { untilMs: parts.clock.now() - keepForMs } : {}),
    ...(keepBytes > 0 ? { keepBytes } : {}),
    ...(matches === undefined ? {} : { matches: ({ id }) => matches(before.get(id) ?? {}) }),
  });
  for (const id of ids) await send(before.get(id) ?? { ID: id });
  return undefined;
}

export function buildServices(parts: ServiceParts): ReadonlyMap<string, Handler> {
  const jobs = new Jobs(parts);
  const jobOf = ({ metadata, signal }: Request): Promise<Job> =>
    jobs.get(String(metadata[buildIdHeader] ?? ''), signal);
  const capability = (id: string): Message => ({ ID: id, Enabled: true });
  const control = (name: string): string => `/moby.buildkit.v1.Control/${name}`;
  const bridge = (name: string): string => `/moby.buildkit.v1.frontend.LLBBridge/${name}`;
  const methods: [string, (request: Request) => Promise<Message | undefined>][] = [
    [control('Info'), async () => ({ buildkitVersion: workerOf(parts)['BuildkitVersion'] })],
    [control('ListWorkers'), async () => ({ record: [workerOf(parts)] })],
    [control('Solve'), (call) => solve(jobs, call)],
    [
      control('Status'),
      async ({ request, signal, send }) => {
        const job = await jobs.get(textIn(request, 'Ref'), signal);
        for await (const response of job.progress.follow(signal)) await send(response);
        return undefined;
      },
    ],
    // Builds are not recorded: there is none to tell of, and who waits for one waits until he goes.
    [
      control('ListenBuildHistory'),
      async ({ request, signal }) => {
        if (request['EarlyExit'] !== true) await new Promise<void>((resolve) => onceAborted(signal, resolve));
        return undefined;
      },
    ],
    [control('DiskUsage'), async () => ({ record: usage(parts) })],
    [control('Prune'), (call) => prune(parts, call)],
    [
      bridge('Ping'),
      async (call) => {
        await jobOf(call);
        return { FrontendAPICaps: frontendCapabilities.map(capability), LLBCaps: [], Workers: [workerOf(parts)] };
      },
    ],
    [bridge('Solve'), async (call) => solveBridge(await jobOf(call), call.request)],
    // What the front end made is whole already.
    [
      bridge('Evaluate'),
      async (call) => {
        await jobOf(call);
        return {};
      },
    ],
    [bridge('Return'), async (call) => returnResult(await jobOf(call), call.request)],
    [bridge('Inputs'), async () => ({ Definitions: {} })],
    [
      bridge('Warn'),
      async (call) => {
        const job = await jobOf(call);
        job.progress.warn(textIn(call.request, 'digest'), bytesIn(call.request, 'short').toString('utf8'));
        return {};
      },
    ],
  ];
  return new Map(methods.map(([path, handle]) => [path, unary(handle)]));
}
