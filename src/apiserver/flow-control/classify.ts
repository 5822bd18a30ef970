/**
 * Which FlowSchema a request belongs to, and which flow of it (Kubernetes, "API Priority and Fairness", "FlowSchema"):
 * the first that matches, by matching precedence and then by name.
 */
import type { FlowSchema, NonResourcePolicyRule, ResourcePolicyRule, Subject } from '#api/flowcontrol.v1.ts';
import type { UserInfo } from '#base/api-request.ts';
import type { RequestInfo } from '../request-info.ts';

type Matches<T> = (value: T) => boolean;

/** Of a list that is `*`, or names what it covers; `*` stands alone, validation sees to that. */
function covers(list: readonly string[]): Matches<string> | undefined {
  if (list.length === 1 && list[0] === '*') return undefined;
  const [only = ''] = list;
  return list.length === 1 ? (value) => value === only : (value) => list.includes(value);
}

const accountPrefix = 'system:serviceaccount:';

function compileSubject({ kind, user, group, serviceAccount }: Subject): Matches<UserInfo> {
  if (kind === 'User' && user !== undefined) return user.name === '*' ? () => true : ({ name }) => name === user.name;
  if (kind === 'Group' && group !== undefined)
    return group.name === '*' ? () => true : ({ groups }) => groups.includes(group.name);
  if (kind !== 'ServiceAccount' || serviceAccount === undefined) return () => false;
  const { namespace, name } = serviceAccount;
  const beginning = `${accountPrefix}${namespace}:`;
  return name === '*'
    ? (account) => account.name.startsWith(beginning)
    : (account) => account.name === beginning + name;
}

function compileResourceRule(rule: ResourcePolicyRule): Matches<RequestInfo> {
  const verbs = covers(rule.verbs);
  const groups = covers(rule.apiGroups);
  const resources = covers(rule.resources);
  const namespaces = covers(rule.namespaces ?? []);
  const clusterScope = rule.clusterScope === true;
  return (info) =>
    (info.namespace === '' ? clusterScope : namespaces === undefined || namespaces(info.namespace)) &&
    (verbs === undefined || verbs(info.verb)) &&
    (groups === undefined || groups(info.group)) &&
    (resources === undefined ||
      resources(info.subresource === '' ? info.resource : `${info.resource}/${info.subresource}`));
}

function compilePath(url: string): Matches<string> {
  if (url === '*') return () => true;
  const prefix = url.endsWith('*') ? url.slice(0, -1) : url;
  const directory = prefix.endsWith('/') ? prefix : `${prefix}/`;
  return (path) => path === url || path.startsWith(directory);
}

function compileNonResourceRule({ verbs, nonResourceURLs }: NonResourcePolicyRule): Matches<RequestInfo> {
  const coversVerb = covers(verbs);
  const paths = nonResourceURLs.map(compilePath);
  return ({ verb, path }) => (coversVerb === undefined || coversVerb(verb)) && paths.some((matches) => matches(path));
}

/** Whether a request of a user belongs to the schema: compiled once, asked for each request. */
export function compileFlowSchema({ spec }: Pick<FlowSchema, 'spec'>): (user: UserInfo, info: RequestInfo) => boolean {
  const rules = (spec.rules ?? []).map(({ subjects, resourceRules = [], nonResourceRules = [] }) => ({
    subjects: subjects.map(compileSubject),
    resources: resourceRules.map(compileResourceRule),
    others: nonResourceRules.map(compileNonResourceRule),
  }));
  return (user, info) => {
    for (const { subjects, resources, others } of rules) {
      const asked = info.isResource ? resources : others;
      if (asked.length > 0 && subjects.some((matches) => matches(user)) && asked.some((matches) => matches(info)))
        return true;
    }
    return false;
  };
}

/** What tells the flows of a schema apart. */
export function distinguisherOf(user: UserInfo, info: RequestInfo, { spec }: Pick<FlowSchema, 'spec'>): string {
  switch (spec.distinguisherMethod?.type) {
    case 'ByUser':
      return user.name;
    case 'ByNamespace':
      return info.namespace;
    default:
      return '';
  }
}

interface Ordered {
  metadata: { name?: string };
  spec: { matchingPrecedence?: number };
}
export function byPrecedence(a: Ordered, b: Ordered): number {
  const difference = (a.spec.matchingPrecedence ?? 0) - (b.spec.matchingPrecedence ?? 0);
  return difference !== 0 ? difference : (a.metadata.name ?? '') < (b.metadata.name ?? '') ? -1 : 1;
}
