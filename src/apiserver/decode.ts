/**
 * Bodies: JSON or YAML into an object of the kind, checked against its schema (Kubernetes API concepts, "Server-side
 * field validation").
 */
import type { Draft } from '#api/manifest.ts';
import type { ApiRequest } from '#base/api-request.ts';
import { ApiError } from '#base/errors.ts';
import { copyJson, parseJson, scanJson } from '#base/json.ts';
import { parseLooseYaml } from '#base/yaml.ts';
import { apiVersionOf, groupVersionOf } from '#base/objects.ts';
import type { KubeObject } from '#base/objects.ts';
import { messageOf } from '#base/thrown.ts';
import { isObject, type JsonObject } from '#base/unknown.ts';
import { checkObject } from '#schema/check.ts';
import type { CheckOptions } from '#schema/check.ts';
import { decodeMessage, unwrapMessage } from '#schema/protobuf-decode.ts';
import { protobufMediaType } from '#schema/protobuf.ts';
import { typeOf } from '#schema/types.ts';
import type { ObjectNode } from '#schema/types.ts';
import type { RequestContext } from './context.ts';
import { requestBodyBytesMax, yamlLinesMax } from './limits.ts';

export type FieldValidation = 'Ignore' | 'Warn' | 'Strict';

export function fieldValidation(context: RequestContext): FieldValidation {
  const value = context.request.query.get('fieldValidation') ?? '';
  if (value === '') return 'Warn';
  if (value !== 'Ignore' && value !== 'Warn' && value !== 'Strict')
    throw new ApiError(
      'Invalid',
      `CreateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: ${JSON.stringify(value)}: supported values: "Ignore", "Strict", "Warn"`,
    );
  return value;
}

declare const bodyType: unique symbol;

/** What a body is decoded as: a kind that is served, or one that only a subresource takes. */
export interface BodyKind<T extends object = KubeObject> {
  /** Never there: it carries the type. */
  readonly [bodyType]?: T;
  group: string;
  version: string;
  kind: string;
  readonly type: ObjectNode;
  custom?: boolean;
}

/** A kind that only bodies are of; `type` names its structure in `schema/data`. */
export function bodyKind<T extends object>(apiVersion: string, kind: string, type: string): BodyKind<T> {
  return {
    ...groupVersionOf(apiVersion),
    kind,
    get type() {
      return typeOf(type);
    },
  };
}

/** The media type of a body, without its parameters. */
export function contentTypeOf({ headers }: ApiRequest): string {
  const [type = ''] = (headers['content-type'] ?? '').split(';', 1);
  return type.trim().toLowerCase();
}

export interface ParsedBody {
  value: unknown;
  /** What strict decoding says of keys that were given twice; the last value holds. */
  duplicates: readonly string[];
  /** The text, if it is JSON: it has the order in which problems are told. */
  json?: string;
}

/** What is known of a body beside its value. */
export type BodyText = Omit<ParsedBody, 'value'> & CheckOptions;

/** A body as a value. */
export function parseBody(
  context: RequestContext,
  types: readonly string[] = ['application/json', 'application/yaml'],
): ParsedBody {
  const { request } = context;
  if (request.object !== undefined) return { value: copyJson(request.object), duplicates: [] };
  const body = request.body ?? new Uint8Array();
  if (body.length > requestBodyBytesMax)
    throw new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${requestBodyBytesMax}`);
  const type = contentTypeOf(request) || 'application/json';
  if (!types.includes(type))
    throw new ApiError(
      'UnsupportedMediaType',
      `the body of the request was in an unknown format - accepted media types include: ${types.join(', ')}`,
    );
  const text = Buffer.from(body.buffer, body.byteOffset, body.length).toString('utf8');
  if (type.endsWith('yaml')) return parseYaml(text);
  // Custom resources may hold any integer of 64 bits; what a built-in field may hold is checked as a number.
  const isCustom = context.kind.custom === true;
  const duplicates = scanJson(text, undefined, isCustom).duplicates.map(duplicateText);
  try {
    return { value: isCustom ? parseJson(text) : JSON.parse(text), duplicates, json: text };
  } catch (error) {
    throw new ApiError('BadRequest', jsonProblem(text, messageOf(error)));
  }
}

function jsonProblem(text: string, problem: string): string {
  if (text.trim() === '') return 'unable to decode request body: EOF';
  const at = /position (\d+)/.exec(problem);
  if (at === null || Number(at[1]) >= text.length) return 'error decoding request body: unexpected end of JSON input';
  return `error decoding request body: invalid character ${JSON.stringify(text[Number(at[1])]).replaceAll('"', "'")} at offset ${at[1]}`;
}

/** YAML takes ten times as long to read as JSON, line by line. A large object has its JSON form, which clients send. */
function checkYamlSize(text: string): void {
  let marks = 0;
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at);
    if ((c === 10 || c === 44) && ++marks > yamlLinesMax)
      throw new ApiError(
        'RequestEntityTooLarge',
        `error converting YAML to JSON: more than ${yamlLinesMax} lines and items: send it as JSON`,
      );
  }
}

/**
 * Aliases become copies, and texts let go of the document that they were cut from: what is read is changed in place and
 * kept.
 */
export function parseYaml(text: string): ParsedBody {
  checkYamlSize(text);
  try {
    const { value, duplicates } = parseLooseYaml(text);
    return {
      value: JSON.parse(JSON.stringify(value ?? null)),
      duplicates: duplicates.length === 0 ? [] : [`yaml: unmarshal errors:\n  ${duplicates.join('\n  ')}`],
    };
  } catch (error) {
    throw new ApiError('BadRequest', `error converting YAML to JSON: yaml: ${messageOf(error).split('\n')[0]}`);
  }
}

const duplicateText = (path: string): string => `duplicate field ${JSON.stringify(path)}`;
const unknownText = (path: string): string => `unknown field ${JSON.stringify(path)}`;

/**
 * What is wrong in a body's fields. A custom resource is decoded before its schema is looked at; of all else the text
 * tells the order, and what lies in an unknown field is not looked at.
 */
function fieldProblems(
  kind: BodyKind<object>,
  unknown: readonly string[],
  { duplicates, json }: Omit<ParsedBody, 'value'>,
): Set<string> {
  const unknownTexts = unknown.map(unknownText);
  if (json === undefined || kind.custom === true || duplicates.length === 0 || unknown.length === 0)
    return new Set([...duplicates, ...unknownTexts]);
  const problems = new Set<string>();
  const [unknownPaths, doubled, met] = [new Set(unknown), new Set(duplicates), new Set<string>()];
  let skipped: string | undefined;
  scanJson(json, (path) => {
    if (unknownPaths.has(path)) problems.add(unknownText((skipped = path)));
    if (skipped !== undefined && path.startsWith(skipped) && /^[.[]|^$/.test(path.slice(skipped.length))) return;
    skipped = undefined;
    const text = duplicateText(path);
    if (!doubled.has(text)) return;
    if (met.has(path)) problems.add(text);
    met.add(path);
  });
  // A path may have been cut.
  for (const text of unknownTexts) problems.add(text);
  return problems;
}

/** Reports what is unknown or doubled as the request asked; throws what cannot be decoded. */
function checkDecoded(
  context: RequestContext,
  value: object,
  kind: BodyKind<object>,
  parsed: BodyText = { duplicates: [] },
): void {
  const result = checkObject(value, kind.type, parsed);
  const error = result.error ?? result.formError;
  if (error !== undefined)
    throw new ApiError(
      'BadRequest',
      `${kind.kind} in version ${JSON.stringify(kind.version)} cannot be handled as a ${kind.kind}: ${error}`,
    );
  const problems = [...fieldProblems(kind, result.unknown, parsed)];
  if (problems.length === 0) return;
  const mode = fieldValidation(context);
  if (mode === 'Strict')
    throw new ApiError(
      'BadRequest',
      `${kind.kind} in version ${JSON.stringify(kind.version)} cannot be handled as a ${kind.kind}: strict decoding error: ${problems.join(', ')}`,
    );
  if (mode === 'Warn') context.warnings.push(...problems);
}

/** Decodes a body as the request's kind. */
export function decodeObject(context: RequestContext): KubeObject {
  return decodeAs(context, context.kind);
}

/** Decodes a body as a kind: what is there has its type, and any field may lack. */
export function decodeAs<T extends KubeObject>(context: RequestContext, kind: BodyKind<T>): Draft<T> & KubeObject {
  const parsed: ParsedBody = isProtobuf(context)
    ? { value: decodeProtobuf(context, kind), duplicates: [] }
    : parseBody(context);
  const { value } = parsed;
  if (!isObject(value))
    throw new ApiError(
      'BadRequest',
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${Array.isArray(value) ? 'array' : typeof value} into Go value of type struct { APIVersion string "json:\\"apiVersion,omitempty\\""; Kind string "json:\\"kind,omitempty\\"" }`,
    );
  const wanted = apiVersionOf(kind);
  value.apiVersion ??= wanted;
  value.kind ??= kind.kind;
  if (value.apiVersion !== wanted || value.kind !== kind.kind) {
    if (value.kind !== kind.kind)
      throw new ApiError(
        'BadRequest',
        `${String(value.kind)} in version ${JSON.stringify(versionOnly(value.apiVersion))} cannot be handled as a ${kind.kind}: the object provided is unrecognized (must be of type ${kind.kind}): couldn't get version/kind`,
      );
    throw new ApiError(
      'BadRequest',
      `the API version in the data (${String(value.apiVersion)}) does not match the expected API version (${wanted})`,
    );
  }
  return checkDraft(context, value, kind, { ...parsed, notesEmpty: true });
}

/** An object that names the kind, checked; its metadata is there. */
export function checkDraft<T extends KubeObject>(
  context: RequestContext,
  value: JsonObject,
  kind: BodyKind<T>,
  parsed: BodyText,
): Draft<T> & KubeObject {
  checkDecoded(context, value, kind, parsed);
  if (!isObject(value.metadata)) value.metadata = {};
  return value as Draft<T> & KubeObject;
}

/** Decodes what goes with a request and is no object: all may be left out, the body too. */
export function decodeOptions<T extends object>(context: RequestContext, kind: BodyKind<T>): Draft<T> {
  const { request } = context;
  if (request.object === undefined && (request.body === undefined || request.body.length === 0)) return {} as Draft<T>;
  const value = isProtobuf(context) ? decodeProtobuf(context, kind) : (parseBody(context).value ?? {});
  if (!isObject(value))
    throw new ApiError(
      'BadRequest',
      `couldn't get version/kind; json parse error: json: cannot unmarshal ${Array.isArray(value) ? 'array' : typeof value} into Go value of type ${kind.kind}`,
    );
  checkDecoded(context, value, kind);
  return value as Draft<T>;
}

function isProtobuf(context: RequestContext): boolean {
  return (
    context.request.object === undefined &&
    (context.request.headers['content-type'] ?? '').startsWith(protobufMediaType)
  );
}

/** A protobuf body of the kind as the object that JSON would give. */
function decodeProtobuf(context: RequestContext, kind: BodyKind<object>): JsonObject {
  const body = context.request.body ?? new Uint8Array();
  if (body.length > requestBodyBytesMax)
    throw new ApiError('RequestEntityTooLarge', `Request entity too large: limit is ${requestBodyBytesMax}`);
  if (kind.custom === true)
    throw new ApiError(
      'UnsupportedMediaType',
      'the body of the request was in an unknown format - accepted media types include: application/json, application/yaml',
    );
  try {
    const { apiVersion, kind: name, message } = unwrapMessage(body);
    return { apiVersion, kind: name, ...decodeMessage(kind.type, message) };
  } catch (error) {
    throw new ApiError('BadRequest', `error decoding request body: ${messageOf(error)}`);
  }
}

function versionOnly(apiVersion: unknown): string {
  return String(apiVersion).split('/').at(-1) ?? '';
}
