/**
 * Aggregated API servers (Kubernetes documentation, "Kubernetes API Aggregation Layer"): an APIService with a Service
 * leads the requests of its group and version to that Service. Who asks is said in headers that a certificate of the
 * front proxy vouches for; whether the server is there, and which resources it has, is looked at again and again.
 */
import type { APIService, APIServiceCondition } from '#api/apiregistration.v1.ts';
import type { APIResourceList } from '#api/meta.v1.ts';
import type { UserInfo } from '#base/api-request.ts';
import { ApiError, isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { messageOf } from '#base/thrown.ts';
import { timestamp } from '#base/timestamp.ts';
import { fieldOf, itemsOf } from '#base/unknown.ts';
import type { Timer } from '#os/clock.ts';
import type { Server } from './context.ts';
import { internalContext } from './internal.ts';
import { remoteCheckMs, remoteRetryMs } from './limits.ts';
import { lookUp } from './lookup.ts';
import { groupVersionOf, type RemoteTarget } from './remote-apis.ts';
import { updateObject } from './write-path.ts';

/**
 * Headers that tell an aggregated server who asks, one line for each value, in UTF-8. Throws `ServiceUnavailable` where
 * a name has characters that no header may have: they would become headers of their own.
 */
export function identityHeaders({ name, uid, groups, extra }: UserInfo): Record<string, string | string[]> {
  const headers: Record<string, string | string[]> = {
    'x-remote-user': headerValue(name),
    'x-remote-group': groups.map(headerValue),
  };
  if (uid !== undefined && uid !== '') headers['x-remote-uid'] = headerValue(uid);
  for (const [key, values] of Object.entries(extra ?? {}))
    headers[`x-remote-extra-${headerName(key)}`] = [...values].map(headerValue);
  return headers;
}

const headerName = (key: string): string =>
  encodeURIComponent(key)
    .replace(/[()]/g, (found) => (found === '(' ? '%28' : '%29'))
    .toLowerCase();

function headerValue(text: string): string {
  if (/[\p{Cc}]/u.test(text.replaceAll('\t', '')))
    throw new ApiError('ServiceUnavailable', 'error trying to reach service: invalid header field value');
  return Buffer.from(text).toString('latin1');
}

/** Why an aggregated server cannot be asked. */
class Unavailable extends Error {
  readonly reason: string;
  constructor(reason: string, message: string) {
    super(message);
    this.reason = reason;
  }
}

/** Throws `Unavailable`. */
export async function remoteTarget(server: Server, { spec }: APIService): Promise<RemoteTarget> {
  const { namespace = '', name = '', port: number = 443 } = spec?.service ?? {};
  const service = await lookUp(server, kinds.Service, name, namespace);
  if (service === undefined)
    throw new Unavailable('ServiceNotFound', `service/${name} in ${JSON.stringify(namespace)} is not present`);
  const port = (service.spec.ports ?? []).find((each) => each.port === number);
  if (service.spec.type !== 'ExternalName' && port === undefined)
    throw new Unavailable(
      'ServicePortError',
      `service/${name} in ${JSON.stringify(namespace)} is not listening on port ${number}`,
    );
  const slices = (await server.live.endpointSlices.current())
    .in(namespace)
    .filter((slice) => slice.metadata.labels?.['kubernetes.io/service-name'] === name);
  if (slices.length === 0)
    throw new Unavailable(
      'EndpointsNotFound',
      `cannot find endpointslices for service/${name} in ${JSON.stringify(namespace)}`,
    );
  const isReady = slices.some((slice) => (slice.endpoints ?? []).some(({ conditions }) => conditions?.ready !== false));
  if (!isReady)
    throw new Unavailable(
      'MissingEndpoints',
      `endpointslices for service/${name} in ${JSON.stringify(namespace)} have no addresses with port name ${JSON.stringify(port?.name ?? '')}`,
    );
  const { clusterIP } = service.spec;
  if (!clusterIP || clusterIP === 'None')
    throw new Unavailable(
      'ServiceAccessError',
      `service/${name} in ${JSON.stringify(namespace)} has no cluster address`,
    );
  return {
    host: clusterIP,
    port: number,
    servername: `${name}.${namespace}.svc`,
    insecure: spec?.insecureSkipTLSVerify === true,
    ...(spec?.caBundle ? { ca: Buffer.from(spec.caBundle, 'base64').toString() } : {}),
  };
}

const asAdministrator: UserInfo = { name: 'system:kube-aggregator', groups: ['system:masters'] };

/** Looks whether aggregated servers are there, and says so in the status of their APIServices. */
export function runAggregation(server: Server): () => void {
  const timers = new Map<string, Timer>();
  let stopped = false;
  const look = async (name: string): Promise<void> => {
    timers.get(name)?.cancel();
    timers.delete(name);
    if (stopped) return;
    let nextMs = remoteCheckMs;
    try {
      const services = (await server.live.apiServices.current()).in();
      server.remoteApis.retain(new Set(services.keys()));
      const service = [...services.values()].find(({ metadata }) => metadata.name === name);
      if (service === undefined) return server.requests.unavailable.delete(name);
      if (!(await checkService(server, service))) nextMs = remoteRetryMs;
    } catch (error) {
      nextMs = remoteRetryMs;
      server.log.warn('aggregated API', { name, error });
    }
    if (!stopped)
      timers.set(
        name,
        server.clock.setTimer(nextMs, () => void look(name), { background: true }),
      );
  };
  server.live.apiServices.subscribe((_namespace, name, service) => {
    if (service?.spec?.service) void look(name);
  });
  server.live.apiServices.follow().catch((error: unknown) => server.log.error('aggregation stopped', { error }));
  return () => {
    stopped = true;
    for (const timer of timers.values()) timer.cancel();
  };
}

/** Whether it is there. */
async function checkService(server: Server, service: APIService): Promise<boolean> {
  const condition = await availabilityOf(server, service);
  const before = service.status?.conditions?.find(({ type }) => type === 'Available');
  const same = (['status', 'reason', 'message'] as const).every((field) => before?.[field] === condition[field]);
  measureAvailability(server, service.metadata.name, condition);
  if (!same) {
    const kind = server.kinds.builtIn(kinds.APIService);
    const { name } = service.metadata;
    const context = internalContext(server, kind, { verb: 'update', name, subresource: 'status' });
    const at = before?.status === condition.status ? before.lastTransitionTime : timestamp(server.clock.now());
    const conditions = [{ ...condition, lastTransitionTime: at ?? null }];
    try {
      await updateObject(context, name, (current) => ({ ...current, status: { conditions } }), {
        subresource: 'status',
      });
    } catch (error) {
      if (!isReason(error, 'NotFound')) throw error;
    }
  }
  return condition.status === 'True';
}

function measureAvailability({ requests }: Server, name: string, { status, reason }: APIServiceCondition): void {
  const isAvailable = status === 'True';
  requests.unavailable.of(name).value = isAvailable ? 0 : 1;
  if (!isAvailable) requests.unavailableTotal.of(name, reason ?? '').add();
}

async function availabilityOf(server: Server, service: APIService): Promise<APIServiceCondition> {
  const path = `/apis/${groupVersionOf(service)}`;
  try {
    const target = await remoteTarget(server, service);
    if (server.callRemote === undefined) throw new Unavailable('FailedDiscoveryCheck', 'no transport');
    const headers = { accept: 'application/json', ...identityHeaders(asAdministrator) };
    const { status, body } = await server
      .callRemote(target, { method: 'GET', path, headers, timeoutMs: remoteRetryMs * 5 })
      .catch((error: unknown) => {
        throw new Unavailable(
          'FailedDiscoveryCheck',
          `failing or missing response from https://${target.host}:${target.port}${path}: ${messageOf(error)}`,
        );
      });
    if (status < 200 || status >= 300)
      throw new Unavailable(
        'FailedDiscoveryCheck',
        `failing or missing response from https://${target.host}:${target.port}${path}: bad status from https://${target.host}:${target.port}${path}: ${status}`,
      );
    const list = resourceList(body);
    if (list !== undefined) server.remoteApis.note(groupVersionOf(service), list);
    return { type: 'Available', status: 'True', reason: 'Passed', message: 'all checks passed' };
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return { type: 'Available', status: 'False', reason: error.reason, message: error.message };
  }
}

/** What a stranger says of its resources, as far as it is what it should be. */
function resourceList(body: Uint8Array): APIResourceList | undefined {
  let said: unknown;
  try {
    said = JSON.parse(Buffer.from(body).toString());
  } catch {
    return undefined;
  }
  const resources = itemsOf(fieldOf(said, 'resources')).flatMap((each) => {
    const [name, kind, namespaced] = [fieldOf(each, 'name'), fieldOf(each, 'kind'), fieldOf(each, 'namespaced')];
    if (typeof name !== 'string' || typeof kind !== 'string') return [];
    const texts = (field: string): string[] =>
      itemsOf(fieldOf(each, field)).filter((value): value is string => typeof value === 'string');
    const singularName = fieldOf(each, 'singularName');
    return [
      {
        name,
        kind,
        namespaced: namespaced === true,
        singularName: typeof singularName === 'string' ? singularName : '',
        verbs: texts('verbs'),
        shortNames: texts('shortNames'),
        categories: texts('categories'),
      },
    ];
  });
  return { kind: 'APIResourceList', apiVersion: 'v1', groupVersion: '', resources };
}
