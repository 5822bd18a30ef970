/** Validation of webhooks. */
import type {
  MutatingWebhook,
  MutatingWebhookConfiguration,
  ValidatingWebhookConfiguration,
  WebhookClientConfig,
} from '#api/admissionregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { FieldErrors } from './field-errors.ts';
import { label1035Problem, portProblem, subdomainProblem } from './name-forms.ts';
import { validateHookRule } from './validate-hook-rule.ts';
import { validateMatchConditions } from './validate-policies.ts';
import { validateLabelSelector } from './validate-selector.ts';

const reviewVersions = ['v1', 'v1beta1'];

/** Webhooks of both kinds (`admissionregistration.k8s.io/v1`). */
export function validateWebhooks(
  o: Draft<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>,
  errors: FieldErrors,
): void {
  const names = new Set<string>();
  const hooks: readonly Draft<MutatingWebhook>[] = o.webhooks ?? [];
  hooks.forEach((hook, i) => {
    const at = `webhooks[${i}]`;
    const { name = '' } = hook;
    validateHookName(name, `${at}.name`, errors);
    (hook.rules ?? []).forEach((rule, j) => validateHookRule(rule, `${at}.rules[${j}]`, errors));
    validateChoices(hook, at, errors);
    if (typeof hook.timeoutSeconds === 'number' && (hook.timeoutSeconds < 1 || hook.timeoutSeconds > 30))
      errors.invalid(`${at}.timeoutSeconds`, hook.timeoutSeconds, 'the timeout value must be between 1 and 30 seconds');
    for (const field of ['namespaceSelector', 'objectSelector'] as const)
      validateLabelSelector(hook[field], `${at}.${field}`, errors);
    validateClientConfig(hook.clientConfig ?? {}, `${at}.clientConfig`, errors);
    validateMatchConditions(hook.matchConditions, `${at}.matchConditions`, errors);
    validateReviewVersions(hook.admissionReviewVersions ?? [], `${at}.admissionReviewVersions`, errors);
    if (name !== '' && names.has(name)) errors.duplicate(`${at}.name`, name);
    names.add(name);
  });
}

function validateChoices(hook: Draft<MutatingWebhook>, at: string, errors: FieldErrors): void {
  const choices: [string, string | undefined, string[]][] = [
    ['failurePolicy', hook.failurePolicy, ['Fail', 'Ignore']],
    ['matchPolicy', hook.matchPolicy, ['Equivalent', 'Exact']],
    ['sideEffects', hook.sideEffects, ['None', 'NoneOnDryRun']],
    ['reinvocationPolicy', hook.reinvocationPolicy, ['IfNeeded', 'Never']],
  ];
  for (const [field, value, allowed] of choices)
    if (value === undefined) {
      if (field === 'sideEffects') errors.required(`${at}.${field}`, `must specify one of ${allowed.join(', ')}`);
    } else if (!allowed.includes(value)) errors.unsupported(`${at}.${field}`, value, allowed);
}

/** Of reviews that a webhook takes, for admission or conversion. */
function validateReviewVersions(versions: readonly string[], at: string, errors: FieldErrors): void {
  if (versions.length === 0) {
    errors.required(at, `must specify one of ${reviewVersions.join(', ')}`);
    return;
  }
  versions.forEach((version, i) => {
    if (versions.indexOf(version) < i) errors.invalid(`${at}[${i}]`, version, 'duplicate version');
    else if (label1035Problem(version) !== '') errors.invalid(`${at}[${i}]`, version, label1035Problem(version));
  });
  if (!versions.some((version) => reviewVersions.includes(version)))
    errors.invalid(at, versions, `must include at least one of ${reviewVersions.join(', ')}`);
}

function validateHookName(name: string, at: string, errors: FieldErrors): void {
  if (name === '') errors.required(at);
  else if (subdomainProblem(name) !== '') errors.invalid(at, name, subdomainProblem(name));
  else if (name.split('.').length < 3)
    errors.invalid(at, name, 'should be a domain with at least three segments separated by dots');
}

/** Of a webhook: where it is. */
export function validateClientConfig(config: Draft<WebhookClientConfig>, at: string, errors: FieldErrors): void {
  const { url, service } = config;
  if ((url === undefined) === (service === undefined)) {
    errors.required(at, 'exactly one of url or service is required');
    return;
  }
  if (service !== undefined) {
    // Upstream takes one for the other.
    if (!service.name) errors.required(`${at}.service.namespace`, 'service namespace is required');
    if (!service.namespace) errors.required(`${at}.service.name`, 'service name is required');
    validateUrlPath(service.path ?? '', `${at}.service.path`, errors);
    if (service.port !== undefined && portProblem(service.port) !== '')
      errors.invalid(`${at}.service.port`, service.port, `port is not valid: ${portProblem(service.port)}`);
    return;
  }
  const form = '; desired format: https://host[:port]/path';
  let parsed: URL | undefined;
  try {
    parsed = new URL(url ?? '');
  } catch {
    errors.invalid(`${at}.url`, '', `url must be a valid URL: ${JSON.stringify(url)}${form}`);
    return;
  }
  if (parsed.protocol !== 'https:')
    errors.invalid(`${at}.url`, parsed.protocol.slice(0, -1), `'https' is the only allowed URL scheme${form}`);
  if (parsed.host === '') errors.invalid(`${at}.url`, '', `host must be specified${form}`);
  if (parsed.username !== '' || parsed.password !== '')
    errors.invalid(`${at}.url`, parsed.username, `user information is not permitted in the URL${form}`);
  if (parsed.hash !== '') errors.invalid(`${at}.url`, parsed.hash.slice(1), 'fragments are not permitted in the URL');
  if (parsed.search !== '')
    errors.invalid(`${at}.url`, parsed.search.slice(1), 'query parameters are not permitted in the URL');
}

/** Each part of it is a name of DNS. */
function validateUrlPath(path: string, at: string, errors: FieldErrors): void {
  if (path === '' || path === '/') return;
  if (!path.startsWith('/')) {
    errors.invalid(at, path, "must start with a '/'");
    return;
  }
  path
    .slice(1)
    .replace(/\/$/, '')
    .split('/')
    .forEach((part, i) => {
      if (part === '') errors.invalid(at, path, `segment[${i}] may not be empty`);
      else if (subdomainProblem(part) !== '') errors.invalid(at, path, `segment[${i}]: ${subdomainProblem(part)}`);
    });
}
