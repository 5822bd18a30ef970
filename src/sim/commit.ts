/** Which commit this program is, for whoever shall repeat what it did. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

/** The checked-out commit of the repository that this file lies in; `unknown` where there is none. */
export function commitOf(root = join(import.meta.dirname, '../..')): string {
  try {
    let git = join(root, '.git');
    // A worktree's `.git` is a file that names the place.
    const place = existsSync(join(git, 'HEAD'))
      ? undefined
      : readFileSync(git, 'utf8')
          .replace(/^gitdir: /, '')
          .trim();
    if (place !== undefined) git = place;
    const head = readFileSync(join(git, 'HEAD'), 'utf8').trim();
    if (!head.startsWith('ref: ')) return head;
    const ref = head.slice(5);
    const shared = existsSync(join(git, 'commondir'))
      ? join(git, readFileSync(join(git, 'commondir'), 'utf8').trim())
      : git;
    if (existsSync(join(shared, ref))) return readFileSync(join(shared, ref), 'utf8').trim();
    return (
      readFileSync(join(shared, 'packed-refs'), 'utf8')
        .split('\n')
        .find((line) => line.endsWith(` ${ref}`))
        ?.slice(0, 40) ?? 'unknown'
    );
  } catch {
    return 'unknown';
  }
}
