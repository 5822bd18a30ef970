/**
 * Validation of ValidatingAdmissionPolicies, MutatingAdmissionPolicies, their bindings, and of match conditions
 * (`admissionregistration.k8s.io/v1`).
 */
import type {
  AuditAnnotation,
  MatchCondition,
  MatchResources,
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  Mutation,
  ParamKind,
  ParamRef,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  Validation,
  Variable,
} from '#api/admissionregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import { qualifiedNameProblems } from '#base/selectors.ts';
import type { Environment } from '#cel/environment.ts';
import { CompilationError } from '#cel/program.ts';
import { types, type Type } from '#cel/types.ts';
import { appliedType, compileExpression, environmentFor, jsonPatchListType } from './admission-expressions.ts';
import type { ExpressionPlace } from './admission-expressions.ts';
import type { FieldErrors } from './field-errors.ts';
import { auditAnnotationsMax, auditExpressionBytesMax, matchConditionsMax } from './limits.ts';
import { label1035Problem, nameProblem, subdomainProblem } from './name-forms.ts';
import { validateHookRule } from './validate-hook-rule.ts';
import { validateLabelSelector } from './validate-selector.ts';
import { oneOf } from './validate-values.ts';

/** An expression that must be there and come to one of the types. Returns its type where it has one. */
function validateExpression(
  source: string | undefined,
  at: string,
  errors: FieldErrors,
  { environment, wanted, missing = '' }: { environment: Environment; wanted?: readonly Type[]; missing?: string },
): Type | undefined {
  const text = (source ?? '').trim();
  if (text === '') {
    errors.required(at, missing);
    return undefined;
  }
  try {
    return compileExpression(text, environment, wanted).type;
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    errors.invalid(at, source, error.message);
    return undefined;
  }
}

/** Conditions under which a webhook or policy is asked at all. */
export function validateMatchConditions(
  conditions: readonly Draft<MatchCondition>[] | undefined,
  at: string,
  errors: FieldErrors,
  place: ExpressionPlace = { hasParams: false, hasAuthorizer: true },
): void {
  const list = conditions ?? [];
  if (list.length > matchConditionsMax) errors.tooMany(at, list.length, matchConditionsMax);
  const names = new Set<string>();
  const environment = environmentFor(place);
  for (const [i, { name = '', expression }] of list.entries()) {
    validateExpression(expression, `${at}[${i}].expression`, errors, { environment, wanted: [types.bool] });
    if (name === '') errors.required(`${at}[${i}].name`);
    else {
      for (const problem of qualifiedNameProblems(name)) errors.invalid(`${at}[${i}].name`, name, problem);
      if (names.has(name)) errors.duplicate(`${at}[${i}].name`, name);
      names.add(name);
    }
  }
}

function validateMatchResources(match: Draft<MatchResources>, at: string, errors: FieldErrors): void {
  oneOf(match.matchPolicy, ['Equivalent', 'Exact'], `${at}.matchPolicy`, errors);
  for (const field of ['namespaceSelector', 'objectSelector'] as const)
    validateLabelSelector(match[field], `${at}.${field}`, errors);
  for (const field of ['resourceRules', 'excludeResourceRules'] as const)
    for (const [i, rule] of (match[field] ?? []).entries()) {
      const names = rule.resourceNames ?? [];
      for (const [j, name] of names.entries()) {
        const path = `${at}.${field}[${i}].resourceNames[${j}]`;
        if (nameProblem.path(name) !== '') errors.invalid(path, name, nameProblem.path(name));
        if (names.indexOf(name) < j) errors.duplicate(path, name);
      }
      validateHookRule(rule, `${at}.${field}[${i}]`, errors);
    }
}

function validateParamKind({ apiVersion = '', kind = '' }: Draft<ParamKind>, errors: FieldErrors): void {
  const at = 'spec.paramKind';
  const [group = '', version = '', ...rest] = apiVersion.includes('/') ? apiVersion.split('/') : ['', apiVersion];
  if (apiVersion === '') errors.required(`${at}.apiVersion`);
  else if (rest.length > 0)
    errors.invalid(`${at}.apiVersion`, apiVersion, `unexpected GroupVersion string: ${apiVersion}`);
  else {
    if (group !== '' && subdomainProblem(group) !== '')
      errors.invalid(`${at}.apiVersion`, group, subdomainProblem(group));
    if (version === '') errors.invalid(`${at}.apiVersion`, apiVersion, 'version must be specified');
    else if (label1035Problem(version) !== '') errors.invalid(`${at}.apiVersion`, version, label1035Problem(version));
  }
  const problem = label1035Problem(kind.toLowerCase());
  if (kind === '') errors.required(`${at}.kind`);
  else if (problem !== '')
    errors.invalid(`${at}.kind`, kind, `may have mixed case, but should otherwise match: ${problem}`);
}

type Policy = Draft<ValidatingAdmissionPolicy | MutatingAdmissionPolicy>;

/** What both kinds of policies share. Returns what their expressions may name. */
function validatePolicy(o: Policy, errors: FieldErrors, isMutation: boolean): ExpressionPlace {
  const spec = o.spec ?? {};
  oneOf(spec.failurePolicy, ['Fail', 'Ignore'], 'spec.failurePolicy', errors);
  if (spec.paramKind) validateParamKind(spec.paramKind, errors);
  if (!spec.matchConstraints) errors.required('spec.matchConstraints');
  else {
    validateMatchResources(spec.matchConstraints, 'spec.matchConstraints', errors);
    if ((spec.matchConstraints.resourceRules ?? []).length === 0)
      errors.required('spec.matchConstraints.resourceRules');
  }
  const place = { hasParams: Boolean(spec.paramKind), hasAuthorizer: true, isMutation };
  validateMatchConditions(spec.matchConditions, 'spec.matchConditions', errors, place);
  const variables = new Map<string, Type>();
  for (const [i, variable] of (spec.variables ?? []).entries())
    validateVariable(variable, `spec.variables[${i}]`, errors, { ...place, variables });
  return { ...place, variables };
}

function validateVariable(
  { name = '', expression }: Draft<Variable>,
  at: string,
  errors: FieldErrors,
  place: ExpressionPlace & { variables: Map<string, Type> },
): void {
  if (name.trim() === '') errors.required(`${at}.name`, 'name is not specified');
  else if (!/^[A-Za-z_]\w*$/.test(name)) errors.invalid(`${at}.name`, name, 'must be a valid CEL identifier');
  const environment = environmentFor(place);
  const type = validateExpression(expression, `${at}.expression`, errors, {
    environment,
    missing: 'expression is not specified',
  });
  if ((expression ?? '').trim() !== '') place.variables.set(name, type ?? types.error);
}

const reasons = ['Forbidden', 'Invalid', 'RequestEntityTooLarge', 'Unauthorized'];

export function validateValidatingPolicy(o: Draft<ValidatingAdmissionPolicy>, errors: FieldErrors): void {
  const place = validatePolicy(o, errors, false);
  const { validations = [], auditAnnotations = [] } = o.spec ?? {};
  if (validations.length + auditAnnotations.length === 0)
    for (const field of ['validations', 'auditAnnotations'])
      errors.required(`spec.${field}`, 'validations or auditAnnotations must contain at least one item');
  for (const [i, validation] of validations.entries())
    validateValidation(validation, `spec.validations[${i}]`, errors, place);
  if (auditAnnotations.length > auditAnnotationsMax)
    return errors.invalid(
      'spec.auditAnnotations',
      auditAnnotations,
      `must not have more than ${auditAnnotationsMax} auditAnnotations`,
    );
  const keys = new Set<string>();
  for (const [i, annotation] of auditAnnotations.entries()) {
    const at = `spec.auditAnnotations[${i}]`;
    validateAnnotation(annotation, at, errors, { place, policy: o.metadata?.name ?? '' });
    if (keys.has(annotation.key ?? '')) errors.duplicate(`${at}.key`, annotation.key);
    keys.add(annotation.key ?? '');
  }
}

const hasLineBreak = (text: string): boolean => /[\n\r]/.test(text);

function validateValidation(v: Draft<Validation>, at: string, errors: FieldErrors, place: ExpressionPlace): void {
  const { expression = '', message = '', messageExpression = '', reason } = v;
  const environment = environmentFor(place);
  validateExpression(expression, `${at}.expression`, errors, {
    environment,
    wanted: [types.bool],
    missing: 'expression is not specified',
  });
  if (messageExpression !== '' && messageExpression.trim() === '')
    errors.invalid(`${at}.messageExpression`, messageExpression, 'must be non-empty if specified');
  else if (messageExpression !== '')
    validateExpression(messageExpression, `${at}.messageExpression`, errors, {
      environment: environmentFor({ ...place, hasAuthorizer: false }),
      wanted: [types.string],
    });
  if (message !== '' && message.trim() === '')
    errors.invalid(`${at}.message`, message, 'must be non-empty if specified');
  else if (hasLineBreak(message.trim())) errors.invalid(`${at}.message`, message, 'must not contain line breaks');
  else if (hasLineBreak(expression.trim()) && message.trim() === '')
    errors.required(`${at}.message`, 'message must be specified if expression contains line breaks');
  oneOf(reason, reasons, `${at}.reason`, errors);
}

function validateAnnotation(
  { key = '', valueExpression = '' }: Draft<AuditAnnotation>,
  at: string,
  errors: FieldErrors,
  { place, policy }: { place: ExpressionPlace; policy: string },
): void {
  if (policy === '') errors.invalid(`${at}.key`, key, 'requires metadata.name be non-empty');
  else for (const problem of qualifiedNameProblems(`${policy}/${key}`)) errors.invalid(`${at}.key`, key, problem);
  if (Buffer.byteLength(valueExpression) > auditExpressionBytesMax)
    return errors.required(`${at}.valueExpression`, `must not exceed ${auditExpressionBytesMax} bytes in length`);
  validateExpression(valueExpression, `${at}.valueExpression`, errors, {
    environment: environmentFor(place),
    wanted: [types.string, types.null],
    missing: 'valueExpression is not specified',
  });
}

const mutatedOperations = ['*', 'CONNECT', 'CREATE', 'UPDATE'];

/** What is deleted is not changed. */
function validateMutatedOperations(match: Draft<MatchResources>, at: string, errors: FieldErrors): void {
  for (const rule of match.resourceRules ?? [])
    for (const operation of rule.operations ?? [])
      if (!mutatedOperations.includes(operation))
        errors.unsupported(`${at}.resourceRules.operations`, operation, mutatedOperations);
}

export function validateMutatingBinding(o: Draft<MutatingAdmissionPolicyBinding>, errors: FieldErrors): void {
  validateBinding(o, errors);
  const match = o.spec?.matchResources;
  if (match) validateMutatedOperations(match, 'spec.matchResources', errors);
}

export function validateMutatingPolicy(o: Draft<MutatingAdmissionPolicy>, errors: FieldErrors): void {
  const place = validatePolicy(o, errors, true);
  const { mutations = [], reinvocationPolicy, matchConstraints } = o.spec ?? {};
  if (matchConstraints) validateMutatedOperations(matchConstraints, 'spec.matchConstraints', errors);
  if (mutations.length === 0) errors.required('spec.mutations', 'mutations must contain at least one item');
  for (const [i, mutation] of mutations.entries())
    validateMutation(mutation, `spec.mutations[${i}]`, errors, environmentFor(place));
  if (!reinvocationPolicy) errors.required('spec.reinvocationPolicy');
  else oneOf(reinvocationPolicy, ['IfNeeded', 'Never'], 'spec.reinvocationPolicy', errors);
}

const patches = { JSONPatch: 'jsonPatch', ApplyConfiguration: 'applyConfiguration' } as const;

function validateMutation(m: Draft<Mutation>, at: string, errors: FieldErrors, environment: Environment): void {
  const type = m.patchType;
  if (!type) return errors.required(`${at}.patchType`);
  if (type !== 'JSONPatch' && type !== 'ApplyConfiguration')
    return errors.unsupported(`${at}.patchType`, type, Object.keys(patches));
  const [own, other] =
    type === 'JSONPatch'
      ? (['jsonPatch', 'applyConfiguration'] as const)
      : (['applyConfiguration', 'jsonPatch'] as const);
  if (m[other]) errors.invalid(`${at}.${other}`, `{${other}}`, `must not be specified when patchType is ${type}`);
  if (!m[own]) return errors.required(`${at}.${own}`, `must be specified when patchType is ${type}`);
  validateExpression(m[own].expression, `${at}.${own}.expression`, errors, {
    environment,
    wanted: [type === 'JSONPatch' ? jsonPatchListType : appliedType],
  });
}

const actions = ['Audit', 'Deny', 'Warn'];

export function validateValidatingBinding(o: Draft<ValidatingAdmissionPolicyBinding>, errors: FieldErrors): void {
  validateBinding(o, errors);
  const at = 'spec.validationActions';
  const given: readonly string[] = o.spec?.validationActions ?? [];
  if (given.length === 0) errors.required(at, 'at least one validation action is required');
  for (const [i, action] of given.entries()) {
    if (!actions.includes(action)) errors.unsupported(`${at}[${i}]`, action, actions);
    if (given.indexOf(action) < i) errors.duplicate(`${at}[${i}]`, action);
  }
  if (given.includes('Deny') && given.includes('Warn'))
    errors.invalid(
      at,
      given,
      'must not contain both Deny and Warn (repeating the same validation failure information in the API response and headers serves no purpose)',
    );
}

/** What both kinds of bindings share. */
function validateBinding(
  o: Draft<ValidatingAdmissionPolicyBinding | MutatingAdmissionPolicyBinding>,
  errors: FieldErrors,
): void {
  const { policyName = '', paramRef, matchResources } = o.spec ?? {};
  if (policyName === '') errors.required('spec.policyName');
  else if (subdomainProblem(policyName) !== '')
    errors.invalid('spec.policyName', policyName, subdomainProblem(policyName));
  if (paramRef) validateParamRef(paramRef, errors);
  if (matchResources) validateMatchResources(matchResources, 'spec.matchResources', errors);
}

function validateParamRef({ name, selector, parameterNotFoundAction }: Draft<ParamRef>, errors: FieldErrors): void {
  const at = 'spec.paramRef';
  const exclusive = 'name and selector are mutually exclusive';
  if (name && nameProblem.path(name) !== '') errors.invalid(`${at}.name`, name, nameProblem.path(name));
  if (name && selector) errors.forbidden(`${at}.name`, exclusive);
  if (selector) validateLabelSelector(selector, `${at}.selector`, errors);
  if (name && selector) errors.forbidden(`${at}.selector`, exclusive);
  if (!name && !selector) errors.required(at, 'one of name or selector must be specified');
  if (!parameterNotFoundAction) errors.required(`${at}.parameterNotFoundAction`);
  else oneOf(parameterNotFoundAction, ['Allow', 'Deny'], `${at}.parameterNotFoundAction`, errors);
}
