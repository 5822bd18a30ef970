/**
 * Expressions of admission at work: what they see of a request, what they may cost together, what becomes of their
 * errors (Kubernetes documentation, "Validating Admission Policy", "Dynamic Admission Control: matchConditions").
 */
import type { MatchCondition, Variable } from '#api/admissionregistration.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { authorizerValue, resourceCheckOf, type Answer, type AuthorizerHost, type Question } from '#cel/authorizer.ts';
import type { LazyVariables } from '#cel/compiler.ts';
import { fromJson } from '#cel/json-values.ts';
import { CompilationError, type Program } from '#cel/program.ts';
import { types, type Type } from '#cel/types.ts';
import { CelError, type Value } from '#cel/values.ts';
import { giveWay } from '#os/turn.ts';
import type { KindRecord } from '#schema/kind.ts';
import {
  compileExpression,
  environmentFor,
  namespaceType,
  requestType,
  type ExpressionPlace,
} from '#schema/admission-expressions.ts';
import { isAllowed } from '../authz/authorizer-chain.ts';
import type { RequestContext } from '../context.ts';
import { policyCostMax } from '../limits.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { namespaceOf } from './matching.ts';

/** An expression that is ready, or why it is not. */
export type Ready = { program: Program } | { error: CompilationError };

export function prepare(source: string, place: ExpressionPlace, wanted?: readonly Type[]): Ready {
  try {
    return { program: compileExpression(source, environmentFor(place), wanted) };
  } catch (error) {
    if (!(error instanceof CompilationError)) throw error;
    return { error };
  }
}

/** A policy's variables, each seeing those before it. */
export function prepareVariables(
  variables: readonly Variable[] | undefined,
  place: ExpressionPlace,
): { place: ExpressionPlace; programs: Map<string, Program>; error: CompilationError | undefined } {
  const programs = new Map<string, Program>();
  const found = new Map<string, Type>();
  const inner = { ...place, variables: found };
  let failed: CompilationError | undefined;
  for (const { name, expression } of variables ?? []) {
    const ready = prepare(expression, inner);
    if ('error' in ready) failed ??= ready.error;
    else programs.set(name, ready.program);
    found.set(name, 'error' in ready ? types.error : ready.program.type);
  }
  return { place: inner, programs, error: failed };
}

/** What the expressions of one webhook, or of one policy with one binding, see and may spend. */
export class Evaluator implements AuthorizerHost {
  readonly #context: RequestContext;
  readonly #variables: Record<string, Value>;
  #lazy: LazyVariables | undefined;
  #left = policyCostMax;

  private constructor(context: RequestContext, variables: Record<string, Value>) {
    this.#context = context;
    this.#variables = variables;
  }

  static async open(context: RequestContext, attributes: AdmissionAttributes): Promise<Evaluator> {
    const { kind, info, requested = kind } = context;
    const shown = (o: KubeObject | undefined): Value =>
      o === undefined
        ? null
        : fromJson(kind.fromStored === undefined || attributes.operation === 'CONNECT' ? o : kind.fromStored(o));
    const isNamespace = kind.group === '' && kind.kind === 'Namespace';
    const namespace = isNamespace ? undefined : await namespaceOf(context, attributes);
    return new Evaluator(context, {
      object: attributes.operation === 'DELETE' ? null : shown(attributes.object),
      oldObject: shown(attributes.old),
      request: fromJson(requestOf(context, attributes), requestType),
      namespaceObject: namespace === undefined ? null : fromJson(namespace, namespaceType),
      authorizer: authorizerValue(),
      'authorizer.requestResource': resourceCheckOf({
        group: requested.group,
        resource: requested.resource,
        subresource: attributes.subresource,
        namespace: kind.namespaced ? info.namespace : '',
        name: attributes.object.metadata.name ?? info.name,
      }),
    });
  }

  /** The same request with a policy's parameters and variables, and what they may cost. */
  with(params: KubeObject | undefined, programs: ReadonlyMap<string, Program>): Evaluator {
    const made = new Evaluator(this.#context, {
      ...this.#variables,
      params: params === undefined ? null : fromJson(params),
    });
    made.#lazy = { programs, found: new Map() };
    return made;
  }

  /** Rejects with a `CelError`. */
  async value(ready: Ready): Promise<Value> {
    if ('error' in ready) throw new CelError(ready.error.message);
    const { value, cost } = await ready.program.evaluate(
      { variables: this.#variables, lazy: this.#lazy, host: this },
      giveWay,
    );
    this.#left -= cost;
    if (this.#left < 0)
      throw new CelError(
        'validation failed due to running out of cost budget, no further validation rules will be run',
      );
    return value;
  }

  async authorize(question: Question): Promise<Answer> {
    const { server, user } = this.#context;
    const { account, path, verb, group = '', resource = '', subresource = '', namespace = '', name = '' } = question;
    const asking =
      account === undefined
        ? user
        : {
            name: `system:serviceaccount:${account.join(':')}`,
            groups: ['system:serviceaccounts', `system:serviceaccounts:${account[0]}`, 'system:authenticated'],
          };
    const attributes = { user: asking, verb, group, version: '*', resource, subresource, namespace, name };
    const allowed = await isAllowed(server, { ...attributes, isResource: path === undefined, path: path ?? '' });
    return { allowed, reason: '' };
  }
}

/** What a request is about, as it is seen and as it was made. */
export function subjectsOf(
  { kind, requested = kind }: RequestContext,
  { object, operation }: Pick<AdmissionAttributes, 'object' | 'operation'>,
): Record<'kind' | 'resource' | 'requestKind' | 'requestResource', object> {
  const isConnect = operation === 'CONNECT';
  const kindOf = ({ group, version, kind: name }: KindRecord): object => ({
    group,
    version,
    kind: isConnect ? object.kind : name,
  });
  const resourceOf = ({ group, version, resource }: KindRecord): object => ({ group, version, resource });
  return {
    kind: kindOf(kind),
    resource: resourceOf(kind),
    requestKind: kindOf(requested),
    requestResource: resourceOf(requested),
  };
}

function requestOf(context: RequestContext, { object, operation, subresource, dryRun }: AdmissionAttributes): unknown {
  const { kind, info, user } = context;
  return {
    ...subjectsOf(context, { object, operation }),
    subResource: subresource,
    requestSubResource: subresource,
    name: object.metadata.name ?? info.name,
    namespace: kind.namespaced ? info.namespace : '',
    operation,
    userInfo: { username: user.name, groups: user.groups, uid: user.uid ?? '', extra: user.extra ?? {} },
    dryRun,
    options: null,
  };
}

/** Conditions that are kept with what they belong to. */
const prepared = new WeakMap<readonly MatchCondition[], readonly Ready[]>();

/**
 * Whether all conditions hold: one that does not outweighs errors of others. Throws the first error's text in a
 * `CelError` where none says no.
 */
export async function conditionsHold(
  conditions: readonly MatchCondition[] | undefined,
  evaluator: Evaluator,
  place: ExpressionPlace = { hasParams: false, hasAuthorizer: true },
): Promise<boolean> {
  if (conditions === undefined || conditions.length === 0) return true;
  let ready = prepared.get(conditions);
  if (ready === undefined) {
    ready = conditions.map(({ expression }) => prepare(expression, place, [types.bool]));
    prepared.set(conditions, ready);
  }
  let failed: CelError | undefined;
  for (const [i, each] of ready.entries()) {
    try {
      if ((await evaluator.value(each)) === false) return false;
    } catch (error) {
      if (!(error instanceof CelError)) throw error;
      failed ??= new CelError(`${conditions[i]?.name}: ${error.message}`);
    }
  }
  if (failed !== undefined) throw failed;
  return true;
}
