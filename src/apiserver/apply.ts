/** Server-side apply. */
import { ApiError } from '#base/errors.ts';
import type { RequestContext } from './context.ts';
import type { UpdateOptions, Written } from './write-path.ts';

export async function applyObject(_context: RequestContext, _options: UpdateOptions): Promise<Written> {
  throw new ApiError('UnsupportedMediaType', 'server-side apply is not served yet');
}
