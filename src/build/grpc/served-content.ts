/**
 * The store of blobs that clients read of: documents of builds of before (provenance, errors, what builds told), and
 * nothing else.
 *
 * Source: containerd, `services/content/v1`.
 */
import type { Content } from '#content/content.ts';
import { GrpcError, code } from '#grpc/errors.ts';
import { numberIn, textIn, timestampOf } from '#grpc/fields.ts';
import type { Message } from '#grpc/fields.ts';
import { sentChunkBytes } from './limits.ts';
import type { Request } from './grpc.ts';

interface Served {
  content: Content;
  /** Throws nothing: whether a client may see the blob. */
  isServed(digest: string): boolean;
}

const path = (name: string): string => `/containerd.services.content.v1.Content/${name}`;

/** Methods by path. */
export function contentMethods(served: Served): [string, (call: Request) => Promise<Message | undefined>][] {
  const sizeOf = (digest: string): number => {
    const size = served.isServed(digest) ? served.content.blobs.size(digest) : undefined;
    if (size === undefined) throw new GrpcError(code.notFound, `content ${digest.slice(0, 100)}: not found`);
    return size;
  };
  return [
    [
      path('Info'),
      async ({ request }) => {
        const digest = textIn(request, 'digest');
        const size = sizeOf(digest);
        // When it was written is nobody's business, and some clients want a time.
        return { info: { digest, size, created_at: timestampOf(0), updated_at: timestampOf(0) } };
      },
    ],
    [
      path('Read'),
      async ({ request, send }) => {
        const digest = textIn(request, 'digest');
        const size = sizeOf(digest);
        const [start, asked] = [numberIn(request, 'offset'), numberIn(request, 'size')];
        if (start < 0 || asked < 0 || start > size)
          throw new GrpcError(code.outOfRange, 'read past the end of content');
        const end = asked === 0 ? size : Math.min(size, start + asked);
        if (end === start) return undefined;
        let at = start;
        for await (const chunk of served.content.blobs.read(digest, { start, end: end - 1 }))
          for (let from = 0; from < chunk.length; from += sentChunkBytes) {
            const data = chunk.subarray(from, from + sentChunkBytes);
            await send({ offset: at, data });
            at += data.length;
          }
        return undefined;
      },
    ],
  ];
}
