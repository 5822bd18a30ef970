/** Services: what goes when the type no longer needs it, and validation (Kubernetes, "Service"). */
import type { Service, ServiceSpec } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { cidrProblem, endpointIpProblem, ipProblem } from './ip-fields.ts';
import { labelProblem, portProblem, subdomainProblem } from './name-forms.ts';
import { validateLabels } from './validate-meta.ts';
import { sameJson, validateIntOrPort } from './validate-values.ts';

const types = ['ClusterIP', 'ExternalName', 'LoadBalancer', 'NodePort'];
const protocols = ['SCTP', 'TCP', 'UDP'];
const policies = ['Cluster', 'Local'];
const distributions = ['PreferClose', 'PreferSameNode', 'PreferSameZone'];
const familyPolicies = ['PreferDualStack', 'RequireDualStack', 'SingleStack'];
const kubeletPort = 10_250;
const affinitySecondsMax = 86_400;

const needsAddress = (spec: Draft<ServiceSpec>): boolean => spec.type !== 'ExternalName';
const needsNodePorts = (spec: Draft<ServiceSpec>): boolean =>
  spec.type === 'NodePort' || (spec.type === 'LoadBalancer' && spec.allocateLoadBalancerNodePorts !== false);
const isExternal = (spec: Draft<ServiceSpec>): boolean =>
  spec.type === 'NodePort' ||
  spec.type === 'LoadBalancer' ||
  (spec.type === 'ClusterIP' && (spec.externalIPs ?? []).length > 0);
const needsHealthPort = (spec: Draft<ServiceSpec>): boolean =>
  spec.type === 'LoadBalancer' && spec.externalTrafficPolicy === 'Local';
const nodePortsOf = (spec: Draft<ServiceSpec>): number[] =>
  (spec.ports ?? []).map((p) => p.nodePort ?? 0).filter((port: number) => port !== 0);

/** What the server gave and the writer does not know of stays, while it is needed. */
function keepAllocated(now: Draft<ServiceSpec>, was: ServiceSpec): void {
  if (needsAddress(now) && needsAddress(was)) {
    if (!now.clusterIP && was.clusterIP !== undefined) now.clusterIP = was.clusterIP;
    if (now.clusterIPs === undefined && was.clusterIPs !== undefined && now.clusterIP === was.clusterIP)
      now.clusterIPs = [...was.clusterIPs];
  }
  if (needsNodePorts(now) && needsNodePorts(was)) {
    const taken = new Set(nodePortsOf(now));
    for (const port of now.ports ?? []) {
      const { nodePort } = (was.ports ?? []).findLast((o) => (o.name ?? '') === (port.name ?? '')) ?? {};
      if (!port.nodePort && nodePort && !taken.has(nodePort)) port.nodePort = nodePort;
    }
  }
  if (needsHealthPort(now) && needsHealthPort(was) && was.healthCheckNodePort)
    now.healthCheckNodePort ||= was.healthCheckNodePort;
}

/** Families that the writer does not name are those of the addresses. */
function keepFamilies(now: Draft<ServiceSpec>, was: ServiceSpec): void {
  if (!needsAddress(now) || !needsAddress(was) || now.clusterIP !== was.clusterIP) return;
  if (now.ipFamilyPolicy === undefined && was.ipFamilyPolicy !== undefined) now.ipFamilyPolicy = was.ipFamilyPolicy;
  if (now.ipFamilies === undefined && was.ipFamilies !== undefined) now.ipFamilies = [...was.ipFamilies];
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
  keepAllocated(now, was);
  const drop = (needed: (spec: Draft<ServiceSpec>) => boolean, ...fields: (keyof ServiceSpec)[]): void => {
    if (!needed(was) || needed(now)) return;
    for (const field of fields) if (sameJson(now[field], was[field])) delete now[field];
  };
  keepFamilies(now, was);
  drop(needsAddress, 'clusterIP', 'clusterIPs', 'ipFamilies', 'ipFamilyPolicy', 'internalTrafficPolicy');
  if (needsNodePorts(was) && !needsNodePorts(now) && sameJson(nodePortsOf(now), nodePortsOf(was)))
    for (const port of now.ports ?? []) delete port.nodePort;
  drop(isExternal, 'externalTrafficPolicy');
  drop(needsHealthPort, 'healthCheckNodePort');
  drop(
    (spec) => spec.type === 'LoadBalancer',
    'allocateLoadBalancerNodePorts',
    'loadBalancerClass',
    'loadBalancerIP',
    'loadBalancerSourceRanges',
  );
  drop((spec) => spec.type === 'ExternalName', 'externalName');
}

export function validateService(o: Draft<Service>, errors: FieldErrors, old?: Service): void {
  const spec = o.spec ?? {};
  if (!types.includes(spec.type ?? '')) errors.unsupported('spec.type', spec.type, types);
  const headless = spec.clusterIP === 'None' || spec.clusterIPs?.[0] === 'None';
  if ((spec.ports ?? []).length === 0 && !headless && spec.type !== 'ExternalName') errors.required('spec.ports');
  if (spec.type === 'ExternalName') validateExternalName(spec, errors);
  if (headless && (spec.type === 'NodePort' || spec.type === 'LoadBalancer'))
    errors.invalid('spec.clusterIPs[0]', 'None', `may not be set to 'None' for ${spec.type} services`);
  validateAddresses(spec, headless, errors);
  validateAffinity(spec, errors);
  validateLabels(spec.selector, 'spec.selector', errors);
  validatePorts(spec, errors);
  validateExternal(spec, errors, old?.spec);
  if (spec.internalTrafficPolicy && !policies.includes(spec.internalTrafficPolicy ?? ''))
    errors.unsupported('spec.internalTrafficPolicy', spec.internalTrafficPolicy, policies);
  if (spec.trafficDistribution && !distributions.includes(spec.trafficDistribution ?? ''))
    errors.unsupported('spec.trafficDistribution', spec.trafficDistribution, distributions);
}

function validateExternalName(spec: Draft<ServiceSpec>, errors: FieldErrors): void {
  if (spec.clusterIP) errors.forbidden('spec.clusterIPs', 'may not be set for ExternalName services');
  if (!spec.externalName) {
    errors.required('spec.externalName');
    return;
  }
  const problem = subdomainProblem(spec.externalName.replace(/\.$/, ''));
  if (problem !== '') errors.invalid('spec.externalName', spec.externalName, problem);
}

function validateAddresses(spec: Draft<ServiceSpec>, headless: boolean, errors: FieldErrors): void {
  const addresses: string[] = spec.clusterIPs ?? [];
  if (spec.clusterIP && addresses.length > 0 && addresses[0] !== spec.clusterIP)
    errors.invalid('spec.clusterIPs', addresses, 'first value must match `clusterIP`');
  if (!headless)
    for (const [i, ip] of (addresses.length > 0 ? addresses : spec.clusterIP ? [spec.clusterIP] : []).entries())
      if (ip && ipProblem(ip) !== '') errors.invalid(`spec.clusterIPs[${i}]`, ip, ipProblem(ip));
  if (addresses.length > 2) errors.invalid('spec.clusterIPs', addresses, 'may only hold up to 2 values');
  // Whoever writes the endpoints himself may have some of both families.
  const isManual = headless && Object.keys(spec.selector ?? {}).length === 0;
  (spec.ipFamilies ?? []).forEach((family, i) => {
    if (family === 'IPv6' && !isManual)
      errors.invalid(`spec.ipFamilies[${i}]`, family, 'not configured on this cluster');
    else if (family !== 'IPv4' && family !== 'IPv6')
      errors.unsupported(`spec.ipFamilies[${i}]`, family, ['IPv4', 'IPv6']);
    if (spec.ipFamilies?.indexOf(family) !== i) errors.duplicate(`spec.ipFamilies[${i}]`, family);
  });
  if (spec.ipFamilyPolicy === 'RequireDualStack' && !isManual)
    errors.invalid(
      'spec.ipFamilyPolicy',
      spec.ipFamilyPolicy,
      'this cluster is not configured for dual-stack services',
    );
  else if (spec.ipFamilyPolicy && !familyPolicies.includes(spec.ipFamilyPolicy ?? ''))
    errors.unsupported('spec.ipFamilyPolicy', spec.ipFamilyPolicy, familyPolicies);
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
  const seen = { name: new Set<string>(), port: new Set<string>(), nodePort: new Set<string>() };
  const isRepeated = (what: keyof typeof seen, value: string): boolean => {
    const known = seen[what].has(value);
    seen[what].add(value);
    return known;
  };
  (spec.ports ?? []).forEach((port, i) => {
    const at = `spec.ports[${i}]`;
    if ((spec.ports ?? []).length > 1 && !port.name) errors.required(`${at}.name`);
    if (port.name) {
      const problem = labelProblem(port.name);
      if (problem !== '') errors.invalid(`${at}.name`, port.name, problem);
      if (isRepeated('name', port.name)) errors.duplicate(`${at}.name`, port.name);
    }
    const problem = portProblem(port.port);
    if (problem !== '') errors.invalid(`${at}.port`, port.port ?? 0, problem);
    if (spec.type === 'LoadBalancer' && port.port === kubeletPort)
      errors.invalid(
        `${at}.port`,
        port.port,
        `may not expose port ${kubeletPort} externally since it is used by kubelet`,
      );
    if (!protocols.includes(port.protocol ?? '')) errors.unsupported(`${at}.protocol`, port.protocol, protocols);
    if (port.targetPort !== undefined) validateIntOrPort(port.targetPort, `${at}.targetPort`, errors);
    if (port.appProtocol)
      for (const problem of qualifiedNameProblems(port.appProtocol))
        errors.invalid(`${at}.appProtocol`, port.appProtocol, problem);
    if (isRepeated('port', `${port.protocol}/${port.port}`))
      errors.duplicate(at, { name: port.name, protocol: port.protocol, port: port.port });
    if (!port.nodePort) return;
    if (spec.type === 'ClusterIP' || spec.type === 'ExternalName')
      errors.forbidden(`${at}.nodePort`, `may not be used when \`type\` is '${spec.type}'`);
    if (isRepeated('nodePort', `${port.protocol}/${port.nodePort}`)) errors.duplicate(`${at}.nodePort`, port.nodePort);
  });
}

/** Addresses and ranges that `old` has stay, whatever was allowed when they came. */
function validateExternal(spec: Draft<ServiceSpec>, errors: FieldErrors, old?: ServiceSpec): void {
  (spec.externalIPs ?? []).forEach((ip, i) => {
    const problem = old?.externalIPs?.includes(ip) === true ? '' : endpointIpProblem(ip);
    if (problem !== '') errors.invalid(`spec.externalIPs[${i}]`, ip, problem);
  });
  const balances = spec.type === 'LoadBalancer';
  if (spec.externalTrafficPolicy) {
    if (!isExternal(spec))
      errors.invalid(
        'spec.externalTrafficPolicy',
        spec.externalTrafficPolicy,
        'may only be set for externally-accessible services',
      );
    else if (!policies.includes(spec.externalTrafficPolicy ?? ''))
      errors.unsupported('spec.externalTrafficPolicy', spec.externalTrafficPolicy, policies);
  }
  if (spec.healthCheckNodePort && !needsHealthPort(spec))
    errors.invalid(
      'spec.healthCheckNodePort',
      spec.healthCheckNodePort,
      "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
    );
  if ((spec.loadBalancerSourceRanges ?? []).length > 0 && !balances)
    errors.forbidden('spec.LoadBalancerSourceRanges', "may only be used when `type` is 'LoadBalancer'");
  (spec.loadBalancerSourceRanges ?? []).forEach((range, i) => {
    const problem = old?.loadBalancerSourceRanges?.includes(range) === true ? '' : cidrProblem(range.trim());
    if (problem !== '') errors.invalid(`spec.LoadBalancerSourceRanges[${i}]`, range, problem);
  });
  for (const field of ['allocateLoadBalancerNodePorts', 'loadBalancerClass'] as const)
    if (spec[field] !== undefined && !balances)
      errors.forbidden(`spec.${field}`, "may only be used when `type` is 'LoadBalancer'");
  if (spec.loadBalancerClass !== undefined)
    for (const problem of qualifiedNameProblems(spec.loadBalancerClass))
      errors.invalid('spec.loadBalancerClass', spec.loadBalancerClass, problem);
}

export function validateServiceUpdate(o: Draft<Service>, old: Service, errors: FieldErrors): void {
  const spec = o.spec ?? {};
  const was = old.spec?.clusterIP;
  if (
    was &&
    was !== 'None' &&
    old.spec.type !== 'ExternalName' &&
    spec.type !== 'ExternalName' &&
    spec.clusterIP !== was
  )
    errors.invalid('spec.clusterIPs[0]', spec.clusterIPs?.[0] ?? spec.clusterIP, 'may not change once set');
  if (
    old.spec?.type === 'LoadBalancer' &&
    spec.type === 'LoadBalancer' &&
    (old.spec.loadBalancerClass ?? '') !== (spec.loadBalancerClass ?? '')
  )
    errors.invalid('spec.loadBalancerClass', spec.loadBalancerClass ?? '', 'may not change once set');
}
