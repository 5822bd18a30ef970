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
import { isDraftOf, type KubeList, type KubeObject } from '#base/objects.ts';
import { parseFieldSelector, parseLabelSelector } from '#base/selectors.ts';
import { timestamp } from '#base/timestamp.ts';
import { FieldErrors } from '#schema/field-errors.ts';
import type { KindRecord } from '#schema/kind.ts';
import { fillZeros } from '#schema/zeros.ts';
import { issuerOf, identifyBearer } from './authn/authenticate.ts';
import { decide } from './authz/authorizer-chain.ts';
import { visitRules } from './authz/rbac.ts';
import type { Attributes } from './authz/attributes.ts';
import type { RequestContext } from './context.ts';
import { decodeObject } from './decode.ts';
import { trackManagedFields } from './managed-fields.ts';
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
  const { verb = '', path = '' } = nonResourceAttributes ?? {};
  if (resourceAttributes === undefined) return { ...base, isResource: false, verb, path };
  const { group = '', version = '', resource = '', subresource = '', namespace = '', name = '' } = resourceAttributes;
  const asked = { group, version, resource, subresource, namespace, name };
  return { ...base, isResource: true, verb: resourceAttributes.verb ?? '', ...asked };
}

/** Whom a review is about. */
function subjectOf({ user = '', groups = [], extra }: Draft<SubjectAccessReviewSpec>): UserInfo {
  return { name: user, groups, ...(extra === undefined ? {} : { extra }) };
}

/** What of a selector nobody can read here is not asked for, which is said. */
function selectorErrors({ resourceAttributes }: AccessSpec): string {
  const { fieldSelector, labelSelector } = resourceAttributes ?? {};
  const unread: [string, number, number][] = [];
  if (fieldSelector !== undefined) {
    const list = fieldSelector.requirements ?? [];
    const read = list.filter(({ operator, values = [] }) => /^(Not)?In$/.test(operator ?? '') && values.length === 1);
    const isRaw = isReadable(() => parseFieldSelector(fieldSelector.rawSelector ?? ''));
    unread.push(['fieldSelector', read.length, list.length - read.length + (isRaw ? 0 : 1)]);
  }
  if (labelSelector !== undefined) {
    const list = labelSelector.requirements ?? [];
    const read = list.filter(({ operator = '' }) => /^((Not)?In|Exists|DoesNotExist)$/.test(operator));
    const isRaw = isReadable(() => parseLabelSelector(labelSelector.rawSelector ?? ''));
    unread.push(['labelSelector', read.length, list.length - read.length + (isRaw ? 0 : 1)]);
  }
  return unread
    .filter(([, , count]) => count > 0)
    .map(([name, read]) => `spec.resourceAttributes.${name} ${read > 0 ? 'partially ' : ''}ignored due to parse error`)
    .join('; ');
}

function isReadable(read: () => unknown): boolean {
  try {
    read();
    return true;
  } catch {
    return false;
  }
}

const systemFields = [
  ...(['creationTimestamp', 'uid', 'selfLink', 'deletionTimestamp', 'deletionGracePeriodSeconds'] as const),
];

/** Reads a review as a create is read: in its namespace, its fields managed, and right. */
function readReview(context: RequestContext): KubeObject {
  const { kind, info } = context;
  const review = decodeObject(context);
  const { metadata } = review;
  if (!kind.namespaced) delete metadata.namespace;
  else if (metadata.namespace && metadata.namespace !== info.namespace)
    throw new ApiError(
      'BadRequest',
      'the namespace of the provided object does not match the namespace sent on the request',
    );
  else metadata.namespace = info.namespace;
  // What the server alone says of an object is not looked at.
  for (const field of systemFields) delete metadata[field];
  fillZeros(review, kind.type);
  trackManagedFields(context, undefined, review, {});
  const errors = new FieldErrors();
  kind.validate?.(review, errors, undefined);
  errors.throwIfAny(kind.group, kind.kind, '');
  return review;
}

export async function handleReview(context: RequestContext): Promise<ApiResponse> {
  const { server, user } = context;
  if (context.kind.kind === 'ComponentStatus') return answerComponents(context);
  if (context.kind.kind === 'Binding') {
    const binding = decodeObject(context);
    if (isDraftOf(kinds.Binding, binding)) return bindPod(context, binding, binding.metadata.name ?? '');
  }
  const review = readReview(context);
  if (isDraftOf(kinds.SelfSubjectReview, review)) {
    review.metadata.creationTimestamp = timestamp(server.clock.now());
    review.status = { userInfo: userInfoOf(user) };
  } else if (isDraftOf(kinds.TokenReview, review)) review.status = await reviewToken(context, review.spec ?? {});
  else if (isDraftOf(kinds.SelfSubjectAccessReview, review))
    review.status = await reviewAccess(context, review.spec ?? {}, user);
  else if (isDraftOf(kinds.SelfSubjectRulesReview, review))
    review.status = await reviewRules(context, review.spec?.namespace ?? '');
  else if (isDraftOf(kinds.SubjectAccessReview, review))
    review.status = await reviewAccess(context, review.spec ?? {}, subjectOf(review.spec ?? {}));
  else if (isDraftOf(kinds.LocalSubjectAccessReview, review))
    review.status = await reviewAccess(context, review.spec ?? {}, subjectOf(review.spec ?? {}));
  return answerObject(context, review, 201);
}

async function reviewAccess(
  { server }: RequestContext,
  spec: AccessSpec,
  user: UserInfo,
): Promise<SubjectAccessReviewStatus> {
  const decision = await decide(server, attributesFrom(spec, user));
  const evaluationError = selectorErrors(spec);
  const reason = decision.reason();
  return {
    allowed: decision.allowed,
    ...(decision.denied === true ? { denied: true } : {}),
    ...(reason === '' ? {} : { reason }),
    ...(evaluationError === '' ? {} : { evaluationError }),
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
  if (token === '') throw new ApiError('BadRequest', 'token is required for TokenReview in authentication');
  const audiences = asked.length > 0 ? asked : [issuerOf(context.server)];
  const identity = await identifyBearer(context.server, token, audiences);
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
