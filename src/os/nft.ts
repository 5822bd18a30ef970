/** nftables as text commands (nft(8)). A text is one transaction: all of it holds afterwards, or none. */
export interface Nft {
  run(text: string): Promise<void>;
  /** JSON output of list commands. */
  list(text: string): Promise<string>;
}
