/**
 * Admission webhooks (Kubernetes, "Dynamic Admission Control"): mutating ones in order of their configurations' names,
 * each seeing what the one before made; validating ones all at once. How a webhook is reached is the transport's
 * business (`server.callWebhook`); without one every call fails, and the webhook's failure policy decides.
 */
import { ApiError, reasonOf, type ErrorDetails } from '#base/errors.ts';
import { copyJson, scanJson } from '#base/json.ts';
import { jsonPatch } from '#base/patch.ts';
import type { MutatingWebhook, ValidatingWebhook } from '#api/admissionregistration.v1.ts';
import type { KubeObject, StatusCause } from '#base/objects.ts';
import { fieldOf, isObject, itemsOf, namedTextsOf, textOf, type JsonObject } from '#base/unknown.ts';
import { messageOf } from '#base/thrown.ts';
import { CelError } from '#cel/values.ts';
import { sameJson } from '#schema/validate-values.ts';
import type { RequestContext } from '../context.ts';
import { forbiddenBy } from '../object-errors.ts';
import { adoptMade } from './adopt.ts';
import type { AdmissionAttributes } from './attributes.ts';
import { conditionsHold, Evaluator, subjectsOf } from './expressions.ts';
import { seenAs, type Seen } from './equivalents.ts';
import { hookMatches } from './matching.ts';

type Hook = MutatingWebhook | ValidatingWebhook;

/** What a webhook answers (AdmissionResponse of `admission.k8s.io/v1`); it is a stranger's, so all of it may lack. */
interface HookResponse {
  allowed: boolean;
  /** JSON Patch in Base64. */
  patch: string | undefined;
  message: string;
  reason: string;
  code: number;
  details: ErrorDetails | undefined;
  warnings: readonly unknown[];
  auditAnnotations: Readonly<Record<string, string>>;
}

function readResponse(response: unknown): HookResponse {
  const code = fieldOf(response, 'status', 'code');
  return {
    allowed: fieldOf(response, 'allowed') === true,
    patch: textOf(response, 'patch'),
    message: textOf(response, 'status', 'message') ?? '',
    reason: textOf(response, 'status', 'reason') ?? '',
    // As upstream: whatever it says, a denial is no success.
    code: typeof code === 'number' && code >= 400 && code < 600 ? code : 400,
    details: readDetails(fieldOf(response, 'status', 'details')),
    warnings: itemsOf(fieldOf(response, 'warnings')),
    auditAnnotations: namedTextsOf(fieldOf(response, 'auditAnnotations')),
  };
}

/** What of a stranger's details is what it should be. */
function readDetails(details: unknown): ErrorDetails | undefined {
  if (!isObject(details)) return undefined;
  const { name, group, kind, uid, retryAfterSeconds } = details;
  const causes = itemsOf(details.causes).map((cause): StatusCause => {
    const { reason, message, field } = isObject(cause) ? cause : {};
    return { ...texts({ reason, message, field }) };
  });
  return {
    ...texts({ name, group, kind, uid }),
    ...(causes.length > 0 ? { causes } : {}),
    ...(typeof retryAfterSeconds === 'number' ? { retryAfterSeconds } : {}),
  };
}

/** Those of the fields that are text. */
function texts(fields: JsonObject): Record<string, string> {
  return Object.fromEntries(
    Object.entries(fields).filter((field): field is [string, string] => typeof field[1] === 'string'),
  );
}

/** Kinds that webhooks never see, so that a broken one can always be removed. */
const exempt = new Set(['MutatingWebhookConfiguration', 'ValidatingWebhookConfiguration']);

/** The request as the webhook is to be asked about it, if it is: an error of its conditions is a failure of its own. */
async function askedAs(
  hook: Hook,
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<Seen | undefined> {
  const kind = await hookMatches(hook, context, attributes);
  if (kind === undefined) return undefined;
  const seen = await seenAs(context, attributes, kind);
  if ((hook.matchConditions ?? []).length === 0) return seen;
  try {
    const evaluator = await Evaluator.open(seen.context, seen.attributes);
    return (await conditionsHold(hook.matchConditions, evaluator)) ? seen : undefined;
  } catch (error) {
    if (!(error instanceof CelError)) throw error;
    if (hook.failurePolicy === 'Ignore') return undefined;
    throw forbiddenBy(context, attributes.object.metadata.name ?? context.info.name, error.message);
  }
}

function reviewOf(context: RequestContext, attributes: AdmissionAttributes, uid: string): object {
  const { kind, info, user } = context;
  const isConnect = attributes.operation === 'CONNECT';
  const shown = (o: KubeObject | undefined): KubeObject | null =>
    o === undefined ? null : kind.fromStored === undefined || isConnect ? o : kind.fromStored(o);
  return {
    apiVersion: 'admission.k8s.io/v1',
    kind: 'AdmissionReview',
    request: {
      uid,
      ...subjectsOf(context, attributes),
      ...(attributes.subresource === ''
        ? {}
        : { subResource: attributes.subresource, requestSubResource: attributes.subresource }),
      name: isConnect ? info.name : (attributes.object.metadata.name ?? info.name),
      ...(kind.namespaced ? { namespace: info.namespace } : {}),
      operation: attributes.operation,
      userInfo: {
        username: user.name,
        groups: user.groups,
        ...(user.uid === undefined ? {} : { uid: user.uid }),
        ...(user.extra === undefined ? {} : { extra: user.extra }),
      },
      object: attributes.operation === 'DELETE' ? null : shown(attributes.object),
      oldObject: shown(attributes.old),
      dryRun: attributes.dryRun,
      options: null,
    },
  };
}

function failed(hook: Hook, why: string): ApiError {
  return new ApiError(
    'InternalError',
    `Internal error occurred: failed calling webhook ${JSON.stringify(hook.name)}: failed to call webhook: ${why}`,
    { causes: [{ message: `failed calling webhook ${JSON.stringify(hook.name)}: failed to call webhook: ${why}` }] },
  );
}

/** The webhook's answer; undefined where it failed and its policy is to go on. */
async function call(
  context: RequestContext,
  hook: Hook,
  attributes: AdmissionAttributes,
): Promise<HookResponse | undefined> {
  const { server } = context;
  const uid = server.random.uuid();
  const review = reviewOf(context, attributes, uid);
  let why: string;
  try {
    if (attributes.dryRun && hook.sideEffects !== 'None' && hook.sideEffects !== 'NoneOnDryRun')
      throw new ApiError('BadRequest', `admission webhook ${JSON.stringify(hook.name)} does not support dry run`);
    if (server.callWebhook === undefined) throw new Error('no transport');
    const answer = await server.callWebhook(hook.clientConfig, review, (hook.timeoutSeconds ?? 10) * 1000);
    const response = fieldOf(answer, 'response');
    const answered = fieldOf(response, 'uid') ?? '';
    if (answered === uid) return readResponse(response);
    why = `received invalid webhook response: expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(answered)}`;
  } catch (error) {
    if (error instanceof ApiError) throw error;
    why = messageOf(error);
  }
  if (hook.failurePolicy !== 'Ignore') throw failed(hook, why);
  server.log.warn('webhook failed and is ignored', { webhook: hook.name, why });
  return undefined;
}

function checkAllowed(context: RequestContext, hook: Hook, response: HookResponse): void {
  const { allowed, message, reason, code, details, warnings, auditAnnotations } = response;
  for (const [key, value] of Object.entries(auditAnnotations)) context.audit?.annotate(`${hook.name}/${key}`, value);
  for (const warning of warnings) context.warnings.push(String(warning));
  if (allowed) return;
  const why = message !== '' ? `: ${message}` : reason !== '' ? `: ${reason}` : ' without explanation';
  throw new ApiError(
    reason === '' ? 'Forbidden' : reasonOf(reason),
    `admission webhook ${JSON.stringify(hook.name)} denied the request${why}`,
    details,
    code,
  );
}

/** Whoever may be invoked again is, once, where others have changed the object since (`reinvocationPolicy`). */
export async function admitMutatingWebhooks(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  if (exempt.has(context.kind.kind)) return;
  const hooks = (await context.server.live.mutatingWebhooks.current()).in();
  const left = new Map<MutatingWebhook, KubeObject>();
  for (const hook of hooks) {
    const wasAsked = await mutate(hook, context, attributes);
    if (wasAsked && hook.reinvocationPolicy === 'IfNeeded') left.set(hook, copyJson(attributes.object));
  }
  for (const [hook, object] of left) if (!sameJson(object, attributes.object)) await mutate(hook, context, attributes);
}

/** Whether it was asked. */
async function mutate(
  hook: MutatingWebhook,
  context: RequestContext,
  attributes: AdmissionAttributes,
): Promise<boolean> {
  const seen = await askedAs(hook, context, attributes);
  if (seen === undefined) return false;
  const response = await call(seen.context, hook, seen.attributes);
  if (response === undefined) return true;
  checkAllowed(context, hook, response);
  // What a connection is for cannot be changed.
  if (response.patch === undefined || ['DELETE', 'CONNECT'].includes(attributes.operation)) return true;
  const { kind } = seen.context;
  const { object } = seen.attributes;
  const shown = kind.fromStored === undefined ? object : kind.fromStored(object);
  const text = Buffer.from(response.patch, 'base64').toString();
  scanJson(text);
  const why = adoptMade(seen.context, seen.attributes, jsonPatch(shown, JSON.parse(text)));
  if (why !== undefined) throw failed(hook, `the patch ${why}`);
  await seen.settle();
  return true;
}

export async function admitValidatingWebhooks(context: RequestContext, attributes: AdmissionAttributes): Promise<void> {
  if (exempt.has(context.kind.kind)) return;
  const hooks = (await context.server.live.validatingWebhooks.current()).in();
  await Promise.all(
    hooks.map(async (hook) => {
      const seen = await askedAs(hook, context, attributes);
      const response = seen === undefined ? undefined : await call(seen.context, hook, seen.attributes);
      if (response !== undefined) checkAllowed(context, hook, response);
    }),
  );
}
