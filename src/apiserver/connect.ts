/**
 * Connections through the API server: to the kubelet for logs, exec, attach and port-forward, to a node, Pod or Service for `proxy`. Here is only decided
 * where a connection goes; `ApiResponse.connect` carries that to the transport, which pipes bytes (`http.ts`). In-process callers cannot upgrade.
 */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse } from '#base/api-request.ts';
import type { Json, KubeObject } from '#base/objects.ts';
import type { RequestContext, Server } from './context.ts';
import { checkLogOptions } from './log-options.ts';
import { getStored } from './read.ts';

/** Where the transport connects to. */
export interface ConnectTarget { scheme: 'https' | 'http'; host: string; port: number; path: string; /** The kubelet is shown the API server's client certificate. */ kubelet: boolean }
export interface ConnectResponse extends ApiResponse { connect: ConnectTarget }

function answerConnect(connect: ConnectTarget): ConnectResponse { return { status: 200, headers: {}, connect }; }

async function kubeletOf(server: Server, name: string): Promise<{ host: string; port: number }> {
  const stored = await server.store.get(`/registry/nodes/${name}`);
  if (stored === undefined) throw new ApiError('InternalError', `nodes ${JSON.stringify(name)} not found`);
  const node = server.objects.view(stored);
  const addresses: Json[] = node.status?.addresses ?? [];
  const address = ['InternalIP', 'Hostname', 'ExternalIP'].map((type) => addresses.find((a) => a.type === type)?.address).find((a) => a !== undefined);
  if (address === undefined) throw new ApiError('InternalError', `no preferred addresses found; known addresses: []`);
  return { host: address, port: node.status?.daemonEndpoints?.kubeletEndpoint?.Port ?? 10_250 };
}

function containerOf(pod: KubeObject, asked: string | null): string {
  const all: Json[] = [...(pod.spec?.containers ?? []), ...(pod.spec?.initContainers ?? []), ...(pod.spec?.ephemeralContainers ?? [])];
  if (asked !== null && asked !== '') {
    if (!all.some((c) => c.name === asked)) throw new ApiError('BadRequest', `container ${asked} is not valid for pod ${pod.metadata.name}`);
    return asked;
  }
  const preferred = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  if (preferred !== undefined && all.some((c) => c.name === preferred)) return preferred;
  const containers: Json[] = pod.spec?.containers ?? [];
  if (containers.length === 1) return containers[0].name;
  const inits: Json[] = pod.spec?.initContainers ?? [];
  throw new ApiError('BadRequest', `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${containers.map((c) => c.name).join(' ')}]${inits.length > 0 ? ` or one of the init containers: [${inits.map((c) => c.name).join(' ')}]` : ''}`);
}

// walk exec-stream 1/5: the API server authorises and finds the node's kubelet.
async function connectPod(context: RequestContext): Promise<ApiResponse> {
  const { server, info, request } = context;
  const pod = server.objects.view(await getStored(context));
  const { subresource } = info;
  if (subresource === 'proxy') return connectAddress(context, pod.status?.podIP, pod);
  if (subresource === 'log') checkLogOptions(info.name, request.query);
  const container = subresource === 'portforward' ? '' : containerOf(pod, request.query.get('container'));
  const node = pod.spec?.nodeName as string | undefined;
  if (!node) {
    // Nothing can have been logged yet; whoever follows asks again.
    if (subresource === 'log') return { status: 200, headers: { 'content-type': 'text/plain' }, body: new Uint8Array() };
    throw new ApiError('BadRequest', `pod ${pod.metadata.name} does not have a host assigned`);
  }
  if ((subresource === 'exec' || subresource === 'attach' || subresource === 'portforward') && ['Succeeded', 'Failed'].includes(pod.status?.phase)) throw new ApiError('BadRequest', `cannot ${subresource} a container in a completed pod; current phase is ${pod.status?.phase}`);
  const target = await kubeletOf(server, node);
  const query = kubeletQuery(subresource, request.query);
  const verb = { log: 'containerLogs', exec: 'exec', attach: 'attach', portforward: 'portForward' }[subresource]!;
  const path = `/${verb}/${info.namespace}/${info.name}${container === '' ? '' : `/${container}`}${query === '' ? '' : `?${query}`}`;
  return answerConnect({ scheme: 'https', ...target, path, kubelet: true });
}

/** The kubelet's own names for what the client asked. */
function kubeletQuery(subresource: string, query: URLSearchParams): string {
  const out = new URLSearchParams();
  const flag = (from: string, to: string): void => { const v = query.get(from); if (v === 'true' || v === '1') out.set(to, '1'); };
  if (subresource === 'exec' || subresource === 'attach') {
    flag('stdin', 'input'); flag('stdout', 'output'); flag('stderr', 'error'); flag('tty', 'tty');
    for (const part of query.getAll('command')) out.append('command', part);
  } else if (subresource === 'log') for (const name of ['follow', 'previous', 'timestamps', 'tailLines', 'limitBytes', 'sinceSeconds', 'sinceTime', 'stream', 'insecureSkipTLSVerifyBackend']) { const v = query.get(name); if (v !== null) out.set(name, v); }
  else for (const port of query.getAll('ports')) out.append('port', port);
  return out.toString();
}

function splitName(name: string): { scheme: string; name: string; port: string } {
  const parts = name.split(':');
  if (parts.length === 3) return { scheme: parts[0]!, name: parts[1]!, port: parts[2]! };
  if (parts.length === 2) return { scheme: '', name: parts[0]!, port: parts[1]! };
  return { scheme: '', name, port: '' };
}

function proxyPath(context: RequestContext): string {
  const query = context.request.query.toString();
  return `/${context.info.rest}${query === '' ? '' : `?${query}`}`;
}

function connectAddress(context: RequestContext, host: string | undefined, pod: KubeObject): ConnectResponse {
  const asked = splitName(context.info.name);
  if (!host) throw new ApiError('ServiceUnavailable', `address not allowed: pod ${pod.metadata.name} has no IP`);
  const port = asked.port !== '' ? Number(asked.port) : (pod.spec?.containers ?? []).flatMap((c: Json) => c.ports ?? [])[0]?.containerPort ?? 80;
  return answerConnect({ scheme: asked.scheme === 'https' ? 'https' : 'http', host, port, path: proxyPath(context), kubelet: false });
}

async function connectService(context: RequestContext): Promise<ConnectResponse> {
  const { server, info } = context;
  const asked = splitName(info.name);
  const service = server.objects.view(await getStored({ ...context, info: { ...info, name: asked.name } }));
  const ports: Json[] = service.spec?.ports ?? [];
  const port = asked.port === '' ? ports[0] : ports.find((p) => p.name === asked.port || String(p.port) === asked.port);
  if (port === undefined) throw new ApiError('ServiceUnavailable', `no service port ${JSON.stringify(asked.port)} found for service ${JSON.stringify(asked.name)}`);
  const slices = await server.store.list(`/registry/discovery.k8s.io/endpointslices/${info.namespace}/`);
  const found: { host: string; port: number }[] = [];
  for (const stored of slices.values) {
    const slice = server.objects.view(stored);
    if (slice.metadata.labels?.['kubernetes.io/service-name'] !== asked.name) continue;
    const number = (slice.ports ?? []).find((p: Json) => (p.name ?? '') === (port.name ?? ''))?.port;
    for (const endpoint of slice.endpoints ?? []) if (endpoint.conditions?.ready !== false && number !== undefined) for (const host of endpoint.addresses ?? []) found.push({ host, port: number });
  }
  const chosen = found[Math.floor(server.random.float() * found.length)];
  if (chosen === undefined) throw new ApiError('ServiceUnavailable', `no endpoints available for service ${JSON.stringify(info.name)}`);
  return answerConnect({ scheme: asked.scheme === 'https' ? 'https' : 'http', ...chosen, path: proxyPath(context), kubelet: false });
}

export async function handleConnect(context: RequestContext): Promise<ApiResponse> {
  const { kind, info, server } = context;
  if (kind.resource === 'services') return connectService(context);
  if (kind.resource === 'nodes') {
    const target = await kubeletOf(server, splitName(info.name).name);
    return answerConnect({ scheme: 'https', ...target, path: proxyPath(context), kubelet: true });
  }
  if (info.subresource === 'proxy') return connectPod({ ...context, info: { ...info, name: splitName(info.name).name } });
  return connectPod(context);
}
