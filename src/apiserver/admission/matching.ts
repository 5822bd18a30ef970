/** Which requests a webhook or a policy is asked about: by rules, selectors and conditions. */
import type { MatchResources, NamedRuleWithOperations, RuleWithOperations } from '#api/admissionregistration.v1.ts';
import type { KubeObject } from '#base/objects.ts';
import { matchesSelectorObject } from '#base/selectors.ts';
import type { KindRecord } from '#schema/kind.ts';
import type { RequestContext } from '../context.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { versionsOf } from './equivalents.ts';

const has = (list: readonly string[] | undefined, value: string): boolean =>
  list !== undefined && (list.includes('*') || list.includes(value));

function ruleMatches(rule: RuleWithOperations, kind: KindRecord, attributes: AdmissionAttributes): boolean {
  if (
    !has(rule.operations, attributes.operation) ||
    !has(rule.apiGroups, kind.group) ||
    !has(rule.apiVersions, kind.version)
  )
    return false;
  if ((rule.scope === 'Namespaced' && !kind.namespaced) || (rule.scope === 'Cluster' && kind.namespaced)) return false;
  const { subresource } = attributes;
  return (rule.resources ?? []).some((r) => {
    const [resource = '', sub = ''] = r.split('/');
    const named = resource === '*' || resource === kind.resource;
    return named && (sub === subresource || (sub === '*' && r.includes('/')) || r === '*/*');
  });
}

/** The object's own name; that of the request where it has none yet. */
const nameOf = (context: RequestContext, { object }: AdmissionAttributes): string =>
  object.metadata.name || context.info.name;

function namedRuleMatches(
  rule: NamedRuleWithOperations,
  kind: KindRecord,
  context: RequestContext,
  attributes: AdmissionAttributes,
): boolean {
  const names = rule.resourceNames ?? [];
  return ruleMatches(rule, kind, attributes) && (names.length === 0 || names.includes(nameOf(context, attributes)));
}

interface Selecting {
  namespaceSelector?: MatchResources['namespaceSelector'];
  objectSelector?: MatchResources['objectSelector'];
}

/** The Namespace that a request is in, as it is or, where it is written, as it will be; undefined for the cluster's. */
export async function namespaceOf(
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<KubeObject | undefined> {
  const { kind, info, server } = context;
  const isNamespace = kind.group === '' && kind.kind === 'Namespace';
  if (isNamespace && attributes.operation !== 'DELETE') return attributes.object;
  const name = kind.namespaced ? info.namespace : isNamespace ? (attributes.object.metadata.name ?? '') : '';
  if (name === '') return undefined;
  const found = (await server.live.namespaces.current()).get('', name);
  return found ?? (isNamespace ? attributes.object : { ...attributes.object, metadata: { name } });
}

async function selects(
  { namespaceSelector, objectSelector }: Selecting,
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<boolean> {
  const labelsOf = (o: KubeObject | undefined): Record<string, string> => o?.metadata.labels ?? {};
  if (
    !matchesSelectorObject(objectSelector ?? {}, labelsOf(attributes.object)) &&
    (attributes.old === undefined || !matchesSelectorObject(objectSelector ?? {}, labelsOf(attributes.old)))
  )
    return false;
  const namespace = await namespaceOf(context, attributes);
  return namespace === undefined || matchesSelectorObject(namespaceSelector ?? {}, labelsOf(namespace));
}

/** The kind as which a webhook sees the request; undefined where its rules or selectors do not match. */
export async function hookMatches(
  hook: Selecting & { rules?: RuleWithOperations[]; matchPolicy?: string },
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<KindRecord | undefined> {
  const seen = versionsOf(context, hook.matchPolicy).find((kind) =>
    (hook.rules ?? []).some((rule) => ruleMatches(rule, kind, attributes)),
  );
  return seen !== undefined && (await selects(hook, context, attributes)) ? seen : undefined;
}

/**
 * The kind as which a policy sees the request; undefined where its resources, or those of its binding, do not match. A
 * binding without rules leaves them to its policy.
 */
export async function resourcesMatch(
  match: MatchResources | undefined,
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<KindRecord | undefined> {
  if (match === undefined) return context.kind;
  const versions = versionsOf(context, match.matchPolicy);
  const first = (rules: readonly NamedRuleWithOperations[]): KindRecord | undefined =>
    versions.find((kind) => rules.some((rule) => namedRuleMatches(rule, kind, context, attributes)));
  if (first(match.excludeResourceRules ?? []) !== undefined) return undefined;
  const { resourceRules = [] } = match;
  const seen = resourceRules.length === 0 ? context.kind : first(resourceRules);
  return seen !== undefined && (await selects(match, context, attributes)) ? seen : undefined;
}
