/**
 * MutatingAdmissionPolicies (Kubernetes documentation, "Mutating Admission Policy"): expressions that make what is
 * merged into an object as server-side apply would merge it, or a JSON Patch of it. Each policy sees what the one
 * before made; those that may be invoked again are, where a later one has changed the object.
 */
import type {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  Mutation,
} from '#api/admissionregistration.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { KubeObject } from '#base/objects.ts';
import { jsonPatch } from '#base/patch.ts';
import { isObject } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import { toJson } from '#cel/json-values.ts';
import type { Program } from '#cel/program.ts';
import { CelError, isKind, itemsOf, type StructValue, type Value } from '#cel/values.ts';
import { appliedType, jsonPatchListType, type ExpressionPlace } from '#schema/admission-expressions.ts';
import { mergeApplied } from '#schema/field-sets.ts';
import { sameJson } from '#schema/validate-values.ts';
import type { RequestContext } from '../context.ts';
import { adoptMade } from './adopt.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { conditionsHold, Evaluator, prepare, prepareVariables, type Ready } from './expressions.ts';
import { seenAs } from './equivalents.ts';
import { bindingsFor, ConfigurationError, isExempt } from './policies.ts';

interface ReadyPolicy {
  place: ExpressionPlace;
  variables: ReadonlyMap<string, Program>;
  mutations: readonly { type: Mutation['patchType']; expression: Ready }[];
}

const ready = new WeakMap<MutatingAdmissionPolicy, ReadyPolicy>();

function readyOf(policy: MutatingAdmissionPolicy): ReadyPolicy {
  const known = ready.get(policy);
  if (known !== undefined) return known;
  const { spec } = policy;
  const base = { hasParams: spec?.paramKind !== undefined, hasAuthorizer: true, isMutation: true };
  const { place, programs } = prepareVariables(spec?.variables, base);
  const made: ReadyPolicy = {
    place: base,
    variables: programs,
    mutations: (spec?.mutations ?? []).map(({ patchType: type, jsonPatch: patch, applyConfiguration }) => ({
      type,
      expression:
        type === 'JSONPatch'
          ? prepare(patch?.expression ?? '', place, [jsonPatchListType])
          : prepare(applyConfiguration?.expression ?? '', place, [appliedType]),
    })),
  };
  ready.set(policy, made);
  return made;
}

/** How often policies that may be invoked again are. */
const passesMax = 2;

export async function mutateByPolicies(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  const { live } = context.server;
  const policies = (await live.mutatingPolicies.current()).in();
  const { operation } = attributes;
  if (policies.length === 0 || (operation !== 'CREATE' && operation !== 'UPDATE') || isExempt(context)) return;
  const bindings = (await live.mutatingPolicyBindings.current()).in();
  let again: readonly MutatingAdmissionPolicy[] = policies;
  for (let pass = 0; pass < passesMax && again.length > 0; pass++) {
    const asked = new Set<MutatingAdmissionPolicy>();
    for (const policy of again) {
      const before = attributes.object;
      await mutate(policy, bindings, context, attributes);
      if (sameJson(before, attributes.object)) continue;
      for (const other of policies)
        if (other !== policy && other.spec?.reinvocationPolicy === 'IfNeeded') asked.add(other);
    }
    again = policies.filter((policy) => asked.has(policy));
  }
}

async function mutate(
  policy: MutatingAdmissionPolicy,
  bindings: readonly MutatingAdmissionPolicyBinding[],
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<void> {
  const { place, variables, mutations } = readyOf(policy);
  for (const { binding, kind, params } of await bindingsFor(policy, bindings, context, attributes)) {
    const seen = await seenAs(context, attributes, kind);
    try {
      if (params instanceof ConfigurationError) throw new CelError(`failed to configure binding: ${params.message}`);
      for (const param of params) {
        const first = (await Evaluator.open(seen.context, seen.attributes)).with(param, variables);
        if (!(await conditionsHold(policy.spec?.matchConditions, first, place))) continue;
        for (const { type, expression } of mutations) {
          const own = (await Evaluator.open(seen.context, seen.attributes)).with(param, variables);
          const value = await own.value(expression);
          const make = type === 'JSONPatch' ? patchedBy(value) : appliedBy(value, seen.context);
          change(seen.context, seen.attributes, make);
        }
      }
      await seen.settle();
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      if (policy.spec?.failurePolicy !== 'Ignore') throw failedBy(policy, binding, error.message);
    }
  }
}

function failedBy(policy: MutatingAdmissionPolicy, binding: MutatingAdmissionPolicyBinding, why: string): ApiError {
  return new ApiError(
    'Invalid',
    `policy '${policy.metadata.name}' with binding '${binding.metadata.name}' denied request: ${why}`,
    { causes: [{ message: why }] },
  );
}

/** A change of the object as the request's version shows it. */
function change(context: RequestContext, attributes: AdmissionAttributes, make: (shown: KubeObject) => unknown): void {
  const { fromStored } = context.kind;
  const shown = structuredClone(fromStored === undefined ? attributes.object : fromStored(attributes.object));
  const why = adoptMade(context, attributes, make(shown));
  if (why !== undefined) throw new CelError(`the mutation ${why}`);
}

/** Operations of a JSON Patch; those that were left out are none. */
function patchedBy(value: Value): (shown: KubeObject) => unknown {
  if (!isKind(value, 'list')) throw new CelError('type mismatch: JSONPatchType.expression should evaluate to array');
  const operations = [...itemsOf(value)].map(toJson).filter(isObject);
  return (shown) => {
    try {
      return jsonPatch(shown, operations);
    } catch (error) {
      throw new CelError(`JSON Patch: ${messageOf(error)}`);
    }
  };
}

/** What is merged in, by the kind's own lists and maps. */
function appliedBy(value: Value, { kind }: RequestContext): (shown: KubeObject) => unknown {
  if (!isKind(value, 'struct'))
    throw new CelError('unsupported return type from ApplyConfiguration expression: an object is needed');
  checkPaths(value, 'Object');
  const applied = toJson(value);
  return (shown) => mergeApplied(shown, applied, kind.type);
}

/** An object's type is the path at which it stands: `Object.spec` at `spec`. */
function checkPaths(value: Value, path: string): void {
  if (isKind(value, 'struct')) {
    checkName(value, path);
    for (const field of value.fields()) checkPaths(value.get(field) ?? null, `${path}.${field}`);
  } else if (isKind(value, 'list')) for (const item of itemsOf(value)) checkPaths(item, path);
  else if (isKind(value, 'map')) for (const key of value.keys()) checkPaths(value.get(key) ?? null, path);
  else if (isKind(value, 'optional') && value.value !== undefined) checkPaths(value.value, path);
}

function checkName({ type }: StructValue, path: string): void {
  const name = type.kind === 'object' ? type.name : type.kind;
  if (name !== path)
    throw new CelError(
      `type mismatch: unexpected type name ${JSON.stringify(name)}, expected ${JSON.stringify(path)}, which matches field name path from root Object type`,
    );
}
