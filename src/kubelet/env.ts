/**
 * A container's environment: `env`, `envFrom`, field and resource references, service variables and `$(NAME)`
 * expansion.
 * Rules: Kubernetes documentation, "Define Environment Variables", "Downward API", "Discovering services / Environment
 * variables".
 */
import type { ConfigMap, EnvVarSource, Pod, ResourceFieldSelector, Secret, Service } from '#api/core.v1.ts';
import type { AnyContainer } from './containers.ts';
import { ApiError } from '#base/errors.ts';
import { amount } from './qos.ts';

/** Reads objects that Pods refer to; undefined when they do not exist. */
export interface ReferencedObjects {
  configMap(namespace: string, name: string): Promise<ConfigMap | undefined>;
  secret(namespace: string, name: string): Promise<Secret | undefined>;
}

export interface EnvContext {
  pod: Pod;
  container: AnyContainer;
  objects: ReferencedObjects;
  services: readonly Service[];
  podIp: string;
  hostIp: string;
  nodeAllocatable: { cpu: number; memory: number; ephemeralStorage: number };
}

/** `$(NAME)` becomes the variable's value, `$$(NAME)` the text `$(NAME)`; what is unknown stays as it is. */
export function expandVariables(text: string, lookup: (name: string) => string | undefined): string {
  return text.replace(/\$\$|\$\(([^()]*)\)/g, (whole, name: string | undefined) => {
    if (whole === '$$') return '$';
    return lookup(name ?? '') ?? whole;
  });
}

/** The value of a downward API field path. */
export function fieldValue(pod: Pod, path: string, podIp: string, hostIp: string): string {
  const subscript = /^metadata\.(annotations|labels)\['([^']*)'\]$/.exec(path);
  if (subscript !== null) {
    const map = subscript[1] === 'labels' ? pod.metadata.labels : pod.metadata.annotations;
    return map?.[subscript[2] ?? ''] ?? '';
  }
  switch (path) {
    case 'metadata.name':
      return pod.metadata.name ?? '';
    case 'metadata.namespace':
      return pod.metadata.namespace ?? '';
    case 'metadata.uid':
      return pod.metadata.uid ?? '';
    case 'metadata.labels':
      return formatMap(pod.metadata.labels);
    case 'metadata.annotations':
      return formatMap(pod.metadata.annotations);
    case 'spec.nodeName':
      return pod.spec.nodeName ?? '';
    case 'spec.serviceAccountName':
      return pod.spec.serviceAccountName ?? '';
    case 'status.podIP':
    case 'status.podIPs':
      return podIp;
    case 'status.hostIP':
    case 'status.hostIPs':
      return hostIp;
    default:
      throw new ApiError('BadRequest', `unsupported fieldPath: ${path}`);
  }
}

/** Labels or annotations as a downward API volume shows them: `key="escaped value"` a line, sorted. */
function formatMap(map: Record<string, string> | undefined): string {
  return Object.entries(map ?? {})
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([key, value]) => `${key}=${JSON.stringify(value)}`)
    .join('\n');
}

/** The value of a `resourceFieldRef`, divided and rounded up; an unset limit is the node's allocatable. */
export function resourceFieldValue(
  context: Pick<EnvContext, 'pod' | 'nodeAllocatable'>,
  reference: ResourceFieldSelector,
  container: AnyContainer | undefined,
): string {
  const named =
    reference.containerName === undefined || reference.containerName === ''
      ? container
      : [...(context.pod.spec.containers ?? []), ...(context.pod.spec.initContainers ?? [])].find(
          (c) => c.name === reference.containerName,
        );
  if (named === undefined) throw new ApiError('BadRequest', `container ${reference.containerName} not found`);
  const [side = '', resource = ''] = reference.resource.split('.', 2);
  let value = amount(side === 'limits' || side === 'requests' ? named.resources?.[side]?.[resource] : undefined);
  if (value === undefined && side === 'limits') {
    const allocatable: Record<string, number> = {
      cpu: context.nodeAllocatable.cpu,
      memory: context.nodeAllocatable.memory,
      'ephemeral-storage': context.nodeAllocatable.ephemeralStorage,
    };
    value = allocatable[resource];
  }
  const divisor = amount(reference.divisor) ?? 1;
  return String(Math.ceil((value ?? 0) / (divisor === 0 ? 1 : divisor) - 1e-9));
}

const envName = /^[ -<>-~]+$/;

async function addFrom(context: EnvContext, variables: Map<string, string>): Promise<void> {
  const namespace = context.pod.metadata.namespace;
  for (const source of context.container.envFrom ?? []) {
    const isSecret = source.secretRef !== undefined;
    const { name: wanted = '', optional } = source.configMapRef ?? source.secretRef ?? {};
    const object = isSecret
      ? await context.objects.secret(namespace, wanted)
      : await context.objects.configMap(namespace, wanted);
    if (object === undefined) {
      if (optional === true) continue;
      throw new ApiError('NotFound', `${isSecret ? 'secret' : 'configmap'} "${wanted}" not found`);
    }
    for (const [key, value] of Object.entries(object.data ?? {})) {
      const name = `${source.prefix ?? ''}${key}`;
      if (!envName.test(name)) continue;
      variables.set(name, isSecret ? Buffer.from(value, 'base64').toString('utf8') : value);
    }
  }
}

async function valueFrom(context: EnvContext, source: EnvVarSource): Promise<string | undefined> {
  const namespace = context.pod.metadata.namespace;
  if (source.fieldRef !== undefined)
    return fieldValue(context.pod, source.fieldRef.fieldPath, context.podIp, context.hostIp);
  if (source.resourceFieldRef !== undefined)
    return resourceFieldValue(context, source.resourceFieldRef, context.container);
  const isSecret = source.secretKeyRef !== undefined;
  const reference = source.secretKeyRef ?? source.configMapKeyRef;
  if (reference === undefined)
    throw new ApiError(
      'BadRequest',
      source.fileKeyRef === undefined
        ? 'a variable has an empty valueFrom'
        : `fileKeyRef (variables out of a file) is not supported by this node: ${source.fileKeyRef.volumeName}/${source.fileKeyRef.path}`,
    );
  const { name: wanted = '' } = reference;
  const object = isSecret
    ? await context.objects.secret(namespace, wanted)
    : await context.objects.configMap(namespace, wanted);
  const what = isSecret ? 'secret' : 'configmap';
  if (object === undefined) {
    if (reference.optional === true) return undefined;
    throw new ApiError('NotFound', `${what} "${wanted}" not found`);
  }
  const value = object.data?.[reference.key];
  if (value === undefined) {
    if (reference.optional === true) return undefined;
    throw new ApiError(
      'NotFound',
      `couldn't find key ${reference.key} in ${isSecret ? 'Secret' : 'ConfigMap'} ${namespace}/${wanted}`,
    );
  }
  return isSecret ? Buffer.from(value, 'base64').toString('utf8') : value;
}

/** Variables that describe Services: those of the Pod's namespace, and the API server's own. */
export function serviceVariables(
  namespace: string,
  services: readonly Service[],
  enableLinks: boolean,
): Map<string, string> {
  const out = new Map<string, string>();
  for (const service of services) {
    const isApi = service.metadata.namespace === 'default' && service.metadata.name === 'kubernetes';
    if (!isApi && (!enableLinks || service.metadata.namespace !== namespace)) continue;
    const ip = service.spec.clusterIP;
    if (ip === undefined || ip === '' || ip === 'None') continue;
    const prefix = service.metadata.name.toUpperCase().replaceAll('-', '_');
    const ports = service.spec.ports ?? [];
    out.set(`${prefix}_SERVICE_HOST`, ip);
    if (ports[0] !== undefined) out.set(`${prefix}_SERVICE_PORT`, String(ports[0].port));
    for (const port of ports)
      if (port.name)
        out.set(`${prefix}_SERVICE_PORT_${String(port.name).toUpperCase().replaceAll('-', '_')}`, String(port.port));
    ports.forEach((port, index) => {
      const protocol = String(port.protocol ?? 'TCP');
      const url = `${protocol.toLowerCase()}://${ip}:${port.port}`;
      if (index === 0) out.set(`${prefix}_PORT`, url);
      const base = `${prefix}_PORT_${port.port}_${protocol}`;
      out.set(base, url);
      out.set(`${base}_PROTO`, protocol.toLowerCase());
      out.set(`${base}_PORT`, String(port.port));
      out.set(`${base}_ADDR`, ip);
    });
  }
  return out;
}

/** The variables of a container, in order; those of Services come first so that the Pod's own win. */
export async function containerEnvironment(context: EnvContext): Promise<Map<string, string>> {
  const services = serviceVariables(
    context.pod.metadata.namespace,
    context.services,
    context.pod.spec.enableServiceLinks !== false,
  );
  const own = new Map<string, string>();
  await addFrom(context, own);
  for (const variable of context.container.env ?? []) {
    const value =
      variable.valueFrom === undefined
        ? expandVariables(variable.value ?? '', (name) => own.get(name) ?? services.get(name))
        : await valueFrom(context, variable.valueFrom);
    if (value !== undefined) own.set(variable.name, value);
  }
  for (const [name, value] of services) if (!own.has(name)) own.set(name, value);
  return own;
}
