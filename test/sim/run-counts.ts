/** What runs did, added up: faults by kind, crashes, states reached. A kind at 0 was not tested. */

export class RunCounts {
  seeds = 0;
  requests = 0;
  retries = 0;
  virtualMs = 0;
  turns = 0;
  readonly faults = new Map<string, number>();
  readonly crashes = new Map<string, number>();
  readonly states = new Map<string, number>();
  readonly admin = new Map<string, number>();

  static bump(map: Map<string, number>, key: string, by = 1): void {
    map.set(key, (map.get(key) ?? 0) + by);
  }

  text(): string {
    const line = (name: string, map: ReadonlyMap<string, number>) =>
      `  ${name}: ${[...map]
        .sort(([one], [other]) => (one < other ? -1 : 1))
        .map(([key, count]) => `${key} ${count}`)
        .join(", ")}`;
    const hours = (this.virtualMs / 3_600_000).toFixed(2);
    return [
      `${this.seeds} seeds, ${this.requests} requests, ${this.retries} retries, ` +
        `${hours} virtual hours, ${this.turns} turns`,
      line("faults", this.faults),
      line("crashes", this.crashes),
      line("states", this.states),
      line("admin", this.admin),
    ].join("\n");
  }
}
