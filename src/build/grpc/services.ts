/**
 * BuildKit's services as its clients ask for them: `Control` (builds, their progress, the cache) and `LLBBridge`, by
 * which a client drives the front end of its own build. A call of the bridge names its build in its metadata.
 */
import { ApiError } from '#base/errors.ts';
import { formatPlatform, hostPlatform } from '#base/platform.ts';
import { onceAborted } from '#base/streams.ts';
import { itemsOf } from '#base/unknown.ts';
import type { Clock } from '#os/clock.ts';
import type { Builder } from '../builder.ts';
import type { CacheItem } from '../cache-store.ts';
import { Arrivals } from './arrivals.ts';
import { Bridge, bridgeMethods, runFrontend } from './bridge.ts';
import { unary } from './grpc.ts';
import type { BuildOutcome } from './history.ts';
import { dockerfileVersion, recordedProvenance } from './provenance.ts';
import { contentMethods } from './served-content.ts';
import type { Handler, Request } from './grpc.ts';
import { exportResult, exportersOf } from './export.ts';
import { Job } from './job.ts';
import type { JobRequest } from './job.ts';
import { jobWaitMs, jobsMax } from './limits.ts';
import { messageIn, numberIn, textIn, textMapIn, textsIn, timestampOf } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import { Progress } from './progress.ts';
import { readSourcePolicy } from './source-policy.ts';
import { cacheEntriesIn } from './travelling-cache.ts';
import type { Sessions } from './session.ts';

export interface ServiceParts {
  builder: Builder;
  sessions: Sessions;
  clock: Clock;
  version: string;
}

const buildIdHeader = 'buildkit-controlapi-buildid';

class Jobs {
  readonly #parts: ServiceParts;
  readonly #jobs: Arrivals<Job>;

  constructor(parts: ServiceParts) {
    this.#parts = parts;
    this.#jobs = new Arrivals(parts.clock, jobWaitMs, 'no such job');
  }

  open(request: JobRequest): Job {
    const { ref } = request;
    if (ref === '') throw new ApiError('BadRequest', 'a build needs a ref');
    if (this.#jobs.has(ref)) throw new ApiError('Conflict', `job ${ref.slice(0, 100)} exists`);
    if (this.#jobs.size >= jobsMax) throw new ApiError('TooManyRequests', `more than ${jobsMax} builds`);
    const job = new Job(
      { ...this.#parts, worker: workerOf(this.#parts) },
      request,
      new Progress(ref, this.#parts.clock),
    );
    this.#jobs.add(ref, job);
    return job;
  }

  /** The job, or the one that comes within a moment. */
  get(ref: string, signal: AbortSignal): Promise<Job> {
    return this.#jobs.get(ref, signal);
  }

  /** Who asks for the status of a short build may come after its end. */
  async close(job: Job): Promise<void> {
    const { ref } = job.request;
    await job.close();
    this.#parts.clock.setTimer(jobWaitMs, () => this.#jobs.remove(ref, job), { background: true });
  }
}

function refuseUnsupported(request: Message): void {
  for (const entitlement of textsIn(request, 'Entitlements'))
    if (entitlement !== 'network.host')
      throw new ApiError('BadRequest', `entitlement ${entitlement.slice(0, 100)} is not allowed`);
  if (textIn(request, 'SourcePolicySession') !== '')
    throw new ApiError('BadRequest', 'source policies that the client evaluates are not asked yet');
}

function workerOf({ version }: ServiceParts): Message {
  const { os, architecture, variant = '' } = hostPlatform();
  return {
    ID: 'tiphys',
    Labels: {
      'org.mobyproject.buildkit.worker.executor': 'oci',
      // By this one clients know that indexes are kept: several platforms, attestations, archives of them.
      'org.mobyproject.buildkit.worker.snapshotter': 'overlayfs',
      'tiphys.io/platform': formatPlatform(hostPlatform()),
    },
    platforms: [{ OS: os, Architecture: architecture, Variant: variant }],
    BuildkitVersion: { package: 'tiphys', version, revision: '', dockerfileVersion },
  };
}

async function solve(parts: ServiceParts, jobs: Jobs, { request, signal }: Request): Promise<Message> {
  refuseUnsupported(request);
  const exporters = exportersOf(request);
  const inputs = messageIn(request, 'FrontendInputs');
  const job = jobs.open({
    ref: textIn(request, 'Ref'),
    sessionId: textIn(request, 'Session'),
    inputs,
    policy: readSourcePolicy(messageIn(request, 'SourcePolicy')),
    cacheExports: cacheEntriesIn(messageIn(request, 'Cache'), 'Exports'),
    cacheImports: cacheEntriesIn(messageIn(request, 'Cache'), 'Imports'),
  });
  const forget = onceAborted(signal, () => void job.close());
  const [frontend, attributes] = [textIn(request, 'Frontend'), textMapIn(request, 'FrontendAttrs')];
  const { history } = parts.builder;
  // What clients ask on their own account is not the user's build.
  const isTold = request['Internal'] !== true;
  const about = {
    ref: job.request.ref,
    frontend,
    attributes,
    exporters: exporters.map(({ type, tags }) => ({ type, attributes: { name: tags.join(',') } })),
  };
  if (isTold) history.begin(about);
  let outcome: BuildOutcome = { response: {}, provenance: [] };
  try {
    const definition = messageIn(request, 'Definition');
    const hasWork = textIn(request, 'Frontend') !== '' || itemsOf(definition['def']).length > 0;
    const result = hasWork
      ? await runFrontend(job, {
          frontend: textIn(request, 'Frontend'),
          options: textMapIn(request, 'FrontendAttrs'),
          definition,
          inputs,
        })
      : await job.returned;
    const response = result === undefined ? {} : await exportResult(job, result, exporters, attributes);
    const isRecorded = isTold && result !== undefined;
    // A record without it is better than a build that fails when it is done.
    const recorded = isRecorded ? await recordedProvenance(job, result, attributes).catch(() => []) : [];
    outcome = { response, provenance: recorded };
    return { ExporterResponse: response };
  } catch (error) {
    outcome = { error, response: {}, provenance: [] };
    throw error;
  } finally {
    forget();
    await history.end(job.request.ref, job.progress, outcome);
    await jobs.close(job);
  }
}

function usageOf(item: CacheItem): Message {
  return {
    ID: item.id,
    Size: item.sizeBytes,
    InUse: item.isInUse,
    CreatedAt: timestampOf(item.createdAtMs),
    LastUsedAt: timestampOf(item.usedAtMs),
    UsageCount: item.uses,
    Description: item.about,
    RecordType: item.type,
    Shared: item.isInUse,
    Mutable: item.type !== 'regular',
  };
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
      if (field === 'immutable') return String(record['Mutable'] !== true);
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
  const matches = matcherOf(textsIn(request, 'filter'));
  const keepForMs = numberIn(request, 'keepDuration') / 1e6;
  const keepBytes = numberIn(request, 'reservedSpace') || numberIn(request, 'maxUsedSpace');
  const { removed } = await parts.builder.cache.prune({
    all: request['all'] === true,
    ...(keepForMs > 0 ? { untilMs: parts.clock.now() - keepForMs } : {}),
    ...(keepBytes > 0 ? { keepBytes } : {}),
    ...(matches === undefined ? {} : { matches: (item) => matches(usageOf(item)) }),
  });
  for (const item of removed) await send(usageOf(item));
  return undefined;
}

export function buildServices(parts: ServiceParts): ReadonlyMap<string, Handler> {
  const jobs = new Jobs(parts);
  const bridgeOf = async ({ metadata, signal }: Request): Promise<Bridge> => {
    const job = await jobs.get(String(metadata[buildIdHeader] ?? ''), signal);
    return new Bridge(job, job.request.inputs, {
      resolve: (result) => job.return(result),
      reject: (error) => job.fail(error),
    });
  };
  const control = (name: string): string => `/moby.buildkit.v1.Control/${name}`;
  const methods: [string, (request: Request) => Promise<Message | undefined>][] = [
    [control('Info'), async () => ({ buildkitVersion: workerOf(parts)['BuildkitVersion'] })],
    [control('ListWorkers'), async () => ({ record: [workerOf(parts)] })],
    [control('Solve'), (call) => solve(parts, jobs, call)],
    [
      control('Status'),
      async ({ request, signal, send }) => {
        const ref = textIn(request, 'Ref');
        for (const response of (await parts.builder.history.log(ref)) ?? []) await send(response);
        if (parts.builder.history.isKept(ref)) return undefined;
        const job = await jobs.get(ref, signal);
        for await (const response of job.progress.follow(signal)) await send(response);
        return undefined;
      },
    ],
    [
      control('ListenBuildHistory'),
      async ({ request, signal, send }) => {
        await parts.builder.history.listen(request, signal, send);
        return undefined;
      },
    ],
    [
      control('UpdateBuildHistory'),
      async ({ request }) => {
        await parts.builder.history.update(request);
        return {};
      },
    ],
    [control('DiskUsage'), async () => ({ record: parts.builder.cache.list().map(usageOf) })],
    [control('Prune'), (call) => prune(parts, call)],
    ...bridgeMethods(bridgeOf),
    ...contentMethods({
      content: parts.builder.parts.content,
      isServed: (digest) => parts.builder.history.hasDocument(digest),
    }),
  ];
  return new Map([
    ...methods.map(([path, handle]): [string, Handler] => [path, unary(handle)]),
    [control('Session'), (call) => parts.sessions.tunnel(call)],
  ]);
}
