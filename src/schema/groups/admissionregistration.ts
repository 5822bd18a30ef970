/** admissionregistration.k8s.io/v1. */
import type {
  MatchResources,
  MutatingAdmissionPolicy,
  MutatingAdmissionPolicyBinding,
  MutatingWebhook,
  MutatingWebhookConfiguration,
  ValidatingAdmissionPolicy,
  ValidatingAdmissionPolicyBinding,
  ValidatingWebhookConfiguration,
} from '#api/admissionregistration.v1.ts';
import type { Draft } from '#api/manifest.ts';
import type { LabelSelector } from '#api/meta.v1.ts';
import { kinds } from '#base/kinds.ts';
import type { KindRef, KubeObject } from '#base/objects.ts';
import { setDefault, setDefaultText } from '../defaults.ts';
import type { KindOptions, KindRecord } from '../kind.ts';
import { column, columns, defineKind, statusSubresource, metadataFields } from '../kind.ts';
import { resetStatus } from '../strategy.ts';
import { validateConditions } from '../validate-devices.ts';
import { validateWebhooks } from '../validate-admission.ts';
import {
  validateMutatingBinding,
  validateMutatingPolicy,
  validateValidatingBinding,
  validateValidatingPolicy,
} from '../validate-policies.ts';

const api = ['api-extensions'];

const status = { status: statusSubresource };

function defaultWebhooks(o: Draft<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>): void {
  const hooks: Draft<MutatingWebhook>[] = o.webhooks ?? [];
  for (const hook of hooks) {
    setDefaultText(hook, 'failurePolicy', 'Fail');
    setDefaultText(hook, 'matchPolicy', 'Equivalent');
    hook.namespaceSelector ??= {};
    hook.objectSelector ??= {};
    setDefault(hook, 'timeoutSeconds', 10);
    if (o.kind === 'MutatingWebhookConfiguration') setDefaultText(hook, 'reinvocationPolicy', 'Never');
    for (const rule of hook.rules ?? []) setDefaultText(rule, 'scope', '*');
    if (hook.clientConfig?.service) setDefault(hook.clientConfig.service, 'port', 443);
  }
}

function defaultAdmissionPolicy(o: Draft<ValidatingAdmissionPolicy | MutatingAdmissionPolicy>): void {
  const spec = (o.spec ??= {});
  setDefaultText(spec, 'failurePolicy', 'Fail');
  if (spec.matchConstraints) defaultMatch(spec.matchConstraints);
}

function defaultMatch(match: Draft<MatchResources>): void {
  setDefaultText(match, 'matchPolicy', 'Equivalent');
  match.namespaceSelector ??= {};
  match.objectSelector ??= {};
  for (const rule of [...(match.resourceRules ?? []), ...(match.excludeResourceRules ?? [])])
    setDefaultText(rule, 'scope', '*');
}

function defaultBinding(o: Draft<ValidatingAdmissionPolicyBinding | MutatingAdmissionPolicyBinding>): void {
  if (o.spec?.matchResources) defaultMatch(o.spec.matchResources);
}

/** The kind of a policy's parameters; `<unset>` where it has none. */
const paramKindOf = ({ spec }: ValidatingAdmissionPolicy | MutatingAdmissionPolicy): string =>
  spec?.paramKind ? `${spec.paramKind.apiVersion}/${spec.paramKind.kind}` : '<unset>';
const paramRefOf = ({ spec }: ValidatingAdmissionPolicyBinding | MutatingAdmissionPolicyBinding): string =>
  spec?.paramRef?.name
    ? `${spec.paramRef.namespace || '*'}/${spec.paramRef.name}`
    : spec?.paramRef?.selector
      ? selectorText(spec.paramRef.selector)
      : '<unset>';

/** As Go prints its struct. */
function selectorText({ matchLabels = {}, matchExpressions = [] }: LabelSelector): string {
  const labels = Object.keys(matchLabels)
    .sort()
    .map((key) => `${key}: ${matchLabels[key]},`);
  const expressions = matchExpressions.map(
    ({ key, operator, values = [] }) =>
      `LabelSelectorRequirement{Key:${key},Operator:${operator},Values:[${values.join(' ')}],},`,
  );
  return `&LabelSelector{MatchLabels:map[string]string{${labels.join('')}},MatchExpressions:[]LabelSelectorRequirement{${expressions.join('')}},}`;
}

const webhookColumns = columns<MutatingWebhookConfiguration | ValidatingWebhookConfiguration>(
  column('Webhooks', (o) => (o.webhooks ?? []).length, { type: 'integer' }),
);
const admission = <T extends KubeObject>(kind: KindRef<T>, options: KindOptions<NoInfer<T>>): KindRecord =>
  defineKind(kind, { categories: api, needsVersion: true, ...options });
export const admissionregistrationKinds: readonly KindRecord[] = [
  admission(kinds.MutatingWebhookConfiguration, {
    columns: webhookColumns,
    defaults: defaultWebhooks,
    hasGeneration: true,
    validate: validateWebhooks,
  }),
  admission(kinds.MutatingAdmissionPolicy, {
    hasGeneration: true,
    defaults: defaultAdmissionPolicy,
    validate: validateMutatingPolicy,
    columns: columns<MutatingAdmissionPolicy>(
      column('Mutations', (o) => (o.spec?.mutations ?? []).length, { type: 'integer' }),
      column('ParamKind', paramKindOf),
    ),
  }),
  admission(kinds.MutatingAdmissionPolicyBinding, {
    hasGeneration: true,
    defaults: defaultBinding,
    validate: validateMutatingBinding,
    columns: columns<MutatingAdmissionPolicyBinding>(
      column('PolicyName', (o) => o.spec?.policyName),
      column('ParamRef', paramRefOf),
    ),
  }),
  admission(kinds.ValidatingAdmissionPolicy, {
    statusKeeps: metadataFields,
    subresources: status,
    hasGeneration: true,
    defaults: defaultAdmissionPolicy,
    validate: validateValidatingPolicy,
    validateStatus: (o, _old, errors) => validateConditions(o.status?.conditions, errors),
    prepareCreate(o) {
      o.status = {};
    },
    prepareUpdate: resetStatus,
    columns: columns<ValidatingAdmissionPolicy>(
      column('Validations', (o) => (o.spec?.validations ?? []).length, { type: 'integer' }),
      column('ParamKind', paramKindOf),
    ),
  }),
  admission(kinds.ValidatingAdmissionPolicyBinding, {
    hasGeneration: true,
    defaults: defaultBinding,
    validate: validateValidatingBinding,
    columns: columns<ValidatingAdmissionPolicyBinding>(
      column('PolicyName', (o) => o.spec?.policyName),
      column('ParamRef', paramRefOf),
    ),
  }),
  admission(kinds.ValidatingWebhookConfiguration, {
    columns: webhookColumns,
    defaults: defaultWebhooks,
    hasGeneration: true,
    validate: validateWebhooks,
  }),
];
