/**
 * Shuffle sharding (Kubernetes, KEP-1040): a flow's hash deals it a hand of the queues, so that few flows share all of
 * their queues with a flow that fills its own.
 */
import { createHash } from 'node:crypto';
import { flowsMax } from '../limits.ts';

/** The queues of a flow, each once. `queues` and `handSize` as validation allows them: at most 60 bits are used up. */
function dealHand(hash: bigint, queues: number, handSize: number): number[] {
  const remainders: number[] = [];
  let rest = hash;
  for (let i = 0; i < handSize; i++) {
    const left = BigInt(queues - i);
    remainders.push(Number(rest % left));
    rest /= left;
  }
  const hand: number[] = [];
  remainders.forEach((remainder, i) => {
    let card = remainder;
    for (let j = i - 1; j >= 0; j--) if (card >= (remainders[j] ?? 0)) card++;
    hand.push(card);
  });
  return hand;
}

const hashOf = (schema: string, distinguisher: string): bigint =>
  createHash('sha256').update(`${schema}\0${distinguisher}`).digest().readBigUInt64LE();

/** Hands of the flows of one level, as they were last dealt. */
export class Hands {
  readonly #queues: number;
  readonly #handSize: number;
  readonly #known = new Map<string, readonly number[]>();

  constructor(queues: number, handSize: number) {
    this.#queues = queues;
    this.#handSize = handSize;
  }

  of(schema: string, distinguisher: string): readonly number[] {
    const flow = `${schema}\0${distinguisher}`;
    let hand = this.#known.get(flow);
    if (hand === undefined) {
      hand = dealHand(hashOf(schema, distinguisher), this.#queues, this.#handSize);
      if (this.#known.size >= flowsMax) this.#known.clear();
      this.#known.set(flow, hand);
    }
    return hand;
  }
}
