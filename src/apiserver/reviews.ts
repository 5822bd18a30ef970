/**
 * Kinds that are questions and are not stored: access reviews, token reviews, who am I, and the binding of a Pod as a
 * kind of its own.
 */
import type { TokenReviewSpec, TokenReviewStatus, UserInfo as ReviewedUser } from '#api/authentication.v1.ts';
import type {
  NonResourceRule,
  ResourceRule,
  SelfSubjectAccessReviewSpec,
  SubjectAccessReviewSpec,
  SubjectAccessReviewStatus,
  SubjectRulesReviewStatus,
} from '#api/authorization.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { PolicyRule } from '#api/rbac.v1.ts';
import { ApiError } from '#base/errors.ts';
import type { ApiResponse, UserInfo } from '#base/api-request.ts';
import { kinds } from '#base/kinds.ts';
import { isDraftOf, type KubeList } from '#base/objects.ts';
import { timestamp } from '#base/timestamp.ts';
import type { KindRecord } from '#schema/kind.ts';
import { issuerOf, identifyBearer } from './authn/authenticate.ts';
import { decide } from './authz/authorizer-chain.ts';
import { visitRules } from './authz/rbac.ts';
import type { Attributes } from './authz/attributes.ts';
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

function userInfoOf(user: UserInfo): ReviewedUser {
  return {
    username: user.name,
    ...(user.uid === undefined ? {} : { uid: user.uid }),
    groups: user.groups,
    ...(user.extra === undefined ? {} : { extra: user.extra }),
  };
}

/** What a review of access asks for. */
type AccessSpec = Draft<SelfSubjectAccessReviewSpec>;

function attributesFrom({ nonResourceAttributes, resourceAttributes }: AccessSpec, user: UserInfo): Attributes {
  const base = { user, group: '', version: '', resource: '', subresource: '', namespace: '', name: '', path: '' };
  if (nonResourceAttributes !== undefined) {
    const { verb = '', path = '' } = nonResourceAttributes;
    return { ...base, isResource: false, verb, path };
  }
  if (resourceAttributes === undefined)
    throw new ApiError(
      'Invalid',
      'spec.resourceAttributes: Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be specified',
    );
  const {
    verb = '',
    group = '',
    version = '',
    resource = '',
    subresource = '',
    namespace = '',
    name = '',
  } = resourceAttributes;
  return { ...base, isResource: true, verb, group, version, resource, subresource, namespace, name };
}

/** Whom a review is about. */
function subjectOf({ user = '', groups = [], extra }: Draft<SubjectAccessReviewSpec>): UserInfo {
  if (user === '' && groups.length === 0)
    throw new ApiError(
      'Invalid',
      'SubjectAccessReview.authorization.k8s.io "" is invalid: spec.user: Invalid value: "": at least one of user or group must be specified',
    );
  return { name: user, groups, ...(extra === undefined ? {} : { extra }) };
}

export async function handleReview(context: RequestContext): Promise<ApiResponse> {
  const { server, user, info } = context;
  if (context.kind.kind === 'ComponentStatus') return answerComponents(context);
  const review = decodeObject(context);
  if (isDraftOf(kinds.Binding, review)) return bindPod(context, review, review.metadata.name ?? '');
  if (isDraftOf(kinds.SelfSubjectReview, review)) {
    review.metadata.creationTimestamp = timestamp(server.clock.now());
    review.status = { userInfo: userInfoOf(user) };
  } else if (isDraftOf(kinds.TokenReview, review)) review.status = await reviewToken(context, review.spec ?? {});
  else if (isDraftOf(kinds.SelfSubjectAccessReview, review))
    review.status = await reviewAccess(context, attributesFrom(review.spec ?? {}, user));
  else if (isDraftOf(kinds.SelfSubjectRulesReview, review))
    review.status = await reviewRules(context, review.spec?.namespace ?? '');
  else if (isDraftOf(kinds.SubjectAccessReview, review))
    review.status = await reviewAccess(context, attributesFrom(review.spec ?? {}, subjectOf(review.spec ?? {})));
  else if (isDraftOf(kinds.LocalSubjectAccessReview, review)) {
    const attributes = attributesFrom(review.spec ?? {}, subjectOf(review.spec ?? {}));
    review.status = await reviewAccess(context, { ...attributes, namespace: info.namespace });
  }
  return answerObject(context, review, 201);
}

async function reviewAccess(context: RequestContext, attributes: Attributes): Promise<SubjectAccessReviewStatus> {
  const decision = await decide(context.server, attributes);
  const reason = decision.reason();
  return {
    allowed: decision.allowed,
    ...(decision.denied === true ? { denied: true } : {}),
    ...(reason === '' ? {} : { reason }),
  };
}

async function reviewRules(context: RequestContext, namespace: string): Promise<SubjectRulesReviewStatus> {
  const resourceRules: ResourceRule[] = [];
  const nonResourceRules: NonResourceRule[] = [];
  const add = ({ verbs, apiGroups = [], resources = [], resourceNames = [], nonResourceURLs = [] }: PolicyRule) => {
    if (nonResourceURLs.length > 0) nonResourceRules.push({ verbs, nonResourceURLs });
    else resourceRules.push({ verbs, apiGroups, resources, ...(resourceNames.length > 0 ? { resourceNames } : {}) });
    return false;
  };
  if (context.user.groups.includes('system:masters')) {
    add({ verbs: ['*'], apiGroups: ['*'], resources: ['*'] });
    add({ verbs: ['*'], nonResourceURLs: ['*'] });
  }
  await visitRules(context.server, context.user, namespace, add);
  return { resourceRules, nonResourceRules, incomplete: false };
}

async function reviewToken(
  context: RequestContext,
  { token = '', audiences: asked = [] }: Draft<TokenReviewSpec>,
): Promise<TokenReviewStatus> {
  const audiences = asked.length > 0 ? asked : [issuerOf(context.server)];
  const identity = token === '' ? undefined : await identifyBearer(context.server, token, audiences);
  if (identity === undefined)
    return { authenticated: false, user: {}, error: '[invalid bearer token, token lookup failed]' };
  return { authenticated: true, user: userInfoOf(identity.user), audiences: identity.audiences };
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
  const list: KubeList = { kind: 'ComponentStatusList', apiVersion: 'v1', metadata: {}, items };
  return answerObject(context, list);
}
