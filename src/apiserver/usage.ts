/** `metrics.k8s.io`: what the kubelets measure, as NodeMetrics and PodMetrics. */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import { matchesLabels, parseFieldSelector, parseLabelSelector, fieldValueOf } from '#base/selectors.ts';
import type { NodeMetrics, PodMetrics } from '#api/metrics.v1beta1.ts';
import { kinds } from '#base/kinds.ts';
import { apiVersionOf, type KubeList, type KubeObject } from '#base/objects.ts';
import type { RequestContext, NodeUsage, PodUsage } from './context.ts';
import { negotiate } from './negotiate.ts';
import { lookUp } from './lookup.ts';
import { notFound } from './object-errors.ts';
import { answerObject, encodeBody, headersFor, includeObject } from './respond.ts';
import { makeTable, partialMetadata } from './table.ts';

const cpu = (nanoCores: number): string => `${Math.round(nanoCores)}n`;
const memory = (bytes: number): string => `${Math.round(bytes / 1024)}Ki`;

async function nodeMetrics(context: RequestContext, usage: NodeUsage): Promise<NodeMetrics> {
  const labels = usage.labels ?? (await lookUp(context.server, kinds.Node, usage.name))?.metadata.labels;
  return {
    kind: 'NodeMetrics',
    apiVersion: 'metrics.k8s.io/v1beta1',
    metadata: { name: usage.name, creationTimestamp: usage.timestamp, ...(labels === undefined ? {} : { labels }) },
    timestamp: usage.timestamp,
    window: `${usage.windowSeconds}s`,
    usage: { cpu: cpu(usage.cpuNanoCores), memory: memory(usage.memoryBytes) },
  };
}

async function podMetrics(context: RequestContext, usage: PodUsage): Promise<PodMetrics> {
  const labels =
    usage.labels ?? (await lookUp(context.server, kinds.Pod, usage.name, usage.namespace))?.metadata.labels;
  return {
    kind: 'PodMetrics',
    apiVersion: 'metrics.k8s.io/v1beta1',
    metadata: {
      name: usage.name,
      namespace: usage.namespace,
      creationTimestamp: usage.timestamp,
      ...(labels === undefined ? {} : { labels }),
    },
    timestamp: usage.timestamp,
    window: `${usage.windowSeconds}s`,
    containers: usage.containers.map((c) => ({
      name: c.name,
      usage: { cpu: cpu(c.cpuNanoCores), memory: memory(c.memoryBytes) },
    })),
  };
}

export async function handleUsage(context: RequestContext): Promise<ApiResponse> {
  const { server, info, kind, request } = context;
  const provider = server.options.usage;
  if (provider === undefined)
    throw new ApiError('ServiceUnavailable', 'the server is currently unable to handle the request');
  const all: KubeObject[] =
    kind.kind === 'NodeMetrics'
      ? await Promise.all((await provider.nodes()).map((u) => nodeMetrics(context, u)))
      : await Promise.all(
          (await provider.pods(info.namespace === '' ? undefined : info.namespace)).map((u) => podMetrics(context, u)),
        );
  if (info.verb === 'get') {
    const found = all.find((o) => o.metadata.name === info.name);
    if (found === undefined)
      throw notFound(
        { group: 'metrics.k8s.io', resource: kind.kind === 'PodMetrics' ? 'podmetrics' : 'nodemetrics' },
        info.namespace === '' ? info.name : `${info.namespace}/${info.name}`,
      );
    return answerObject(context, found);
  }
  const labels = parseLabelSelector(request.query.get('labelSelector') ?? '');
  const name = fieldValueOf(parseFieldSelector(request.query.get('fieldSelector') ?? ''), 'metadata.name');
  const items = all.filter(
    (o) => matchesLabels(labels, o.metadata.labels) && (name === undefined || o.metadata.name === name),
  );
  const list: KubeList = { kind: kind.listKind, apiVersion: apiVersionOf(kind), metadata: {}, items };
  if (request.wantsObject === true) return { status: 200, headers: {}, object: list };
  const wanted = negotiate(request, { protobuf: false, table: true });
  const shown =
    wanted.form === 'table'
      ? makeTable(kind, items, { include: includeObject(context), now: server.clock.now(), version: wanted.version })
      : wanted.form === 'partial'
        ? {
            kind: 'PartialObjectMetadataList',
            apiVersion: `meta.k8s.io/${wanted.version}`,
            metadata: {},
            items: items.map((i) => partialMetadata(i, wanted.version)),
          }
        : list;
  return { status: 200, headers: headersFor(context, wanted.encoding), body: encodeBody(shown, wanted.encoding) };
}
