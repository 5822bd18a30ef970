/**
 * Conversion of custom resources between their versions by a webhook (Kubernetes, "Versions in
 * CustomResourceDefinitions"). What is stored is converted before it is shown, in batches, and known from then on for
 * as long as the stored value lives; whoever shows it need not wait.
 */
import type { CustomResourceDefinition, CustomResourceConversion } from '#api/apiextensions.v1.ts';
import { ApiError } from '#base/errors.ts';
import { copyJson, freezeJson } from '#base/json.ts';
import { apiVersionOf, isKubeObject, type KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import { fieldOf, itemsOf, textOf } from '#base/unknown.ts';
import { fitsOf } from '#schema/crd-schema.ts';
import type { KindConversion, KindRecord } from '#schema/kind.ts';
import type { StoredValue } from '#store/store.ts';
import type { Server } from './context.ts';
import { conversionMs, conversionObjectsMax } from './limits.ts';
import { fromStored, type Objects } from './stored-objects.ts';

/** By kind: conversions and definitions change, and their kinds with them. */
const shown = new WeakMap<object, WeakMap<StoredValue, KubeObject>>();

function knownOf(kind: object): WeakMap<StoredValue, KubeObject> {
  let known = shown.get(kind);
  if (known === undefined) shown.set(kind, (known = new WeakMap()));
  return known;
}

/** Has `shownOf` know these values. Rejects with InternalError where they cannot be converted. */
export async function prepareShown(
  { objects }: Server,
  kind: KindRecord,
  values: readonly (StoredValue | undefined)[],
): Promise<void> {
  const { conversion } = kind;
  if (conversion === undefined) return;
  const known = knownOf(kind);
  const missing = values.filter((stored) => stored !== undefined).filter((stored) => !known.has(stored));
  for (let at = 0; at < missing.length; at += conversionObjectsMax) {
    const batch = missing.slice(at, at + conversionObjectsMax);
    const views = batch.map((stored) => objects.view(stored));
    const converted = await conversion.convert(views, apiVersionOf(kind));
    for (const [i, object] of converted.entries()) {
      const stored = batch[i];
      if (stored !== undefined) known.set(stored, freezeJson(object));
    }
  }
}

/** A stored value as a kind shows it, frozen; where that is converted by a webhook, `prepareShown` was waited for. */
export function shownOf<T extends KubeObject>(objects: Objects, kind: KindRecord<T>, stored: StoredValue): T {
  const known = kind.conversion === undefined ? objects.view(stored) : knownOf(kind).get(stored);
  if (known === undefined) throw new Error(`${stored.key} was not converted before it is shown`);
  const view = fromStored(kind, known);
  return kind.fromStored === undefined ? view : freezeJson(view);
}

/** An object of a kind in the version in which it is stored. */
export async function toKept({ conversion, storage }: KindRecord, object: KubeObject): Promise<KubeObject> {
  if (conversion === undefined) return object;
  const [kept = object] = await conversion.convert([object], apiVersionOf(storage));
  return kept;
}

/** The conversion that a definition asks a webhook for; undefined where it asks for none. */
export function conversionOf(server: Server, definition: CustomResourceDefinition): KindConversion | undefined {
  const { conversion } = definition.spec;
  return conversion?.strategy === 'Webhook' ? new WebhookConversion(server, definition, conversion) : undefined;
}

class WebhookConversion implements KindConversion {
  readonly #server: Server;
  readonly #webhook: CustomResourceConversion['webhook'];
  readonly #fits: ReadonlyMap<string, (object: KubeObject) => void>;

  constructor(server: Server, definition: CustomResourceDefinition, { webhook }: CustomResourceConversion) {
    this.#server = server;
    this.#webhook = webhook;
    this.#fits = fitsOf(definition);
  }

  async convert(objects: readonly KubeObject[], apiVersion: string): Promise<KubeObject[]> {
    const others = objects.filter((object) => object.apiVersion !== apiVersion);
    const converted = others.length === 0 ? [] : await this.#ask(others, apiVersion);
    const fit = this.#fits.get(apiVersion);
    let at = 0;
    return objects.map((object) => {
      const out = object.apiVersion === apiVersion ? copyJson(object) : (converted[at++] ?? copyJson(object));
      fit?.(out);
      return out;
    });
  }

  async #ask(objects: readonly KubeObject[], desiredAPIVersion: string): Promise<KubeObject[]> {
    const { callWebhook, random } = this.#server;
    const [first] = objects;
    const what = `conversion webhook for ${first?.apiVersion}, Kind=${first?.kind}`;
    const version = (this.#webhook?.conversionReviewVersions ?? []).find((v) => v === 'v1' || v === 'v1beta1');
    if (version === undefined) throw new ApiError('InternalError', 'no supported conversion review versions');
    const uid = random.uuid();
    const apiVersion = `apiextensions.k8s.io/${version}`;
    const review = { kind: 'ConversionReview', apiVersion, request: { uid, desiredAPIVersion, objects } };
    let answer: unknown;
    try {
      if (callWebhook === undefined) throw new Error('no transport');
      answer = await callWebhook(this.#webhook?.clientConfig ?? {}, review, conversionMs);
      if (version === 'v1') checkReview(answer, uid);
      checkResult(fieldOf(answer, 'response'));
    } catch (error) {
      throw new ApiError('InternalError', `${what} failed: ${messageOf(error)}`);
    }
    const made = itemsOf(fieldOf(answer, 'response', 'convertedObjects'));
    if (made.length !== objects.length)
      throw new ApiError('InternalError', `${what} returned ${made.length} objects, expected ${objects.length}`);
    return objects.map((object, i) => {
      try {
        return accepted(object, made[i], desiredAPIVersion);
      } catch (error) {
        const why = messageOf(error);
        throw new ApiError('InternalError', `${what} returned invalid converted object at index ${i}: ${why}`);
      }
    });
  }
}

function checkReview(answer: unknown, uid: string): void {
  const [apiVersion, kind] = [textOf(answer, 'apiVersion') ?? '', textOf(answer, 'kind') ?? ''];
  if (apiVersion !== 'apiextensions.k8s.io/v1' || kind !== 'ConversionReview')
    throw new Error(
      `expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got ${apiVersion}, Kind=${kind}`,
    );
  const response = fieldOf(answer, 'response');
  if (response === undefined || response === null) throw new Error('no response provided');
  const answered = textOf(response, 'uid') ?? '';
  if (answered !== uid)
    throw new Error(`expected response.uid=${JSON.stringify(uid)}, got ${JSON.stringify(answered)}`);
}

function checkResult(response: unknown): void {
  if (response === undefined || response === null) throw new Error('no response provided');
  const status = textOf(response, 'result', 'status') ?? '';
  if (status === 'Success') return;
  const message = textOf(response, 'result', 'message') ?? '';
  throw new Error(message === '' ? `response.result.status was '${status}', not 'Success'` : message);
}

/**
 * What came back must be the same object, in the version that was asked for. Of its metadata, labels and annotations
 * may change.
 */
function accepted(object: KubeObject, made: unknown, apiVersion: string): KubeObject {
  const got = textOf(made, 'apiVersion') ?? '';
  if (got !== apiVersion) throw new Error(`invalid groupVersion (expected ${apiVersion}, received ${got})`);
  const kind = textOf(made, 'kind') ?? '';
  if (kind !== object.kind) throw new Error(`invalid kind (expected ${object.kind}, received ${kind})`);
  if (!isKubeObject(made)) throw new Error('missing metadata in converted object');
  for (const [field, label] of sameFields) {
    const [expected, actual] = [object.metadata[field] ?? '', made.metadata[field] ?? ''];
    if (expected !== actual) throw new Error(`must have the same ${label}: ${expected} != ${actual}`);
  }
  const { labels: _l, annotations: _a, ...metadata } = copyJson(object.metadata);
  const { labels, annotations } = made.metadata;
  return {
    ...made,
    metadata: {
      ...metadata,
      ...(labels === undefined ? {} : { labels }),
      ...(annotations === undefined ? {} : { annotations }),
    },
  };
}

const sameFields = [
  ['name', 'name'],
  ['namespace', 'namespace'],
  ['uid', 'UID'],
] as const;
