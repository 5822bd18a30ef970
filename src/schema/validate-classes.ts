/** Validation of classes that others name: how Pods run (RuntimeClass), who serves Ingresses (IngressClass). */
import type { Toleration } from '#api/core.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { IngressClass } from '#api/networking.v1.ts';
import type { RuntimeClass } from '#api/node.v1.ts';
import type { FieldErrors } from './field-errors.ts';
import { labelProblem, nameProblem, subdomainProblem } from './name-forms.ts';
import { validateLabels } from './validate-meta.ts';
import { validateTolerations } from './validate-scheduling.ts';
import { validateResources } from './validate-resources.ts';
import { sameJson, unchanged } from './validate-values.ts';

const controllerCharsMax = 250;
const scopes = ['Cluster', 'Namespace'];

/** `example.com/path`: a domain, a slash, and characters that paths have (RFC 3986). */
function domainPathProblem(text: string): string {
  const cut = text.indexOf('/');
  if (cut <= 0 || cut === text.length - 1) return 'must be a domain-prefixed path (such as "acme.io/foo")';
  const problem = subdomainProblem(text.slice(0, cut));
  if (problem !== '') return problem;
  return /^[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/.test(text.slice(cut + 1)) ? '' : 'Invalid path';
}

export function validateIngressClass(o: Draft<IngressClass>, errors: FieldErrors, old?: IngressClass): void {
  const { controller = '' } = o.spec ?? {};
  const at = 'spec.controller';
  if (controller.length > controllerCharsMax) errors.tooLong(at, controllerCharsMax);
  if (controller === '') errors.required(at);
  else if (domainPathProblem(controller) !== '') errors.invalid(at, controller, domainPathProblem(controller));
  validateParameters(o, errors);
  if (old !== undefined) unchanged(o.spec?.controller, old.spec?.controller, at, errors);
}

function validateParameters({ spec }: Draft<IngressClass>, errors: FieldErrors): void {
  const parameters = spec?.parameters;
  if (parameters === undefined) return;
  const at = 'spec.parameters';
  const { apiGroup, scope, namespace } = parameters;
  if (apiGroup !== undefined && subdomainProblem(apiGroup) !== '')
    errors.invalid(`${at}.apiGroup`, apiGroup, subdomainProblem(apiGroup));
  for (const field of ['kind', 'name'] as const) validatePathPart(parameters[field], `${at}.${field}`, errors);
  if (scope === undefined) errors.required(`${at}.scope`);
  else if (!scopes.includes(scope)) errors.unsupported(`${at}.scope`, scope, scopes);
  else if (scope === 'Cluster') {
    if (namespace !== undefined) errors.forbidden(`${at}.namespace`, "`parameters.scope` is set to 'Cluster'");
  } else if (namespace === undefined) errors.required(`${at}.namespace`, "`parameters.scope` is set to 'Namespace'");
  else if (labelProblem(namespace) !== '') errors.invalid(`${at}.namespace`, namespace, labelProblem(namespace));
}

/** What stands between two slashes of a path of the API. */
export function validatePathPart(text: string | undefined, at: string, errors: FieldErrors): void {
  if (!text) errors.required(at);
  else if (nameProblem.path(text) !== '') errors.invalid(at, text, nameProblem.path(text));
}

export function validateRuntimeClass(o: Draft<RuntimeClass>, errors: FieldErrors, old?: RuntimeClass): void {
  const { handler = '' } = o;
  if (handler === '') errors.required('handler');
  else if (labelProblem(handler) !== '') errors.invalid('handler', handler, labelProblem(handler));
  if (o.overhead !== undefined) validateResources({ limits: o.overhead.podFixed ?? {} }, 'overhead', errors);
  validateLabels(o.scheduling?.nodeSelector, 'scheduling.nodeSelector', errors);
  const tolerations: Draft<Toleration>[] = o.scheduling?.tolerations ?? [];
  validateTolerations(tolerations, 'scheduling.tolerations', errors);
  tolerations.forEach((toleration, i) => {
    if (tolerations.findIndex((other) => sameJson(other, toleration)) < i)
      errors.duplicate(`scheduling.tolerations[${i}]`, toleration);
  });
  if (old !== undefined) unchanged(o.handler, old.handler, 'handler', errors);
}
