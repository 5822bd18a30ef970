/**
 * What expressions of admission may name: `object`, `oldObject`, `request`, `params`, `namespaceObject`, `authorizer`,
 * `variables`, and, where they change objects, `Object{…}` and `JSONPatch{…}` (Kubernetes documentation, "Validating
 * Admission Policy", "Mutating Admission Policy").
 */
import { authorizerType, resourceCheckType } from '#cel/authorizer.ts';
import type { Environment, StructType } from '#cel/environment.ts';
import { compile, CompilationError, type Program } from '#cel/program.ts';
import { listType, mapType, types, typeText, type Type } from '#cel/types.ts';
import type { StructValue, Value } from '#cel/values.ts';
import { expressionFunctions, mutatingFunctions } from './format-library.ts';

type Fields = Readonly<Record<string, Type>>;
const objectType = (name: string, fields: Fields): Type => ({
  kind: 'object',
  name: `kubernetes.${name}`,
  field: (field) => (Object.hasOwn(fields, field) ? fields[field] : undefined),
});
const texts = (...names: string[]): Fields => Object.fromEntries(names.map((name) => [name, types.string]));

const kindType = objectType('GroupVersionKind', texts('group', 'version', 'kind'));
const resourceType = objectType('GroupVersionResource', texts('group', 'version', 'resource'));
const textMap = mapType(types.string, types.string);
const requestType = objectType('AdmissionRequest', {
  ...texts('subResource', 'requestSubResource', 'name', 'namespace', 'operation'),
  kind: kindType,
  resource: resourceType,
  requestKind: kindType,
  requestResource: resourceType,
  userInfo: objectType('UserInfo', {
    ...texts('username', 'uid'),
    groups: listType(types.string),
    extra: mapType(types.string, listType(types.string)),
  }),
  dryRun: types.bool,
  options: types.dyn,
});
const namespaceType = objectType('Namespace', {
  metadata: objectType('NamespaceMetadata', {
    ...texts('name', 'generateName', 'namespace', 'UID', 'resourceVersion'),
    labels: textMap,
    annotations: textMap,
    creationTimestamp: types.timestamp,
    deletionTimestamp: types.timestamp,
    deletionGracePeriodSeconds: types.int,
    generation: types.int,
    finalizers: listType(types.string),
  }),
  spec: objectType('NamespaceSpec', { finalizers: listType(types.string) }),
  status: objectType('NamespaceStatus', {
    phase: types.string,
    conditions: listType(
      objectType('NamespaceCondition', {
        ...texts('status', 'type', 'message', 'reason'),
        lastTransitionTime: types.timestamp,
      }),
    ),
  }),
});
export { namespaceType, requestType };

/** What an expression stands in. */
export interface ExpressionPlace {
  hasParams: boolean;
  hasAuthorizer: boolean;
  isMutation?: boolean;
  /** Types of the policy's variables so far. */
  variables?: ReadonlyMap<string, Type>;
  /** Of the object, where it is known; else anything. */
  objectType?: Type;
}

export function environmentFor(place: ExpressionPlace): Environment {
  const { hasParams, hasAuthorizer, isMutation = false, variables, objectType: object = types.dyn } = place;
  const names = new Map<string, Type>([
    ['object', object],
    ['oldObject', object],
    ['request', requestType],
    ['namespaceObject', namespaceType],
  ]);
  if (hasParams) names.set('params', types.dyn);
  if (hasAuthorizer) names.set('authorizer', authorizerType).set('authorizer.requestResource', resourceCheckType);
  if (variables !== undefined)
    names.set('variables', { kind: 'object', name: 'kubernetes.variables', field: (name) => variables.get(name) });
  return isMutation
    ? { variables: names, functions: mutatingFunctions, struct: mutationStruct }
    : { variables: names, functions: expressionFunctions };
}

/**
 * The expression, whose value is of one of the types. Throws a `CompilationError` in the words of the API server:
 * `compilation failed: …`, `must evaluate to …`.
 */
export function compileExpression(source: string, environment: Environment, wanted?: readonly Type[]): Program {
  let program: Program;
  try {
    program = compile(source, environment);
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    throw new CompilationError(
      error.problems.length > 0 ? `compilation failed: ${error.message}` : error.message,
      error.problems,
    );
  }
  const names = wanted?.map(typeText);
  if (names === undefined || names.includes(typeText(program.type))) return program;
  const shown = names.length === 1 ? names[0] : `one of [${names.join(' ')}]`;
  throw new CompilationError(`must evaluate to ${shown} but got ${typeText(program.type)}`);
}

const jsonPatchType: Type = {
  kind: 'object',
  name: 'JSONPatch',
  field: (name) => (name === 'value' ? types.dyn : ['op', 'path', 'from'].includes(name) ? types.string : undefined),
};
/** An object of any fields: its name is the path at which it stands, which is checked when it is used. */
const pathType = (name: string): Type => ({
  kind: 'object',
  name,
  field: (field) => (/^[A-Za-z_]/.test(field) ? types.dyn : undefined),
});
export const appliedType = pathType('Object');
export const jsonPatchListType = listType(jsonPatchType);

function mutationStruct(name: string): StructType | undefined {
  const type =
    name === 'JSONPatch' ? jsonPatchType : /^Object(\.[A-Za-z_]\w*)*$/.test(name) ? pathType(name) : undefined;
  if (type?.kind !== 'object') return undefined;
  return { type, field: type.field, make: (fields) => structOf(type, fields) };
}

function structOf(type: Type, fields: ReadonlyMap<string, Value>): StructValue {
  return { kind: 'struct', type, get: (field) => fields.get(field), fields: () => fields.keys() };
}
