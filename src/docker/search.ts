/**
 * `docker search`: of Docker Hub by its search, of the platform's own registry by what is here. Other registries have
 * no search that a client could ask (`/v1/search` is gone with version 1); they are asked all the same, as docker does,
 * and their answer is told.
 */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { ImageStore } from '#engine/images.ts';
import { matchesAny, parseFilters } from './filters.ts';
import { queryNumber } from './route.ts';
import type { Filters, RouteContext } from './route.ts';
import { searchAnswerBytesMax, searchResultsDefault, searchResultsMax } from './server-limits.ts';

interface Found {
  name: string;
  description: string;
  star_count: number;
  is_official: boolean;
  is_automated: boolean;
}

export async function searchImages(images: ImageStore, context: RouteContext): Promise<unknown> {
  const filters = parseFilters(context.query, ['is-automated', 'is-official', 'stars']);
  checkFilters(filters);
  const limit = queryNumber(context.query, 'limit') || searchResultsDefault;
  if (limit < 1 || limit > searchResultsMax)
    throw new ApiError('BadRequest', `Limit ${limit} is outside the range of [1, ${searchResultsMax}]`);
  const term = context.query.get('term') ?? '';
  if (term === '') throw new ApiError('BadRequest', 'invalid argument: search term is required');
  if (term.includes('://'))
    throw new ApiError('BadRequest', 'invalid repository name: repository name (' + term + ') must not have a scheme');
  const at = term.indexOf('/');
  const first = at < 0 ? '' : term.slice(0, at);
  const domain = first.includes('.') || first.includes(':') || first === 'localhost' ? first : 'docker.io';
  const words = domain === first ? term.slice(at + 1) : term;
  const found =
    images.options.localRegistry?.owns(domain) === true
      ? searchHere(images, domain, words)
      : await searchThere(images, { domain, words, limit }, context.signal);
  return found.filter((one) => passes(filters, one)).slice(0, limit);
}

const isTrue = (value: string): boolean => /^(1|t|true)$/i.test(value);

function checkFilters(filters: Filters): void {
  for (const name of ['is-automated', 'is-official'])
    for (const value of filters.get(name) ?? [])
      if (!/^(0|1|t|f|true|false)$/i.test(value))
        throw new ApiError('BadRequest', `invalid filter '${name}=[${value}]'`);
  for (const value of filters.get('stars') ?? [])
    if (!/^\d{1,9}$/.test(value)) throw new ApiError('BadRequest', `invalid filter 'stars=[${value}]'`);
}

function passes(filters: Filters, one: Found): boolean {
  return (
    matchesAny(filters, 'is-automated', (value) => isTrue(value) === one.is_automated) &&
    matchesAny(filters, 'is-official', (value) => isTrue(value) === one.is_official) &&
    (filters.get('stars') ?? []).every((value) => one.star_count >= Number(value))
  );
}

function searchHere(images: ImageStore, domain: string, words: string): Found[] {
  const names = new Set(
    images
      .list()
      .flatMap((image) => image.names)
      .filter((name) => name.startsWith(`${domain}/`))
      .map((name) => name.replace(/:[^:/]*$/, '')),
  );
  return [...names]
    .filter((name) => name.slice(domain.length + 1).includes(words))
    .sort()
    .map((name) => ({ name, description: '', star_count: 0, is_official: false, is_automated: false }));
}

interface Search {
  domain: string;
  words: string;
  limit: number;
}

async function searchThere(
  images: ImageStore,
  { domain, words, limit }: Search,
  signal: AbortSignal,
): Promise<Found[]> {
  const url = new URL(`https://${domain === 'docker.io' ? 'index.docker.io' : domain}/v1/search`);
  url.searchParams.set('q', words);
  url.searchParams.set('n', String(limit));
  const fail = (reason: string): never => {
    throw new ApiError('InternalError', `Get ${JSON.stringify(url.href)}: ${reason}`);
  };
  const answer = await images.options.transport
    .call({ method: 'GET', url, signal })
    .catch((error: unknown) =>
      messageOf(error).startsWith('Get ')
        ? Promise.reject(new ApiError('InternalError', messageOf(error)))
        : fail(messageOf(error)),
    );
  const parts: Buffer[] = [];
  let size = 0;
  for await (const part of answer as AsyncIterable<Buffer>) {
    size += part.length;
    if (size > searchAnswerBytesMax) fail('the answer is too long');
    parts.push(part);
  }
  if (answer.statusCode !== 200) throw new ApiError('InternalError', `Unexpected status code ${answer.statusCode}`);
  try {
    const results = (JSON.parse(Buffer.concat(parts).toString('utf8')) as { results?: Partial<Found>[] }).results ?? [];
    return results.map((one) => ({
      name: String(one.name ?? ''),
      description: String(one.description ?? ''),
      star_count: Number(one.star_count ?? 0),
      is_official: one.is_official === true,
      is_automated: one.is_automated === true,
    }));
  } catch (error) {
    return fail(messageOf(error));
  }
}
