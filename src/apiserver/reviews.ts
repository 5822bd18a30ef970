/**
 * Kinds that are questions and are not stored: access reviews, token reviews, who am I, and the binding of a Pod as a
 * kind of its own.
 */
import { ApiError } from '#base/errors.ts';
import type { ApiResponse, UserInfo } from '#base/api-request.ts';
import type { Json } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import type { KindRecord } from '#schema/kind.ts';
import { issuerOf, identifyToken } from './authn/authenticate.ts';
import { isAllowed } from './authz/authorize.ts';
import { visitRules } from './authz/rbac.ts';
import type { PolicyRule } from '#api/rbac.v1.ts';
import type { Attributes } from './authz/rbac.ts';
import type { RequestContext } from './context.ts';
import { decodeObject } from './decode.ts';
import { answerObject } from './respond.ts';
import { bindPod } from './subresources.ts';

const reviews = new Set([
  'SelfSubjectReview',
  'TokenReview',
  'LocalSubjectAccessReview',
  'SelfSubjectAccessReview',
  'SelfSubjectRulesReview',
  'SubjectAccessReview',
  'Binding',
  'ComponentStatus',
]);

export function isReview(kind: KindRecord): boolean {
  return kind.custom !== true && reviews.has(kind.kind) && kind.group !== 'example.com';
}

function userJson(user: UserInfo): Json {
  return {
    username: user.name,
    ...(user.uid === undefined ? {} : { uid: user.uid }),
    groups: user.groups,
    ...(user.extra === undefined ? {} : { extra: user.extra }),
  };
}

function attributesFrom(spec: Json, user: UserInfo): Attributes {
  const base = {
    user,
    verb: '',
    isResource: false,
    group: '',
    version: '',
    resource: '',
    subresource: '',
    namespace: '',
    name: '',
    path: '',
  };
  if (spec.nonResourceAttributes)
    return { ...base, verb: spec.nonResourceAttributes.verb ?? '', path: spec.nonResourceAttributes.path ?? '' };
  const r = spec.resourceAttributes;
  if (!r)
    throw new ApiError(
      'Invalid',
      'spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified',
    );
  return {
    ...base,
    isResource: true,
    verb: r.verb ?? '',
    group: r.group ?? '',
    version: r.version ?? '',
    resource: r.resource ?? '',
    subresource: r.subresource ?? '',
    namespace: r.namespace ?? '',
    name: r.name ?? '',
  };
}

export async function handleReview(context: RequestContext): Promise<ApiResponse> {
  const { kind, server, user } = context;
  if (kind.kind === 'ComponentStatus') return answerComponents(context);
  const review = decodeObject(context);
  const spec: Json = review.spec ?? {};
  switch (kind.kind) {
    case 'Binding':
      return bindPod(context, review, review.metadata.name ?? '');
    case 'SelfSubjectReview':
      review.metadata.creationTimestamp = timestamp(server.clock.now());
      review.status = { userInfo: userJson(user) };
      break;
    case 'TokenReview':
      review.status = await reviewToken(context, spec);
      break;
    case 'SelfSubjectAccessReview':
      review.status = await reviewAccess(context, attributesFrom(spec, user));
      break;
    case 'SelfSubjectRulesReview':
      review.status = await reviewRules(context, spec.namespace ?? '');
      break;
    default: {
      if (!spec.user && (spec.groups ?? []).length === 0)
        throw new ApiError(
          'Invalid',
          'SubjectAccessReview.authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user or group must be specified',
        );
      const subject: UserInfo = {
        name: spec.user ?? '',
        groups: spec.groups ?? [],
        ...(spec.extra === undefined ? {} : { extra: spec.extra }),
      };
      const attributes = attributesFrom(spec, subject);
      if (kind.kind === 'LocalSubjectAccessReview') attributes.namespace = context.info.namespace;
      review.status = await reviewAccess(context, attributes);
    }
  }
  return answerObject(context, review, 201);
}

async function reviewAccess(context: RequestContext, attributes: Attributes): Promise<Json> {
  const allowed = await isAllowed(context.server, attributes);
  if (!allowed) return { allowed };
  let reason = '';
  await visitRules(context.server, attributes.user, attributes.namespace, (_rule, binding) => {
    reason = `RBAC: allowed by ${binding.kind} ${JSON.stringify(binding.metadata.namespace ? `${binding.metadata.name}/${binding.metadata.namespace}` : binding.metadata.name)} of ${binding.roleRef.kind} ${JSON.stringify(binding.roleRef.name)}`;
    return false;
  });
  return { allowed, ...(reason === '' ? {} : { reason }) };
}

async function reviewRules(context: RequestContext, namespace: string): Promise<Json> {
  const resourceRules: Json[] = [];
  const nonResourceRules: Json[] = [];
  const add = (rule: PolicyRule): boolean => {
    if ((rule.nonResourceURLs ?? []).length > 0)
      nonResourceRules.push({ verbs: rule.verbs, nonResourceURLs: rule.nonResourceURLs });
    else
      resourceRules.push({
        verbs: rule.verbs,
        apiGroups: rule.apiGroups ?? [],
        resources: rule.resources ?? [],
        ...((rule.resourceNames ?? []).length > 0 ? { resourceNames: rule.resourceNames } : {}),
      });
    return false;
  };
  if (context.user.groups.includes('system:masters')) {
    add({ verbs: ['*'], apiGroups: ['*'], resources: ['*'] });
    add({ verbs: ['*'], nonResourceURLs: ['*'] });
  }
  await visitRules(context.server, context.user, namespace, add);
  return { resourceRules, nonResourceRules, incomplete: false };
}

async function reviewToken(context: RequestContext, spec: Json): Promise<Json> {
  const audiences: string[] = (spec.audiences ?? []).length > 0 ? spec.audiences : [issuerOf(context.server)];
  const identity =
    typeof spec.token === 'string' && spec.token !== ''
      ? await identifyToken(context.server, spec.token, audiences)
      : undefined;
  if (identity === undefined)
    return { authenticated: false, user: {}, error: '[invalid bearer token, token lookup failed]' };
  return { authenticated: true, user: userJson(identity.user), audiences: identity.audiences };
}

function answerComponents(context: RequestContext): ApiResponse {
  const items = ['scheduler', 'controller-manager', 'etcd-0'].map((name) => ({
    apiVersion: 'v1',
    kind: 'ComponentStatus',
    metadata: { name, creationTimestamp: null },
    conditions: [{ type: 'Healthy', status: 'True', message: 'ok' }],
  }));
  if (context.info.verb === 'get') {
    const found = items.find((i) => i.metadata.name === context.info.name);
    if (found === undefined)
      throw new ApiError('NotFound', `componentstatuses ${JSON.stringify(context.info.name)} not found`);
    return answerObject(context, found);
  }
  return answerObject(context, { kind: 'ComponentStatusList', apiVersion: 'v1', metadata: {}, items });
}
