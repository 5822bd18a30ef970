/** What a node's engine gives to a backup: a route that only root's sockets have. */
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { Content } from '#content/content.ts';
import type { ImageRecords } from '#content/image-records.ts';
import { ApiError } from '#base/errors.ts';
import { fieldOf, textsOf } from '#base/unknown.ts';
import type { Route } from '#docker/route.ts';
import { contentFrames, type ImageChoice } from './content-frames.ts';

function choiceOf(value: unknown): ImageChoice {
  if (value === 'own' || value === 'all' || value === 'none') return value;
  if (!Array.isArray(value)) throw new ApiError('BadRequest', 'images: own, all, none, or a list of names');
  return textsOf(value);
}

/** Images, registry and its users, as `content-frames.ts` has them. */
export function backupContentRoute(content: Content, records: ImageRecords): Route {
  return {
    method: 'POST',
    path: '/tiphys/backup/content',
    async handle(context) {
      const frames = contentFrames(content, records, choiceOf(fieldOf(await context.json(), 'images')));
      // What is refused is refused before anything is answered.
      const first = await frames.next();
      context.response.setHeader('content-type', 'application/octet-stream');
      const all = async function* (): AsyncGenerator<Uint8Array> {
        if (first.done !== true) yield first.value;
        yield* frames;
      };
      // An answer that breaks off is one that whoever asked notices.
      await pipeline(Readable.from(all(), { objectMode: false }), context.response);
      return undefined;
    },
  };
}
