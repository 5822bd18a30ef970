/**
 * Control groups that were made outside the instance's own tree because a user asked for a parent by name
 * (`--cgroup-parent`). They carry no mark of the instance, so a file says what was made and who is in it: one JSON
 * object, `{path: {made, members}}`, in the directory that is gone after a reboot, as the groups are. What was there
 * before is the user's and stays; what was made goes with its last member, or when the instance is taken away.
 */
import type { Cgroups } from './cgroups.ts';
import { readIfExists, writeFileAtomic } from './files.ts';

interface Parent {
  /** Groups that were not there before, from the top down. */ made: string[];
  members: string[];
}

function fileIn(directory: string): string {
  return `${directory}/cgroup-parents.json`;
}

export class CgroupParents {
  readonly #cgroups: Cgroups;
  readonly #file: string;
  readonly #parents: Map<string, Parent>;

  constructor(cgroups: Cgroups, directory: string) {
    this.#cgroups = cgroups;
    this.#file = fileIn(directory);
    this.#parents = new Map(Object.entries(parse(readIfExists(this.#file))));
  }

  /** Makes the group where it is missing, for a member below it. */
  enter(path: string, member: string): void {
    const known = this.#parents.get(path) ?? { made: [], members: [] };
    const made = [...new Set([...known.made, ...this.#missing(path)])];
    this.#parents.set(path, { made, members: [...new Set([...known.members, member])] });
    // Written first: what is made is never unknown.
    this.#save();
    this.#cgroups.create(path);
  }

  /** The member's own group is gone. */
  leave(path: string, member: string): void {
    const known = this.#parents.get(path);
    if (known === undefined) return;
    known.members = known.members.filter((other) => other !== member);
    if (known.members.length === 0) {
      const left = this.#remove(known.made);
      // Another parent below it may still be in use; who leaves that last takes this away too.
      if (left.length === 0) this.#parents.delete(path);
      else known.made = left;
      for (const [other, { members, made }] of this.#parents)
        if (members.length === 0 && this.#remove(made).length === 0) this.#parents.delete(other);
    }
    this.#save();
  }

  /**
   * Removes every member's group, and all that was made; false when something is still in one. Their processes have
   * been ended.
   */
  removeAll(): boolean {
    const gone = this.memberGroups()
      .map((group) => this.#cgroups.remove(group))
      .every(Boolean);
    this.#remove([...new Set([...this.#parents.values()].flatMap((parent) => parent.made))].sort());
    return gone;
  }

  memberGroups(): string[] {
    return [...this.#parents].flatMap(([path, { members }]) => members.map((member) => `${path}/${member}`));
  }

  #missing(path: string): string[] {
    const out: string[] = [];
    let at = '';
    for (const part of path.split('/').filter(Boolean)) {
      if (!this.#cgroups.list(at).includes(part)) out.push(`${at}/${part}`);
      at = `${at}/${part}`;
    }
    return out;
  }

  /** Those that could not go: somebody else is in them. */
  #remove(made: readonly string[]): string[] {
    return [...made]
      .reverse()
      .filter((path) => this.#cgroups.list(path).length > 0 || !this.#cgroups.remove(path))
      .reverse();
  }

  #save(): void {
    writeFileAtomic(this.#file, JSON.stringify(Object.fromEntries(this.#parents)));
  }
}

function parse(text: string | undefined): Record<string, Parent> {
  if (text === undefined) return {};
  try {
    return JSON.parse(text) as Record<string, Parent>;
  } catch {
    return {};
  }
}
