/** What runs did, added up: faults by kind, crashes, states reached. A kind at 0 was not tested. */

const NUMBERS = ["seeds", "requests", "retries", "virtualMs", "turns"] as const;
const MAPS = ["faults", "crashes", "states", "admin"] as const;

/** As plain data, for another process. */
export type CountsData = Record<(typeof NUMBERS)[number], number> &
  Record<(typeof MAPS)[number], Record<string, number>>;

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

  data(): CountsData {
    const numbers = Object.fromEntries(NUMBERS.map((name) => [name, this[name]]));
    const maps = Object.fromEntries(MAPS.map((name) => [name, Object.fromEntries(this[name])]));
    return { ...numbers, ...maps } as CountsData;
  }

  add(other: CountsData): void {
    for (const name of NUMBERS) this[name] += other[name];
    for (const name of MAPS) {
      for (const [key, by] of Object.entries(other[name])) RunCounts.bump(this[name], key, by);
    }
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
      ...MAPS.map((name) => line(name, this[name])),
    ].join("\n");
  }
}
