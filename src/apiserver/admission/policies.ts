/**
 * What ValidatingAdmissionPolicies and MutatingAdmissionPolicies share: which of their bindings apply to a request, and
 * with which parameters (Kubernetes documentation, "Validating Admission Policy").
 */
import type {
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  ParamKind,
  ParamRef,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
} from '#api/admissionregistration.v1.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import { groupVersionOf, type KubeObject } from '#base/objects.ts';
import { giveWay } from '#os/turn.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { RequestContext } from '../context.ts';
import { policyParamsMax, scanPageMax } from '../limits.ts';
import { fromStored, storageKey, storagePrefix } from '../stored-objects.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { resourcesMatch } from './matching.ts';

export type Policy = ValidatingAdmissionPolicy | MutatingAdmissionPolicy;
type Binding = ValidatingAdmissionPolicyBinding | MutatingAdmissionPolicyBinding;

/** Kinds that policies never see, so that a wrong one can always be removed. */
const exempt = new Set(
  ['Validating', 'Mutating'].flatMap((name) => [`${name}AdmissionPolicy`, `${name}AdmissionPolicyBinding`]),
);
export const isExempt = ({ kind }: RequestContext): boolean =>
  kind.group === 'admissionregistration.k8s.io' && exempt.has(kind.kind);

/** What hinders a policy or a binding from being used at all; its failure policy decides what that means. */
export class ConfigurationError extends Error {}

export interface Applied<B extends Binding> {
  binding: B;
  /** As which the policy sees the request. */
  kind: KindRecord;
  /** Each is judged by; one that is undefined where the policy takes none. */
  params: readonly (KubeObject | undefined)[] | ConfigurationError;
}

/** The bindings of the policy that match the request, with their parameters. */
export async function bindingsFor<B extends Binding>(
  policy: Policy,
  bindings: readonly B[],
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<Applied<B>[]> {
  const { spec } = policy;
  const own = bindings.filter((binding) => binding.spec?.policyName === policy.metadata.name);
  const kind = own.length === 0 ? undefined : await resourcesMatch(spec?.matchConstraints, context, attributes);
  if (kind === undefined) return [];
  const applied: Applied<B>[] = [];
  for (const binding of own) {
    if ((await resourcesMatch(binding.spec?.matchResources, context, attributes)) === undefined) continue;
    let params: Applied<B>['params'];
    try {
      params = await paramsOf(context, spec?.paramKind, binding.spec?.paramRef);
    } catch (error) {
      if (!(error instanceof ConfigurationError)) throw error;
      params = error;
    }
    applied.push({ binding, kind, params });
  }
  return applied;
}

/** Throws `ConfigurationError`. */
async function paramsOf(
  context: RequestContext,
  paramKind: ParamKind | undefined,
  paramRef: ParamRef | undefined,
): Promise<readonly (KubeObject | undefined)[]> {
  if (paramKind === undefined || paramRef === undefined) return [undefined];
  const { apiVersion = '', kind: name = '' } = paramKind;
  const { group, version } = groupVersionOf(apiVersion);
  const kind = context.server.kinds.findKind(group, version, name);
  if (kind === undefined)
    throw new ConfigurationError(`failed to find resource referenced by paramKind: '${apiVersion}, Kind=${name}'`);
  const namespace = namespaceOfParams(context, kind, paramRef);
  const found =
    paramRef.selector === undefined || paramRef.selector === null
      ? await oneParam(context, kind, namespace, paramRef.name ?? '')
      : await selectedParams(context, kind, namespace, paramRef);
  if (found.length === 0 && paramRef.parameterNotFoundAction !== 'Allow')
    throw new ConfigurationError('no params found for policy binding with `Deny` parameterNotFoundAction');
  return found;
}

function namespaceOfParams(
  { kind: asked, info }: RequestContext,
  kind: KindRecord,
  { namespace = '' }: ParamRef,
): string {
  if (!kind.namespaced) {
    if (namespace !== '')
      throw new ConfigurationError('paramRef.namespace must not be provided for a cluster-scoped `paramKind`');
    return '';
  }
  if (namespace !== '') return namespace;
  if (!asked.namespaced || info.namespace === '')
    throw new ConfigurationError(
      'cannot use namespaced paramRef in policy binding that matches cluster-scoped resources',
    );
  return info.namespace;
}

async function oneParam(
  { server }: RequestContext,
  kind: KindRecord,
  namespace: string,
  name: string,
): Promise<KubeObject[]> {
  const stored = await server.store.get(storageKey(kind, namespace, name));
  return stored === undefined ? [] : [fromStored(kind, server.objects.view(stored))];
}

async function selectedParams(
  { server }: RequestContext,
  kind: KindRecord,
  namespace: string,
  { selector }: ParamRef,
): Promise<KubeObject[]> {
  const found: KubeObject[] = [];
  const prefix = storagePrefix(kind, namespace);
  let page = await server.store.list(prefix, { limit: scanPageMax });
  for (;;) {
    for (const stored of page.values) {
      const object = fromStored(kind, server.objects.view(stored));
      if (!matchesSelectorObject(selector, object.metadata.labels)) continue;
      found.push(object);
      if (found.length > policyParamsMax)
        throw new ConfigurationError(`the selector of paramRef finds more than ${policyParamsMax} params`);
    }
    const last = page.values.at(-1);
    if (!page.more || last === undefined) return found;
    page = await server.store.list(prefix, { limit: scanPageMax, after: last.key, revision: page.revision });
    await giveWay();
  }
}
