/** What rules grant, as single permissions that can be compared. */
import type { PolicyRule } from '#api/rbac.v1.ts';

/** One verb on one path, or on one resource: all of its objects, or one. */
export type Permission =
  | { verb: string; url: string }
  | { verb: string; group: string; resource: string; name?: string };

/** A rule as the single permissions that it grants. */
function* breakDown({
  verbs,
  nonResourceURLs = [],
  apiGroups = [],
  resources = [],
  resourceNames = [],
}: PolicyRule): Generator<Permission> {
  for (const verb of verbs) {
    for (const url of nonResourceURLs) yield { verb, url };
    for (const group of apiGroups)
      for (const resource of resources) {
        if (resourceNames.length === 0) yield { verb, group, resource };
        for (const name of resourceNames) yield { verb, group, resource, name };
      }
  }
}

const listCovers = (list: readonly string[] | undefined, value: string): boolean =>
  list !== undefined && (list.includes('*') || list.includes(value));

/** Whether a rule that somebody has grants a single permission. */
function covers(have: PolicyRule, want: Permission): boolean {
  if (!listCovers(have.verbs, want.verb)) return false;
  if ('url' in want)
    return (have.nonResourceURLs ?? []).some(
      (url) => url === '*' || url === want.url || (url.endsWith('*') && want.url.startsWith(url.slice(0, -1))),
    );
  const { resource, name } = want;
  if (!listCovers(have.apiGroups, want.group)) return false;
  const slash = resource.indexOf('/');
  if (
    !(have.resources ?? []).some((r) => r === '*' || r === resource || (slash > 0 && r === `*${resource.slice(slash)}`))
  )
    return false;
  const { resourceNames = [] } = have;
  return resourceNames.length === 0 || (name !== undefined && resourceNames.includes(name));
}

/** What one rule grants and none of the others does. */
export function* missingPermissions(have: readonly PolicyRule[], rule: PolicyRule): Generator<Permission> {
  for (const permission of breakDown(rule)) if (!have.some((other) => covers(other, permission))) yield permission;
}
