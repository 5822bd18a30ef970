/** `/metrics`: request counts and the store's size, in Prometheus' text format with Kubernetes' names. */
import type { ApiResponse } from '#base/api-request.ts';
import type { Server } from './context.ts';

export interface RequestCounts { byVerbAndCode: Map<string, number>; inFlight: number }

export function countsOf(server: Server): RequestCounts {
  let counts = server.caches.get('counts') as RequestCounts | undefined;
  if (counts === undefined) server.caches.set('counts', (counts = { byVerbAndCode: new Map(), inFlight: 0 }));
  return counts;
}

export function serveMetrics(server: Server): ApiResponse {
  const counts = countsOf(server);
  const lines = ['# TYPE apiserver_request_total counter'];
  for (const [key, value] of counts.byVerbAndCode) {
    const [verb, resource, code] = key.split(' ');
    lines.push(`apiserver_request_total{verb="${verb}",resource="${resource}",code="${code}"} ${value}`);
  }
  lines.push('# TYPE apiserver_current_inflight_requests gauge', `apiserver_current_inflight_requests ${counts.inFlight}`);
  lines.push('# TYPE apiserver_storage_revision gauge', `apiserver_storage_revision ${server.store.currentRevision()}`, '');
  return { status: 200, headers: { 'content-type': 'text/plain; version=0.0.4; charset=utf-8' }, body: Buffer.from(lines.join('\n')) };
}
