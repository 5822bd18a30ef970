/** Validation of FlowSchemas and PriorityLevelConfigurations (Kubernetes, "API Priority and Fairness"). */
import type {
  FlowSchema,
  FlowSchemaSpec,
  LimitedPriorityLevelConfiguration,
  LimitResponse,
  NonResourcePolicyRule,
  PolicyRulesWithSubjects,
  PriorityLevelConfiguration,
  QueuingConfiguration,
  ResourcePolicyRule,
  Subject,
} from '#api/flowcontrol.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { mandatoryFlowSchemas, mandatoryPriorityLevels } from './flow-control-objects.ts';
import { labelProblem, subdomainProblem } from './name-forms.ts';
import { sameJson } from './validate-values.ts';

const queuesMax = 10_000_000;
const precedenceMax = 10_000;
/** Bits of a flow's hash that dealing a hand of queues may use up. */
const handBitsMax = 60;
const verbs = ['create', 'delete', 'deletecollection', 'get', 'list', 'patch', 'proxy', 'update', 'watch'];
const subjectKinds = ['Group', 'ServiceAccount', 'User'];

export function validateFlowSchema(o: Draft<FlowSchema>, errors: FieldErrors): void {
  const { name = '' } = o.metadata ?? {};
  const spec = o.spec ?? {};
  validatePrecedence(name, spec, errors);
  const method = spec.distinguisherMethod;
  if (method !== undefined && method.type !== 'ByUser' && method.type !== 'ByNamespace')
    errors.unsupported('spec.distinguisherMethod.type', method, ['ByNamespace', 'ByUser']);
  const level = spec.priorityLevelConfiguration?.name ?? '';
  const at = 'spec.priorityLevelConfiguration.name';
  if (level === '') errors.required(at, 'must reference a priority level');
  else problem(errors, at, level, subdomainProblem(level));
  (spec.rules ?? []).forEach((rule, i) => validateRule(rule, `spec.rules[${i}]`, errors));
  const fixed = mandatoryFlowSchemas.find((each) => each.metadata.name === name);
  if (fixed !== undefined && !sameJson(comparable(spec), comparable(fixed.spec)))
    errors.invalid('spec', spec, `spec of '${name}' must equal the fixed value`);
  validateConditions(o.status?.conditions, errors);
}

function validatePrecedence(name: string, spec: Draft<FlowSchemaSpec>, errors: FieldErrors): void {
  const at = 'spec.matchingPrecedence';
  const precedence = spec.matchingPrecedence ?? 0;
  if (precedence <= 0) errors.invalid(at, precedence, 'must be a positive value');
  if (precedence > precedenceMax) errors.invalid(at, precedence, `must not be greater than ${precedenceMax}`);
  if (precedence === 1 && name !== 'exempt')
    errors.invalid(at, precedence, "only the schema named 'exempt' may have matchingPrecedence 1");
}

/** A boolean that is false, and a list that is empty, are the same as none. */
function comparable(value: unknown): unknown {
  const text = JSON.stringify(value, (_key, each: unknown) =>
    each === false || (Array.isArray(each) && each.length === 0) ? undefined : each,
  );
  return text === undefined ? undefined : JSON.parse(text);
}

function problem(errors: FieldErrors, at: string, value: unknown, text: string): void {
  if (text !== '') errors.invalid(at, value, text);
}

function validateRule(rule: Draft<PolicyRulesWithSubjects>, at: string, errors: FieldErrors): void {
  const { subjects = [], resourceRules = [], nonResourceRules = [] } = rule;
  if (subjects.length === 0) errors.required(`${at}.subjects`, 'subjects must contain at least one value');
  subjects.forEach((subject, i) => validateSubject(subject, `${at}.subjects[${i}]`, errors));
  if (resourceRules.length === 0 && nonResourceRules.length === 0)
    errors.required(at, 'at least one of resourceRules and nonResourceRules has to be non-empty');
  resourceRules.forEach((each, i) => validateResourceRule(each, `${at}.resourceRules[${i}]`, errors));
  nonResourceRules.forEach((each, i) => validateNonResourceRule(each, `${at}.nonResourceRules[${i}]`, errors));
}

const subjectFields = [
  ['serviceAccount', 'ServiceAccount'],
  ['user', 'User'],
  ['group', 'Group'],
] as const;

function validateSubject(subject: Draft<Subject>, at: string, errors: FieldErrors): void {
  const { kind = '' } = subject;
  if (!subjectKinds.includes(kind)) {
    errors.unsupported(`${at}.kind`, kind, subjectKinds);
    return;
  }
  for (const [field, of] of subjectFields) {
    const named = subject[field];
    if (kind !== of) {
      if (named !== undefined)
        errors.forbidden(`${at}.${field}`, `${field} is forbidden when subject kind is not '${of}'`);
    } else if (named === undefined)
      errors.required(`${at}.${field}`, `${field} is required when subject kind is '${of}'`);
    else if ((named.name ?? '') === '') errors.required(`${at}.${field}.name`);
  }
  if (kind !== 'ServiceAccount' || subject.serviceAccount === undefined) return;
  const { name = '', namespace = '' } = subject.serviceAccount;
  if (name !== '' && name !== '*') problem(errors, `${at}.serviceAccount.name`, name, subdomainProblem(name));
  if (namespace === '') errors.required(`${at}.serviceAccount.namespace`, 'must specify namespace for service account');
  else problem(errors, `${at}.serviceAccount.namespace`, namespace, labelProblem(namespace));
}

function validateVerbs(list: readonly string[], at: string, errors: FieldErrors): void {
  if (list.length === 0) errors.required(at, 'verbs must contain at least one value');
  else if (list.includes('*')) {
    if (list.length > 1) errors.invalid(at, list, "if '*' is present, must not specify other verbs");
  } else if (!list.every((verb) => verbs.includes(verb))) errors.unsupported(at, list, verbs);
}

function validateResourceRule(rule: Draft<ResourcePolicyRule>, at: string, errors: FieldErrors): void {
  validateVerbs(rule.verbs ?? [], `${at}.verbs`, errors);
  for (const [field, one, other] of [
    ['apiGroups', 'api group', 'api groups'],
    ['resources', 'resource', 'resources'],
  ] as const) {
    const list = rule[field] ?? [];
    if (list.length === 0) errors.required(`${at}.${field}`, `resource rules must supply at least one ${one}`);
    else if (list.length > 1 && list.includes('*'))
      errors.invalid(`${at}.${field}`, list, `if '*' is present, must not specify other ${other}`);
  }
  const namespaces = rule.namespaces ?? [];
  if (namespaces.length === 0 && rule.clusterScope !== true)
    errors.required(
      `${at}.namespaces`,
      'resource rules that are not cluster scoped must supply at least one namespace',
    );
  else if (namespaces.includes('*')) {
    if (namespaces.length > 1)
      errors.invalid(`${at}.namespaces`, namespaces, "if '*' is present, must not specify other namespaces");
  } else
    namespaces.forEach((namespace, i) => {
      const text = labelProblem(namespace);
      if (text !== '')
        errors.invalid(
          `${at}.namespaces[${i}]`,
          namespace,
          `each member of this list must be '*' or a DNS-1123 label; ${text}`,
        );
    });
}

function validateNonResourceRule(rule: Draft<NonResourcePolicyRule>, at: string, errors: FieldErrors): void {
  validateVerbs(rule.verbs ?? [], `${at}.verbs`, errors);
  const urls = rule.nonResourceURLs ?? [];
  const where = `${at}.nonResourceURLs`;
  if (urls.length === 0) errors.required(where, 'nonResourceURLs must contain at least one value');
  else if (urls.includes('*')) {
    if (urls.length > 1) errors.invalid(where, urls, "if '*' is present, must not specify other non-resource URLs");
  } else urls.forEach((url, i) => problem(errors, `${where}[${i}]`, url, pathProblem(url)));
}

function pathProblem(path: string): string {
  if (path === '') return 'must not be empty';
  if (path === '/') return '';
  if (!path.startsWith('/')) return 'must start with slash';
  if (path.includes(' ')) return 'must not contain white-space';
  if (path.includes('//')) return 'must not contain double slash';
  const stars = path.split('*').length - 1;
  return stars > 1 || (stars === 1 && !path.endsWith('/*')) ? 'wildcard can only do suffix matching' : '';
}

function validateConditions(conditions: readonly { type?: string }[] | undefined, errors: FieldErrors): void {
  const seen = new Set<string>();
  (conditions ?? []).forEach(({ type = '' }, i) => {
    const at = `status.conditions[${i}].type`;
    if (seen.has(type)) errors.duplicate(at, type);
    seen.add(type);
    if (type === '') errors.required(at);
  });
}

export const validateFlowSchemaStatus = (o: Draft<FlowSchema>, _old: unknown, errors: FieldErrors): void =>
  validateConditions(o.status?.conditions, errors);

export const validatePriorityLevelStatus = (
  o: Draft<PriorityLevelConfiguration>,
  _old: unknown,
  errors: FieldErrors,
): void => validateConditions(o.status?.conditions, errors);

export function validatePriorityLevel(o: Draft<PriorityLevelConfiguration>, errors: FieldErrors): void {
  const { name = '' } = o.metadata ?? {};
  const { type = '', limited, exempt } = o.spec ?? {};
  if ((name === 'exempt') !== (type === 'Exempt'))
    errors.invalid('spec.type', type, "must be 'Exempt' if and only if `name` is 'exempt'");
  // Which member a type has is looked at whatever the type is.
  if (exempt !== undefined && type !== 'Exempt') errors.forbidden('spec.exempt', 'must be nil if the type is Limited');
  if (limited !== undefined) {
    if (type !== 'Limited') errors.forbidden('spec.limited', 'must be nil if the type is not Limited');
    validateResponse(limited.limitResponse ?? {}, errors);
  }
  if (type === 'Exempt') {
    if (exempt !== undefined) validateShares(exempt, 'spec.exempt', errors);
  } else if (type === 'Limited') {
    if (limited === undefined) errors.required('spec.limited', 'must not be empty when type is Limited');
    else validateLimited(limited, errors);
  } else if (type === '') errors.required('spec.type');
  else errors.unsupported('spec.type', type, ['Exempt', 'Limited']);
  validateMandatory(name, o, errors);
  validateConditions(o.status?.conditions, errors);
}

/** Of `exempt`, only its shares are the administrator's. */
function validateMandatory(name: string, o: Draft<PriorityLevelConfiguration>, errors: FieldErrors): void {
  const fixed = mandatoryPriorityLevels.find((each) => each.metadata.name === name);
  if (fixed === undefined) return;
  const have = name === 'exempt' ? { ...o.spec, exempt: fixed.spec.exempt } : o.spec;
  if (sameJson(have, fixed.spec)) return;
  const except = name === 'exempt' ? " except the 'spec.exempt' field" : '';
  errors.invalid('spec', o.spec, `spec of '${name}'${except} must equal the fixed value`);
}

function validateShares(
  o: { nominalConcurrencyShares?: number; lendablePercent?: number },
  at: string,
  errors: FieldErrors,
): void {
  const { nominalConcurrencyShares: shares = 0, lendablePercent: lendable = 0 } = o;
  if (shares < 0) errors.invalid(`${at}.nominalConcurrencyShares`, shares, 'must be a non-negative integer');
  if (lendable < 0 || lendable > 100)
    errors.invalid(`${at}.lendablePercent`, lendable, 'must be between 0 and 100, inclusive');
}

function validateLimited(limited: Draft<LimitedPriorityLevelConfiguration>, errors: FieldErrors): void {
  validateShares(limited, 'spec.limited', errors);
  const { type, queuing } = limited.limitResponse ?? {};
  if (type === 'Queue' && queuing !== undefined) validateQueuing(queuing, 'spec.limited.limitResponse.queuing', errors);
  const borrowing = limited.borrowingLimitPercent ?? 0;
  if (borrowing < 0)
    errors.invalid('spec.limited.borrowingLimitPercent', borrowing, 'if specified, must be a non-negative integer');
}

function validateResponse({ type = '', queuing }: Draft<LimitResponse>, errors: FieldErrors): void {
  const at = 'spec.limited.limitResponse';
  if (queuing !== undefined && type !== 'Queue')
    errors.forbidden(`${at}.queuing`, 'must be nil if limited.limitResponse.type is not Limited');
  if (queuing === undefined && type === 'Queue')
    errors.required(`${at}.queuing`, 'must not be empty if limited.limitResponse.type is Limited');
  if (type === '') errors.required(`${at}.type`);
  else if (type !== 'Queue' && type !== 'Reject') errors.unsupported(`${at}.type`, type, ['Queue', 'Reject']);
}

function validateQueuing(queuing: Draft<QueuingConfiguration>, at: string, errors: FieldErrors): void {
  const { queues = 0, handSize = 0, queueLengthLimit = 0 } = queuing;
  if (queueLengthLimit <= 0) errors.invalid(`${at}.queueLengthLimit`, queueLengthLimit, 'must be positive');
  if (queues <= 0) errors.invalid(`${at}.queues`, queues, 'must be positive');
  else if (queues > queuesMax) errors.invalid(`${at}.queues`, queues, `must not be greater than ${queuesMax}`);
  const bits = Math.ceil(Math.log2(queues) * handSize);
  if (handSize <= 0) errors.invalid(`${at}.handSize`, handSize, 'must be positive');
  else if (handSize > queues)
    errors.invalid(`${at}.handSize`, handSize, `should not be greater than queues (${queues})`);
  else if (bits > handBitsMax)
    errors.invalid(
      `${at}.handSize`,
      handSize,
      `required entropy bits of deckSize ${queues} and handSize ${handSize} should not be greater than ${handBitsMax}`,
    );
}
