/**
 * `runtimes` of the configuration: names of OCI runtimes with their programs.
 * Source: moby 28, daemon/runtime_unix.go (`setupRuntimes`).
 */
import { ApiError } from '#base/errors.ts';
import { entriesOf, fieldOf, textOf, textsOf } from '#base/unknown.ts';
import { ownRuntimeNames, type RuntimePrograms } from '#engine/runtime/runtimes.ts';

/** An ApiError BadRequest in dockerd's words. */
export function runtimesOf(runtimes: unknown, defaultName: string): RuntimePrograms {
  const programs = Object.fromEntries(
    entriesOf(runtimes).map(([name, said]) => {
      const refuse = (reason: string): never => {
        throw new ApiError('BadRequest', `runtime ${name}: ${reason}`);
      };
      if (name === 'runc') throw new ApiError('BadRequest', `runtime name 'runc' is reserved`);
      const path = textOf(said, 'path') ?? '';
      if (path === '') refuse('either a runtimeType or a path must be configured');
      if (entriesOf(fieldOf(said, 'options')).length > 0) refuse('options cannot be used with a path runtime');
      return [name, { path, args: textsOf(fieldOf(said, 'runtimeArgs')) }];
    }),
  );
  if (defaultName !== '' && !ownRuntimeNames.includes(defaultName) && !Object.hasOwn(programs, defaultName))
    throw new ApiError('BadRequest', `specified default runtime '${defaultName}' does not exist`);
  return programs;
}
