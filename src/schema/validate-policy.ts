/** Validation of what governs others: quotas, limit ranges, budgets, priorities, network policies, leases. */
import type { Lease } from '#api/coordination.v1.ts';
import type {
  LimitRange,
  LimitRangeItem,
  ResourceQuota,
  ResourceQuotaSpec,
  ScopedResourceSelectorRequirement,
} from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort } from '#api/networking.v1.ts';
import type { PodDisruptionBudget } from '#api/policy.v1.ts';
import type { PriorityClass } from '#api/scheduling.v1.ts';
import { containsSubnet, subnetOf } from '#base/ip.ts';
import { compareQuantities, isQuantity, milliOf } from '#base/quantity.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { FieldErrors } from './field-errors.ts';
import { cidrProblem } from './ip-fields.ts';
import { portNameProblems, portProblem } from './name-forms.ts';
import { validateIntOrPercent } from './validate-apps.ts';
import {
  containerResourceProblems,
  isOvercommitted,
  isQuotaName,
  quotaResourceProblems,
  resourceNameProblems,
  validateAmount,
} from './resource-names.ts';
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
function validateHard(list: Record<string, string> | undefined, at: string, errors: FieldErrors): void {
  for (const [name, value] of Object.entries(list ?? {})) {
    for (const problem of quotaResourceProblems(name)) errors.invalid(`${at}[${name}]`, name, problem);
    validateAmount(name, value, `${at}[${name}]`, errors);
  }
}

export function validateQuotaStatus(o: Draft<ResourceQuota>, _old: ResourceQuota, errors: FieldErrors): void {
  for (const part of ['hard', 'used'] as const) validateHard(o.status?.[part], `status.${part}`, errors);
}

export function validateQuota(o: Draft<ResourceQuota>, errors: FieldErrors, old?: ResourceQuota): void {
  const spec = o.spec ?? {};
  for (const [path, list] of [
    ['spec.hard', spec.hard],
    ['status.hard', old === undefined ? o.status?.hard : undefined],
    ['status.used', old === undefined ? o.status?.used : undefined],
  ] as const)
    validateHard(list, path, errors);
  validateScopes(spec.scopes ?? [], 'spec.scopes', errors);
  validateScopeResources(spec.scopes ?? [], spec, 'spec.scopes', errors);
  const expressions = spec.scopeSelector?.matchExpressions ?? [];
  // Upstream's paths do not say which expression.
  const at = 'spec.scopeSelector.matchExpressions';
  for (const e of expressions) {
    const { scopeName = '', operator = '' } = e;
    if (!quotaScopes.includes(scopeName)) errors.invalid(`${at}.scopeName`, scopeName, 'unsupported scope');
    validateScopeResources([scopeName], spec, at, errors);
    if (existOnly.includes(scopeName) && operator !== 'Exists')
      errors.invalid(
        `${at}.operator`,
        operator,
        `must be 'Exist' when scope is any of ResourceQuotaScopeTerminating, ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity`,
      );
    validateSelectorOperator(e, at, errors);
  }
  const named = expressions.map(({ scopeName }) => scopeName ?? '');
  for (const pair of opposites)
    if (pair.every((scope) => named.includes(scope))) errors.invalid(at, spec.scopes, 'conflicting scopes');
  if (old === undefined) return;
  const [now, was] = [new Set(spec.scopes), new Set(old.spec?.scopes)];
  if (now.symmetricDifference(was).size > 0) errors.invalid('spec.scopes', spec.scopes ?? null, 'field is immutable');
}

const podNames = ['cpu', 'memory'].flatMap((name) => [name, `requests.${name}`, `limits.${name}`]);
const scopeResources: Readonly<Record<string, ReadonlySet<string>>> = {
  BestEffort: new Set(['pods']),
  NotBestEffort: new Set(['pods', ...podNames]),
  Terminating: new Set(['pods', ...podNames]),
  NotTerminating: new Set(['pods', ...podNames]),
  PriorityClass: new Set(['pods', ...podNames]),
  CrossNamespacePodAffinity: new Set(['pods', ...podNames]),
  VolumeAttributesClass: new Set(['persistentvolumeclaims', 'requests.storage']),
};

/** A scope counts Pods, or claims: it has nothing to say of other resources. */
function validateScopeResources(
  scopes: readonly string[],
  spec: Draft<ResourceQuotaSpec>,
  at: string,
  errors: FieldErrors,
): void {
  for (const scope of scopes)
    for (const name of Object.keys(spec.hard ?? {}))
      if (isQuotaName(name) && scopeResources[scope]?.has(name) === false)
        errors.invalid(at, scopes, 'unsupported scope applied to resource');
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

const limitTypes = ['Container', 'PersistentVolumeClaim', 'Pod'];

export function validateLimitRange(o: Draft<LimitRange>, errors: FieldErrors): void {
  const seen = new Set<string>();
  (o.spec?.limits ?? []).forEach((item, i) => {
    const at = `spec.limits[${i}]`;
    const { type = '' } = item;
    const problems = qualifiedNameProblems(type);
    for (const problem of problems) errors.invalid(`${at}.type`, type, problem);
    if (problems.length === 0 && !type.includes('/') && !limitTypes.includes(type))
      errors.invalid(`${at}.type`, type, 'must be a standard limit type or fully qualified');
    if (seen.has(type)) errors.duplicate(`${at}.type`, type);
    seen.add(type);
    const isOfPods = type === 'Pod';
    const problemsOf = type === 'Pod' || type === 'Container' ? containerResourceProblems : resourceNameProblems;
    for (const field of limitFields)
      for (const name of isOfPods && !podFields.includes(field) ? [] : Object.keys(item[field] ?? {}))
        for (const problem of problemsOf(name)) errors.invalid(`${at}.${field}[${name}]`, name, problem);
    if (item.type === 'Pod')
      for (const field of ['default', 'defaultRequest'] as const)
        if (Object.keys(item[field] ?? {}).length > 0)
          errors.forbidden(`${at}.${field}`, "may not be specified when `type` is 'Pod'");
    if (item.type === 'PersistentVolumeClaim' && item.min?.storage === undefined && item.max?.storage === undefined)
      errors.required(`${at}.limits`, 'either minimum or maximum storage value is required, but neither was provided');
    validateRange(item, at, errors);
  });
}

/** Fields that limits of whole Pods have. */
const podFields: readonly string[] = ['max', 'min', 'maxLimitRequestRatio'];
const limitFields = ['max', 'min', 'default', 'defaultRequest', 'maxLimitRequestRatio'] as const;

/** min ≤ defaultRequest ≤ default ≤ max, as far as they are named. */
function validateRange(item: Draft<LimitRangeItem>, at: string, errors: FieldErrors): void {
  const names = new Set(limitFields.flatMap((field) => Object.keys(item[field] ?? {})));
  for (const name of names) {
    const [max, min, normal, request, ratio] = limitFields.map((field) =>
      item.type === 'Pod' && !podFields.includes(field) ? undefined : item[field]?.[name],
    );
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
    if (isQuantity(ratio) && isQuantity(min) && isQuantity(max) && milliOf(ratio) / 1000 > milliOf(max) / milliOf(min))
      errors.invalid(`${at}.maxLimitRequestRatio[${name}]`, ratio, `ratio ${ratio} is greater than max/min`);
    if (!isOvercommitted(name) && (exceeds(normal, request) || exceeds(request, normal)))
      errors.invalid(
        `${at}.defaultRequest[${name}]`,
        request,
        `default value ${normal} must equal to defaultRequest value ${request} in ${name}`,
      );
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

/** What there is of one is not looked at again: but for its metadata and description, it does not change. */
export function validatePriorityClass(o: Draft<PriorityClass>, errors: FieldErrors, old?: PriorityClass): void {
  if (old !== undefined) return;
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
  else
    (spec.policyTypes ?? []).forEach((type, i) => {
      if (!['Egress', 'Ingress'].includes(type))
        errors.unsupported(`spec.policyTypes[${i}]`, type, ['Egress', 'Ingress']);
    });
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
  const problems =
    port.port === undefined
      ? ['may not be specified when `port` is not specified']
      : typeof port.port === 'string'
        ? ['may not be specified when `port` is non-numeric']
        : [port.endPort < port.port ? 'must be greater than or equal to `port`' : '', portProblem(port.endPort)];
  for (const problem of problems) if (problem !== '') errors.invalid(`${at}.endPort`, port.endPort, problem);
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
