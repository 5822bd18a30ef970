/** nftables as text commands (nft(8)). A text is one transaction: all of it holds afterwards, or none. */
export interface Nft {
  /** `namespace`: path of a network namespace; absent: the host's. */
  run(text: string, namespace?: string): Promise<void>;
  /** JSON output of list commands. */
  list(text: string): Promise<string>;
}
