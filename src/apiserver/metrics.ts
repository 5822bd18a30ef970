/** `/metrics`: request counts and the store's size, in Prometheus' text format with Kubernetes' names. */
import type { ApiResponse } from '#base/api-request.ts';
import type { RequestCounts, Server } from './context.ts';
import type { RequestInfo } from './request-info.ts';

export function createCounts(): RequestCounts {
  return { byVerbAndCode: new Map(), inFlight: 0 };
}

const countedVerbs = new Set([
  'get',
  'list',
  'watch',
  'create',
  'update',
  'patch',
  'delete',
  'deletecollection',
  'post',
  'put',
  'head',
  'options',
]);

/**
 * Counts an answer. What is asked for is a label only where it is served, and methods that are none are one: strangers
 * choose both.
 */
export function countRequest(server: Server, info: RequestInfo, code: number): void {
  const { byVerbAndCode } = server.counts;
  const resource =
    info.isResource && server.kinds.find(info.group, info.version, info.resource) !== undefined ? info.resource : '';
  const key = `${countedVerbs.has(info.verb) ? info.verb : 'other'} ${resource} ${code}`;
  byVerbAndCode.set(key, (byVerbAndCode.get(key) ?? 0) + 1);
}

export function serveMetrics(server: Server): ApiResponse {
  const counts = server.counts;
  const lines = ['# TYPE apiserver_request_total counter'];
  for (const [key, value] of counts.byVerbAndCode) {
    const [verb, resource, code] = key.split(' ');
    lines.push(`apiserver_request_total{verb="${verb}",resource="${resource}",code="${code}"} ${value}`);
  }
  lines.push(
    '# TYPE apiserver_current_inflight_requests gauge',
    `apiserver_current_inflight_requests ${counts.inFlight}`,
  );
  lines.push(
    '# TYPE apiserver_storage_revision gauge',
    `apiserver_storage_revision ${server.store.currentRevision()}`,
    '',
  );
  return {
    status: 200,
    headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' },
    body: Buffer.from(lines.join('\n')),
  };
}
