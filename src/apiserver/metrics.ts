/**
 * What the API server measures of requests, with Kubernetes' names (documentation, "Kubernetes Metrics Reference").
 * Resources and verbs are labels only where they are served: strangers choose both.
 */
import type { ApiResponse } from '#base/api-request.ts';
import { exposeMetrics } from '#observe/exposition.ts';
import type { Counter, Family, Gauge, Histogram, Metrics } from '#observe/metrics.ts';
import type { Store } from '#store/store.ts';
import type { KindTable } from './kind-table.ts';
import type { RequestInfo } from './request-info.ts';
import { defaultGitVersion } from './version.ts';

export interface RequestMetrics {
  /** All requests whose answer has not begun. */
  inFlight: number;
  total: Family<Counter>;
  seconds: Family<Histogram>;
  current: Family<Gauge>;
  /** Watches, and what else lasts, of clients that come over the network. */
  lasting: Family<Gauge>;
  /** Aggregated servers' APIServices: 1 for one that cannot be asked; how often it could not, and why. */
  unavailable: Family<Gauge>;
  unavailableTotal: Family<Counter>;
  /** Those of the same labels. */
  series: Map<string, { total: Counter; seconds: Histogram }>;
}

const requestLabels = ['verb', 'group', 'version', 'resource', 'subresource', 'scope', 'code'];
/** As upstream's, for requests that may take as long as a webhook does. */
const requestBounds = [
  0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1, 1.25, 1.5, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 45, 60,
];

export function createRequestMetrics(metrics: Metrics, store: Store): RequestMetrics {
  metrics.gauge(
    { name: 'tiphys_store_revision', help: 'Revision of the store: the newest resourceVersion.' },
    (family) => {
      family.of().value = store.currentRevision();
    },
  );
  metrics.gauge({ name: 'tiphys_store_history_bytes', help: 'Bytes of values that only history holds.' }, (family) => {
    family.of().value = store.historyBytes();
  });
  const [, major = '', minor = ''] = /^v(\d+)\.(\d+)/.exec(defaultGitVersion) ?? [];
  metrics
    .gauge({
      name: 'kubernetes_build_info',
      help: 'The version of Kubernetes whose API this is. The value is always 1.',
      labels: ['git_version', 'major', 'minor', 'platform'],
    })
    .of(defaultGitVersion, major, minor, 'linux').value = 1;
  return {
    inFlight: 0,
    series: new Map(),
    total: metrics.counter({
      name: 'apiserver_request_total',
      help: 'Counter of apiserver requests broken out for each verb, resource, scope and HTTP response code.',
      labels: requestLabels,
    }),
    seconds: metrics.histogram(
      {
        name: 'apiserver_request_duration_seconds',
        help: 'Response latency distribution in seconds for each verb, resource, scope and HTTP response code.',
        labels: requestLabels,
      },
      requestBounds,
    ),
    current: metrics.gauge({
      name: 'apiserver_current_inflight_requests',
      help: 'Number of requests under way, by kind: mutating or readOnly.',
      labels: ['request_kind'],
    }),
    lasting: metrics.gauge({
      name: 'apiserver_longrunning_requests',
      help: 'Gauge of all active long-running apiserver requests broken out by verb, group, version, resource, scope and component.',
      labels: [...requestLabels.slice(0, -1), 'component'],
    }),
    unavailable: metrics.gauge({
      name: 'aggregator_unavailable_apiservice',
      help: 'Gauge of APIServices which are marked as unavailable broken down by APIService name.',
      labels: ['name'],
    }),
    unavailableTotal: metrics.counter({
      name: 'aggregator_unavailable_apiservice_total',
      help: 'Counter of checks of APIServices that found them unavailable, by name and reason.',
      labels: ['name', 'reason'],
    }),
  };
}

const verbs: Readonly<Record<string, string>> = {
  get: 'GET',
  list: 'LIST',
  watch: 'WATCH',
  create: 'POST',
  update: 'PUT',
  patch: 'PATCH',
  delete: 'DELETE',
  deletecollection: 'DELETECOLLECTION',
  post: 'POST',
  put: 'PUT',
  head: 'HEAD',
  options: 'OPTIONS',
};

const readVerbs = new Set(['get', 'list', 'watch', 'head', 'options']);

export function beginRequest(requests: RequestMetrics, info: RequestInfo): void {
  requests.inFlight++;
  requests.current.of(readVerbs.has(info.verb) ? 'readOnly' : 'mutating').value++;
}

interface Ended {
  code: number;
  seconds: number;
  /** Of an answer that goes on: aborts when it is over. */
  lasting: AbortSignal | undefined;
}

export function endRequest(
  requests: RequestMetrics,
  info: RequestInfo,
  kinds: KindTable,
  { code, seconds, lasting }: Ended,
): void {
  requests.inFlight--;
  requests.current.of(readVerbs.has(info.verb) ? 'readOnly' : 'mutating').value--;
  const kind = info.isResource ? kinds.find(info.group, info.version, info.resource) : undefined;
  const labels =
    kind === undefined
      ? [verbs[info.verb] ?? 'other', '', '', '', '', '', String(code)]
      : [
          verbs[info.verb] ?? 'other',
          info.group,
          info.version,
          info.resource,
          Object.hasOwn(kind.subresources, info.subresource) ? info.subresource : '',
          info.name !== '' ? 'resource' : info.namespace !== '' ? 'namespace' : 'cluster',
          String(code),
        ];
  const key = labels.join(' ');
  let series = requests.series.get(key);
  if (series === undefined) {
    series = { total: requests.total.of(...labels), seconds: requests.seconds.of(...labels) };
    requests.series.set(key, series);
  }
  series.total.add();
  series.seconds.observe(seconds);
  if (lasting === undefined || lasting.aborted) return;
  const running = requests.lasting.of(...labels.slice(0, -1), 'apiserver');
  running.value++;
  lasting.addEventListener('abort', () => running.value--, { once: true });
}

export async function serveMetrics(metrics: Metrics): Promise<ApiResponse> {
  const { contentType, body } = await exposeMetrics(metrics);
  return { status: 200, headers: { 'content-type': contentType }, body: Buffer.from(body) };
}
