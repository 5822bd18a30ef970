/** Services: what goes when the type no longer needs it, and validation (Kubernetes, "Service"). */
import type { Service, ServiceSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { isIp } from '#base/ip.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { cidrProblem, endpointIpProblem, ipProblem } from './ip-fields.ts';
import { labelProblem, portProblem, subdomainProblem } from './name-forms.ts';
import {
  isHeadless,
  keepAddresses,
  needsAddress,
  validateAddresses,
  validateAddressUpdate,
} from './service-addresses.ts';
import { validateLabels } from './validate-meta.ts';
import { sameJson, validateIntOrPort } from './validate-values.ts';

const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const protocols = ['SCTP', 'TCP', 'UDP'];
const policies = ['Cluster', 'Local'];
const distributions = ['PreferClose', 'PreferSameZone', 'PreferSameNode'];
const affinitySecondsMax = 86_400;

export const needsNodePorts = (spec: Draft<ServiceSpec>): boolean =>
  spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
const isExternal = (spec: Draft<ServiceSpec>): boolean =>
  spec.type === 'NodePort' ||
  spec.type === 'LoadBalancer' ||
  (spec.type === 'ClusterIP' && (spec.externalIPs ?? []).length > 0);
export const needsHealthPort = (spec: Draft<ServiceSpec>): boolean =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
const nodePortsOf = (spec: Draft<ServiceSpec>): number[] =>
  (spec.ports ?? []).map((p) => p.nodePort ?? 0).filter((port: number) => port !== 0);

/** What the server gave and the writer does not know of stays, while it is needed. */
export function keepAllocated(now: Draft<ServiceSpec>, was: ServiceSpec): void {
  keepAddresses(now, was);
  if (needsNodePorts(now) && needsNodePorts(was)) {
    const taken = new Set(nodePortsOf(was).filter((port) => nodePortsOf(now).includes(port)));
    for (const port of now.ports ?? []) {
      const { nodePort } = (was.ports ?? []).findLast((o) => (o.name ?? '') === (port.name ?? '')) ?? {};
      if (!port.nodePort && nodePort && !taken.has(nodePort)) port.nodePort = nodePort;
    }
  }
  if (needsHealthPort(now) && needsHealthPort(was) && was.healthCheckNodePort)
    now.healthCheckNodePort ||= was.healthCheckNodePort;
}

export function warnOfService(
  { spec = {} }: Draft<Service>,
  _old: Service | undefined,
  warn: (text: string) => void,
): void {
  const headless = spec.type === 'ClusterIP' && spec.clusterIP === 'None';
  const named = spec.type === 'ExternalName';
  if (headless && spec.loadBalancerIP) warn('spec.loadBalancerIP is ignored for headless services');
  if (headless && (spec.externalIPs ?? []).length > 0) warn('spec.externalIPs is ignored for headless services');
  if (headless && spec.sessionAffinity && spec.sessionAffinity !== 'None')
    warn('spec.SessionAffinity is ignored for headless services');
  if ((spec.externalIPs ?? []).length > 0 && !headless && !named)
    warn('spec.externalIPs is deprecated and may no longer be implemented in some clusters');
  if (named && (spec.externalIPs ?? []).length > 0)
    warn('spec.externalIPs is ignored when spec.type is "ExternalName"');
  if (!named && spec.externalName) warn('spec.externalName is ignored when spec.type is not "ExternalName"');
  if (spec.trafficDistribution === 'PreferClose')
    warn('spec.trafficDistribution: "PreferClose" is deprecated; use "PreferSameZone"');
}

/**
 * Drops what the old type needed and the new one does not, where the writer left it as it was: it was filled in for
 * him, and he only named another type. What he changed himself stays, for validation to refuse.
 */
export function dropForType(service: Draft<Service>, old: Service): void {
  const [now, was] = [service.spec ?? {}, old.spec ?? {}];
  const drop = (needed: (spec: Draft<ServiceSpec>) => boolean, ...fields: (keyof ServiceSpec)[]): void => {
    if (!needed(was) || needed(now)) return;
    for (const field of fields) if (sameJson(now[field], was[field])) delete now[field];
  };
  if (needsAddress(was) && !needsAddress(now)) {
    if (now.clusterIP === was.clusterIP && sameJson(now.clusterIPs, was.clusterIPs)) {
      delete now.clusterIP;
      delete now.clusterIPs;
    }
    drop(needsAddress, 'ipFamilies', 'ipFamilyPolicy');
  }
  const hasNoOther = nodePortsOf(now).every((port) => nodePortsOf(was).includes(port));
  if (needsNodePorts(was) && !needsNodePorts(now) && hasNoOther)
    for (const port of now.ports ?? []) delete port.nodePort;
  drop(isExternal, 'externalTrafficPolicy');
  drop(needsHealthPort, 'healthCheckNodePort');
  drop((spec) => spec.type === 'LoadBalancer', 'allocateLoadBalancerNodePorts', 'loadBalancerClass');
  if (now.type !== 'LoadBalancer' && service.status !== undefined) service.status = { loadBalancer: {} };
}

const modeAnnotation = 'service.kubernetes.io/topology-mode';
const hintsAnnotation = 'service.kubernetes.io/topology-aware-hints';
const rangesAnnotation = 'service.beta.kubernetes.io/load-balancer-source-ranges';

export function validateService(o: Draft<Service>, errors: FieldErrors, old?: Service): void {
  const spec = o.spec ?? {};
  const { [modeAnnotation]: mode, [hintsAnnotation]: hints } = o.metadata?.annotations ?? {};
  if (mode !== undefined && hints !== undefined && mode !== hints)
    errors.invalid(
      `metadata.annotations[${modeAnnotation}]`,
      mode,
      `must match annotations[${hintsAnnotation}] when both are specified`,
    );
  validateType(spec, errors);
  validatePorts(spec, errors);
  validateLabels(spec.selector, 'spec.selector', errors);
  validateAffinity(spec, errors);
  validateAddresses(spec, old?.spec, errors);
  // Addresses that are there stay, whatever was allowed when they came.
  (spec.externalIPs ?? []).forEach((ip, i) => {
    const problem = old?.spec.externalIPs?.includes(ip) === true ? '' : endpointIpProblem(ip);
    if (problem !== '') errors.invalid(`spec.externalIPs[${i}]`, ip, problem);
  });
  if (!types.includes(spec.type ?? '')) errors.unsupported('spec.type', spec.type, types);
  validatePortNumbers(spec, errors);
  validateRanges(o, old, errors);
  validateBalancing(spec, errors);
  validateTraffic(spec, errors);
}

function validateType(spec: Draft<ServiceSpec>, errors: FieldErrors): void {
  const headless = isHeadless(spec);
  if ((spec.ports ?? []).length === 0 && !headless && spec.type !== 'ExternalName') errors.required('spec.ports');
  if (headless && (spec.type === 'NodePort' || spec.type === 'LoadBalancer'))
    errors.invalid('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${spec.type} services`);
  if (spec.type !== 'ExternalName') return;
  for (const field of ['clusterIPs', 'ipFamilies'] as const)
    if ((spec[field] ?? []).length > 0) errors.forbidden(`spec.${field}`, 'may not be set for ExternalName services');
  if (typeof spec.ipFamilyPolicy === 'string')
    errors.forbidden('spec.ipFamilyPolicy', 'may not be set for ExternalName services');
  const name = (spec.externalName ?? '').replace(/\.$/, '');
  if (name === '') errors.required('spec.externalName');
  else if (subdomainProblem(name) !== '') errors.invalid('spec.externalName', name, subdomainProblem(name));
}

function validateAffinity(spec: Draft<ServiceSpec>, errors: FieldErrors): void {
  const at = 'spec.sessionAffinityConfig';
  if (!['ClientIP', 'None'].includes(spec.sessionAffinity ?? ''))
    errors.unsupported('spec.sessionAffinity', spec.sessionAffinity, ['ClientIP', 'None']);
  else if (spec.sessionAffinity === 'None' && spec.sessionAffinityConfig)
    errors.forbidden(at, 'must not be set when session affinity is None');
  else if (spec.sessionAffinity === 'ClientIP') {
    const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
    if (seconds === undefined) errors.required(`${at}.clientIP.timeoutSeconds`);
    else if (seconds <= 0 || seconds > affinitySecondsMax)
      errors.invalid(
        `${at}.clientIP.timeoutSeconds`,
        seconds,
        `must be greater than 0 and less than ${affinitySecondsMax}`,
      );
  }
}

function validatePorts(spec: Draft<ServiceSpec>, errors: FieldErrors): void {
  const names = new Set<string>();
  (spec.ports ?? []).forEach(({ name = '', port = 0, protocol = '', targetPort, appProtocol }, i, all) => {
    const at = `spec.ports[${i}]`;
    if (name === '') {
      if (all.length > 1) errors.required(`${at}.name`);
    } else {
      if (labelProblem(name) !== '') errors.invalid(`${at}.name`, name, labelProblem(name));
      if (names.has(name)) errors.duplicate(`${at}.name`, name);
      names.add(name);
    }
    if (portProblem(port) !== '') errors.invalid(`${at}.port`, port, portProblem(port));
    if (!protocols.includes(protocol)) errors.unsupported(`${at}.protocol`, protocol, protocols);
    validateIntOrPort(targetPort, `${at}.targetPort`, errors);
    if (typeof appProtocol === 'string')
      for (const problem of qualifiedNameProblems(appProtocol))
        errors.invalid(`${at}.appProtocol`, appProtocol, problem);
  });
}

/** Each number once for a protocol, on the nodes and on the Service's address. */
function validatePortNumbers({ type, ports = [] }: Draft<ServiceSpec>, errors: FieldErrors): void {
  ports.forEach(({ nodePort }, i) => {
    if (type === 'ClusterIP' && nodePort)
      errors.forbidden(`spec.ports[${i}].nodePort`, "may not be used when `type` is 'ClusterIP'");
  });
  for (const field of ['nodePort', 'port'] as const) {
    const seen = new Set<string>();
    ports.forEach((port, i) => {
      const { protocol = '' } = port;
      const number = port[field] ?? 0;
      if (field === 'nodePort' && number === 0) return;
      const key = `${protocol}/${number}`;
      if (seen.has(key) && field === 'nodePort') errors.duplicate(`spec.ports[${i}].nodePort`, number);
      else if (seen.has(key)) errors.duplicate(`spec.ports[${i}]`, { protocol, port: number });
      seen.add(key);
    });
  }
}

/** Who may reach a load balancer. What `old` has stays, whatever was allowed when it came. */
function validateRanges(
  { spec = {}, metadata = {} }: Draft<Service>,
  old: Service | undefined,
  errors: FieldErrors,
): void {
  const { loadBalancerSourceRanges: ranges = [], type } = spec;
  const said = metadata.annotations?.[rangesAnnotation];
  const [at, text] = ['spec.LoadBalancerSourceRanges', "may only be used when `type` is 'LoadBalancer'"];
  if (ranges.length > 0) {
    if (type !== 'LoadBalancer') errors.forbidden(at, text);
    const known = new Set((old?.spec.loadBalancerSourceRanges ?? []).map((range) => range.trim()));
    ranges.forEach((range, i) => {
      const value = range.trim();
      const problem = known.has(value) ? '' : cidrProblem(value);
      if (problem !== '') errors.invalid(`${at}[${i}]`, value, problem);
    });
  } else if (said !== undefined) {
    const path = `metadata.annotations[${rangesAnnotation}]`;
    if (type !== 'LoadBalancer') errors.forbidden(path, text);
    if (old?.metadata.annotations?.[rangesAnnotation] === said || said.trim() === '') return;
    for (const value of said.split(',').map((part) => part.trim()))
      if (cidrProblem(value) !== '') errors.invalid(path, value, cidrProblem(value));
  }
}

function validateBalancing(spec: Draft<ServiceSpec>, errors: FieldErrors): void {
  const balances = spec.type === 'LoadBalancer';
  const text = "may only be used when `type` is 'LoadBalancer'";
  const { allocateLoadBalancerNodePorts: allocates, loadBalancerClass: name } = spec;
  if (typeof allocates === 'boolean' && !balances) errors.forbidden('spec.allocateLoadBalancerNodePorts', text);
  if (typeof name !== 'string') return;
  if (!balances) errors.forbidden('spec.loadBalancerClass', text);
  else for (const problem of qualifiedNameProblems(name)) errors.invalid('spec.loadBalancerClass', name, problem);
}

function validateTraffic(spec: Draft<ServiceSpec>, errors: FieldErrors): void {
  const { externalTrafficPolicy: external = '', healthCheckNodePort: health = 0 } = spec;
  const { internalTrafficPolicy: internal, trafficDistribution: distribution } = spec;
  const at = 'spec.externalTrafficPolicy';
  if (!isExternal(spec)) {
    if (external !== '') errors.invalid(at, external, 'may only be set for externally-accessible services');
  } else if (external === '') errors.required(at);
  else if (!policies.includes(external)) errors.unsupported(at, external, policies);
  if (!needsHealthPort(spec)) {
    if (health !== 0)
      errors.invalid(
        'spec.healthCheckNodePort',
        health,
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
      );
  } else if (portProblem(health) !== '') errors.invalid('spec.healthCheckNodePort', health, portProblem(health));
  if (typeof internal === 'string' && !policies.includes(internal))
    errors.unsupported('spec.internalTrafficPolicy', internal, policies);
  if (typeof distribution === 'string' && !distributions.includes(distribution))
    errors.unsupported('spec.trafficDistribution', distribution, distributions);
}

export function validateServiceUpdate(o: Draft<Service>, old: Service, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  validateAddressUpdate(spec, old.spec, errors);
  if (
    old.spec.type === 'LoadBalancer' &&
    spec.type === 'LoadBalancer' &&
    spec.loadBalancerClass !== old.spec.loadBalancerClass
  )
    errors.invalid('spec.loadBalancerClass', spec.loadBalancerClass ?? null, 'may not change once set');
  if (needsHealthPort(old.spec) && needsHealthPort(spec) && spec.healthCheckNodePort !== old.spec.healthCheckNodePort)
    errors.forbidden('spec.healthCheckNodePort', 'field is immutable');
}

const addressModes = ['Proxy', 'VIP'];

/** Where a load balancer is reached. */
export function validateServiceStatus(o: Draft<Service>, old: Service, errors: FieldErrors): void {
  const at = 'status.loadBalancer.ingress';
  const ingress = o.status?.loadBalancer?.ingress ?? [];
  if (o.spec?.type !== 'LoadBalancer' && ingress.length > 0) {
    errors.forbidden(at, "may only be used when `spec.type` is 'LoadBalancer'");
    return;
  }
  const known = new Set((old.status?.loadBalancer?.ingress ?? []).map(({ ip }) => ip));
  ingress.forEach(({ ip = '', ipMode: mode, hostname = '' }, i) => {
    const path = `${at}[${i}]`;
    if (ip !== '' && !known.has(ip) && ipProblem(ip) !== '') errors.invalid(`${path}.ip`, ip, ipProblem(ip));
    if (typeof mode !== 'string') {
      if (ip !== '') errors.required(`${path}.ipMode`, 'must be specified when `ip` is set');
    } else if (ip === '') errors.forbidden(`${path}.ipMode`, 'may not be specified when `ip` is not set');
    else if (!addressModes.includes(mode)) errors.unsupported(`${path}.ipMode`, mode, addressModes);
    validateBalancerName(hostname, `${path}.hostname`, errors);
  });
}

/** Of a Service's load balancer or an Ingress's. */
export function validateBalancerName(hostname: string, at: string, errors: FieldErrors): void {
  if (hostname === '') return;
  if (subdomainProblem(hostname) !== '') errors.invalid(at, hostname, subdomainProblem(hostname));
  if (isIp(hostname)) errors.invalid(at, hostname, 'must be a DNS name, not an IP address');
}
