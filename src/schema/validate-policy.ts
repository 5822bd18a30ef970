/**
 * Validation of what governs others: quotas, limit ranges, priorities, network policies, leases, webhooks, endpoint
 * slices.
 */
import type {
  MutatingWebhook,
  MutatingWebhookConfiguration,
  RuleWithOperations,
  ValidatingWebhookConfiguration,
  WebhookClientConfig,
} from '#api/admissionregistration.v1.ts';
import type { CertificateSigningRequest } from '#api/certificates.v1.ts';
import type { Lease } from '#api/coordination.v1.ts';
import type {
  Endpoints,
  LimitRange,
  LimitRangeItem,
  ResourceQuota,
  ScopedResourceSelectorRequirement,
} from '#api/core.v1.ts';
import type { Endpoint, EndpointSlice } from '#api/discovery.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort } from '#api/networking.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import type { PriorityClass } from '#api/scheduling.v1.ts';
import { RequestError, parseCertificationRequest } from '#base/certificate-request.ts';
import { compareQuantities, isQuantity, parseQuantity } from '#base/quantity.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { containsSubnet, familyOf, subnetOf } from '#base/ip.ts';
import { cidrProblem, endpointIpProblem } from './ip-fields.ts';
import { label1035Problem, labelProblem, portNameProblems, portProblem, subdomainProblem } from './name-forms.ts';
import { sameJson, validateQuantities } from './validate-pod.ts';
import { validateIntOrPercent } from './validate-apps.ts';
import { validateLabelSelector } from './validate-selector.ts';

const quotaScopes = [
  'BestEffort',
  'CrossNamespacePodAffinity',
  'NotBestEffort',
  'NotTerminating',
  'PriorityClass',
  'Terminating',
  'VolumeAttributesClass',
];
const opposites = [
  ['BestEffort', 'NotBestEffort'],
  ['Terminating', 'NotTerminating'],
];
const existOnly = ['BestEffort', 'CrossNamespacePodAffinity', 'NotBestEffort', 'NotTerminating', 'Terminating'];
const quotaNames = new Set([
  'cpu',
  'memory',
  'storage',
  'ephemeral-storage',
  'requests.cpu',
  'requests.memory',
  'requests.storage',
  'requests.ephemeral-storage',
  'limits.cpu',
  'limits.memory',
  'limits.ephemeral-storage',
  'pods',
  'resourcequotas',
  'services',
  'replicationcontrollers',
  'secrets',
  'persistentvolumeclaims',
  'configmaps',
  'services.nodeports',
  'services.loadbalancers',
]);
const countedNames = new Set([
  'pods',
  'resourcequotas',
  'services',
  'replicationcontrollers',
  'secrets',
  'persistentvolumeclaims',
  'configmaps',
  'services.nodeports',
  'services.loadbalancers',
]);

export function validateQuota(o: Draft<ResourceQuota>, errors: FieldErrors, old?: ResourceQuota): void {
  const spec = o.spec ?? {};
  validateQuantities(spec.hard, 'spec.hard', errors);
  for (const [name, value] of Object.entries(spec.hard ?? {})) {
    const at = `spec.hard[${name}]`;
    for (const problem of qualifiedNameProblems(name)) errors.invalid(at, name, problem);
    if (!name.includes('/') && !quotaNames.has(name) && !/^(requests\.)?hugepages-/.test(name))
      errors.invalid(at, name, 'must be a standard resource for quotas');
    if (
      isQuantity(value) &&
      (countedNames.has(name) || name.startsWith('count/')) &&
      parseQuantity(value).nano % 1_000_000_000n !== 0n
    )
      errors.invalid(at, value, 'must be an integer');
  }
  validateScopes(spec.scopes ?? [], 'spec.scopes', errors);
  (spec.scopeSelector?.matchExpressions ?? []).forEach((e, i) => {
    const at = `spec.scopeSelector.matchExpressions[${i}]`;
    if (!quotaScopes.includes(e.scopeName ?? ''))
      errors.invalid(`${at}.scopeName`, e.scopeName ?? '', 'unsupported scope');
    if (existOnly.includes(e.scopeName ?? '') && e.operator !== 'Exists')
      errors.invalid(
        `${at}.operator`,
        e.operator ?? '',
        `must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity`,
      );
    else validateSelectorOperator(e, at, errors);
  });
  if (old === undefined) return;
  for (const field of ['scopes', 'scopeSelector'] as const)
    if (!sameJson(spec[field], old.spec?.[field]))
      errors.invalid(`spec.${field}`, spec[field] ?? null, 'field is immutable');
}

function validateScopes(scopes: string[], at: string, errors: FieldErrors): void {
  for (const scope of scopes) if (!quotaScopes.includes(scope)) errors.invalid(at, scopes, 'unsupported scope');
  for (const pair of opposites)
    if (pair.every((scope) => scopes.includes(scope))) errors.invalid(at, scopes, 'conflicting scopes');
}

function validateSelectorOperator(e: Draft<ScopedResourceSelectorRequirement>, at: string, errors: FieldErrors): void {
  const count = (e.values ?? []).length;
  if (e.operator === 'In' || e.operator === 'NotIn') {
    if (count === 0)
      errors.required(
        `${at}.values`,
        "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector",
      );
  } else if (e.operator === 'Exists' || e.operator === 'DoesNotExist') {
    if (count > 0)
      errors.invalid(
        `${at}.values`,
        e.values,
        "must be no value when `operator` is 'Exists' or 'DoesNotExist' for scope selector",
      );
  } else errors.invalid(`${at}.operator`, e.operator ?? '', 'not a valid selector operator');
}

export function validateLimitRange(o: Draft<LimitRange>, errors: FieldErrors): void {
  const seen = new Set<string>();
  (o.spec?.limits ?? []).forEach((item, i) => {
    const at = `spec.limits[${i}]`;
    if (!item.type) errors.required(`${at}.type`);
    else if (!['Container', 'PersistentVolumeClaim', 'Pod'].includes(item.type ?? '') && !item.type.includes('/'))
      errors.invalid(`${at}.type`, item.type, 'must be a standard limit type or fully qualified');
    if (item.type && seen.has(item.type)) errors.duplicate(`${at}.type`, item.type);
    if (item.type) seen.add(item.type);
    for (const field of ['max', 'min', 'default', 'defaultRequest', 'maxLimitRequestRatio'] as const)
      validateQuantities(item[field], `${at}.${field}`, errors);
    if (item.type === 'Pod')
      for (const field of ['default', 'defaultRequest'] as const)
        if (Object.keys(item[field] ?? {}).length > 0)
          errors.forbidden(`${at}.${field}`, "may not be specified when `type` is 'Pod'");
    if (item.type === 'PersistentVolumeClaim' && item.min?.storage === undefined && item.max?.storage === undefined)
      errors.required(`${at}.limits`, 'either minimum or maximum storage value is required, but neither was provided');
    validateRange(item, at, errors);
  });
}

const limitFields = ['max', 'min', 'default', 'defaultRequest', 'maxLimitRequestRatio'] as const;

/** min ≤ defaultRequest ≤ default ≤ max, as far as they are named. */
function validateRange(item: Draft<LimitRangeItem>, at: string, errors: FieldErrors): void {
  const names = new Set(limitFields.flatMap((field) => Object.keys(item[field] ?? {})));
  for (const name of names) {
    const [max, min, normal, request, ratio] = limitFields.map((field) => item[field]?.[name]);
    const exceeds = (a: string | undefined, b: string | undefined): boolean =>
      isQuantity(a) && isQuantity(b) && compareQuantities(a, b) > 0;
    if (exceeds(min, max))
      errors.invalid(`${at}.min[${name}]`, min, `min value ${min} is greater than max value ${max}`);
    if (exceeds(min, request))
      errors.invalid(
        `${at}.defaultRequest[${name}]`,
        request,
        `min value ${min} is greater than default request value ${request}`,
      );
    if (exceeds(request, max))
      errors.invalid(
        `${at}.defaultRequest[${name}]`,
        request,
        `default request value ${request} is greater than max value ${max}`,
      );
    if (exceeds(request, normal))
      errors.invalid(
        `${at}.defaultRequest[${name}]`,
        request,
        `default request value ${request} is greater than default limit value ${normal}`,
      );
    if (exceeds(min, normal))
      errors.invalid(`${at}.default[${name}]`, min, `min value ${min} is greater than default value ${normal}`);
    if (exceeds(normal, max))
      errors.invalid(`${at}.default[${name}]`, normal, `default value ${normal} is greater than max value ${max}`);
    if (exceeds('1', ratio))
      errors.invalid(`${at}.maxLimitRequestRatio[${name}]`, ratio, `ratio ${ratio} is less than 1`);
  }
}

const userPriorityMax = 1_000_000_000;
const systemClasses: Record<string, number> = {
  'system-node-critical': 2_000_001_000,
  'system-cluster-critical': 2_000_000_000,
};

export function validateBudget(o: Draft<PodDisruptionBudget>, errors: FieldErrors): void {
  const { minAvailable, maxUnavailable, unhealthyPodEvictionPolicy: policy, selector } = o.spec ?? {};
  if (minAvailable !== undefined && maxUnavailable !== undefined)
    errors.invalid('spec', { minAvailable, maxUnavailable }, 'minAvailable and maxUnavailable cannot be both set');
  for (const [field, value] of Object.entries({ minAvailable, maxUnavailable })) {
    validateIntOrPercent(value, `spec.${field}`, errors);
    if (typeof value === 'string' && Number.parseInt(value, 10) > 100)
      errors.invalid(`spec.${field}`, value, 'must not be greater than 100%');
  }
  if (policy && policy !== 'AlwaysAllow' && policy !== 'IfHealthyBudget')
    errors.unsupported('spec.unhealthyPodEvictionPolicy', policy, ['AlwaysAllow', 'IfHealthyBudget']);
  if (selector) validateLabelSelector(selector, 'spec.selector', errors);
}

export function validatePriorityClass(o: Draft<PriorityClass>, errors: FieldErrors): void {
  const name = o.metadata?.name ?? '';
  if (name.startsWith('system-')) {
    if (systemClasses[name] !== o.value)
      errors.forbidden(
        'metadata.name',
        "priority class names with 'system-' prefix are reserved for system use only. error: no such system priority class",
      );
  } else if ((o.value ?? 0) > userPriorityMax)
    errors.forbidden('value', `maximum allowed value of a user defined priority is ${userPriorityMax}`);
  if (o.preemptionPolicy && !['Never', 'PreemptLowerPriority'].includes(o.preemptionPolicy ?? ''))
    errors.unsupported('preemptionPolicy', o.preemptionPolicy, ['Never', 'PreemptLowerPriority']);
}

/** Networks that `old` names stay, whatever was allowed when they came. */
export function validateNetworkPolicy(o: Draft<NetworkPolicy>, errors: FieldErrors, old?: NetworkPolicy): void {
  const spec = o.spec ?? {};
  const kept = networksOf(old);
  validateLabelSelector(spec.podSelector, 'spec.podSelector', errors);
  for (const [i, { ports, from }] of (spec.ingress ?? []).entries())
    validateTraffic({ ports, peers: from, side: 'from', kept }, `spec.ingress[${i}]`, errors);
  for (const [i, { ports, to }] of (spec.egress ?? []).entries())
    validateTraffic({ ports, peers: to, side: 'to', kept }, `spec.egress[${i}]`, errors);
  if ((spec.policyTypes ?? []).length > 2)
    errors.invalid('spec.policyTypes', spec.policyTypes, 'may not specify more than two policyTypes');
  for (const type of spec.policyTypes ?? [])
    if (!['Egress', 'Ingress'].includes(type)) errors.unsupported('spec.policyTypes', type, ['Egress', 'Ingress']);
}

function networksOf(policy: NetworkPolicy | undefined): ReadonlySet<string> {
  const peers = [
    ...(policy?.spec?.ingress ?? []).flatMap(({ from }) => from ?? []),
    ...(policy?.spec?.egress ?? []).flatMap(({ to }) => to ?? []),
  ];
  return new Set(peers.flatMap(({ ipBlock }) => (ipBlock ? [ipBlock.cidr, ...(ipBlock.except ?? [])] : [])));
}

interface Traffic {
  ports: Draft<NetworkPolicyPort>[] | undefined;
  peers: Draft<NetworkPolicyPeer>[] | undefined;
  side: 'from' | 'to';
  /** Networks that pass unseen. */
  kept: ReadonlySet<string>;
}

function validateTraffic({ ports, peers, side, kept }: Traffic, at: string, errors: FieldErrors): void {
  (ports ?? []).forEach((port, i) => validatePolicyPort(port, `${at}.ports[${i}]`, errors));
  (peers ?? []).forEach((peer, i) => validatePeer(peer, `${at}.${side}[${i}]`, kept, errors));
}

function validatePolicyPort(port: Draft<NetworkPolicyPort>, at: string, errors: FieldErrors): void {
  if (port.protocol !== undefined && !['SCTP', 'TCP', 'UDP'].includes(port.protocol ?? ''))
    errors.unsupported(`${at}.protocol`, port.protocol, ['SCTP', 'TCP', 'UDP']);
  if (typeof port.port === 'number' && portProblem(port.port) !== '')
    errors.invalid(`${at}.port`, port.port, portProblem(port.port));
  if (typeof port.port === 'string')
    for (const problem of portNameProblems(port.port)) errors.invalid(`${at}.port`, port.port, problem);
  if (port.endPort === undefined) return;
  if (port.port === undefined) errors.required(`${at}.port`, 'must be specified when endPort is');
  else if (typeof port.port === 'string')
    errors.forbidden(`${at}.endPort`, '`endPort` may not be specified when `port` is non-numeric');
  else if (port.endPort < port.port)
    errors.invalid(`${at}.endPort`, port.endPort, 'must be greater than or equal to `port`');
  else if (portProblem(port.endPort) !== '') errors.invalid(`${at}.endPort`, port.endPort, portProblem(port.endPort));
}

function validatePeer(
  peer: Draft<NetworkPolicyPeer>,
  at: string,
  kept: ReadonlySet<string>,
  errors: FieldErrors,
): void {
  const { podSelector, namespaceSelector, ipBlock } = peer;
  if (podSelector) validateLabelSelector(podSelector, `${at}.podSelector`, errors);
  if (namespaceSelector) validateLabelSelector(namespaceSelector, `${at}.namespaceSelector`, errors);
  if (!podSelector && !namespaceSelector && !ipBlock) {
    errors.required(at, 'must specify a peer');
    return;
  }
  if (!ipBlock) return;
  if (podSelector || namespaceSelector) {
    errors.forbidden(at, 'may not specify both ipBlock and another peer');
    return;
  }
  if (!ipBlock.cidr) {
    errors.required(`${at}.ipBlock.cidr`);
    return;
  }
  const problemOf = (text: string): string => (kept.has(text) ? '' : cidrProblem(text));
  if (problemOf(ipBlock.cidr) !== '') {
    errors.invalid(`${at}.ipBlock.cidr`, ipBlock.cidr, problemOf(ipBlock.cidr));
    return;
  }
  const network = subnetOf(ipBlock.cidr);
  (ipBlock.except ?? []).forEach((text, i) => {
    const problem = problemOf(text);
    if (problem !== '') errors.invalid(`${at}.ipBlock.except[${i}]`, text, problem);
    else if (subnetOf(text).length === network.length || !containsSubnet(network, subnetOf(text)))
      errors.invalid(`${at}.ipBlock.except[${i}]`, text, 'must be a strict subset of `cidr`');
  });
}

export function validateLease(o: Draft<Lease>, errors: FieldErrors): void {
  const { leaseDurationSeconds, leaseTransitions, strategy, preferredHolder } = o.spec ?? {};
  if (leaseDurationSeconds !== undefined && leaseDurationSeconds <= 0)
    errors.invalid('spec.leaseDurationSeconds', leaseDurationSeconds, 'must be greater than 0');
  if (leaseTransitions !== undefined && leaseTransitions < 0)
    errors.invalid('spec.leaseTransitions', leaseTransitions, 'must be greater than or equal to 0');
  if (strategy === '') errors.invalid('spec.strategy', strategy, 'must not be empty');
  if (preferredHolder && !strategy)
    errors.forbidden('spec.preferredHolder', 'may only be specified if `strategy` is defined');
}

const addressTypes = ['FQDN', 'IPv4', 'IPv6'];
const addressesMax = 100;
const endpointsMax = 1_000;
const slicePortsMax = 20_000;

export function validateEndpointSlice(o: Draft<EndpointSlice>, errors: FieldErrors, old?: EndpointSlice): void {
  if (!o.addressType) errors.required('addressType');
  else if (!addressTypes.includes(o.addressType ?? '')) errors.unsupported('addressType', o.addressType, addressTypes);
  if (old !== undefined && old.addressType !== o.addressType)
    errors.invalid('addressType', o.addressType, 'field is immutable');
  if (o.endpoints !== undefined && o.endpoints.length > endpointsMax)
    errors.tooMany('endpoints', o.endpoints.length, endpointsMax);
  // What is as it was has passed: slices are written often and change little.
  if (!sameJson(o.endpoints, old?.endpoints))
    (o.endpoints ?? []).forEach((endpoint, i) =>
      validateEndpoint(endpoint, o.addressType ?? '', `endpoints[${i}]`, errors),
    );
  const names = new Set<string>();
  if (o.ports !== undefined && o.ports.length > slicePortsMax) errors.tooMany('ports', o.ports.length, slicePortsMax);
  (o.ports ?? []).forEach((port, i) => {
    const name = port.name ?? '';
    if (name !== '' && labelProblem(name) !== '') errors.invalid(`ports[${i}].name`, name, labelProblem(name));
    if (names.has(name)) errors.duplicate(`ports[${i}].name`, name);
    names.add(name);
    if (port.protocol && !['SCTP', 'TCP', 'UDP'].includes(port.protocol ?? ''))
      errors.unsupported(`ports[${i}].protocol`, port.protocol, ['SCTP', 'TCP', 'UDP']);
    if (port.port !== undefined && portProblem(port.port) !== '')
      errors.invalid(`ports[${i}].port`, port.port, portProblem(port.port));
    if (port.appProtocol)
      for (const problem of qualifiedNameProblems(port.appProtocol))
        errors.invalid(`ports[${i}].appProtocol`, port.appProtocol, problem);
  });
}

function validateEndpoint(endpoint: Draft<Endpoint>, type: string, at: string, errors: FieldErrors): void {
  const addresses: string[] = endpoint.addresses ?? [];
  if (addresses.length === 0) errors.required(`${at}.addresses`, 'must contain at least 1 address');
  if (addresses.length > addressesMax) errors.tooMany(`${at}.addresses`, addresses.length, addressesMax);
  addresses.forEach((address, i) => {
    const problem =
      type === 'FQDN'
        ? subdomainProblem(address)
        : familyOf(address) !== undefined && familyOf(address) !== type
          ? `must be an ${type} address`
          : endpointIpProblem(address);
    if (problem !== '') errors.invalid(`${at}.addresses[${i}]`, address, problem);
  });
  if (endpoint.hostname !== undefined && labelProblem(endpoint.hostname) !== '')
    errors.invalid(`${at}.hostname`, endpoint.hostname, labelProblem(endpoint.hostname));
  if (endpoint.nodeName !== undefined && subdomainProblem(endpoint.nodeName) !== '')
    errors.invalid(`${at}.nodeName`, endpoint.nodeName, subdomainProblem(endpoint.nodeName));
}

export function validateEndpoints(o: Draft<Endpoints>, errors: FieldErrors, old?: Endpoints): void {
  const kept = new Set<string | undefined>(
    (old?.subsets ?? []).flatMap(({ addresses, notReadyAddresses }) =>
      [...(addresses ?? []), ...(notReadyAddresses ?? [])].map(({ ip }) => ip),
    ),
  );
  (o.subsets ?? []).forEach((subset, i) => {
    const at = `subsets[${i}]`;
    if ((subset.addresses ?? []).length + (subset.notReadyAddresses ?? []).length === 0)
      errors.required(at, 'must specify `addresses` or `notReadyAddresses`');
    for (const field of ['addresses', 'notReadyAddresses'] as const) {
      (subset[field] ?? []).forEach((a, j) => {
        const problem = kept.has(a.ip) ? '' : endpointIpProblem(a.ip);
        if (problem !== '') errors.invalid(`${at}.${field}[${j}].ip`, a.ip ?? '', problem);
      });
    }
    (subset.ports ?? []).forEach((port, j) => {
      if ((subset.ports ?? []).length > 1 && !port.name) errors.required(`${at}.ports[${j}].name`);
      if (port.name && labelProblem(port.name) !== '')
        errors.invalid(`${at}.ports[${j}].name`, port.name, labelProblem(port.name));
      if (portProblem(port.port) !== '')
        errors.invalid(`${at}.ports[${j}].port`, port.port ?? 0, portProblem(port.port));
      if (port.protocol && !['SCTP', 'TCP', 'UDP'].includes(port.protocol ?? ''))
        errors.unsupported(`${at}.ports[${j}].protocol`, port.protocol, ['SCTP', 'TCP', 'UDP']);
    });
  });
}

const operations = ['*', 'CONNECT', 'CREATE', 'DELETE', 'UPDATE'];
const reviewVersions = ['v1', 'v1beta1'];

/** Webhooks of both kinds (`admissionregistration.k8s.io/v1`). */
export function validateWebhooks(
  o: Draft<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>,
  errors: FieldErrors,
): void {
  const names = new Set<string>();
  const hooks: readonly Draft<MutatingWebhook>[] = o.webhooks ?? [];
  hooks.forEach((hook, i) => {
    const at = `webhooks[${i}]`;
    const { name = '' } = hook;
    validateHookName(name, `${at}.name`, errors);
    if (names.has(name)) errors.duplicate(`${at}.name`, name);
    names.add(name);
    validateClientConfig(hook.clientConfig ?? {}, `${at}.clientConfig`, errors);
    const choices: [string, string | undefined, string[], boolean][] = [
      ['sideEffects', hook.sideEffects, ['None', 'NoneOnDryRun'], true],
      ['failurePolicy', hook.failurePolicy, ['Fail', 'Ignore'], false],
      ['matchPolicy', hook.matchPolicy, ['Equivalent', 'Exact'], false],
      ['reinvocationPolicy', hook.reinvocationPolicy, ['IfNeeded', 'Never'], false],
    ];
    for (const [field, value, allowed, needed] of choices) {
      if (value === undefined) {
        if (needed) errors.required(`${at}.${field}`, `must specify one of ${allowed.join(', ')}`);
      } else if (!allowed.includes(value)) errors.unsupported(`${at}.${field}`, value, allowed);
    }
    if (hook.timeoutSeconds !== undefined && (hook.timeoutSeconds < 1 || hook.timeoutSeconds > 30))
      errors.invalid(`${at}.timeoutSeconds`, hook.timeoutSeconds, 'the timeout value must be between 1 and 30 seconds');
    const versions: string[] = hook.admissionReviewVersions ?? [];
    if (versions.length === 0)
      errors.required(`${at}.admissionReviewVersions`, `must specify one of ${reviewVersions.join(', ')}`);
    else if (!versions.some((version) => reviewVersions.includes(version)))
      errors.invalid(
        `${at}.admissionReviewVersions`,
        versions,
        `must include at least one of ${reviewVersions.join(', ')}`,
      );
    versions.forEach((version, j) => {
      if (label1035Problem(version) !== '')
        errors.invalid(`${at}.admissionReviewVersions[${j}]`, version, label1035Problem(version));
    });
    for (const field of ['namespaceSelector', 'objectSelector'] as const)
      validateLabelSelector(hook[field], `${at}.${field}`, errors);
    (hook.rules ?? []).forEach((rule, j) => validateHookRule(rule, `${at}.rules[${j}]`, errors));
  });
}

function validateHookName(name: string, at: string, errors: FieldErrors): void {
  if (name === '') errors.required(at);
  else if (subdomainProblem(name) !== '') errors.invalid(at, name, subdomainProblem(name));
  else if (name.split('.').length < 3)
    errors.invalid(at, name, 'should be a domain with at least three segments separated by dots');
}

function validateClientConfig(config: Draft<WebhookClientConfig>, at: string, errors: FieldErrors): void {
  const { url, service } = config;
  if ((url === undefined) === (service === undefined)) {
    errors.required(at, 'exactly one of url or service is required');
    return;
  }
  if (service !== undefined) {
    if (!service.name) errors.required(`${at}.service.name`, 'service name is required');
    if (!service.namespace) errors.required(`${at}.service.namespace`, 'service namespace is required');
    if (service.path !== undefined && !String(service.path).startsWith('/'))
      errors.invalid(`${at}.service.path`, service.path, "must start with a '/'");
    if (service.port !== undefined && portProblem(service.port) !== '')
      errors.invalid(`${at}.service.port`, service.port, `port is not valid: ${portProblem(service.port)}`);
    return;
  }
  const form = '; desired format: https://host[:port]/path';
  let parsed: URL | undefined;
  try {
    parsed = new URL(url ?? '');
  } catch {
    errors.required(`${at}.url`, `url must be a valid URL: ${JSON.stringify(url)}${form}`);
    return;
  }
  if (parsed.protocol !== 'https:')
    errors.invalid(`${at}.url`, parsed.protocol.slice(0, -1), `'https' is the only allowed URL scheme${form}`);
  if (parsed.host === '') errors.invalid(`${at}.url`, '', `host must be specified${form}`);
  if (parsed.username !== '' || parsed.password !== '')
    errors.invalid(`${at}.url`, parsed.username, `user information is not permitted in the URL${form}`);
  if (parsed.hash !== '') errors.invalid(`${at}.url`, parsed.hash.slice(1), 'fragments are not permitted in the URL');
  if (parsed.search !== '')
    errors.invalid(`${at}.url`, parsed.search.slice(1), 'query parameters are not permitted in the URL');
}

function validateHookRule(rule: Draft<RuleWithOperations>, at: string, errors: FieldErrors): void {
  for (const field of ['operations', 'apiGroups', 'apiVersions', 'resources'] as const) {
    const values: string[] = rule[field] ?? [];
    if (values.length === 0) errors.required(`${at}.${field}`);
    if (field !== 'resources' && values.length > 1 && values.includes('*'))
      errors.invalid(`${at}.${field}`, values, "if '*' is present, must not specify other values");
  }
  (rule.operations ?? []).forEach((operation, i) => {
    if (!operations.includes(operation)) errors.unsupported(`${at}.operations[${i}]`, operation, operations);
  });
  if (rule.scope !== undefined && !['*', 'Cluster', 'Namespaced'].includes(rule.scope ?? ''))
    errors.unsupported(`${at}.scope`, rule.scope, ['*', 'Cluster', 'Namespaced']);
}

const requestBytesMax = 65_536;

/** A certificate request must be one, by whoever holds its key, for a named signer. */
export function validateCertificateRequest(
  o: Draft<CertificateSigningRequest>,
  errors: FieldErrors,
  old?: CertificateSigningRequest,
): void {
  const spec = o.spec ?? {};
  if (old !== undefined) {
    if (!sameJson(spec, old.spec)) errors.invalid('spec', spec, 'field is immutable');
    return;
  }
  if (!spec.request) errors.required('spec.request');
  else if (spec.request.length > requestBytesMax) errors.tooLong('spec.request', requestBytesMax);
  else {
    try {
      parseCertificationRequest(Buffer.from(spec.request, 'base64').toString());
    } catch (error) {
      if (!(error instanceof RequestError)) throw error;
      errors.invalid('spec.request', spec.request, error.message);
    }
  }
  if ((spec.usages ?? []).length === 0) errors.required('spec.usages');
  const [domain = '', name = '', ...rest] = String(spec.signerName ?? '').split('/');
  if (!spec.signerName) errors.required('spec.signerName');
  else if (
    rest.length > 0 ||
    name === '' ||
    subdomainProblem(domain) !== '' ||
    !domain.includes('.') ||
    subdomainProblem(name) !== ''
  )
    errors.invalid(
      'spec.signerName',
      spec.signerName,
      "must be a fully qualified domain and path of the form 'example.com/signer-name'",
    );
  if (spec.expirationSeconds !== undefined && spec.expirationSeconds < 600)
    errors.invalid(
      'spec.expirationSeconds',
      spec.expirationSeconds,
      'may not specify a duration less than 600 seconds (10 minutes)',
    );
}
