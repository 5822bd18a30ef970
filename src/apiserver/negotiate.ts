/**
 * Content negotiation: what form an answer takes (Kubernetes API concepts, "Alternate representations of resources",
 * "Receiving resources as Tables").
 */
import { ApiError } from '#base/errors.ts';
import type { ApiRequest } from '#base/api-request.ts';

export type AnswerForm = 'object' | 'table' | 'partial';
export type Encoding = 'json' | 'yaml' | 'protobuf';
export interface Negotiated {
  form: AnswerForm;
  encoding: Encoding;
  version: string;
  pretty: boolean;
}

interface Offer {
  type: string;
  parameters: ReadonlyMap<string, string>;
  q: number;
}

const cache = new Map<string, Negotiated>();
const cacheMax = 256;

function parseAccept(header: string): Offer[] {
  return header.split(',').map((part) => {
    const [type = '', ...rest] = part.split(';').map((p) => p.trim());
    const parameters = new Map(
      rest.map((parameter): [string, string] => {
        const [name = '', value = ''] = parameter.split('=');
        return [name, value];
      }),
    );
    return { type: type.toLowerCase(), parameters, q: Number(parameters.get('q') ?? 1) };
  });
}

const encodings = new Map<string, Encoding>([
  ['application/json', 'json'],
  ['application/yaml', 'yaml'],
  ['application/vnd.kubernetes.protobuf', 'protobuf'],
  ['*/*', 'json'],
  ['application/*', 'json'],
  ['', 'json'],
]);

/** In what an answer may be given, beside JSON and YAML. */
export interface AnswerForms {
  protobuf: boolean;
  /** Tables are of what is stored and has metadata; of a review there is none. */
  table: boolean;
}

export function negotiate(request: ApiRequest, forms: AnswerForms): Negotiated {
  const header = request.headers.accept ?? '';
  const key = `${forms.protobuf ? 'p' : 'j'}${forms.table ? 't' : 'o'}${header}`;
  const known = cache.get(key);
  if (known !== undefined) return known;
  const answer = choose(header, forms);
  if (cache.size < cacheMax) cache.set(key, answer);
  return answer;
}

function choose(header: string, { protobuf, table }: AnswerForms): Negotiated {
  if (header === '') return { form: 'object', encoding: 'json', version: 'v1', pretty: false };
  const offers = parseAccept(header).sort((a, b) => b.q - a.q);
  for (const { type, parameters } of offers) {
    const encoding = encodings.get(type);
    if (
      encoding === undefined ||
      (encoding === 'protobuf' && !protobuf) ||
      (parameters.get('stream') ?? 'watch') !== 'watch'
    )
      continue;
    const as = parameters.get('as');
    if (as === undefined) return { form: 'object', encoding, version: 'v1', pretty: false };
    const version = parameters.get('v') ?? '';
    if (parameters.get('g') !== 'meta.k8s.io' || !['v1', 'v1beta1'].includes(version)) continue;
    if (as === 'Table' && table && encoding !== 'protobuf') return { form: 'table', encoding, version, pretty: false };
    if ((as === 'PartialObjectMetadata' || as === 'PartialObjectMetadataList') && encoding !== 'protobuf')
      return { form: 'partial', encoding, version, pretty: false };
  }
  throw new ApiError(
    'NotAcceptable',
    'only the following media types are accepted: application/json, application/yaml, application/vnd.kubernetes.protobuf, application/json;stream=watch, application/vnd.kubernetes.protobuf;stream=watch',
  );
}

export function mediaTypeOf(encoding: Encoding): string {
  return encoding === 'json'
    ? 'application/json'
    : encoding === 'yaml'
      ? 'application/yaml'
      : 'application/vnd.kubernetes.protobuf';
}
