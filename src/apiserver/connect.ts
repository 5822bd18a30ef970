/**
 * Connections through the API server: to the kubelet for logs, exec, attach and port-forward, to a node, Pod or Service
 * for `proxy`. Here is only decided where a connection goes; `ApiResponse.connect` carries that to the transport, which
 * pipes bytes (`http.ts`). In-process callers cannot upgrade.
 */
import { ApiError } from '#base/errors.ts';
import { holds, parseIp, subnetOf, unmapIp } from '#base/ip.ts';
import type { ApiResponse } from '#base/api-request.ts';
import type { Node, Pod } from '#api/core.v1.ts';
import { kinds } from '#base/kinds.ts';
import { isOf, type KubeObject, type OpenObject } from '#base/objects.ts';
import type { RemoteTarget } from './remote-apis.ts';
import { admitConnection } from './admission/admission-chain.ts';
import type { RequestContext, Server } from './context.ts';
import { checkLogOptions } from './log-options.ts';
import { notFound } from './object-errors.ts';
import { getStored } from './read.ts';

/** Where the transport connects to. */
export interface ConnectTarget {
  scheme: 'https' | 'http';
  host: string;
  port: number;
  path: string;
  /** The kubelet is shown the API server's client certificate. */ kubelet: boolean;
  /** An aggregated API server, which is told who asks. */
  remote?: { target: RemoteTarget; headers: Record<string, string | string[]> };
  /** The path here that stands for the target's root: links of its pages are led through it. */
  prefix?: string;
}
interface ConnectResponse extends ApiResponse {
  connect: ConnectTarget;
}

const connects = (answer: ApiResponse): answer is ConnectResponse => 'connect' in answer;

/** Where an answer's connection is passed on to; undefined where the answer is all there is. */
export function connectionOf(answer: ApiResponse): ConnectTarget | undefined {
  return connects(answer) ? answer.connect : undefined;
}

export function answerConnect(connect: ConnectTarget): ConnectResponse {
  return { status: 200, headers: {}, connect };
}

async function nodeOf(server: Server, name: string): Promise<Node | undefined> {
  return (await server.live.nodes.current()).get('', name);
}

/** The Pod that is asked for. */
async function podOf(context: RequestContext, name = context.info.name): Promise<Pod> {
  const stored = await getStored({ ...context, info: { ...context.info, name } });
  const pod = context.server.objects.view(stored);
  if (!isOf(kinds.Pod, pod)) throw notFound(context.kind, name);
  return pod;
}

async function kubeletOf(server: Server, name: string): Promise<{ host: string; port: number }> {
  const node = await nodeOf(server, name);
  if (node === undefined) throw new ApiError('InternalError', `nodes ${JSON.stringify(name)} not found`);
  const addresses = node.status?.addresses ?? [];
  const address = ['InternalIP', 'Hostname', 'ExternalIP']
    .map((type) => addresses.find((a) => a.type === type)?.address)
    .find((a) => a !== undefined);
  if (address === undefined) throw new ApiError('InternalError', `no preferred addresses found; known addresses: []`);
  return { host: address, port: node.status?.daemonEndpoints?.kubeletEndpoint?.Port ?? 10_250 };
}

function containerOf(pod: Pod, asked: string | null): string {
  const all = [...pod.spec.containers, ...(pod.spec.initContainers ?? []), ...(pod.spec.ephemeralContainers ?? [])];
  if (asked !== null && asked !== '') {
    if (!all.some((c) => c.name === asked))
      throw new ApiError('BadRequest', `container ${asked} is not valid for pod ${pod.metadata.name}`);
    return asked;
  }
  const preferred = pod.metadata.annotations?.['kubectl.kubernetes.io/default-container'];
  if (preferred !== undefined && all.some((c) => c.name === preferred)) return preferred;
  const { containers } = pod.spec;
  const [only] = containers;
  if (only !== undefined && containers.length === 1) return only.name;
  const inits = pod.spec.initContainers ?? [];
  throw new ApiError(
    'BadRequest',
    `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${containers.map((c) => c.name).join(' ')}]${inits.length > 0 ? ` or one of the init containers: [${inits.map((c) => c.name).join(' ')}]` : ''}`,
  );
}

// walk exec-stream 1/5: the API server authorises and finds the node's kubelet.
async function connectPod(context: RequestContext): Promise<ApiResponse> {
  const { server, info, request } = context;
  const pod = await podOf(context);
  const { subresource } = info;
  if (subresource === 'log') checkLogOptions(info.name, request.query);
  const container = subresource === 'portforward' ? '' : containerOf(pod, request.query.get('container'));
  const node = pod.spec.nodeName;
  if (!node) {
    // Nothing can have been logged yet; whoever follows asks again.
    if (subresource === 'log')
      return { status: 200, headers: { 'content-type': 'text/plain' }, body: new Uint8Array() };
    throw new ApiError('BadRequest', `pod ${pod.metadata.name} does not have a host assigned`);
  }
  if (
    (subresource === 'exec' || subresource === 'attach' || subresource === 'portforward') &&
    ['Succeeded', 'Failed'].includes(pod.status?.phase ?? '')
  )
    throw new ApiError(
      'BadRequest',
      `cannot ${subresource} a container in a completed pod; current phase is ${pod.status?.phase}`,
    );
  const target = await kubeletOf(server, node);
  const query = kubeletQuery(subresource, request.query);
  const verb = { log: 'containerLogs', exec: 'exec', attach: 'attach', portforward: 'portForward' }[subresource]!;
  const path = `/${verb}/${info.namespace}/${info.name}${container === '' ? '' : `/${container}`}${query === '' ? '' : `?${query}`}`;
  return answerConnect({ scheme: 'https', ...target, path, kubelet: true });
}

/** The kubelet's own names for what the client asked. */
function kubeletQuery(subresource: string, query: URLSearchParams): string {
  const out = new URLSearchParams();
  const flag = (from: string, to: string): void => {
    const v = query.get(from);
    if (v === 'true' || v === '1') out.set(to, '1');
  };
  if (subresource === 'exec' || subresource === 'attach') {
    flag('stdin', 'input');
    flag('stdout', 'output');
    flag('stderr', 'error');
    flag('tty', 'tty');
    for (const part of query.getAll('command')) out.append('command', part);
  } else if (subresource === 'log')
    for (const name of [
      'follow',
      'previous',
      'timestamps',
      'tailLines',
      'limitBytes',
      'sinceSeconds',
      'sinceTime',
      'stream',
      'insecureSkipTLSVerifyBackend',
    ]) {
      const v = query.get(name);
      if (v !== null) out.set(name, v);
    }
  else for (const port of query.getAll('ports')) out.append('port', port);
  return out.toString();
}

/** `[SCHEME:]NAME[:PORT]`. Throws BadRequest for any other form. */
function splitName(what: string, text: string): { scheme: string; name: string; port: string } {
  const parts = text.split(':');
  const [scheme = '', name = '', port = ''] = parts.length === 3 ? parts : ['', ...parts];
  if (parts.length > 3 || name === '' || !['', 'http', 'https'].includes(scheme))
    throw new ApiError('BadRequest', `invalid ${what} request ${JSON.stringify(text)}`);
  return { scheme, name, port };
}

function proxyPaths({ info, request }: RequestContext): Required<Pick<ConnectTarget, 'path' | 'prefix'>> {
  const query = request.query.toString();
  const prefix = request.path.slice(0, request.path.length - info.rest.length).replace(/\/$/, '');
  return { path: `/${info.rest}${query === '' ? '' : `?${query}`}`, prefix };
}

/** A page without a path of its own is asked for by its directory: what is relative in it means something else then. */
function redirectToRoot({ info, request }: RequestContext): ApiResponse | undefined {
  const isPage = request.method === 'GET' || request.method === 'HEAD';
  if (!isPage || info.rest !== '' || request.path.endsWith('/') || request.headers.upgrade !== undefined)
    return undefined;
  const query = request.query.toString();
  return { status: 301, headers: { location: `${request.path}/${query === '' ? '' : `?${query}`}` } };
}

/**
 * Addresses that nobody is led to through the API server: its own host's loopback, link-local and multicast ones, as
 * upstream decides, in every notation. A name is no address either: it could mean any.
 */
function checkProxyable(host: string): void {
  const address = parseIp(host);
  if (address === undefined)
    throw new ApiError('BadRequest', `address not allowed: ${JSON.stringify(host)} is no IP address`);
  if (unproxyable.some((subnet) => holds(subnet, unmapIp(address))))
    throw new ApiError('BadRequest', 'address not allowed');
}

const unproxyable = [
  '0.0.0.0/8',
  '127.0.0.0/8',
  '169.254.0.0/16',
  '224.0.0.0/4',
  '255.255.255.255/32',
  '::/128',
  '::1/128',
  'fe80::/10',
  'ff00::/8',
].map(subnetOf);

/** Addresses of the control plane and of the nodes, which no Pod has but one in its node's network. */
async function checkOwnAddress(server: Server, pod: Pod, host: string): Promise<void> {
  const addressesOf = (node: Node): string[] => (node.status?.addresses ?? []).map(({ address }) => address);
  if (pod.spec.hostNetwork === true) {
    const node = await nodeOf(server, pod.spec.nodeName ?? '');
    if (node === undefined || !addressesOf(node).includes(host))
      throw new ApiError('BadRequest', `address not allowed: ${host} is not an address of the Pod's node`);
    return;
  }
  const nodes = (await server.live.nodes.current()).in();
  if (host === server.options.advertise?.address || nodes.some((node) => addressesOf(node).includes(host))) {
    throw new ApiError('BadRequest', `address not allowed: ${host} is an address of a node or of the API server`);
  }
}

async function connectAddress(
  context: RequestContext,
  host: string | undefined,
  pod: Pod,
  asked: { scheme: string; port: string },
): Promise<ConnectResponse> {
  if (!host) throw new ApiError('BadRequest', `address not allowed: pod ${pod.metadata.name} has no IP`);
  checkProxyable(host);
  await checkOwnAddress(context.server, pod, host);
  const port =
    asked.port !== ''
      ? portOf(asked.port)
      : (pod.spec.containers.flatMap((c) => c.ports ?? [])[0]?.containerPort ?? 80);
  return answerConnect({
    scheme: asked.scheme === 'https' ? 'https' : 'http',
    host,
    port,
    ...proxyPaths(context),
    kubelet: false,
  });
}

function portOf(text: string): number {
  const port = Number(text);
  if (!/^\d{1,5}$/.test(text) || port < 1 || port > 65_535)
    throw new ApiError('BadRequest', `invalid port ${JSON.stringify(text)}`);
  return port;
}

/**
 * The Service's endpoints that are Pods and have the address they are said to have: what somebody wrote by hand could
 * lead anywhere.
 */
async function endpointsOf(
  context: RequestContext,
  service: string,
  portName: string,
): Promise<{ host: string; port: number; pod: Pod }[]> {
  const { server, info } = context;
  const slices = (await server.live.endpointSlices.current()).in(info.namespace);
  const found: { host: string; port: number; pod: Pod }[] = [];
  for (const slice of slices) {
    if (slice.metadata.labels?.['kubernetes.io/service-name'] !== service) continue;
    const port = (slice.ports ?? []).find((p) => (p.name ?? '') === portName)?.port;
    if (port === undefined) continue;
    for (const endpoint of slice.endpoints ?? []) {
      if (endpoint.conditions?.ready === false || endpoint.targetRef?.kind !== 'Pod') continue;
      const target = await server.store.get(`/registry/pods/${info.namespace}/${endpoint.targetRef.name}`);
      if (target === undefined) continue;
      const pod = server.objects.view(target);
      if (!isOf(kinds.Pod, pod)) continue;
      const own = new Set([pod.status?.podIP, ...(pod.status?.podIPs ?? []).map((p) => p.ip)]);
      for (const host of endpoint.addresses ?? []) if (own.has(host)) found.push({ host, port, pod });
    }
  }
  return found;
}

async function connectService(context: RequestContext): Promise<ConnectResponse> {
  const { server, info } = context;
  const asked = splitName('service', info.name);
  const service = server.objects.view(await getStored({ ...context, info: { ...info, name: asked.name } }));
  if (!isOf(kinds.Service, service)) throw notFound(context.kind, asked.name);
  const ports = service.spec.ports ?? [];
  const port = asked.port === '' ? ports[0] : ports.find((p) => p.name === asked.port || String(p.port) === asked.port);
  if (port === undefined)
    throw new ApiError(
      'ServiceUnavailable',
      `no service port ${JSON.stringify(asked.port)} found for service ${JSON.stringify(asked.name)}`,
    );
  const found = await endpointsOf(context, asked.name, port.name ?? '');
  const chosen = found[Math.floor(server.random.float() * found.length)];
  if (chosen === undefined)
    throw new ApiError('ServiceUnavailable', `no endpoints available for service ${JSON.stringify(info.name)}`);
  checkProxyable(chosen.host);
  await checkOwnAddress(server, chosen.pod, chosen.host);
  return answerConnect({
    scheme: asked.scheme === 'https' ? 'https' : 'http',
    host: chosen.host,
    port: chosen.port,
    ...proxyPaths(context),
    kubelet: false,
  });
}

/** A node's kubelet, or another port of the node without the API server's certificate. */
async function connectNode(context: RequestContext): Promise<ConnectResponse> {
  const asked = splitName('node', context.info.name);
  const target = await kubeletOf(context.server, asked.name);
  if (asked.port === '' || asked.port === String(target.port))
    return answerConnect({ scheme: 'https', ...target, ...proxyPaths(context), kubelet: true });
  checkProxyable(target.host);
  return answerConnect({
    scheme: asked.scheme === 'https' ? 'https' : 'http',
    host: target.host,
    port: portOf(asked.port),
    ...proxyPaths(context),
    kubelet: false,
  });
}

/** What a connection is for, as the object that its query stands for: `PodExecOptions`, `ServiceProxyOptions`, …. */
function optionsOf({ kind, info, request }: RequestContext): KubeObject {
  const options: OpenObject = {
    apiVersion: 'v1',
    kind: kind.subresources?.[info.subresource]?.kind ?? `${kind.kind}ProxyOptions`,
    metadata: {},
  };
  if (info.subresource === 'proxy') {
    options['path'] = info.rest;
    return options;
  }
  const lists = new Set(['command', 'ports']);
  for (const [name, value] of request.query) {
    const known = options[name];
    if (lists.has(name)) options[name] = [...(Array.isArray(known) ? known : []), value];
    else options[name] = value === 'true' || value === '1' ? true : value === 'false' || value === '0' ? false : value;
  }
  return options;
}

export async function handleConnect(context: RequestContext): Promise<ApiResponse> {
  const { kind, info } = context;
  // Logs are read, not connected to.
  if (info.subresource !== 'log') await admitConnection(context, optionsOf(context));
  const redirect = info.subresource === 'proxy' ? redirectToRoot(context) : undefined;
  if (redirect !== undefined) return redirect;
  if (kind.resource === 'services') return connectService(context);
  if (kind.resource === 'nodes') return connectNode(context);
  if (info.subresource !== 'proxy') return connectPod(context);
  const asked = splitName('pod', info.name);
  const pod = await podOf(context, asked.name);
  return connectAddress(context, pod.status?.podIP, pod, asked);
}
