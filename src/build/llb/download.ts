/** Files from the web: fetched into the store, redirects followed, a checksum held to. */
import { ApiError } from '#base/errors.ts';
import { messageOf } from '#base/thrown.ts';
import type { Content } from '#content/content.ts';
import type { HttpTransport } from '#content/remote.ts';
import { addedUrlBytesMax } from '../limits.ts';

export interface Downloaded {
  digest: string;
  /** undefined: the server does not say it. */
  modifiedAtMs: number | undefined;
}

const redirectsMax = 10;

export async function download(
  { content, transport }: { content: Content; transport: HttpTransport },
  url: string,
  checksum: string | undefined,
  signal: AbortSignal,
): Promise<Downloaded> {
  const parse = (text: string, base?: URL): URL => {
    const target = URL.parse(text, base);
    if (target === null)
      throw new ApiError('BadRequest', `ADD failed: invalid URL ${JSON.stringify(text.slice(0, 200))}`);
    return target;
  };
  let target = parse(url);
  for (let hops = 0; ; hops++) {
    const answer = await transport.call({ method: 'GET', url: target, signal }).catch((error: unknown) => {
      throw new ApiError('BadRequest', `ADD failed: ${messageOf(error)}`);
    });
    const status = answer.statusCode ?? 0;
    const { location } = answer.headers;
    if (status >= 300 && status < 400 && location !== undefined && hops < redirectsMax) {
      answer.resume();
      target = parse(location, target);
      continue;
    }
    if (status !== 200) {
      answer.resume();
      throw new ApiError(
        'BadRequest',
        `ADD failed: failed to GET ${url} with status ${status} ${answer.statusMessage ?? ''}`.trim(),
      );
    }
    const body: AsyncIterable<Uint8Array> = answer;
    const { digest } = await content.blobs.write(
      body,
      checksum === undefined ? {} : { digest: checksum },
      addedUrlBytesMax,
    );
    const modified = Date.parse(answer.headers['last-modified'] ?? '');
    return { digest, modifiedAtMs: Number.isFinite(modified) ? modified : undefined };
  }
}
