/** ADD of a URL: fetched into the store, redirects followed, a checksum held to. */
import { ApiError } from '#base/errors.ts';
import { decodeQueryName } from '#base/file-names.ts';
import { messageOf } from '#base/thrown.ts';
import { addedUrlBytesMax } from '../limits.ts';
import type { CopyInput } from './copy-instruction.ts';

interface Download {
  path: string;
  digest: string;
  name: string;
  mtimeMs: number;
}

export async function download(input: CopyInput, url: string, checksum: string | undefined): Promise<Download> {
  const { blobs } = input.graph.content;
  const parse = (text: string, base?: URL): URL => {
    try {
      return new URL(text, base);
    } catch {
      throw new ApiError('BadRequest', `ADD failed: invalid URL ${JSON.stringify(text.slice(0, 200))}`);
    }
  };
  let target = parse(url);
  for (let hops = 0; ; hops++) {
    const answer = await input.transport
      .call({ method: 'GET', url: target, signal: input.signal })
      .catch((error: unknown) => {
        throw new ApiError('BadRequest', `ADD failed: ${messageOf(error)}`);
      });
    const status = answer.statusCode ?? 0;
    if (status >= 300 && status < 400 && answer.headers.location !== undefined && hops < 10) {
      answer.resume();
      target = parse(answer.headers.location, target);
      continue;
    }
    if (status !== 200) {
      answer.resume();
      throw new ApiError(
        'BadRequest',
        `ADD failed: failed to GET ${url} with status ${status} ${answer.statusMessage ?? ''}`.trim(),
      );
    }
    const { digest } = await blobs.write(
      answer as AsyncIterable<Uint8Array>,
      checksum === undefined ? {} : { digest: checksum },
      addedUrlBytesMax,
    );
    const last = parse(url).pathname.split('/').pop() ?? '';
    const name = decodeQueryName(last.replaceAll('+', '%2B')) ?? last;
    if (name === '.' || name === '..' || /[/\0]/.test(name))
      throw new ApiError('BadRequest', `ADD failed: ${url} names no file`);
    const modified = Date.parse(answer.headers['last-modified'] ?? '');
    return { path: blobs.path(digest), digest, name, mtimeMs: Number.isFinite(modified) ? modified : 0 };
  }
}
