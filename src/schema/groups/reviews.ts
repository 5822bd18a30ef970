/** authentication.k8s.io/v1 and authorization.k8s.io/v1: kinds that are asked and not kept. */
import { kinds } from '#base/kinds.ts';
import type { KindRecord } from '../kind.ts';
import { defineKind } from '../kind.ts';
import { validateLocalReview, validateSelfReview, validateSubjectReview } from '../validate-review.ts';

const onlyCreate = { verbs: ['create'] };

export const authenticationKinds: readonly KindRecord[] = [
  defineKind(kinds.SelfSubjectReview, {
    ...onlyCreate,
  }),
  defineKind(kinds.TokenReview, {
    ...onlyCreate,
  }),
];
export const authorizationKinds: readonly KindRecord[] = [
  defineKind(kinds.LocalSubjectAccessReview, { ...onlyCreate, validate: validateLocalReview }),
  defineKind(kinds.SelfSubjectAccessReview, { ...onlyCreate, validate: validateSelfReview }),
  defineKind(kinds.SelfSubjectRulesReview, onlyCreate),
  defineKind(kinds.SubjectAccessReview, { ...onlyCreate, validate: validateSubjectReview }),
];
