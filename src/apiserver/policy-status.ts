/**
 * Checks the expressions of ValidatingAdmissionPolicies against the schemas of the kinds that they are about, and says
 * in their status what cannot be right (Kubernetes documentation, "Validating Admission Policy", "Type checking"). It
 * warns: the policy is at work as it is.
 */
import type { ExpressionWarning, ValidatingAdmissionPolicy } from '#api/admissionregistration.v1.ts';
import { isReason } from '#base/errors.ts';
import { kinds } from '#base/kinds.ts';
import { CompilationError } from '#cel/program.ts';
import { types, type Type } from '#cel/types.ts';
import { giveWay } from '#os/turn.ts';
import { compileExpression, environmentFor, type ExpressionPlace } from '#schema/admission-expressions.ts';
import { expressionType } from '#schema/expression-types.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { Server } from './context.ts';
import { internalContext } from './internal.ts';
import { policyKindsMax } from './limits.ts';
import { applyObject } from './apply.ts';

/** Checks each policy once in each generation, from now on. Stops with what it returns. */
export function runPolicyStatus(server: Server): () => void {
  const due = new Set<string>();
  let running = false;
  let stopped = false;
  const run = async (): Promise<void> => {
    running = true;
    for (const name of due) {
      due.delete(name);
      try {
        await checkPolicy(server, name);
      } catch (error) {
        if (!stopped) server.log.warn('admission policy', { name, error });
      }
    }
    running = false;
  };
  const add = (name: string): void => {
    due.add(name);
    if (!running && !stopped) void run();
  };
  server.live.validatingPolicies.subscribe((_namespace, name, policy) => {
    if (policy !== undefined && policy.status?.observedGeneration !== policy.metadata.generation) add(name);
  });
  server.live.validatingPolicies
    .follow()
    .catch((error: unknown) => server.log.error('type checking of policies stopped', { error }));
  return () => {
    stopped = true;
  };
}

/** As upstream names the controller that applies it. */
const statusManager = 'validatingadmissionpolicy-status';

async function checkPolicy(server: Server, name: string): Promise<void> {
  const policy = (await server.live.validatingPolicies.current()).in().find((each) => each.metadata.name === name);
  const generation = policy?.metadata.generation;
  if (policy === undefined || policy.status?.observedGeneration === generation) return;
  const warnings = await checkTypes(policy, server);
  const kind = server.kinds.builtIn(kinds.ValidatingAdmissionPolicy);
  const context = internalContext(server, kind, { verb: 'patch', name, subresource: 'status' });
  const typeChecking = warnings.length === 0 ? {} : { expressionWarnings: warnings };
  context.request = {
    ...context.request,
    query: new URLSearchParams({ fieldManager: statusManager, force: 'true' }),
    object: {
      apiVersion: policy.apiVersion,
      kind: policy.kind,
      metadata: { name },
      status: { observedGeneration: generation, typeChecking },
    },
  };
  try {
    await applyObject(context, {});
  } catch (error) {
    if (!isReason(error, 'NotFound')) throw error;
  }
}

/** What each expression is told about each kind. */
async function checkTypes(policy: ValidatingAdmissionPolicy, server: Server): Promise<ExpressionWarning[]> {
  const matched = kindsOf(policy, server);
  const warnings: ExpressionWarning[] = [];
  for (const [i, { expression, messageExpression }] of (policy.spec?.validations ?? []).entries())
    for (const [field, source] of [
      ['expression', expression],
      ['messageExpression', messageExpression],
    ] as const) {
      if (!source) continue;
      await giveWay();
      const texts = matched.flatMap((kind) => problemIn(source, policy, kind));
      if (texts.length > 0) warnings.push({ fieldRef: `spec.validations[${i}].${field}`, warning: texts.join('\n') });
    }
  return warnings;
}

/** Kinds that the policy's rules name without wildcards, in order. */
function kindsOf({ spec }: ValidatingAdmissionPolicy, { kinds: table }: Server): KindRecord[] {
  const found = new Map<string, KindRecord>();
  const exact = (list: readonly string[] | undefined): readonly string[] =>
    (list ?? []).some((each) => each.includes('*')) ? [] : [...(list ?? [])].sort();
  for (const rule of spec?.matchConstraints?.resourceRules ?? [])
    for (const group of exact(rule.apiGroups))
      for (const version of exact(rule.apiVersions))
        for (const resource of exact(rule.resources).filter((each) => !each.includes('/'))) {
          const kind = table.find(group, version, resource);
          if (kind !== undefined && found.size < policyKindsMax) found.set(`${group}/${version}/${resource}`, kind);
        }
  return [...found.values()];
}

function problemIn(source: string, { spec }: ValidatingAdmissionPolicy, kind: KindRecord): string[] {
  const variables = new Map<string, Type>();
  const place: ExpressionPlace = {
    hasParams: spec?.paramKind !== undefined,
    hasAuthorizer: true,
    variables,
    objectType: expressionType(kind.type),
  };
  for (const { name, expression } of spec?.variables ?? []) variables.set(name, typeIn(expression, place));
  try {
    compileExpression(source, environmentFor(place));
    return [];
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    const { group, version, kind: name } = kind;
    return [`${group}/${version}, Kind=${name}: ${error.message.replace(/^compilation failed: /, '')}\n`];
  }
}

/** Of a variable that is wrong itself nothing more is said. */
function typeIn(source: string, place: ExpressionPlace): Type {
  try {
    return compileExpression(source, environmentFor(place)).type;
  } catch (error) {
    if (error instanceof CompilationError) return types.error;
    throw error;
  }
}
