/** What a definition that a client sends may say of its own parts: indices that stay inside, and lead back only. */
import { ApiError } from '#base/errors.ts';
import type { Operation } from './vertex.ts';

function refuse(message: string): never {
  throw new ApiError('BadRequest', message);
}

function checkInputs(given: readonly (number | undefined)[], count: number): void {
  for (const index of given)
    if (index !== undefined && index >= count) refuse(`an operation names input ${index} of ${count}`);
}

/** How many outputs the operation has. Each is of a mount or an action, so there are no more than of those. */
function countOutputs(given: readonly (number | undefined)[]): number {
  const outputs = given.filter((index) => index !== undefined);
  const count = outputs.reduce((most, index) => Math.max(most, index + 1), 0);
  if (count > given.length) refuse(`an operation names output ${count - 1} of ${given.length}`);
  if (new Set(outputs).size < outputs.length) refuse('an operation names an output twice');
  return count;
}

/** `inputs`: how many the vertex has. Returns how many outputs it has. Throws BadRequest. */
export function checkOperation(op: Operation, inputs: number): number {
  switch (op.kind) {
    case 'exec':
      checkInputs(
        op.mounts.map((mount) => mount.input),
        inputs,
      );
      return countOutputs(op.mounts.map((mount) => mount.output));
    case 'file':
      for (const [index, action] of op.actions.entries())
        checkInputs([action.input, action.kind === 'copy' ? action.from : undefined], inputs + index);
      return countOutputs(op.actions.map((action) => action.output));
    case 'diff':
      checkInputs([op.lower, op.upper], inputs);
      return 1;
    case 'build':
      checkInputs([op.input], inputs);
      return 1;
    default:
      return 1;
  }
}
