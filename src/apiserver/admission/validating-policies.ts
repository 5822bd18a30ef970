/**
 * ValidatingAdmissionPolicies (Kubernetes documentation, "Validating Admission Policy"): expressions that say which
 * objects may be written. A binding says what a refusal does: it denies, warns, or is noted for auditing.
 */
import type {
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  Validation,
} from '#api/admissionregistration.v1.ts';
import { ApiError, reasonOf, type Reason } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { types } from '#cel/types.ts';
import { CelError } from '#cel/values.ts';
import type { Program } from '#cel/program.ts';
import type { ExpressionPlace } from '#schema/admission-expressions.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { AuditRecord } from '../audit/auditor.ts';
import type { RequestContext } from '../context.ts';
import { forbiddenBy } from '../object-errors.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { conditionsHold, Evaluator, prepare, prepareVariables, type Ready } from './expressions.ts';
import { seenAs } from './equivalents.ts';
import { bindingsFor, ConfigurationError, isExempt } from './policies.ts';

interface ReadyPolicy {
  place: ExpressionPlace;
  variables: ReadonlyMap<string, Program>;
  validations: readonly { expression: Ready; message: Ready | undefined; source: Validation }[];
  annotations: readonly { key: string; value: Ready }[];
}

const ready = new WeakMap<ValidatingAdmissionPolicy, ReadyPolicy>();

function readyOf(policy: ValidatingAdmissionPolicy): ReadyPolicy {
  const known = ready.get(policy);
  if (known !== undefined) return known;
  const { spec } = policy;
  const base = { hasParams: spec?.paramKind !== undefined, hasAuthorizer: true };
  const { place, programs } = prepareVariables(spec?.variables, base);
  const made: ReadyPolicy = {
    place: base,
    variables: programs,
    validations: (spec?.validations ?? []).map((source) => ({
      source,
      expression: prepare(source.expression, place, [types.bool]),
      message: source.messageExpression
        ? prepare(source.messageExpression, { ...place, hasAuthorizer: false }, [types.string])
        : undefined,
    })),
    annotations: (spec?.auditAnnotations ?? []).map(({ key, valueExpression }) => ({
      key: `${policy.metadata.name}/${key}`,
      value: prepare(valueExpression, place, [types.string, types.null]),
    })),
  };
  ready.set(policy, made);
  return made;
}

/** Why a request is refused. */
interface Refusal {
  policy: ValidatingAdmissionPolicy;
  binding: ValidatingAdmissionPolicyBinding;
  message: string;
  reason: Reason;
  code: number;
  /** Of the validation; undefined where it is none that failed. */
  index: number | undefined;
}

const codes: Readonly<Record<string, number>> = { Forbidden: 403, Unauthorized: 401, RequestEntityTooLarge: 413 };

export async function admitByPolicies(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { live } = context.server;
  const policies = (await live.validatingPolicies.current()).in();
  if (policies.length === 0 || isExempt(context)) return;
  const bindings = (await live.validatingPolicyBindings.current()).in();
  const views = new Map<KindRecord, Evaluator>();
  let denied: Refusal | undefined;
  for (const policy of policies) {
    for (const { binding, kind, params } of await bindingsFor(policy, bindings, context, attributes)) {
      let evaluator = views.get(kind);
      if (evaluator === undefined) {
        const seen = await seenAs(context, attributes, kind);
        evaluator = await Evaluator.open(seen.context, seen.attributes);
        views.set(kind, evaluator);
      }
      const refusals =
        params instanceof ConfigurationError
          ? failed(policy, `failed to configure binding: ${params.message}`)
          : await judge(context, policy, params, evaluator);
      for (const { message, reason = 'Invalid', index } of refusals) {
        const refusal = { policy, binding, message, reason: reasonOf(reason), code: codes[reason] ?? 422, index };
        if (enforce(context, refusal)) denied ??= refusal;
      }
    }
  }
  if (denied !== undefined) throw deniedBy(context, attributes, denied);
}

interface Finding {
  message: string;
  reason?: string;
  index?: number;
}

/** What an error means, by the policy's failure policy. */
const failed = ({ spec }: ValidatingAdmissionPolicy, message: string): Finding[] =>
  spec?.failurePolicy === 'Ignore' ? [] : [{ message }];

async function judge(
  context: RequestContext,
  policy: ValidatingAdmissionPolicy,
  params: readonly (KubeObject | undefined)[],
  evaluator: Evaluator,
): Promise<Finding[]> {
  const { place, variables, validations, annotations } = readyOf(policy);
  const findings: Finding[] = [];
  for (const param of params) {
    const own = evaluator.with(param, variables);
    try {
      if (!(await conditionsHold(policy.spec?.matchConditions, own, place))) continue;
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      findings.push(...failed(policy, error.message));
      continue;
    }
    for (const [index, { expression, message, source }] of validations.entries()) {
      try {
        if ((await own.value(expression)) === true) continue;
        const text = await messageOf(source, message, own);
        findings.push({ index, message: text, ...(source.reason ? { reason: source.reason } : {}) });
      } catch (error) {
        if (!(error instanceof CelError)) throw error;
        findings.push(
          ...failed(policy, `expression '${source.expression.trim()}' resulted in error: ${error.message}`),
        );
      }
    }
    if (context.audit !== undefined) findings.push(...(await annotate(context.audit, policy, annotations, own)));
  }
  return findings;
}

/** Values of one key that differ stand beside each other; what is null or empty is left out. */
async function annotate(
  audit: AuditRecord,
  policy: ValidatingAdmissionPolicy,
  annotations: ReadyPolicy['annotations'],
  own: Evaluator,
): Promise<Finding[]> {
  const findings: Finding[] = [];
  for (const { key, value } of annotations)
    try {
      const text = await own.value(value);
      if (typeof text === 'string' && text.trim() !== '') audit.append(key, text.trim());
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      findings.push(...failed(policy, `failed to evaluate auditAnnotation ${key}: ${error.message}`));
    }
  return findings;
}

/** The message that an expression makes, or the one that is given, or the expression itself. */
async function messageOf(
  { message, expression }: Validation,
  made: Ready | undefined,
  own: Evaluator,
): Promise<string> {
  const plain = message?.trim() || `failed expression: ${expression.trim()}`;
  if (made === undefined) return plain;
  try {
    const value = await own.value(made);
    const text = typeof value === 'string' ? value.trim() : '';
    return text === '' || /[\n\r]/.test(text) ? plain : text;
  } catch (error) {
    if (error instanceof CelError) return plain;
    throw error;
  }
}

/** Does what the binding says; whether it denies. */
function enforce(context: RequestContext, { policy, binding, message, index }: Refusal): boolean {
  const actions = binding.spec?.validationActions ?? [];
  if (actions.includes('Audit'))
    context.audit?.appendFailure({
      message,
      policy: policy.metadata.name,
      binding: binding.metadata.name,
      ...(index === undefined ? {} : { expressionIndex: index }),
      validationActions: actions,
    });
  if (actions.includes('Warn'))
    context.warnings.push(
      `Validation failed for ValidatingAdmissionPolicy '${policy.metadata.name}' with binding '${binding.metadata.name}': ${message}`,
    );
  return actions.includes('Deny');
}

function deniedBy(context: RequestContext, { object }: AdmissionAttributes, refusal: Refusal): ApiError {
  const { policy, binding, message, reason, code } = refusal;
  const text = `ValidatingAdmissionPolicy '${policy.metadata.name}' with binding '${binding.metadata.name}' denied request: ${message}`;
  const error = forbiddenBy(context, object.metadata.name || context.info.name, text);
  return new ApiError(reason, error.message, { ...error.details, causes: [{ message: text }] }, code);
}
