/**
 * Which requests are recorded, and how much of them (Kubernetes, "Auditing", "Audit policy"): the first rule that
 * matches says so; a request that none matches is not recorded.
 */
import type { UserInfo } from '#base/api-request.ts';
import { fieldOf, isObject } from '#base/unknown.ts';
import { subdomainProblem } from '#schema/name-forms.ts';
import { ConfigReader, type ConfigFields } from '../config-reader.ts';
import type { RequestInfo } from '../request-info.ts';

const levels = ['None', 'Metadata', 'Request', 'RequestResponse'] as const;
export type Level = (typeof levels)[number];
const stages = ['RequestReceived', 'ResponseStarted', 'ResponseComplete', 'Panic'] as const;
export type Stage = (typeof stages)[number];

/** What is recorded of one request. */
export interface Recording {
  level: Level;
  omitStages: ReadonlySet<string>;
  omitManagedFields: boolean;
}

interface GroupResources {
  group: string;
  resources: readonly string[];
  resourceNames: readonly string[];
}

interface Rule {
  recording: Recording;
  users: readonly string[];
  userGroups: readonly string[];
  verbs: readonly string[];
  resources: readonly GroupResources[];
  namespaces: readonly string[];
  nonResourceURLs: readonly string[];
}

export type AuditPolicy = readonly Rule[];

const nothing: Recording = { level: 'None', omitStages: new Set(), omitManagedFields: false };
const ofRule = [
  'level',
  'users',
  'userGroups',
  'verbs',
  'resources',
  'namespaces',
  'nonResourceURLs',
  'omitStages',
  'omitManagedFields',
];

/** Throws BadRequest, with all that is wrong. */
export function parseAuditPolicy(text: string, file: string): AuditPolicy {
  const reader = new ConfigReader(text, file, { apiVersion: ['audit.k8s.io/v1'], kind: 'Policy' });
  const top = reader.fields(reader.root, '', ['omitStages', 'omitManagedFields', 'rules', 'metadata']);
  const omitStages = readStages(top, reader);
  const omitManagedFields = top.boolean('omitManagedFields') ?? false;
  const rules = top
    .objects('rules')
    .map(([rule, at]) => readRule(reader.fields(rule, at, ofRule), reader, { omitStages, omitManagedFields }));
  if (rules.length === 0) reader.required('rules', 'loaded illegal policy with 0 rules');
  reader.throwIfAny();
  return rules;
}

function readStages(fields: ConfigFields, reader: ConfigReader): string[] {
  const given = fields.strings('omitStages');
  given.forEach((stage, i) => {
    if (!stages.some((known) => known === stage))
      reader.invalid(`${fields.at('omitStages')}[${i}]`, stage, `allowed stages are ${stages.join(',')}`);
  });
  return given;
}

function readRule(
  fields: ConfigFields,
  reader: ConfigReader,
  top: { omitStages: string[]; omitManagedFields: boolean },
): Rule {
  const level = levels.find((known) => known === fields.string('level'));
  if (fields.string('level') === '') reader.required(fields.at('level'));
  else if (level === undefined) reader.unsupported(fields.at('level'), fields.string('level'), levels);
  const resources = fields.objects('resources').map(([each, at]) => {
    const own = reader.fields(each, at, ['group', 'resources', 'resourceNames']);
    const group = own.string('group');
    const wrong = group === '' || group === '*' ? '' : subdomainProblem(group);
    if (wrong !== '') reader.invalid(own.at('group'), group, wrong);
    const [names, only] = [own.strings('resources'), own.strings('resourceNames')];
    if (only.length > 0 && names.length === 0)
      reader.invalid(own.at('resourceNames'), only, 'using resourceNames requires at least one resource');
    return { group, resources: names, resourceNames: only };
  });
  const namespaces = fields.strings('namespaces');
  const nonResourceURLs = fields.strings('nonResourceURLs');
  nonResourceURLs.forEach((url, i) => {
    if (url === '*') return;
    const at = `${fields.at('nonResourceURLs')}[${i}]`;
    if (!url.startsWith('/')) reader.invalid(at, url, "non-resource URL rules must begin with a '/' character");
    if (url.slice(0, -1).includes('*'))
      reader.invalid(at, url, "non-resource URL wildcards '*' must be the final character of the rule");
  });
  if (nonResourceURLs.length > 0 && (resources.length > 0 || namespaces.length > 0))
    reader.invalid(
      fields.at('nonResourceURLs'),
      nonResourceURLs,
      'rules cannot apply to both regular resources and non-resource URLs',
    );
  return {
    recording: {
      level: level ?? 'None',
      omitStages: new Set([...top.omitStages, ...readStages(fields, reader)]),
      omitManagedFields: fields.boolean('omitManagedFields') ?? top.omitManagedFields,
    },
    users: fields.strings('users'),
    userGroups: fields.strings('userGroups'),
    verbs: fields.strings('verbs'),
    resources,
    namespaces,
    nonResourceURLs,
  };
}

const isAny = (list: readonly string[], value: string): boolean => list.length === 0 || list.includes(value);

/** `user` is undefined where it is not known who asks. */
export function recordingOf(policy: AuditPolicy, user: UserInfo | undefined, info: RequestInfo): Recording {
  return policy.find((rule) => matchesRule(rule, user, info))?.recording ?? nothing;
}

function matchesRule(rule: Rule, user: UserInfo | undefined, info: RequestInfo): boolean {
  if (rule.users.length > 0 && (user === undefined || !rule.users.includes(user.name))) return false;
  if (rule.userGroups.length > 0 && !(user?.groups ?? []).some((group) => rule.userGroups.includes(group)))
    return false;
  if (!isAny(rule.verbs, info.verb)) return false;
  if (rule.namespaces.length > 0 || rule.resources.length > 0) return matchesResources(rule, info);
  if (rule.nonResourceURLs.length > 0)
    return !info.isResource && rule.nonResourceURLs.some((url) => matchesUrl(url, info.path));
  return true;
}

const matchesUrl = (url: string, path: string): boolean =>
  url === '*' || url === path || (url.endsWith('*') && path.startsWith(url.slice(0, -1)));

function matchesResources({ namespaces, resources }: Rule, info: RequestInfo): boolean {
  const namespace = info.resource === 'namespaces' ? info.name : info.namespace;
  if (!info.isResource || !isAny(namespaces, namespace)) return false;
  if (resources.length === 0) return true;
  const full = info.subresource === '' ? info.resource : `${info.resource}/${info.subresource}`;
  return resources.some(({ group, resources: names, resourceNames }) => {
    if (group !== '*' && group !== info.group) return false;
    if (names.length === 0) return true;
    return (
      isAny(resourceNames, info.name) &&
      names.some(
        (name) =>
          name === '*' ||
          name === full ||
          (info.subresource !== '' && name === `*/${info.subresource}`) ||
          name === `${info.resource}/*`,
      )
    );
  });
}

/** An object as it is recorded without `managedFields`: its own, and those of what it lists. */
export function withoutManagedFields(object: unknown): unknown {
  if (!isObject(object)) return object;
  const { metadata, items } = object;
  const kept = { ...object };
  if (isObject(metadata) && fieldOf(metadata, 'managedFields') !== undefined) {
    const { managedFields: _managed, ...rest } = metadata;
    kept.metadata = rest;
  }
  if (Array.isArray(items)) kept.items = items.map(withoutManagedFields);
  return kept;
}
