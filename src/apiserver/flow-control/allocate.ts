/**
 * How the seats of the server are dealt among priority levels (Kubernetes, KEP-1040, "Dispatching, borrowing"): each
 * class gets the same multiple of its target, as far as its bounds let it, and all together get the sum. Pure.
 */

/** `0 <= lower <= target`, `lower <= upper`. In seats. */
export interface SeatClass {
  lower: number;
  upper: number;
  target: number;
}

export interface SeatAllocation {
  seats: number[];
  /** The multiple of the target that each class gets which no bound holds. */
  fairShare: number;
}

const targetMin = 0.001;
const tolerance = 1e-7;

/** Undefined where the bounds leave no way to deal out `sum` seats. */
export function allocateSeats(sum: number, classes: readonly SeatClass[]): SeatAllocation | undefined {
  const targets = classes.map(({ target }) => Math.max(target, targetMin));
  const lowest = classes.reduce((all, { lower }) => all + lower, 0);
  const highest = classes.reduce((all, { upper }) => all + upper, 0);
  if (sum < 0 || lowest - sum > tolerance || sum - highest > tolerance) return undefined;
  const at = (share: number): number[] =>
    classes.map(({ lower, upper }, i) => Math.max(lower, Math.min(upper, share * (targets[i] ?? targetMin))));
  const total = (share: number): number => at(share).reduce((all, seats) => all + seats, 0);
  // The total grows with the share, bent at the bounds: between two bends it is a line.
  const bends = classes
    .flatMap(({ lower, upper }, i) => [lower, upper].map((bound) => bound / (targets[i] ?? targetMin)))
    .sort((a, b) => a - b);
  let before = 0;
  for (const bend of bends) {
    if (total(bend) >= sum - tolerance) {
      const [low, high] = [total(before), total(bend)];
      const share = high === low ? bend : before + ((bend - before) * (sum - low)) / (high - low);
      return { seats: at(share), fairShare: share };
    }
    before = bend;
  }
  return { seats: at(before), fairShare: before };
}
